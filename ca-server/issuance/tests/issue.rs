//! The whole path on a real ledger: what is released is durable, verified and what was authorized; else nothing is.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[path = "../src/fixture.rs"]
mod fixture;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fixture::{CaMaterial, NOW, csr, csr_of, id};
use host::{Fault, FaultDisk, How, Operation, RealDisk};
use issuance::{
    AuthorizedRequest, Holder, IssueError, Issuer, LeafProfile, PrepareError, ProfileSettings,
    ServingNames, SignError, Signer, SignerParts, Snapshot, SnapshotCell,
};
use ledger::{Ended, Ledger, LedgerError, OpenOptions, RowKind, SegmentId, Settings};
use plugins::{
    Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId,
};
use tempfile::TempDir;
use trust::{
    Certificate, CertificateId, Chain, Generation, ManualClock, PeerRole, PublicKey,
    SeededRandomness, Sequence, SignatureAlgorithm,
};

struct World {
    dir: TempDir,
    disk: Arc<FaultDisk>,
    ledger: Arc<Ledger>,
    issuer: Issuer,
}

fn open(dir: &Path, disk: Arc<FaultDisk>, segment: &str) -> Ledger {
    let options = OpenOptions {
        dir: dir.to_owned(),
        segment: SegmentId::parse(segment).unwrap(),
        disk,
        clock: Arc::new(ManualClock::at(NOW)),
        skew: Duration::from_secs(60),
        settings: Settings::default(),
    };
    Ledger::open(options).unwrap().0
}

fn world() -> World {
    let dir = TempDir::new().unwrap();
    let disk = Arc::new(FaultDisk::new(Arc::new(RealDisk)));
    let ledger = Arc::new(open(dir.path(), disk.clone(), "first"));
    let issuer = Issuer::new(
        LeafProfile::new(ProfileSettings::default()).unwrap(),
        ledger.clone(),
        Arc::new(ManualClock::at(NOW)),
        Arc::new(SeededRandomness::new(1)),
    );
    World { dir, disk, ledger, issuer }
}

fn workload() -> AuthorizedRequest {
    AuthorizedRequest::new(id("/ns/shop/sa/cart"), csr(), Holder::CsrOnly, None).unwrap()
}

/// A key backend that does something else than sign with its key.
#[derive(Debug)]
struct Crooked {
    inner: Arc<dyn KeyBackend>,
    answer: fn(Vec<u8>) -> Result<Vec<u8>, KeyError>,
    signatures: AtomicUsize,
}

#[async_trait]
impl KeyBackend for Crooked {
    fn describe(&self) -> KeyBackendDescription {
        self.inner.describe()
    }

    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        self.inner.generate(request_id, spec).await
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.inner.public(id).await
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        how: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        self.signatures.fetch_add(1, Ordering::Relaxed);
        (self.answer)(self.inner.sign(id, message, how).await?)
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        self.inner.list().await
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.inner.destroy(id).await
    }

    async fn check(&self) -> Health {
        self.inner.check().await
    }
}

fn crooked(
    ca: &CaMaterial,
    answer: fn(Vec<u8>) -> Result<Vec<u8>, KeyError>,
) -> (Arc<Crooked>, Snapshot) {
    let parts = ca.parts();
    let keys =
        Arc::new(Crooked { inner: parts.keys.clone(), answer, signatures: AtomicUsize::new(0) });
    let parts = SignerParts { keys: keys.clone(), ..parts };
    let signer = Signer::verify(parts, &ca.bundle(1), NOW).unwrap();
    let horizon = NOW.plus(Duration::from_secs(90 * 24 * 3600));
    (keys, Snapshot::new(Generation(1), ca.bundle(1), Arc::new(signer), horizon).unwrap())
}

#[tokio::test]
async fn a_leaf_has_key_identity_and_chain_as_authorized_and_a_durable_row() {
    let (ca, world) = (CaMaterial::new(), world());
    let cell = SnapshotCell::new(ca.snapshot(7));
    let request = workload();
    let leaf = world.issuer.issue(&request, cell.load()).await.unwrap();
    let certificate = Certificate::parse(leaf.der()).unwrap();
    assert_eq!(certificate.spki_der(), request.public_key().spki_der());
    assert_eq!(certificate.spiffe_id().unwrap(), *request.identity());
    assert_eq!(certificate.validity(), leaf.lifetime().validity);
    assert_eq!(certificate.subject_der(), [0x30, 0]);
    assert!(certificate.names().dns.is_empty() && certificate.names().ips.is_empty());
    let chain = Chain::parse(&leaf.chain_der()).unwrap();
    let root = chain.verify(leaf.bundle(), NOW, PeerRole::Server).unwrap();
    assert_eq!(chain.verify(leaf.bundle(), NOW, PeerRole::Client), Ok(root));
    let live = world.ledger.find(&leaf.serial()).unwrap();
    assert_eq!(
        (live.row.born, live.row.kind, live.row.root),
        (Sequence(7), RowKind::CsrOnly, root)
    );
    assert_eq!(live.certificate, Some(CertificateId::of(leaf.der())));
    drop(leaf);
    world.ledger.shutdown().await;
    let reopened = open(world.dir.path(), world.disk.clone(), "second");
    assert_eq!(reopened.find(&live.row.serial).map(|found| found.row), Some(live.row));
}

#[tokio::test]
async fn the_reply_for_istio_is_leaf_then_intermediates_then_all_roots_in_one() {
    let (ca, world) = (CaMaterial::new(), world());
    let leaf =
        world.issuer.issue(&workload(), SnapshotCell::new(ca.snapshot(1)).load()).await.unwrap();
    let strings = leaf.istio_chain();
    assert_eq!(strings.len(), 3);
    assert!(
        strings
            .iter()
            .all(|pem| pem.matches("BEGIN CERTIFICATE").count() == 1 && pem.ends_with('\n'))
    );
    assert_eq!(strings.last().map(String::as_str), Some(&*leaf.bundle().pem().to_string()));
}

#[tokio::test]
async fn nothing_of_a_csr_but_its_key_reaches_the_leaf() {
    let (ca, world) = (CaMaterial::new(), world());
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = csr_of(&key, &["spiffe://example.org/ns/other/sa/other"]);
    let request =
        AuthorizedRequest::new(id("/ns/shop/sa/cart"), csr, Holder::CsrOnly, None).unwrap();
    let leaf =
        world.issuer.issue(&request, SnapshotCell::new(ca.snapshot(1)).load()).await.unwrap();
    assert!(!leaf.der().windows(5).any(|window| window == b"other"));
}

#[tokio::test]
async fn only_the_cas_own_leaf_has_dns_and_ip_names() {
    let (ca, world) = (CaMaterial::new(), world());
    let names = ServingNames::new(vec!["localhost".to_owned()], vec!["127.0.0.1".parse().unwrap()])
        .unwrap();
    let key = csr().public_key().clone();
    let request = AuthorizedRequest::own(id("/banyan/ca/ca-1"), key, names, None).unwrap();
    let leaf =
        world.issuer.issue(&request, SnapshotCell::new(ca.snapshot(1)).load()).await.unwrap();
    let certificate = Certificate::parse(leaf.der()).unwrap();
    assert_eq!(certificate.names().dns, ["localhost"]);
    assert_eq!(certificate.names().ips, [[127, 0, 0, 1]]);
    assert_eq!(world.ledger.find(&leaf.serial()).unwrap().row.kind, RowKind::Own);
}

#[tokio::test]
async fn without_a_durable_row_nothing_is_signed() {
    for how in [How::NotStored, How::Stored] {
        for operation in [Operation::Append, Operation::Sync] {
            let (ca, world) = (CaMaterial::new(), world());
            let (keys, snapshot) = crooked(&ca, Ok);
            world.disk.plan(Fault::next(operation, how));
            let issued = world.issuer.issue(&workload(), SnapshotCell::new(snapshot).load()).await;
            assert!(
                matches!(issued, Err(IssueError::Ledger(_))),
                "{operation:?} {how:?}: {issued:?}"
            );
            assert_eq!(keys.signatures.load(Ordering::Relaxed), 0, "{operation:?} {how:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_segment_signs_nothing() {
    let (ca, world) = (CaMaterial::new(), world());
    let (keys, snapshot) = crooked(&ca, Ok);
    world.ledger.close();
    let issued = world.issuer.issue(&workload(), SnapshotCell::new(snapshot).load()).await;
    assert!(matches!(issued, Err(IssueError::Ledger(LedgerError::Closed))));
    assert_eq!(keys.signatures.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_wrong_or_missing_signature_is_never_released_and_its_row_is_abandoned() {
    type Answer = fn(Vec<u8>) -> Result<Vec<u8>, KeyError>;
    let flipped: Answer = |mut signature| {
        *signature.last_mut().unwrap() ^= 1;
        Ok(signature)
    };
    let long: Answer = |signature| Ok([signature, vec![0]].concat());
    let none: Answer = |_| Err(KeyError::BackendDown { detail: "gone".to_owned() });
    for answer in [flipped, |_| Ok(Vec::new()), long, none] {
        let (ca, world) = (CaMaterial::new(), world());
        let (_, snapshot) = crooked(&ca, answer);
        let issued = world.issuer.issue(&workload(), SnapshotCell::new(snapshot).load()).await;
        let error = issued.map(|leaf| leaf.der().to_vec()).unwrap_err();
        assert!(
            matches!(error, IssueError::Sign(SignError::OwnSignature | SignError::Key(_))),
            "{error:?}"
        );
        let page = world.ledger.rows(&ledger::RowFilter::default(), None, 10);
        assert!(page.rows.iter().all(|live| live.ended == Some(Ended::Abandoned)));
    }
}

#[tokio::test]
async fn a_horizon_that_is_too_near_refuses_and_stores_nothing() {
    let (ca, world) = (CaMaterial::new(), world());
    let near = NOW.plus(Duration::from_secs(299));
    let snapshot = Snapshot::new(Generation(1), ca.bundle(1), ca.signer(), near).unwrap();
    let issued = world.issuer.issue(&workload(), SnapshotCell::new(snapshot).load()).await;
    assert!(matches!(issued, Err(IssueError::Prepare(PrepareError::Lifetime(_)))));
    assert!(world.ledger.rows(&ledger::RowFilter::default(), None, 10).rows.is_empty());
}

#[tokio::test]
async fn a_leaf_in_flight_keeps_its_snapshot_counted() {
    let (ca, world) = (CaMaterial::new(), world());
    let cell = SnapshotCell::new(ca.snapshot(1));
    let leaf = world.issuer.issue(&workload(), cell.load()).await.unwrap();
    cell.swap(ca.snapshot(2)).unwrap();
    assert_eq!(leaf.sequence(), Sequence(1));
    let waited = tokio::time::timeout(Duration::ZERO, cell.former_gone(Generation(2))).await;
    assert!(waited.is_err());
    drop(leaf);
    cell.former_gone(Generation(2)).await;
}
