use std::collections::BTreeSet;

use stores::fake::FakeStore;
use trust::{Clock as _, ManualClock, SpiffeId, SpkiHash};

use super::*;
use crate::fixture::{NOW, membership, open_as};
use crate::registry::Limits;
use crate::rows::{BanRow, Newcomer, TokenRow};
use crate::rulings::Ruling;

const DAY: Duration = Duration::from_secs(86_400);

/// A registry with a clock that tests move.
struct Bench {
    store: FakeStore,
    clock: Arc<ManualClock>,
    limits: Limits,
    registry: AgentRegistry,
}

impl Bench {
    async fn with(limits: Limits) -> Self {
        let (store, clock) = (FakeStore::new(), Arc::new(ManualClock::at(NOW)));
        let registry = opened(&store, &clock, &limits).await;
        Self { store, clock, limits, registry }
    }

    /// Stops, and starts after this time in which no server ran.
    async fn restart_after(self, away: Duration) -> Self {
        let Self { store, clock, limits, registry } = self;
        drop(registry);
        clock.advance(away);
        let registry = opened(&store, &clock, &limits).await;
        Self { store, clock, limits, registry }
    }

    async fn by_jwt(&self, caller: &str, number: usize) -> Result<(), RegistryError> {
        let identities =
            BTreeSet::from([SpiffeId::parse("spiffe://example.org/ns/a/sa/b").unwrap()]);
        let spki = SpkiHash::of(format!("{caller} {number}").as_bytes());
        let name = format!("ns/a/sa/{caller}/{number:016x}");
        let newcomer = Newcomer { name, spki, identities, caller: Some(caller.to_owned()) };
        self.registry.register(newcomer, self.clock.now()).await
    }

    async fn by_token(&self, name: &str) -> Result<(), RegistryError> {
        let hash = trust::digest::sha256(name.as_bytes());
        let (now, identities) = (self.clock.now(), BTreeSet::new());
        let (agent, expires) = (name.to_owned(), now.plus(DAY));
        let row = TokenRow {
            agent,
            identities,
            expires,
            used: None,
            made: None,
            pins: None,
            revoked: None,
            spent: false,
        };
        self.registry.add_token(hash, row, now).await?;
        self.registry.redeem(hash, SpkiHash::of(name.as_bytes()), now).await
    }

    fn knows(&self, name: &str) -> bool {
        self.registry.agent(name).is_some()
    }

    fn total(&self) -> usize {
        self.registry.agents_total().0
    }
}

async fn opened(store: &FakeStore, clock: &Arc<ManualClock>, limits: &Limits) -> AgentRegistry {
    open_as(Arc::new(store.clone()), membership("one", clock, limits.clone())).await.0
}

fn sentence(reason: &str) -> BanRow {
    BanRow { by: "ann".to_owned(), reason: reason.to_owned(), at: NOW }
}

#[tokio::test]
async fn a_jwt_with_ever_new_keys_fills_no_more_than_its_share_and_a_join_token_still_works() {
    let bench = Bench::with(Limits::bounded(20, 4)).await;
    for number in 0..4 {
        bench.by_jwt("one", number).await.unwrap();
    }
    let hasty = bench.by_jwt("one", 4).await;
    assert!(matches!(hasty, Err(RegistryError::CallerTooFast { most: 4, .. })), "{hasty:?}");
    for number in 4..40 {
        bench.clock.advance(Duration::from_secs(900));
        bench.by_jwt("one", number).await.unwrap();
        assert_eq!(bench.total(), 4, "an old one gives way");
    }
    assert!(bench.knows(&format!("ns/a/sa/one/{:016x}", 39)));
    bench.by_token("node-1").await.unwrap();
}

#[tokio::test]
async fn many_jwt_callers_leave_a_tenth_to_join_tokens_and_give_way_when_that_is_full() {
    let bench = Bench::with(Limits::bounded(20, 4)).await;
    for caller in 0..18 {
        bench.by_jwt(&format!("c{caller}"), 0).await.unwrap();
    }
    let full = bench.by_jwt("late", 0).await;
    assert_eq!(full, Err(RegistryError::AgentsFull { most: 18 }));
    for node in 0..20 {
        bench.by_token(&format!("node-{node}")).await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(bench.total(), 20);
    assert!(
        (0..20).all(|node| bench.knows(&format!("node-{node}"))),
        "no join token's agent gave way"
    );
    let full = bench.by_token("one-more").await;
    assert_eq!(full, Err(RegistryError::AgentsFull { most: 20 }));
    bench.registry.rule(Ruling::Remove, "node-3".to_owned(), sentence("gone")).await.unwrap();
    bench.by_token("and-another").await.unwrap();
}

#[tokio::test]
async fn a_full_registry_gives_a_join_token_the_place_of_who_was_away_longest_and_has_no_leaf_that_lives()
 {
    let bench = Bench::with(Limits::bounded(20, 4)).await;
    for node in 0..20 {
        bench.by_token(&format!("node-{node}")).await.unwrap();
        bench.clock.advance(Duration::from_secs(60));
    }
    assert!(bench.registry.crowded().is_some_and(|said| said.contains("agents.max")));
    let line = bench.registry.sessions().open("node-0", bench.clock.now());
    let full = Err(RegistryError::AgentsFull { most: 20 });
    // The longest leaf lives a day, and what is written down of a sight may be half a day old.
    for hours in [12, 12, 11] {
        bench.clock.advance(Duration::from_secs(hours * 3_600));
        (3..20).for_each(|node| bench.registry.saw(&format!("node-{node}")));
        assert_eq!(bench.by_token("early").await, full, "one of its leaves may live");
    }
    bench.clock.advance(Duration::from_secs(3_600));
    assert_eq!(bench.by_jwt("one", 0).await, Err(RegistryError::AgentsFull { most: 18 }));
    bench.by_token("late-1").await.unwrap();
    assert!(!bench.knows("node-1") && bench.knows("node-2"), "who was away longest");
    bench.by_token("late-2").await.unwrap();
    assert!(!bench.knows("node-2") && bench.knows("node-0"), "and never who is connected");
    assert_eq!(
        (bench.by_token("late-3").await, bench.total()),
        (full, 20),
        "everybody else is there"
    );
    // Whoever gave way joins like a new one.
    bench.registry.rule(Ruling::Remove, "node-7".to_owned(), sentence("gone")).await.unwrap();
    assert_eq!(bench.registry.crowded(), None);
    bench.by_token("node-1").await.unwrap();
    drop(line);
}

#[tokio::test]
async fn who_can_come_back_by_itself_gives_way_before_who_needs_another_token() {
    let bench = Bench::with(Limits::bounded(20, 16)).await;
    for node in 0..18 {
        bench.by_token(&format!("node-{node}")).await.unwrap();
    }
    bench.clock.advance(3 * DAY);
    for number in 0..2 {
        bench.by_jwt("one", number).await.unwrap_err();
    }
    bench.registry.rule(Ruling::Remove, "node-0".to_owned(), sentence("gone")).await.unwrap();
    bench.by_jwt("one", 0).await.unwrap();
    for late in 0..2 {
        bench.by_token(&format!("late-{late}")).await.unwrap();
    }
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.total(), 20);
    bench.by_token("later").await.unwrap();
    assert!(!bench.knows(&format!("ns/a/sa/one/{:016x}", 0)));
    assert!((1..18).all(|node| bench.knows(&format!("node-{node}"))), "as many as before");
    bench.by_token("latest").await.unwrap();
    assert_eq!(
        (1..18).filter(|node| bench.knows(&format!("node-{node}"))).count(),
        16,
        "one, and no more"
    );
}

#[tokio::test]
async fn who_is_connected_does_not_give_way() {
    let bench = Bench::with(Limits::bounded(20, 2)).await;
    let name = |number: usize| format!("ns/a/sa/one/{number:016x}");
    let mut lines = Vec::new();
    for number in 0..2 {
        bench.by_jwt("one", number).await.unwrap();
        lines.push(bench.registry.sessions().open(&name(number), NOW));
    }
    bench.clock.advance(DAY);
    let full = bench.by_jwt("one", 2).await;
    assert!(matches!(full, Err(RegistryError::CallerFull { most: 2, .. })), "{full:?}");
    lines.remove(0);
    bench.by_jwt("one", 2).await.unwrap();
    assert!(!bench.knows(&name(0)) && bench.knows(&name(1)) && bench.knows(&name(2)));
}

#[tokio::test]
async fn an_agent_that_was_not_seen_for_long_is_forgotten_and_one_that_was_is_not() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    bench.by_token("away").await.unwrap();
    bench.by_token("there").await.unwrap();
    bench.by_token("idle").await.unwrap();
    let line = bench.registry.sessions().open("idle", NOW);
    for _ in 0..32 {
        assert_eq!(bench.registry.tend().await, Ok(Vec::new()));
        bench.clock.advance(DAY);
        bench.registry.saw("there");
        if bench.clock.now() <= NOW.plus(31 * DAY) {
            assert!(bench.knows("away"), "within forget_after it may come back");
        }
    }
    assert_eq!(bench.registry.tend().await, Ok(vec!["away".to_owned()]));
    assert!(bench.knows("there") && bench.knows("idle"), "a stream is a sight");
    drop(line);
}

#[tokio::test]
async fn neither_a_time_without_server_nor_a_clock_that_jumps_makes_an_agent_absent() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    bench.by_token("node-1").await.unwrap();
    let bench = bench.restart_after(400 * DAY).await;
    bench.clock.jump_to(NOW.plus(4_000 * DAY));
    assert_eq!(bench.registry.tend().await, Ok(Vec::new()));
    assert!(bench.knows("node-1"));
    for _ in 0..20 {
        bench.clock.advance(DAY);
        assert_eq!(bench.registry.tend().await, Ok(Vec::new()));
    }
    // The time that was served adds up over restarts.
    let bench = bench.restart_after(DAY).await;
    bench.clock.advance(13 * DAY);
    assert_eq!(bench.registry.tend().await, Ok(vec!["node-1".to_owned()]));
}

#[tokio::test]
async fn a_sight_survives_a_restart_without_a_write_for_each() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    bench.by_token("node-1").await.unwrap();
    for _ in 0..40 {
        bench.clock.advance(DAY);
        for _ in 0..1_000 {
            bench.registry.saw("node-1");
        }
        bench.registry.tend().await.unwrap();
    }
    let seen = bench.clock.now();
    let bench = bench.restart_after(DAY).await;
    let listed = bench.registry.agents_after("", 10);
    assert_eq!(listed[0].seen, seen);
    bench.clock.advance(20 * DAY);
    assert_eq!(bench.registry.tend().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_banned_name_neither_calls_nor_joins_and_a_removed_one_is_free() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    bench.by_token("node-1").await.unwrap();
    let banned =
        bench.registry.rule(Ruling::Ban, "node-1".to_owned(), sentence("stolen")).await.unwrap();
    assert_eq!((banned.agents, banned.was_banned), (vec!["node-1".to_owned()], false));
    let removed =
        bench.registry.rule(Ruling::Remove, "node-1".to_owned(), sentence("tidy")).await.unwrap();
    assert_eq!(removed.agents, ["node-1"]);
    let bench = bench.restart_after(DAY).await;
    assert_eq!(bench.by_token("node-1").await, Err(RegistryError::Banned("node-1".to_owned())));
    bench.registry.rule(Ruling::Unban, "node-1".to_owned(), sentence("found")).await.unwrap();
    let again = bench.registry.rule(Ruling::Unban, "node-1".to_owned(), sentence("found")).await;
    assert_eq!(again, Err(RegistryError::NotBanned("node-1".to_owned())));
    bench.by_token("node-1").await.unwrap();
    let acts = bench.registry.acts_from(0, 10);
    let verbs: Vec<_> =
        acts.iter().map(|(index, act)| (*index, act.verb.as_str(), act.agents)).collect();
    assert_eq!(verbs, [(1, "ban", 1), (2, "remove", 1), (3, "unban", 0)]);
    assert_eq!((acts[0].1.word.by.as_str(), acts[0].1.word.reason.as_str()), ("ann", "stolen"));
}

#[tokio::test]
async fn a_ban_of_an_identity_counts_for_every_key_of_its_jwt_and_for_no_token() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    bench.by_jwt("one", 1).await.unwrap();
    bench.by_token("ns/a/sa/one/node").await.unwrap();
    let ruled = bench
        .registry
        .rule(Ruling::Ban, "ns/a/sa/one".to_owned(), sentence("leaked"))
        .await
        .unwrap();
    let name = format!("ns/a/sa/one/{:016x}", 1);
    assert_eq!(ruled.agents, std::slice::from_ref(&name));
    assert!(bench.registry.agent(&name).unwrap().1, "its certificate is a credential no more");
    assert!(!bench.registry.agent("ns/a/sa/one/node").unwrap().1);
    assert!(
        matches!(bench.by_jwt("one", 2).await, Err(RegistryError::Banned(_))),
        "nor is a new key"
    );
    bench.by_jwt("other", 1).await.unwrap();
}

#[tokio::test]
async fn what_operators_did_is_kept_within_a_bound() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    for _ in 0..501 {
        bench.registry.rule(Ruling::Ban, "x".to_owned(), sentence("a")).await.unwrap();
        bench.registry.rule(Ruling::Unban, "x".to_owned(), sentence("b")).await.unwrap();
    }
    let bench = bench.restart_after(DAY).await;
    let acts = bench.registry.acts_from(0, 5_000);
    assert_eq!((acts.len(), acts[0].0, acts[999].0), (1_000, 3, 1_002));
}

#[tokio::test]
async fn a_row_of_the_first_releases_is_read_and_counts_from_then_on() {
    let bench = Bench::with(Limits::bounded(100, 16)).await;
    let row: AgentRow = serde_json::from_str(&format!(
        "{{\"spki\":\"{}\",\"identities\":[],\"banned\":null,\"registered\":5}}",
        SpkiHash::of(b"x")
    ))
    .unwrap();
    assert_eq!((row.seen.served, row.caller), (0, None));
    drop(bench);
}

#[tokio::test]
async fn the_token_of_an_agent_that_was_removed_lets_nobody_in_again() {
    let bench = Bench::with(Limits::default()).await;
    bench.by_token("node-1").await.unwrap();
    let (hash, key) = (trust::digest::sha256(b"node-1"), SpkiHash::of(b"node-1"));
    bench.registry.redeem(hash, key, NOW).await.expect("its answer was lost");
    let sentence = BanRow { by: "ann".to_owned(), reason: "reinstalled".to_owned(), at: NOW };
    bench.registry.rule(Ruling::Remove, "node-1".to_owned(), sentence).await.unwrap();
    assert_eq!(bench.registry.redeem(hash, key, NOW).await, Err(RegistryError::TokenUsed));
    assert!(!bench.knows("node-1"));
}

#[tokio::test]
async fn who_is_seen_after_a_restart_is_seen_then_and_not_when_it_joined() {
    let bench = Bench::with(Limits::default()).await;
    // Long after the start, and before the time served is noted.
    bench.clock.advance(Duration::from_secs(300));
    bench.by_token("node-1").await.unwrap();
    let bench = bench.restart_after(Duration::from_secs(100)).await;
    bench.registry.saw("node-1");
    assert_eq!(bench.registry.agents_after("", 1)[0].seen, NOW.plus(Duration::from_secs(400)));
}
