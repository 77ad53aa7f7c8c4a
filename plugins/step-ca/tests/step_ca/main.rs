//! The plugin against a real step-ca, installed by `cargo xtask peers step-ca`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod misbehavior;
mod server;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use host::{OsRandomness, SystemClock};
use plugin_step_ca::StepCaPlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, HealthState, IssuerRequest, KeyBackend, KeySpec,
    Outcome, PluginError, RequestId, RootAuthority, ca_certificate,
};
use plugins_conformance::authority::{Subject, run};
use rcgen::KeyPair;
use server::{Pki, Setup, StepCaProcess, documented, documented_template, public_jwk};
use trust::{Certificate, Clock as _, ManualClock, RootId, TrustDomain};

const DAY: Duration = Duration::from_secs(86_400);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn opened(settings: &str, state: Arc<MemoryState>) -> Arc<dyn RootAuthority> {
    let (keys, state) = (Arc::new(MemoryKeys::new()) as _, state as _);
    let (clock, randomness) = (Arc::new(SystemClock) as _, Arc::new(OsRandomness::new()) as _);
    StepCaPlugin
        .open(
            &settings.parse().unwrap(),
            AuthorityDeps::new(domain(), keys, state, clock, randomness),
        )
        .unwrap()
}

fn fresh(settings: &str) -> Arc<dyn RootAuthority> {
    opened(settings, Arc::new(MemoryState::new()))
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(20))
}

async fn request(root: RootId, ttl: Duration) -> IssuerRequest {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    IssuerRequest::new(root, csr, domain(), ttl)
}

fn id(pki: &Pki) -> RootId {
    RootId::of(pki.root.der())
}

async fn asked(
    authority: &dyn RootAuthority,
    root: RootId,
    ttl: Duration,
) -> Result<Vec<Certificate>, PluginError> {
    match authority.sign_issuer(&context("one"), &request(root, ttl).await).await? {
        Outcome::Ready(chain) => {
            Ok(chain.certificates.iter().map(|der| Certificate::parse(der).unwrap()).collect())
        }
        pending => panic!("{pending:?}"),
    }
}

fn assert_denied(error: &PluginError, words: &[&str]) {
    assert!(matches!(error, PluginError::Denied { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
}

async fn health(authority: &dyn RootAuthority) -> (HealthState, String) {
    let health = authority.check(&context("check")).await;
    (health.state, health.detail)
}

#[tokio::test]
async fn it_passes_the_suite() {
    let step = StepCaProcess::start(&Setup::of(Pki::new("mesh", 1).unwrap())).unwrap();
    let (section, state) = (step.section(), Arc::new(MemoryState::new()));
    let open = move || opened(&section, Arc::clone(&state));
    // The suite counts lives from now; a step-ca's clock goes on meanwhile.
    let now = ManualClock::at(SystemClock.now());
    let report = run(&Subject::new(open, domain(), Arc::new(now))).await;
    report.assert_conforms();
    for rule in [
        "issuer-is-safe",
        "issuer-at-once-same-bytes",
        "answers-survive-a-restart",
        "check-is-well",
    ] {
        assert!(report.passed().contains(&rule), "{rule} was not tried\n{report}");
    }
}

#[tokio::test]
async fn an_issuer_is_what_the_documented_template_says() {
    let pki = Pki::new("mesh", 1).unwrap();
    let (root, intermediate) = (id(&pki), pki.intermediate.der().to_vec());
    let step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    let authority = fresh(&step.section());
    assert!(!authority.describe().exclusive, "its other provisioners certify too");
    let chain = asked(authority.as_ref(), root, 30 * DAY).await.unwrap();
    let [issuer, above] = chain.as_slice() else { panic!("{chain:?}") };
    assert_eq!(above.der(), intermediate);
    assert_eq!(issuer.names().uris, ["spiffe://example.org"]);
    let extensions = issuer.extensions();
    let constraints = extensions.basic_constraints.unwrap();
    assert_eq!((constraints.critical, constraints.ca, constraints.path_len), (true, true, Some(0)));
    let usage = extensions.key_usage.unwrap();
    assert_eq!((usage.key_cert_sign, usage.crl_sign, usage.digital_signature), (true, true, false));
    assert!(issuer.subject_text().contains("Banyan issuer"), "{}", issuer.subject_text());
    let validity = issuer.validity();
    let life = validity.not_after().since(validity.not_before());
    assert_eq!(life, 30 * DAY + Duration::from_secs(60));
}

#[test]
fn the_documented_commands_make_the_public_half_of_their_key() {
    let home = tempfile::tempdir().unwrap();
    let script = documented("```sh\n");
    let ran = std::process::Command::new("sh")
        .args(["-ec", &script])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "install openssl: {}", String::from_utf8_lossy(&ran.stderr));
    let key = fs::read_to_string(home.path().join("banyan-provisioner.key")).unwrap();
    let public = fs::read_to_string(home.path().join("banyan-public.json")).unwrap();
    let public: serde_json::Value = serde_json::from_str(&public).unwrap();
    // What every other test puts into ca.json.
    assert_eq!(public, public_jwk(&KeyPair::from_pem(&key).unwrap()));
}

#[tokio::test]
async fn a_root_that_signs_itself_has_nothing_between() {
    let pki = Pki::new("alone", 1).unwrap();
    let root = id(&pki);
    let step = StepCaProcess::start(&Setup { root_signs: true, ..Setup::of(pki) }).unwrap();
    let chain = asked(fresh(&step.section()).as_ref(), root, DAY).await.unwrap();
    assert_eq!(chain.len(), 1);
}

#[tokio::test]
async fn a_token_of_another_key_or_provisioner_is_refused_and_told_what_to_compare() {
    let pki = Pki::new("mesh", 1).unwrap();
    let root = id(&pki);
    let step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    let words = ["401", "does not take the token", "`provisioner`", "`key_file`"];

    let key_id = {
        let good = fs::read_to_string(step.path("provisioner.key")).unwrap();
        fs::write(step.path("good.key"), good).unwrap();
        let configuration = fs::read_to_string(step.path("ca.json")).unwrap();
        let configuration: serde_json::Value = serde_json::from_str(&configuration).unwrap();
        configuration["authority"]["provisioners"][0]["key"]["kid"].as_str().unwrap().to_owned()
    };
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(step.path("provisioner.key"), &other).unwrap();
    for section in [step.section(), format!("{}key_id = \"{key_id}\"\n", step.section())] {
        let refused = asked(fresh(&section).as_ref(), root, DAY).await.unwrap_err();
        assert_denied(&refused, &words);
        assert_eq!(refused.to_string().contains(&key_id), section.contains(&key_id), "{refused}");
    }
    let section = step.section().replace("provisioner = \"banyan\"", "provisioner = \"other\"");
    assert_denied(&asked(fresh(&section).as_ref(), root, DAY).await.unwrap_err(), &words);

    // The right key comes back, under the same open authority: it counts at once.
    let authority = fresh(&step.section());
    assert!(asked(authority.as_ref(), root, DAY).await.is_err());
    fs::copy(step.path("good.key"), step.path("provisioner.key")).unwrap();
    assert!(asked(authority.as_ref(), root, DAY).await.is_ok());
}

#[tokio::test]
async fn a_template_or_a_life_that_does_not_fit_is_denied_with_what_to_do() {
    let template = documented_template();
    for (template, longest, words) in [
        (None, "9000h", vec!["is not a CA", "docs/plugins/step-ca.md"]),
        (Some(template.replace("\"isCA\": true", "\"isCA\": false")), "9000h", vec!["not a CA"]),
        (
            Some(template.replace("\"certSign\", ", "")),
            "9000h",
            vec!["keyCertSign", "docs/plugins/step-ca.md"],
        ),
        (
            Some(template.replace("toJson .SANs", "toJson (list)")),
            "9000h",
            vec!["names are not spiffe://example.org"],
        ),
        (Some(template.clone()), "24h", vec!["403", "maxTLSCertDuration"]),
    ] {
        let pki = Pki::new("mesh", 1).unwrap();
        let root = id(&pki);
        let step = StepCaProcess::start(&Setup { template, longest, ..Setup::of(pki) }).unwrap();
        assert_denied(
            &asked(fresh(&step.section()).as_ref(), root, 30 * DAY).await.unwrap_err(),
            &words,
        );
    }
    let pki = Pki::new("mesh", 1).unwrap();
    let root = id(&pki);
    let step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    let refused = asked(fresh(&step.section()).as_ref(), root, 365 * 30 * DAY).await.unwrap_err();
    let said = refused.to_string();
    assert!(
        matches!(refused, PluginError::Outlives { .. }) && said.contains("before the issuer would"),
        "{said}"
    );
    let deeper = request(root, DAY).await.with_path_len(1);
    let refused =
        fresh(&step.section()).sign_issuer(&context("deeper"), &deeper).await.unwrap_err();
    assert_denied(&refused, &["path length 1, and 2 is needed"]);
}

#[tokio::test]
async fn an_intermediate_without_room_is_told_by_health_and_asked_for_nothing() {
    let pki = Pki::new("default", 0).unwrap();
    let root = id(&pki);
    let step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    let authority = fresh(&step.section());
    let (state, detail) = health(authority.as_ref()).await;
    assert_eq!(state, HealthState::Down);
    assert!(detail.contains("path length 0, and 1 is needed"), "{detail}");
    assert_denied(&asked(authority.as_ref(), root, DAY).await.unwrap_err(), &["path length 0"]);
    let log = step.log();
    assert!(log.contains("/1.0/intermediates") && !log.contains("/1.0/sign"), "{log}");
}

#[tokio::test]
async fn one_that_is_away_is_down_and_comes_back() {
    let pki = Pki::new("mesh", 1).unwrap();
    let root = id(&pki);
    let mut step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    let authority = fresh(&step.section());
    let before = request(root, DAY).await;
    let first = authority.sign_issuer(&context("before"), &before).await.unwrap();
    step.stop();
    assert_eq!(health(authority.as_ref()).await.0, HealthState::Down);
    for error in [
        authority.roots(&context("roots")).await.unwrap_err(),
        asked(authority.as_ref(), root, DAY).await.unwrap_err(),
    ] {
        assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
        assert!(error.may_be_repeated());
    }
    let again = authority.sign_issuer(&context("before"), &before).await.unwrap();
    assert_eq!(first, again, "what was answered is answered without it");
    step.run().unwrap();
    assert_eq!(health(authority.as_ref()).await, (HealthState::Ok, String::new()));
    assert_eq!(asked(authority.as_ref(), root, DAY).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_new_root_is_first_announced_beside_the_former_one() {
    let (old, new) = (Pki::new("old", 1).unwrap(), Pki::new("new", 1).unwrap());
    let (old_id, new_id) = (id(&old), id(&new));
    let both_roots = format!("{}{}", old.root.pem(), new.root.pem());
    let mut step = StepCaProcess::start(&Setup::of(old)).unwrap();
    fs::write(step.path("roots.pem"), both_roots).unwrap();
    let section = step.section().replace("/root.pem", "/roots.pem");
    let authority = fresh(&section);
    let first = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((first.roots.len(), first.signing), (1, Some(old_id)));
    let pinned = fresh(&format!("{section}root_sha256 = [\"{old_id}\"]\n"));
    assert_eq!(pinned.roots(&context("roots")).await.unwrap().signing, Some(old_id));

    step.stop();
    step.write(&Setup::of(new)).unwrap();
    step.run().unwrap();
    let both = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((both.roots.len(), both.signing), (2, Some(new_id)));
    let after = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((after.roots.len(), after.signing), (1, Some(new_id)));
    assert!(first.generation < both.generation && both.generation < after.generation);
    assert_denied(&asked(authority.as_ref(), old_id, DAY).await.unwrap_err(), &["not under"]);
    assert!(asked(authority.as_ref(), new_id, DAY).await.is_ok());

    let refused = pinned.roots(&context("roots")).await.unwrap_err();
    assert!(
        matches!(&refused, PluginError::Misconfigured { field, .. } if field == "root_sha256"),
        "{refused:?}"
    );
    assert!(refused.to_string().contains(&new_id.to_string()));
}

#[tokio::test]
async fn a_server_of_another_root_is_not_believed() {
    let (pki, stranger) = (Pki::new("mesh", 1).unwrap(), Pki::new("stranger", 1).unwrap());
    let step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    fs::write(step.path("root.pem"), stranger.root.pem()).unwrap();
    let error = fresh(&step.section()).roots(&context("roots")).await.unwrap_err();
    assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
}

#[tokio::test]
async fn neither_debug_nor_errors_show_the_key() {
    let pki = Pki::new("mesh", 1).unwrap();
    let root = id(&pki);
    let step = StepCaProcess::start(&Setup::of(pki)).unwrap();
    let authority = fresh(&step.section());
    asked(authority.as_ref(), root, DAY).await.unwrap();
    let key = fs::read_to_string(step.path("provisioner.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let mut shown = vec![format!("{authority:?}")];
    let half = key.get(..key.len() / 2).unwrap();
    for damaged in [
        half.to_owned(),
        key.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        secret.to_owned(),
        String::new(),
    ] {
        fs::write(step.path("provisioner.key"), damaged).unwrap();
        let (state, detail) = health(authority.as_ref()).await;
        assert_eq!(state, HealthState::Down, "{detail}");
        let context = context("damaged");
        let error = authority.sign_issuer(&context, &request(root, DAY).await).await.unwrap_err();
        assert!(
            matches!(&error, PluginError::Misconfigured { field, .. } if field == "key_file"),
            "{error:?}"
        );
        shown.extend([detail, format!("{error} {error:?}")]);
    }
    fs::remove_file(step.path("provisioner.key")).unwrap();
    shown.push(health(authority.as_ref()).await.1);
    for text in shown {
        assert!(!text.contains(&secret[..12]) && !text.contains("eyJ"), "{text}");
    }
}
