//! What each part of issuance costs, and the whole on a real ledger in a temporary directory.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up must stop")]

#[path = "../src/fixture.rs"]
mod fixture;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{CaMaterial, NOW, id};
use host::RealDisk;
use issuance::prepare::prepare;
use issuance::{AuthorizedRequest, Holder, Issuer, LeafProfile, ProfileSettings, SnapshotCell};
use ledger::{Ledger, OpenOptions, SegmentId, Settings};
use trust::csr::ParsedCsr;
use trust::{ManualClock, SeededRandomness, SignatureAlgorithm};

const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::EcdsaP256Sha256;

fn parts(criterion: &mut Criterion) {
    let ca = CaMaterial::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    criterion.bench_function("parse and verify a CSR", |bench| {
        bench.iter(|| ParsedCsr::from_pem(black_box(csr.as_bytes())).unwrap().verify().unwrap());
    });
    let (parts, message) = (ca.parts(), vec![7; 600]);
    let sign = || fixture::ready(parts.keys.sign(&parts.key, &message, ALGORITHM)).unwrap();
    criterion.bench_function("sign 600 bytes", |bench| bench.iter(sign));
    let signature = sign();
    criterion.bench_function("verify own signature", |bench| {
        bench.iter(|| parts.public.verify(black_box(&message), ALGORITHM, &signature).unwrap());
    });
    let (cell, profile) = (SnapshotCell::new(ca.snapshot(1)), profile());
    let (request, randomness) = (request(), SeededRandomness::new(1));
    criterion.bench_function("prepare and lint", |bench| {
        bench.iter(|| prepare(&request, &profile, cell.load(), NOW, &randomness).unwrap());
    });
}

fn whole(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        dir: dir.path().to_owned(),
        segment: SegmentId::parse("bench").unwrap(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(ManualClock::at(NOW)),
        skew: Duration::from_secs(60),
        settings: Settings::default(),
    };
    let ledger = Arc::new(Ledger::open(options).unwrap().0);
    let clock = Arc::new(ManualClock::at(NOW));
    let issuer = Issuer::new(profile(), ledger, clock, Arc::new(SeededRandomness::new(1)));
    let (cell, request) = (SnapshotCell::new(CaMaterial::new().snapshot(1)), request());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // In flight together, as under load: the wait for the disk is shared, what remains is the work.
    criterion.bench_function("issue 64 leaves in flight", |bench| {
        bench.iter(|| {
            runtime.block_on(async {
                let all = (0..64).map(|_| Box::pin(issuer.issue(&request, cell.load())));
                black_box(join(all.collect()).await)
            })
        });
    });
}

/// Runs futures together on this task.
async fn join<F: Future + Unpin>(mut futures: Vec<F>) -> usize {
    let mut done = 0;
    std::future::poll_fn(move |context| {
        futures.retain_mut(|future| {
            let ready = std::pin::Pin::new(future).poll(context).is_ready();
            done += usize::from(ready);
            !ready
        });
        if futures.is_empty() { std::task::Poll::Ready(done) } else { std::task::Poll::Pending }
    })
    .await
}

fn profile() -> LeafProfile {
    LeafProfile::new(ProfileSettings::default()).unwrap()
}

fn request() -> AuthorizedRequest {
    AuthorizedRequest::new(id("/ns/shop/sa/cart"), fixture::csr(), Holder::CsrOnly, None).unwrap()
}

criterion_group!(benches, parts, whole);
criterion_main!(benches);
