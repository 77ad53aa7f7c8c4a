//! The plugin over real files: both layouts, kinds of keys, swaps, half-written files, links flipped as kubelet does it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod crossing;
mod further;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugin_file::FilePlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, HealthState, IssuerRequest, KeyBackend, KeySpec,
    Outcome, PluginError, RequestId, RootAuthority, ca_certificate,
};
use plugins_conformance::authority::{Subject, run};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use trust::{ManualClock, RootId, SeededRandomness, Timestamp, TrustDomain};

const ENCRYPTED_KEY: &str =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n";
const OLD_ENCRYPTED_KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
    c2VjcmV0\n-----END RSA PRIVATE KEY-----\n";

/// 2026-06-01, inside the validity of what rcgen makes.
const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
    der: Vec<u8>,
}

fn params(name: &str, path_len: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    // As Istio writes it.
    params
        .distinguished_name
        .push(DnType::OrganizationName, DnValue::PrintableString(name.try_into().unwrap()));
    params.is_ca = IsCa::Ca(path_len);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn root(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let params = params(name, BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    Ca { pem: certificate.pem(), der: certificate.der().to_vec(), params, key }
}

fn below(above: &Ca, name: &str, key: KeyPair, path_len: u8) -> Ca {
    let params = params(name, BasicConstraints::Constrained(path_len));
    let issuer = Issuer::from_params(&above.params, &above.key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Ca { pem: certificate.pem(), der: certificate.der().to_vec(), params, key }
}

fn write_istio(directory: &Path, ca: &Ca, chain: &str, roots: &str) {
    fs::create_dir_all(directory).unwrap();
    for (name, text) in [
        ("ca-cert.pem", ca.pem.as_str()),
        ("ca-key.pem", &ca.key.serialize_pem()),
        ("cert-chain.pem", chain),
        ("root-cert.pem", roots),
    ] {
        fs::write(directory.join(name), text).unwrap();
    }
}

struct World {
    _home: tempfile::TempDir,
    directory: PathBuf,
    state: Arc<MemoryState>,
    authority: Arc<dyn RootAuthority>,
}

fn opened(directory: &Path, state: Arc<MemoryState>, more: &str) -> Arc<dyn RootAuthority> {
    let (keys, state) = (Arc::new(MemoryKeys::new()) as _, state as _);
    let (clock, randomness) =
        (Arc::new(ManualClock::at(NOW)) as _, Arc::new(SeededRandomness::new(1)) as _);
    let settings =
        format!("directory = {:?}\n{more}", directory.to_str().unwrap()).parse().unwrap();
    FilePlugin
        .open(&settings, AuthorityDeps::new(domain(), keys, state, clock, randomness))
        .unwrap()
}

fn world(write: impl FnOnce(&Path)) -> World {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("cacerts");
    write(&directory);
    let state = Arc::new(MemoryState::new());
    let authority = opened(&directory, Arc::clone(&state), "");
    World { _home: home, directory, state, authority }
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(5))
}

async fn asked(
    authority: &dyn RootAuthority,
    id: &str,
    root: RootId,
) -> Result<Vec<Vec<u8>>, PluginError> {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    let request = IssuerRequest::new(root, csr, domain(), Duration::from_secs(86_400));
    match authority.sign_issuer(&context(id), &request).await? {
        Outcome::Ready(chain) => Ok(chain.certificates),
        pending => panic!("{pending:?}"),
    }
}

async fn health(world: &World) -> (HealthState, String) {
    let health = world.authority.check(&context("check")).await;
    (health.state, health.detail)
}

async fn signing(world: &World) -> RootId {
    world.authority.roots(&context("roots")).await.unwrap().signing.unwrap()
}

#[tokio::test]
async fn both_layouts_pass_the_suite() {
    let top = root("mesh root");
    let ca = below(&top, "mesh", KeyPair::generate().unwrap(), 1);
    let home = tempfile::tempdir().unwrap();
    let (istio, kubernetes) = (home.path().join("istio"), home.path().join("kubernetes"));
    write_istio(&istio, &ca, &format!("{}{}", ca.pem, top.pem), &top.pem);
    fs::create_dir_all(&kubernetes).unwrap();
    fs::write(kubernetes.join("tls.crt"), &ca.pem).unwrap();
    fs::write(kubernetes.join("tls.key"), ca.key.serialize_pem()).unwrap();
    fs::write(kubernetes.join("ca.crt"), &top.pem).unwrap();
    for directory in [istio, kubernetes] {
        let state = Arc::new(MemoryState::new());
        let open = move || opened(&directory, Arc::clone(&state), "");
        let report = run(&Subject::new(open, domain(), Arc::new(ManualClock::at(NOW)))).await;
        report.assert_conforms();
    }
}

#[tokio::test]
async fn a_root_of_its_own_signs_without_anything_between() {
    let top = root("alone");
    let world = world(|directory| write_istio(directory, &top, "", &top.pem));
    let chain = asked(world.authority.as_ref(), "one", RootId::of(&top.der)).await.unwrap();
    assert_eq!(chain.len(), 1);
    assert!(!world.authority.describe().exclusive, "others may hold the files too");
    let claimed = opened(&world.directory, Arc::clone(&world.state), "exclusive = true");
    assert!(claimed.describe().exclusive);
}

#[tokio::test]
async fn rsa_and_other_keys_sign() {
    let top = root("mesh root");
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let ca = below(&top, "mesh", KeyPair::generate_for(algorithm).unwrap(), 1);
        let world = world(|directory| write_istio(directory, &ca, "", &top.pem));
        let chain = asked(world.authority.as_ref(), "one", RootId::of(&top.der)).await.unwrap();
        assert_eq!(chain.len(), 2);
    }
    // rcgen on ring makes no RSA keys; this one is of openssl.
    let pem = include_str!("../rsa-2048.pem");
    let ca = below(&top, "mesh", KeyPair::from_pem(pem).unwrap(), 1);
    let world = world(|directory| write_istio(directory, &ca, "", &top.pem));
    assert_eq!(
        asked(world.authority.as_ref(), "one", RootId::of(&top.der)).await.unwrap().len(),
        2
    );
}

#[tokio::test]
async fn files_that_do_not_pass_leave_the_last_good_ones_in_use() {
    let (top, other) = (root("mesh root"), root("other root"));
    let ca = below(&top, "mesh", KeyPair::generate().unwrap(), 1);
    let world = world(|directory| write_istio(directory, &ca, "", &top.pem));
    assert_eq!(signing(&world).await, RootId::of(&top.der));
    let stranger = below(&other, "stranger", KeyPair::generate().unwrap(), 1);
    let half = &ca.pem[..ca.pem.len() / 2];
    for (name, text, words) in [
        ("ca-key.pem", stranger.key.serialize_pem(), "is not the key of ca-cert.pem"),
        ("ca-key.pem", String::new(), "holds no private key"),
        ("ca-cert.pem", half.to_owned(), "ca-cert.pem"),
        ("ca-cert.pem", String::new(), "holds no certificate"),
        ("root-cert.pem", other.pem.clone(), "neither in cert-chain.pem nor in root-cert.pem"),
        ("root-cert.pem", String::new(), "leads to no root"),
        ("root-cert.pem", top.key.serialize_pem(), "a private key (PRIVATE KEY) lies beside"),
        ("ca-cert.pem", format!("{}{}", ca.pem, ca.key.serialize_pem()), "a private key"),
        ("ca-key.pem", ENCRYPTED_KEY.to_owned(), "is encrypted (ENCRYPTED PRIVATE KEY)"),
        ("ca-key.pem", OLD_ENCRYPTED_KEY.to_owned(), "is encrypted (Proc-Type: 4,ENCRYPTED)"),
        ("root-cert.pem", format!("{}{half}", top.pem), "is cut off"),
        (
            "root-cert.pem",
            format!("{}{}", top.pem, other.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            "a block TRUSTED CERTIFICATE",
        ),
        ("cert-chain.pem", "x".repeat(1_048_577), "longer than 1 MiB"),
    ] {
        let path = world.directory.join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, &text).unwrap();
        let (state, detail) = health(&world).await;
        assert_eq!(state, HealthState::Degraded, "{name}: {detail}");
        assert!(detail.contains(words) && detail.contains(name), "{name}: {detail}");
        assert!(!detail.contains("MII"), "nothing of the contents is told: {detail}");
        assert_eq!(signing(&world).await, RootId::of(&top.der), "{name}");
        fs::write(&path, good).unwrap();
        assert_eq!(health(&world).await.0, HealthState::Ok, "{name} is mended");
    }
    fs::remove_file(world.directory.join("ca-key.pem")).unwrap();
    assert_eq!(health(&world).await.0, HealthState::Degraded);
    let fresh = opened(&world.directory, Arc::clone(&world.state), "");
    let down = fresh.roots(&context("roots")).await.unwrap_err();
    assert!(matches!(down, PluginError::AuthorityDown { .. }), "{down:?}");
}

#[tokio::test]
async fn a_swapped_ca_is_first_announced_beside_the_former_one() {
    let (old, new) = (root("old root"), root("new root"));
    let world = world(|directory| write_istio(directory, &old, "", &old.pem));
    let first = world.authority.roots(&context("roots")).await.unwrap();
    write_istio(&world.directory, &new, "", &new.pem);
    let both = world.authority.roots(&context("roots")).await.unwrap();
    assert_eq!((both.roots.len(), both.signing), (2, Some(RootId::of(&new.der))));
    let after = world.authority.roots(&context("roots")).await.unwrap();
    assert_eq!(after.roots, std::slice::from_ref(&new.der));
    assert!(first.generation < both.generation && both.generation < after.generation);
    let denied = asked(world.authority.as_ref(), "old", RootId::of(&old.der)).await.unwrap_err();
    assert!(matches!(denied, PluginError::Denied { .. }), "{denied:?}");
}

#[tokio::test]
async fn a_link_that_kubelet_flips_is_read_on_one_side_of_the_flip() {
    let (old, new) = (root("old root"), root("new root"));
    let world = world(|directory| {
        for (version, ca) in [("..v1", &old), ("..v2", &new)] {
            write_istio(&directory.join(version), ca, "", &ca.pem);
        }
        symlink("..v1", directory.join("..data")).unwrap();
        for name in ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"] {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
    });
    // What was read once stands in while the files change faster than they can be read.
    assert_eq!(signing(&world).await, RootId::of(&old.der));
    let directory = world.directory.clone();
    let flipping = std::thread::spawn(move || {
        for turn in 0..400 {
            let link = directory.join("..data_tmp");
            symlink(if turn % 2 == 0 { "..v2" } else { "..v1" }, &link).unwrap();
            fs::rename(&link, directory.join("..data")).unwrap();
        }
    });
    let (ids, mut reads) = ([RootId::of(&old.der), RootId::of(&new.der)], 0);
    while !flipping.is_finished() || reads < 20 {
        reads += 1;
        let signing = signing(&world).await;
        assert!(ids.contains(&signing));
        let (state, detail) = health(&world).await;
        assert!(state == HealthState::Ok || detail.contains("change faster"), "{detail}");
    }
    flipping.join().unwrap();
    assert_eq!(signing(&world).await, RootId::of(&old.der));
}

#[tokio::test]
async fn a_change_is_seen_by_who_waits_for_it() {
    let (old, new) = (root("old root"), root("new root"));
    let world = world(|directory| write_istio(directory, &old, "", &old.pem));
    let seen = world.authority.roots(&context("roots")).await.unwrap().generation;
    let authority = Arc::clone(&world.authority);
    let waiting = tokio::spawn(async move { authority.watching().unwrap().changed(seen).await });
    write_istio(&world.directory, &new, "", &new.pem);
    let changed =
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
    assert!(changed.generation > seen);
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_missing_and_counts_once_it_is() {
    let top = root("mesh root");
    let world = world(|_| {});
    let (state, detail) = health(&world).await;
    assert_eq!(state, HealthState::Down);
    let directory = world.directory.display().to_string();
    assert!(
        detail.contains(&format!("{directory} is missing")) && detail.contains("`directory`"),
        "{detail}"
    );
    write_istio(&world.directory, &top, "", &top.pem);
    assert_eq!(health(&world).await, (HealthState::Ok, String::new()));
    fs::remove_dir_all(&world.directory).unwrap();
    let (state, detail) = health(&world).await;
    assert!(state == HealthState::Degraded && detail.contains("is missing"), "{detail}");
    assert_eq!(signing(&world).await, RootId::of(&top.der), "what was read is in use");
}

#[tokio::test]
async fn a_ca_that_cannot_carry_an_issuer_is_refused_by_name_and_a_mended_one_signs_the_same_request()
 {
    let top = root("mesh root");
    let narrow = below(&top, "narrow", KeyPair::generate().unwrap(), 0);
    let roomy = below(&top, "roomy", KeyPair::generate().unwrap(), 1);
    let world = world(|directory| write_istio(directory, &narrow, "", &top.pem));
    let id = RootId::of(&top.der);
    let refused = asked(world.authority.as_ref(), "one", id).await.unwrap_err().to_string();
    for words in ["ca-cert.pem", "O=narrow", "path length 0", "pathlen:1"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    write_istio(&world.directory, &roomy, "", &top.pem);
    // The same request, so a refusal that had been remembered would come back.
    let chain = asked(world.authority.as_ref(), "one", id).await.unwrap();
    assert_eq!(chain.get(1), Some(&roomy.der));
}

#[tokio::test]
async fn what_the_certificates_cannot_cover_is_told_with_the_first_that_ends() {
    let top = root("mesh root");
    let ca = below(&top, "mesh", KeyPair::generate().unwrap(), 1);
    let world = world(|directory| write_istio(directory, &ca, "", &top.pem));
    let request = {
        let keys = MemoryKeys::new();
        let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
        let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
        IssuerRequest::new(
            RootId::of(&top.der),
            csr,
            domain(),
            Duration::from_secs(50 * 365 * 86_400),
        )
    };
    let refused = world.authority.sign_issuer(&context("long"), &request).await.unwrap_err();
    let PluginError::Outlives { above, ends } = refused else { panic!("{refused:?}") };
    assert!(above.contains("O=mesh") && above.contains("ca-cert.pem"), "{above}");
    // 2036-01-01
    assert_eq!(ends, Timestamp::from_secs(2_082_758_400));
}
