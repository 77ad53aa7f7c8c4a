//! Family "mTLS renewal".

use issuance::{AuthorizedRequest, Holder, SnapshotCell};
use ledger::{Ended, Row, RowKind, Word};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls_pki_types::CertificateDer;
use trust::{Bundle, Certificate, CertificateId, Sequence, SpkiHash};

use super::mtls::{RowWord, Standing};
use super::*;
use crate::fixture::{CaMaterial, id};
use crate::refusal::Reason;

/// How a client's leaf looks.
#[derive(Clone)]
struct Leaf {
    uris: Vec<&'static str>,
    ca: bool,
    expired: bool,
}

const GOOD_ID: &str = "spiffe://example.org/ns/shop/sa/cart";

fn good() -> Leaf {
    Leaf { uris: vec![GOOD_ID], ca: false, expired: false }
}

/// A root made by rcgen that signs clients' leaves itself, so that leaves can be as wrong as wanted.
struct Root {
    key: KeyPair,
    params: CertificateParams,
    der: Vec<u8>,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, base64url(key.public_key_raw()));
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { key, params, der }
    }

    fn bundle(&self) -> Bundle {
        Bundle::from_ders(trust_domain(), Sequence(1), &[&self.der]).unwrap()
    }

    fn sign(&self, leaf: &Leaf) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            leaf.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        if leaf.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let mut serial = [0x40; 16];
        serial[15] = 7;
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(if leaf.expired { 2021 } else { 2040 }, 1, 1);
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }
}

fn row_of(leaf: &CertificateDer<'_>) -> LiveRow {
    let leaf = Certificate::parse(leaf).unwrap();
    LiveRow::new(Arc::new(Row {
        serial: leaf.serial().unwrap(),
        spki: leaf.spki_hash(),
        identity: id("/ns/shop/sa/cart"),
        agent: None,
        root: trust::RootId::of(b"root"),
        issuer: CertificateId::of(b"issuer"),
        not_after: leaf.validity().not_after(),
        born: Sequence(1),
        kind: RowKind::CsrOnly,
        word: Word::None,
    }))
}

fn memory_of(row: Option<LiveRow>) -> Memory {
    let memory = Memory::default();
    memory.rows.lock().unwrap().extend(row.map(|row| (row.row.serial, row)));
    memory
}

fn judge(
    chain: &[CertificateDer<'_>],
    bundle: &Bundle,
    row: Option<LiveRow>,
) -> Result<SpiffeId, Reason> {
    let verified = ChainVerifier::for_connections(0).verify(chain, bundle, &memory_of(row), NOW);
    verified.map(|holder| holder.identity).map_err(|refusal| refusal.reason())
}

#[test]
fn a_live_leaf_with_its_row_is_a_caller() {
    let root = Root::new();
    let leaf = root.sign(&good());
    let row = row_of(&leaf);
    assert_eq!(judge(&[leaf], &root.bundle(), Some(row)), Ok(id("/ns/shop/sa/cart")));
}

#[test]
fn every_hostile_certificate_is_refused_by_name() {
    let (root, retired) = (Root::new(), Root::new());
    let other = "spiffe://other.org/ns/shop/sa/cart";
    let leaf = |leaf: Leaf| root.sign(&leaf);
    let cases = [
        ("expired", vec![leaf(Leaf { expired: true, ..good() })], Reason::CertificateExpired),
        ("from a retired root", vec![retired.sign(&good())], Reason::CertificateUntrusted),
        (
            "other domain",
            vec![leaf(Leaf { uris: vec![other], ..good() })],
            Reason::CertificateTrustDomainForeign,
        ),
        ("CA used as leaf", vec![leaf(Leaf { ca: true, ..good() })], Reason::CertificateCaAsLeaf),
        ("no URI", vec![leaf(Leaf { uris: vec![], ..good() })], Reason::CertificateIdentityInvalid),
        (
            "two URIs",
            vec![leaf(Leaf { uris: vec![GOOD_ID, other], ..good() })],
            Reason::CertificateIdentityInvalid,
        ),
        (
            "not SPIFFE",
            vec![leaf(Leaf { uris: vec!["https://example.org"], ..good() })],
            Reason::CertificateIdentityInvalid,
        ),
        (
            "the CA's own id",
            vec![leaf(Leaf { uris: vec!["spiffe://example.org/banyan/ca/ca-1"], ..good() })],
            Reason::CertificateIdentityInvalid,
        ),
        (
            "an unknown reserved id",
            vec![leaf(Leaf { uris: vec!["spiffe://example.org/banyan/x"], ..good() })],
            Reason::CertificateIdentityInvalid,
        ),
        ("100 certificates", vec![leaf(good()); 100], Reason::CertificateChainTooLong),
        ("9 certificates", vec![leaf(good()); 9], Reason::CertificateChainTooLong),
        ("twice the leaf", vec![leaf(good()); 2], Reason::CertificateMalformed),
        (
            "no certificate at all",
            vec![CertificateDer::from(vec![0x30, 0])],
            Reason::CertificateMalformed,
        ),
    ];
    for (name, chain, expected) in cases {
        let row = Certificate::parse(&chain[0]).is_ok().then(|| row_of(&chain[0]));
        assert_eq!(judge(&chain, &root.bundle(), row), Err(expected), "{name}");
        assert_eq!(expected.code(), tonic::Code::Unauthenticated, "{name}");
    }
}

#[test]
fn a_leaf_that_verifies_but_matches_no_row_is_forged() {
    let root = Root::new();
    let leaf = root.sign(&good());
    let row = |change: fn(&mut Row)| {
        let mut row = (*row_of(&leaf).row).clone();
        change(&mut row);
        LiveRow::new(Arc::new(row))
    };
    let judged = |row| judge(std::slice::from_ref(&leaf), &root.bundle(), row);
    assert_eq!(judged(None), Err(Reason::CertificateNotIssued));
    let other_key = row(|row| row.spki = SpkiHash::of(b"other"));
    assert_eq!(judged(Some(other_key)), Err(Reason::CertificateNotIssued));
    let other_identity = row(|row| row.identity = id("/ns/shop/sa/other"));
    assert_eq!(judged(Some(other_identity)), Err(Reason::CertificateNotIssued));
    let other_bytes = LiveRow { certificate: Some(CertificateId::of(b"other")), ..row_of(&leaf) };
    assert_eq!(judged(Some(other_bytes)), Err(Reason::CertificateNotIssued));
    let released = LiveRow { ended: Some(Ended::Released), ..row_of(&leaf) };
    assert_eq!(judged(Some(released)), Err(Reason::CertificateReleased));
}

#[test]
fn a_remembered_chain_is_judged_again_at_every_call() {
    let (root, next) = (Root::new(), Root::new());
    let chain = [root.sign(&good())];
    let verifier = ChainVerifier::for_connections(0);
    let memory = memory_of(Some(row_of(&chain[0])));
    let judge = |bundle: &Bundle, memory: &Memory, now| {
        verifier.verify(&chain, bundle, memory, now).err().map(|refusal| refusal.reason())
    };
    assert_eq!(judge(&root.bundle(), &memory, NOW), None);
    let later = Timestamp::from_secs(2_300_000_000);
    assert_eq!(judge(&root.bundle(), &memory, later), Some(Reason::CertificateExpired));
    assert_eq!(judge(&next.bundle(), &memory, NOW), Some(Reason::CertificateUntrusted));
    assert_eq!(judge(&root.bundle(), &Memory::default(), NOW), Some(Reason::CertificateNotIssued));
    assert_eq!(judge(&root.bundle(), &memory, NOW), None);
}

/// A leaf that a real issuer made, with everything that judges it.
struct Issued {
    chain: Vec<CertificateDer<'static>>,
    leaf: Serial,
    bundle: Bundle,
    ledger: Arc<ledger::Ledger>,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fn issued() -> Issued {
    let ca = CaMaterial::new();
    let snapshot = SnapshotCell::new(ca.snapshot(1)).load();
    let request = AuthorizedRequest::new(
        id("/ns/shop/sa/cart"),
        crate::fixture::csr(),
        Holder::CsrOnly,
        None,
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let options = ledger::OpenOptions {
        dir: dir.path().to_owned(),
        segment: ledger::SegmentId::parse("s").unwrap(),
        disk: Arc::new(host::RealDisk),
        clock: clock.clone(),
        skew: Duration::from_secs(60),
        settings: ledger::Settings::default(),
    };
    let ledger = Arc::new(ledger::Ledger::open(options).unwrap().0);
    let profile = issuance::LeafProfile::new(issuance::ProfileSettings::default()).unwrap();
    let random = Arc::new(trust::SeededRandomness::new(1));
    let issuer = issuance::Issuer::new(profile, ledger.clone(), clock, random);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let leaf = runtime.block_on(issuer.issue(&request, snapshot.clone())).unwrap();
    let chain =
        leaf.chain_der().into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let (leaf, bundle) = (leaf.serial(), snapshot.bundle().clone());
    Issued { chain, leaf, bundle, ledger, runtime, _dir: dir }
}

#[test]
fn a_leaf_of_the_real_template_is_a_caller_with_its_intermediate() {
    let Issued { chain, leaf, bundle, ledger, .. } = &issued();
    let holder =
        ChainVerifier::for_connections(0).verify(chain, bundle, ledger.as_ref(), NOW).unwrap();
    assert_eq!((holder.serial, holder.identity), (*leaf, id("/ns/shop/sa/cart")));
    let alone = ChainVerifier::for_connections(0).verify(&chain[..1], bundle, ledger.as_ref(), NOW);
    assert_eq!(alone.unwrap_err().reason(), Reason::CertificateUntrusted);
}

#[test]
fn a_forgotten_leaf_is_refused_with_a_text_that_says_so_and_counts_again_once_it_was_shown() {
    let Issued { chain, leaf, bundle, ledger, runtime, .. } = &issued();
    let verifier = ChainVerifier::for_connections(0);
    runtime.block_on(ledger.forget_leaves(&[*leaf])).unwrap();
    assert_eq!(ledger.aggregates().all().rows, 0);
    let refusal = verifier.verify(chain, bundle, ledger.as_ref(), NOW).unwrap_err();
    assert_eq!(refusal.reason(), Reason::CertificateForgotten);
    assert!(refusal.text().contains("banyan leaf forget"), "{refusal}");
    assert_eq!(ledger.aggregates().all().rows, 1, "who shows it holds it");
    verifier.verify(chain, bundle, ledger.as_ref(), NOW).unwrap();
}

#[test]
fn a_leaf_of_another_server_is_judged_by_what_that_one_says_and_without_a_word_by_its_roots() {
    let Issued { chain, leaf, bundle, ledger, .. } = &issued();
    let row = |change: fn(&mut RowWord)| {
        let mut row = RowWord::from(&ledger.find(leaf).unwrap());
        change(&mut row);
        Elsewhere::Row(row)
    };
    let judge = |elsewhere: &Elsewhere| {
        let judged =
            ChainVerifier::for_connections(0).verify_elsewhere(chain, bundle, elsewhere, NOW);
        judged.map(|holder| holder.unmatched).map_err(|refusal| refusal.reason())
    };
    assert_eq!(judge(&row(|_| ())), Ok(false));
    assert_eq!(judge(&row(|row| row.standing = Standing::Superseded)), Ok(false));
    let refused = [
        (row(|row| row.standing = Standing::Released), Reason::CertificateReleased),
        (row(|row| row.standing = Standing::Forgotten), Reason::CertificateForgotten),
        (row(|row| row.spki = SpkiHash::of(b"other")), Reason::CertificateNotIssued),
        (row(|row| row.identity = id("/ns/shop/sa/other")), Reason::CertificateNotIssued),
        (
            row(|row| row.certificate = Some(CertificateId::of(b"other"))),
            Reason::CertificateNotIssued,
        ),
        (Elsewhere::Unknown, Reason::CertificateNotIssued),
        (Elsewhere::Silent { tainted: true }, Reason::CertificateUnconfirmed),
    ];
    for (elsewhere, reason) in refused {
        assert_eq!(judge(&elsewhere), Err(reason), "{elsewhere:?}");
    }
    assert_eq!(judge(&Elsewhere::Silent { tainted: false }), Ok(true), "its chain is good");
    assert_eq!(Reason::CertificateUnconfirmed.code(), tonic::Code::Unavailable);
    let stranger = Root::new();
    let forged = [stranger.sign(&good())];
    for elsewhere in [row(|_| ()), Elsewhere::Silent { tainted: false }] {
        let judged =
            ChainVerifier::for_connections(0).verify_elsewhere(&forged, bundle, &elsewhere, NOW);
        assert_eq!(judged.unwrap_err().reason(), Reason::CertificateUntrusted);
    }
}

#[test]
fn only_a_servers_certificate_is_one_of_a_server() {
    let root = Root::new();
    let leaf = |path| {
        let uri: &'static str = path;
        [root.sign(&Leaf { uris: vec![uri], ..good() })]
    };
    let judge = |chain: &[CertificateDer<'_>]| {
        let judged = ChainVerifier::for_servers().chain(chain, &root.bundle(), NOW);
        judged.map(|leaf| leaf.holder.identity.ca_name().map(str::to_owned))
    };
    let server = leaf("spiffe://example.org/banyan/ca/ca-1");
    assert_eq!(judge(&server).unwrap(), Some("ca-1".to_owned()));
    for other in
        [GOOD_ID, "spiffe://example.org/banyan/agent/node-1", "spiffe://other.org/banyan/ca/ca-1"]
    {
        assert!(judge(&leaf(other)).is_err(), "{other}");
    }
    let stranger =
        [Root::new().sign(&Leaf { uris: vec!["spiffe://example.org/banyan/ca/ca-1"], ..good() })];
    assert_eq!(judge(&stranger).unwrap_err().reason(), Reason::CertificateUntrusted);
}
