//! The authority conforms, survives failed writes, and refuses what it must.

use std::sync::Arc;

use plugins::memory::MemoryKeys;
use plugins::state::{MemoryState, PutFault};
use plugins::{AuthorityState, KeyBackend, KeySpec, StateName};
use plugins_conformance::authority::{Subject, run};
use trust::{ManualClock, SeededRandomness, Timestamp, TrustDomain};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[derive(Clone)]
struct World {
    keys: Arc<MemoryKeys>,
    state: Arc<MemoryState>,
    clock: Arc<ManualClock>,
    randomness: Arc<SeededRandomness>,
}

impl World {
    fn new() -> Self {
        Self {
            keys: Arc::new(MemoryKeys::new()),
            state: Arc::new(MemoryState::new()),
            clock: Arc::new(ManualClock::at(NOW)),
            randomness: Arc::new(SeededRandomness::new(1)),
        }
    }

    fn open(&self) -> Arc<dyn RootAuthority> {
        let Self { keys, state, clock, randomness } = self.clone();
        let deps = AuthorityDeps::new(domain(), keys, state, clock, randomness);
        SelfSignedPlugin.open(&toml::Table::new(), deps).expect("opens")
    }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("domain")
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).expect("id"), Duration::from_secs(10))
}

fn stage_request() -> StageRequest {
    StageRequest::new(domain(), YEAR, KeySpec::P256)
}

async fn stage(authority: &dyn RootAuthority, id: &str) -> Result<RootId, PluginError> {
    let staging = authority.staging().expect("it stages");
    match staging.stage(&context(id), &stage_request()).await? {
        Outcome::Ready(der) => Ok(RootId::of(&der)),
        pending => panic!("{pending:?}"),
    }
}

#[tokio::test]
async fn the_authority_conforms() {
    let world = World::new();
    let (open, clock) = (world.clone(), world.clock.clone());
    let report = run(&Subject::new(move || open.open(), domain(), clock)).await;
    report.assert_conforms();
    assert!(report.skipped().is_empty(), "{report}");
}

#[tokio::test]
async fn a_failed_write_of_a_root_makes_no_second_root_or_key() {
    for fault in [PutFault::FailedNotStored, PutFault::FailedButStored] {
        let world = World::new();
        world.state.fail_next_put(fault);
        let failed = stage(world.open().as_ref(), "bootstrap").await;
        assert!(matches!(failed, Err(PluginError::Transient { .. })), "{failed:?}");
        let announced = world.open().roots(&context("roots")).await.expect("roots");
        assert_eq!(
            announced.roots.len(),
            usize::from(fault == PutFault::FailedButStored),
            "{fault:?}"
        );
        let root = stage(world.open().as_ref(), "bootstrap").await.expect("now it works");
        let again = world.open().roots(&context("roots")).await.expect("roots");
        assert_eq!(again.roots.iter().map(|der| RootId::of(der)).collect::<Vec<_>>(), [root]);
        assert_eq!(world.keys.list().await.expect("keys").len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_failed_write_of_an_activation_or_retirement_is_told_and_repeatable() {
    for fault in [PutFault::FailedNotStored, PutFault::FailedButStored] {
        let world = World::new();
        let authority = world.open();
        let (old, new) =
            (stage(authority.as_ref(), "old").await, stage(authority.as_ref(), "new").await);
        let (old, new) = (old.expect("old"), new.expect("new"));
        let (staging, retiring) =
            (authority.staging().expect("stages"), authority.retiring().expect("retires"));
        world.state.fail_next_put(fault);
        assert!(staging.activate(&context("activate"), &new).await.is_err());
        staging.activate(&context("activate"), &new).await.expect("repeated");
        world.state.fail_next_put(fault);
        assert!(retiring.retire(&context("retire"), &old).await.is_err());
        assert_eq!(
            world.keys.list().await.expect("keys").len(),
            2,
            "the key goes only after the record"
        );
        retiring.retire(&context("retire"), &old).await.expect("repeated");
        assert_eq!(world.keys.list().await.expect("keys").len(), 1);
        let set = authority.roots(&context("roots")).await.expect("roots");
        assert_eq!((set.roots.len(), set.signing), (1, Some(new)));
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_never_a_new_root() {
    let world = World::new();
    stage(world.open().as_ref(), "bootstrap").await.expect("root");
    let name = StateName::parse("self-signed").expect("name");
    let good = world.state.get(&name).await.expect("read").expect("there");
    let text = String::from_utf8(good.clone()).expect("json");
    for bad in [
        String::new(),
        text.chars().take(text.len() / 2).collect(),
        text.replace("\"format\":1", "\"format\":2"),
        text.replace("\"generation\"", "\"generations\""),
        text.replace("\"der\":\"30", "\"der\":\"31"),
        text.replace("\"signing\":null", &format!("\"signing\":\"{}\"", RootId::of(b"x"))),
    ] {
        assert_ne!(bad.as_bytes(), good);
        world.state.put(&name, bad.as_bytes()).await.expect("put");
        let refused = stage(world.open().as_ref(), "second").await;
        assert!(matches!(refused, Err(PluginError::Permanent { .. })), "{refused:?}");
        assert_eq!(
            world.state.get(&name).await.expect("read"),
            Some(bad.into_bytes()),
            "left as it was"
        );
        assert_eq!(world.open().check(&context("check")).await.state, HealthState::Down);
    }
}

#[tokio::test]
async fn check_tells_the_first_end_and_a_root_that_ended() {
    let world = World::new();
    let authority = world.open();
    stage(authority.as_ref(), "bootstrap").await.expect("root");
    let health = authority.check(&context("check")).await;
    assert_eq!((health.state, health.earliest_expiry), (HealthState::Ok, Some(NOW.plus(YEAR))));
    world.clock.advance(YEAR);
    assert_eq!(authority.check(&context("check")).await.state, HealthState::Degraded);
}

#[tokio::test]
async fn what_would_outlive_its_root_is_refused_with_the_root_s_end_and_what_fits_is_signed() {
    let world = World::new();
    let authority = world.open();
    let root = stage(authority.as_ref(), "bootstrap").await.expect("root");
    world.clock.advance(YEAR - Duration::from_secs(7_200));
    let key = world.keys.generate(&context("issuer").request_id, KeySpec::P256).await.expect("key");
    let csr_der = ca_certificate::build_issuer_csr(world.keys.as_ref(), &key).await.expect("csr");
    let asked =
        |secs| IssuerRequest::new(root, csr_der.clone(), domain(), Duration::from_secs(secs));
    let refused =
        authority.sign_issuer(&context("one"), &asked(7_201)).await.expect_err("too long");
    let PluginError::Outlives { above, ends } = refused else { panic!("{refused:?}") };
    assert_eq!(ends, NOW.plus(YEAR));
    assert!(above.contains(&root.short().to_string()), "{above}");
    authority
        .sign_issuer(&context("one"), &asked(7_140))
        .await
        .expect("nothing was made under this id");
}

#[tokio::test]
async fn issuers_that_ended_are_forgotten() {
    let world = World::new();
    let authority = world.open();
    let root = stage(authority.as_ref(), "bootstrap").await.expect("root");
    for (id, wait) in [("first", Duration::from_secs(7200)), ("second", Duration::ZERO)] {
        let key = world.keys.generate(&context(id).request_id, KeySpec::P256).await.expect("key");
        let csr_der =
            ca_certificate::build_issuer_csr(world.keys.as_ref(), &key).await.expect("csr");
        let ttl = Duration::from_secs(3600);
        let request = IssuerRequest::new(root, csr_der, domain(), ttl);
        authority.sign_issuer(&context(id), &request).await.expect("issuer");
        world.clock.advance(wait);
    }
    let book = Book::load(world.state.as_ref()).await.expect("book");
    assert_eq!(book.issuers.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["second"]);
}

#[test]
fn it_has_no_settings_and_says_so() {
    let settings: toml::Table = "lifetime = '1d'".parse().expect("toml");
    let problems = SelfSignedPlugin.validate(&settings).expect_err("unknown");
    assert_eq!(problems.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), ["lifetime"]);
}
