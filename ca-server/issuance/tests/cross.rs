//! Leaves of a new root with its certificate by the old one behind them: who trusts either accepts them, and they end with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::sync::Arc;
use std::time::Duration;

use host::RealDisk;
use issuance::{
    AuthorizedRequest, CrossCertificate, CrossError, Holder, IssuedLeaf, Issuer, LeafProfile,
    ProfileSettings, Signer, SignerParts, Snapshot, SnapshotCell,
};
use ledger::{Ledger, OpenOptions, SegmentId, Settings};
use plugins::ca_certificate::{
    CaSigner, CrossProfile, IssuerProfile, RootProfile, build_root, sign_cross, sign_issuer,
};
use plugins::memory::MemoryKeys;
use plugins::{KeyBackend, KeyHandle, KeySpec, RequestId};
use tempfile::TempDir;
use trust::csr::ParsedCsr;
use trust::{
    Bundle, Certificate, Chain, Cohort, Generation, ManualClock, PeerRole, Root, SeededRandomness,
    Sequence, Serial, SpiffeId, Timestamp, TrustDomain, Validity,
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

/// Two roots with an issuer each, all keys in one place.
struct Mesh {
    keys: Arc<MemoryKeys>,
    randomness: SeededRandomness,
}

/// A root and its issuer.
struct Ca {
    root: Root,
    root_key: KeyHandle,
    issuer: Certificate,
    issuer_key: KeyHandle,
}

impl Mesh {
    fn new() -> Self {
        Self { keys: Arc::new(MemoryKeys::new()), randomness: SeededRandomness::new(7) }
    }

    fn valid(&self, ends: Timestamp) -> Validity {
        Validity::new(NOW.minus(HOUR), ends).unwrap()
    }

    async fn ca(&self, name: &str, spec: KeySpec) -> Ca {
        let key = async |part: &str| {
            let id = RequestId::parse(&format!("{name}-{part}")).unwrap();
            self.keys.generate(&id, spec).await.unwrap()
        };
        let (root_key, issuer_key) = (key("root").await, key("issuer").await);
        let (serial, validity) =
            (|| Serial::random(&self.randomness), self.valid(NOW.plus(HOUR * 24 * 365)));
        let profile = RootProfile { trust_domain: domain(), serial: serial(), validity };
        let root = build_root(self.keys.as_ref(), &root_key, &profile).await.unwrap();
        let profile =
            IssuerProfile { trust_domain: domain(), serial: serial(), validity, path_len: 0 };
        let signer = self.signer(&root, &root_key);
        let issuer = sign_issuer(&signer, &issuer_key.public, &profile).await.unwrap();
        Ca { root, root_key, issuer, issuer_key }
    }

    fn signer<'a>(&'a self, root: &'a Root, key: &'a KeyHandle) -> CaSigner<'a> {
        CaSigner { keys: self.keys.as_ref(), key_id: &key.id, certificate: root.certificate() }
    }

    async fn cross(&self, by: &Ca, of: &Ca, ends: Timestamp, path_len: Option<u8>) -> Certificate {
        let serial = Serial::random(&self.randomness);
        let validity = self.valid(ends);
        let profile = CrossProfile { trust_domain: domain(), serial, validity, path_len };
        sign_cross(&self.signer(&by.root, &by.root_key), &of.root, &profile).await.unwrap()
    }

    fn leaf_signer(&self, ca: &Ca, bundle: &Bundle) -> Arc<Signer> {
        let parts = SignerParts {
            keys: self.keys.clone(),
            key: ca.issuer_key.id.clone(),
            public: ca.issuer_key.public.clone(),
            chain: vec![ca.issuer.clone()],
        };
        Arc::new(Signer::verify_under(parts, bundle, ca.root.id(), NOW).unwrap())
    }
}

fn bundle(cas: &[&Ca]) -> Bundle {
    let ders: Vec<_> = cas.iter().map(|ca| ca.root.der()).collect();
    Bundle::from_ders(domain(), Sequence(2), &ders).unwrap()
}

async fn issued(snapshot: Snapshot, path: &str) -> (TempDir, IssuedLeaf) {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let options = OpenOptions {
        dir: dir.path().to_owned(),
        segment: SegmentId::parse("first").unwrap(),
        disk: Arc::new(RealDisk),
        clock: clock.clone(),
        skew: Duration::from_secs(60),
        settings: Settings::default(),
    };
    let ledger = Arc::new(Ledger::open(options).unwrap().0);
    let profile = LeafProfile::new(ProfileSettings::default()).unwrap();
    let issuer = Issuer::new(profile, ledger, clock, Arc::new(SeededRandomness::new(1)));
    let csr = {
        let key = rcgen::KeyPair::generate().unwrap();
        let der = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        ParsedCsr::from_der(der.der()).unwrap().verify().unwrap()
    };
    let id = SpiffeId::for_path(&domain(), path).unwrap();
    let request = AuthorizedRequest::new(id, csr, Holder::CsrOnly, None).unwrap();
    let leaf = issuer.issue(&request, SnapshotCell::new(snapshot).load()).await.unwrap();
    (dir, leaf)
}

fn ends_in(leaf: &IssuedLeaf, bundle: &Bundle) -> Option<trust::RootId> {
    let chain = Chain::parse(&leaf.chain_der()).unwrap();
    let [client, server] =
        [PeerRole::Client, PeerRole::Server].map(|role| chain.verify(bundle, NOW, role).ok());
    assert_eq!(client, server);
    client
}

#[tokio::test]
async fn a_good_one_is_taken_and_each_flaw_is_named() {
    let mesh = Mesh::new();
    let (old, new) = (mesh.ca("old", KeySpec::P256).await, mesh.ca("new", KeySpec::P256).await);
    let (third, both) = (mesh.ca("third", KeySpec::P256).await, bundle(&[&old, &new]));
    let signer = mesh.leaf_signer(&new, &both);
    let (by, ends) = (old.root.id(), NOW.plus(HOUR));
    let verified = |certificate: Certificate, bundle: &Bundle, now: Timestamp| {
        CrossCertificate::verify(certificate, &signer, by, bundle, now).map(|cross| cross.id())
    };
    let good = mesh.cross(&old, &new, ends, None).await;
    assert_eq!(verified(good.clone(), &both, NOW), Ok(good.id()));
    assert_eq!(verified(good.clone(), &bundle(&[&new]), NOW), Err(CrossError::Outside(by)));
    assert_eq!(verified(good, &both, ends.plus(HOUR)), Err(CrossError::NotValidNow));
    let narrow = mesh.cross(&old, &new, ends, Some(0)).await;
    assert_eq!(verified(narrow, &both, NOW), Err(CrossError::NotAnIssuer));
    let room = mesh.cross(&old, &new, ends, Some(1)).await;
    assert!(verified(room, &both, NOW).is_ok(), "room for the issuer is enough");
    let of_other = mesh.cross(&old, &third, ends, None).await;
    assert_eq!(verified(of_other, &both, NOW), Err(CrossError::OtherRoot));
    let by_other = mesh.cross(&third, &new, ends, None).await;
    assert_eq!(verified(by_other, &both, NOW), Err(CrossError::NotSigned(by)));
}

#[tokio::test]
async fn who_trusts_either_root_accepts_the_leaf_and_it_ends_with_the_cross_certificate() {
    for (old_spec, new_spec) in [
        (KeySpec::P256, KeySpec::P256),
        (KeySpec::P256, KeySpec::P384),
        (KeySpec::Ed25519, KeySpec::P256),
    ] {
        let mesh = Mesh::new();
        let (old, new) = (mesh.ca("old", old_spec).await, mesh.ca("new", new_spec).await);
        let both = bundle(&[&old, &new]);
        let signer = mesh.leaf_signer(&new, &both);
        let (horizon, ends) = (NOW.plus(HOUR * 48), NOW.plus(HOUR * 2));
        let plain = || {
            let signer = Arc::clone(&signer);
            Snapshot::new(Generation(3), both.clone(), signer, horizon).unwrap()
        };
        let (_dir, without) = issued(plain(), "/ns/shop/sa/cart").await;
        assert_eq!(ends_in(&without, &bundle(&[&old])), None, "who trusts the old root alone");
        assert_eq!(without.lifetime().validity.not_after(), NOW.plus(HOUR * 24));

        let certificate = mesh.cross(&old, &new, ends, None).await;
        let by = old.root.id();
        let cross = CrossCertificate::verify(certificate, &signer, by, &both, NOW).unwrap();
        let cross = Some(Arc::new(cross));
        let (_dir, with) = issued(plain().with_cross(cross.clone()), "/ns/shop/sa/cart").await;
        assert_eq!(ends_in(&with, &bundle(&[&old])), Some(by));
        assert_eq!(ends_in(&with, &bundle(&[&new])), Some(new.root.id()));
        assert_eq!(ends_in(&with, &both), Some(new.root.id()), "the short way is the first");
        assert_eq!(with.lifetime().validity.not_after(), ends, "it ends with it");
        assert_eq!(with.chain_der().len(), without.chain_der().len() + 1);
        assert_eq!(with.istio_chain().len(), without.istio_chain().len() + 1);
        let bytes = |leaf: &IssuedLeaf| leaf.chain_der().iter().map(Vec::len).sum::<usize>();
        println!("{old_spec} signs {new_spec}: {} more bytes", bytes(&with) - bytes(&without));
        assert!(bytes(&with) - bytes(&without) < 700);

        // Leaves of the old root go without it.
        let old_signer = mesh.leaf_signer(&old, &both);
        let old_leaves = Snapshot::new(Generation(3), both.clone(), old_signer, horizon).unwrap();
        let cohort: Cohort = "spiffe://example.org/ns/shop/*".parse().unwrap();
        let canary = old_leaves.with_canary(cohort, Arc::clone(&signer), horizon).unwrap();
        let cell = SnapshotCell::new(canary.with_cross(cross));
        let [shop, other] = ["/ns/shop/sa/cart", "/ns/other/sa/a"]
            .map(|path| cell.load().signing_for(&SpiffeId::for_path(&domain(), path).unwrap()));
        assert_eq!((shop.intermediates().count(), other.intermediates().count()), (2, 1));
        assert_eq!(shop.bounds().signer.not_after(), ends);
        assert!(other.bounds().signer.not_after() > ends);
    }
}

#[tokio::test]
async fn it_comes_and_goes_at_one_generation() {
    let mesh = Mesh::new();
    let (old, new) = (mesh.ca("old", KeySpec::P256).await, mesh.ca("new", KeySpec::P256).await);
    let both = bundle(&[&old, &new]);
    let signer = mesh.leaf_signer(&new, &both);
    let plain = |generation: u64| {
        let (signer, horizon) = (Arc::clone(&signer), NOW.plus(HOUR));
        Snapshot::new(Generation(generation), both.clone(), signer, horizon).unwrap()
    };
    let certificate = mesh.cross(&old, &new, NOW.plus(HOUR), None).await;
    let cross = CrossCertificate::verify(certificate, &signer, old.root.id(), &both, NOW).unwrap();
    let cross = Some(Arc::new(cross));
    let cell = SnapshotCell::new(plain(4));
    cell.swap(plain(4).with_cross(cross.clone())).unwrap();
    assert!(cell.load().cross().is_some());
    cell.former_gone(Generation(4)).await;
    cell.swap(plain(4)).unwrap();
    assert!(cell.load().cross().is_none());
    assert!(cell.swap(plain(3).with_cross(cross)).is_err(), "an older record brings nothing");
}
