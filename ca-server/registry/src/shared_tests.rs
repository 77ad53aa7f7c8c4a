//! Several servers over one store.

use std::collections::BTreeSet;
use std::time::Duration;

use stores::fake::Fault;
use stores::{SharedStore as _, spaces};
use trust::{RootId, Sequence, SpiffeId, SpkiHash, Timestamp};

use crate::error::RegistryError;
use crate::fixture::{Flaky, NOW, Server, eventually};
use crate::registry::{AgentRegistry, Limits};
use crate::rows::{
    AttestedRow, BanRow, Confirmation, DownstreamIssuer, Newcomer, TokenHash, TokenRow,
};
use crate::rulings::Ruling;

const DAY: Duration = Duration::from_secs(86_400);

fn key(text: &str) -> SpkiHash {
    SpkiHash::of(text.as_bytes())
}

fn sentence() -> BanRow {
    BanRow { by: "ann".to_owned(), reason: "stolen".to_owned(), at: NOW }
}

fn token(agent: &str) -> TokenRow {
    TokenRow {
        agent: agent.to_owned(),
        identities: BTreeSet::from([SpiffeId::parse("spiffe://example.org/web").unwrap()]),
        expires: NOW.plus(DAY),
        used: None,
        made: None,
        pins: None,
        revoked: None,
        spent: false,
    }
}

fn hash(agent: &str) -> TokenHash {
    trust::digest::sha256(agent.as_bytes())
}

async fn make_token(registry: &AgentRegistry, agent: &str) {
    registry.add_token(hash(agent), token(agent), NOW).await.unwrap();
}

/// Has an agent join with a token of its own.
async fn join(registry: &AgentRegistry, agent: &str) {
    make_token(registry, agent).await;
    registry.redeem(hash(agent), key(agent), NOW).await.unwrap();
}

fn jwt(caller: &str, number: usize) -> Newcomer {
    let name = format!("ns/a/sa/{caller}/{number:016x}");
    Newcomer {
        spki: key(&name),
        name,
        identities: BTreeSet::new(),
        caller: Some(caller.to_owned()),
    }
}

async fn two() -> (Flaky, Server, Server) {
    let store = Flaky::default();
    let (one, two) = (Server::start(&store, "one").await, Server::start(&store, "two").await);
    (store, one, two)
}

#[tokio::test]
async fn an_agent_that_joins_at_one_server_is_known_at_the_other() {
    let (_store, one, two) = two().await;
    join(&one.registry, "node-1").await;
    eventually("known", || two.registry.agent("node-1").is_some()).await;
    assert_eq!(two.registry.agent("node-1").unwrap().0.spki, key("node-1"));
    one.registry.rule(Ruling::Remove, "node-1".to_owned(), sentence()).await.unwrap();
    eventually("gone", || two.registry.agent("node-1").is_none()).await;
    assert_eq!(two.registry.acts_from(0, 9).len(), 1);
}

#[tokio::test]
async fn a_ban_a_removal_or_another_key_at_one_server_has_streams_judged_again_at_the_other() {
    let (_store, one, two) = two().await;
    for agent in ["banned", "removed", "renewed", "other"] {
        join(&one.registry, agent).await;
        eventually("known", || two.registry.agent(agent).is_some()).await;
    }
    let lines: Vec<_> = ["banned", "removed", "renewed", "other"]
        .map(|agent| two.registry.sessions().open(agent, NOW))
        .into();
    one.registry.rule(Ruling::Ban, "banned".to_owned(), sentence()).await.unwrap();
    one.registry.rule(Ruling::Remove, "removed".to_owned(), sentence()).await.unwrap();
    one.registry.add_token([9; 32], token("renewed"), NOW).await.unwrap();
    one.registry.redeem([9; 32], key("another"), NOW).await.unwrap();
    eventually("seen", || {
        two.registry.agent("banned").is_some_and(|(_, banned)| banned)
            && two.registry.agent("removed").is_none()
            && two.registry.agent("renewed").is_some_and(|(row, _)| row.spki == key("another"))
    })
    .await;
    let mut asked = lines.into_iter().map(|(_line, mut hints)| hints.try_recv().is_ok());
    assert_eq!([(); 4].map(|()| asked.next().unwrap()), [true, true, true, false]);
}

#[tokio::test]
async fn a_join_token_that_comes_to_two_servers_at_once_makes_exactly_one_agent() {
    let (store, one, two) = two().await;
    let deaf = Server::deaf(&store, "three").await;
    for number in 0..50 {
        let agent = format!("node-{number}");
        make_token(&one.registry, &agent).await;
        eventually("known", || two.registry.token(&hash(&agent)).is_some()).await;
        let (first, second) = tokio::join!(
            one.registry.redeem(hash(&agent), key("a"), NOW),
            two.registry.redeem(hash(&agent), key("b"), NOW),
        );
        let winner = match (first, second) {
            (Ok(()), Err(RegistryError::TokenUsed)) => "a",
            (Err(RegistryError::TokenUsed), Ok(())) => "b",
            both => panic!("{both:?}"),
        };
        eventually("known", || {
            [&one, &two].iter().all(|server| server.registry.agent(&agent).is_some())
        })
        .await;
        for server in [&one, &two] {
            assert_eq!(server.registry.agent(&agent).unwrap().0.spki, key(winner));
            server.registry.redeem(hash(&agent), key(winner), NOW).await.expect("a retry");
        }
    }
    let unknown = deaf.registry.redeem(hash("node-1"), key("c"), NOW).await;
    assert_eq!(unknown, Err(RegistryError::TokenUnknown));
}

#[tokio::test]
async fn whatever_a_server_remembers_the_rows_in_the_store_decide() {
    let store = Flaky::default();
    let one = Server::start(&store, "one").await;
    for agent in ["used", "gone", "retried"] {
        make_token(&one.registry, agent).await;
    }
    one.registry.redeem(hash("retried"), key("retried"), NOW).await.unwrap();
    one.registry.add_downstream("east".to_owned(), [1; 32], NOW).await.unwrap();
    let deaf = Server::deaf(&store, "two").await;
    one.registry.redeem(hash("used"), key("a"), NOW).await.unwrap();
    one.registry.revoke_tokens([hash("gone")].into(), sentence()).await.unwrap();
    one.registry.rule(Ruling::Remove, "retried".to_owned(), sentence()).await.unwrap();
    one.registry.remove_downstream("east".to_owned()).await.unwrap();

    let redeem = |agent: &str, by: &str| deaf.registry.redeem(hash(agent), key(by), NOW);
    assert_eq!(redeem("used", "b").await, Err(RegistryError::TokenUsed));
    assert_eq!(redeem("gone", "a").await, Err(RegistryError::TokenRevoked));
    let issuer = DownstreamIssuer { root: RootId::of(b"root"), ends: NOW.plus(DAY) };
    let counted =
        deaf.registry.count_issuer("east".to_owned(), "one".to_owned(), issuer, NOW).await;
    assert_eq!(counted, Err(RegistryError::DownstreamUnknown("east".to_owned())));
    // It remembers the agent, and the token as used by this key: a retry changes nothing, and brings nobody back.
    redeem("retried", "retried").await.unwrap();
    assert!(one.registry.agent("retried").is_none());
    let later = Server::start(&store, "three").await;
    assert!(later.registry.agent("retried").is_none());
    let again = later.registry.redeem(hash("retried"), key("retried"), NOW).await;
    assert_eq!(again, Err(RegistryError::TokenUsed));
}

#[tokio::test]
async fn what_operators_do_at_two_servers_at_once_is_all_noted() {
    let (_store, one, two) = two().await;
    let names: Vec<_> = (0..20).map(|number| format!("node-{number}")).collect();
    let ban = |server: usize, name: &String| {
        let registry = if server == 0 { &one.registry } else { &two.registry };
        registry.rule(Ruling::Ban, name.clone(), sentence())
    };
    let bans = names.iter().enumerate().map(|(number, name)| ban(number % 2, name));
    for ruled in futures::future::join_all(bans).await {
        ruled.unwrap();
    }
    eventually("seen", || two.registry.agents_total().1 == 20).await;
    eventually("noted", || two.registry.acts_from(0, 99).len() == 20).await;
    let acts = two.registry.acts_from(0, 99);
    let about: BTreeSet<_> = acts.iter().map(|(_, act)| act.name.clone()).collect();
    assert_eq!(about, names.into_iter().collect());
    assert_eq!(
        acts.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn words_about_one_row_from_two_servers_are_judged_anew_and_the_later_one_stands() {
    let (_store, one, two) = two().await;
    one.registry.add_relying_party("mount".to_owned(), None, None, NOW).await.unwrap();
    eventually("known", || !two.registry.relying_parties().is_empty()).await;
    let root = RootId::of(b"root");
    let confirm = |server: &Server, sequence| {
        let word = Confirmation { sequence: Sequence(sequence), by: "bob".to_owned(), at: NOW };
        let registry = server.registry.clone();
        async move { registry.confirm_relying_party("mount".to_owned(), word, Sequence(9)).await }
    };
    let attest = |server: &Server, secs| {
        let since = Timestamp::from_secs(secs);
        let word = AttestedRow { since, by: "eve".to_owned(), at: NOW };
        let registry = server.registry.clone();
        async move { registry.attest(root, word).await }
    };
    let (later, earlier) = tokio::join!(confirm(&one, 3), confirm(&two, 2));
    assert!(later.unwrap().has(Sequence(3)));
    assert!(earlier.unwrap().has(Sequence(2)));
    let (later, earlier) = tokio::join!(attest(&one, 600), attest(&two, 500));
    later.unwrap();
    earlier.unwrap();
    for server in [&one, &two] {
        eventually("both", || {
            server.registry.relying_parties()[0].1.has(Sequence(3))
                && server.registry.attested(&root).unwrap().since.as_secs() == 600
        })
        .await;
    }
}

#[tokio::test]
async fn who_is_connected_to_another_server_does_not_give_way() {
    let store = Flaky::default();
    let limits = || Limits::bounded(20, 2);
    let one = Server::bounded(&store, "one", limits()).await;
    let two = Server::bounded(&store, "two", limits()).await;
    for number in 0..2 {
        one.registry.register(jwt("app", number), NOW).await.unwrap();
    }
    eventually("known", || two.registry.agents_total().0 == 2).await;
    // Both moved to the other server, and one left it again.
    let name = |number: usize| jwt("app", number).name;
    let stays = two.registry.sessions().open(&name(0), NOW);
    let leaves = two.registry.sessions().open(&name(1), NOW);
    two.registry.tend().await.unwrap();
    let is_at = |server: &Server, number: usize, home: Option<&str>| {
        server.registry.agent(&name(number)).unwrap().0.home.as_deref() == home
    };
    eventually("noted", || is_at(&one, 0, Some("two")) && is_at(&one, 1, Some("two"))).await;
    for server in [&one, &two] {
        server.clock.advance(Duration::from_secs(2 * 3_600));
    }
    let full = one.registry.register(jwt("app", 2), NOW).await;
    assert!(matches!(full, Err(RegistryError::CallerFull { most: 2, .. })), "{full:?}");
    drop(leaves);
    two.registry.tend().await.unwrap();
    eventually("noted", || is_at(&one, 1, None)).await;
    one.registry.register(jwt("app", 2), NOW).await.unwrap();
    assert!(one.registry.agent(&name(0)).is_some() && one.registry.agent(&name(1)).is_none());
    drop(stays);
}

#[tokio::test]
async fn what_counts_is_how_long_any_server_served_and_not_how_long_all_did_together() {
    let (store, one, two) = two().await;
    for _ in 0..31 {
        [&one, &two].iter().for_each(|server| server.clock.advance(DAY));
        for server in [&one, &two] {
            server.registry.tend().await.unwrap();
        }
    }
    let days = |server: &Server| server.registry.0.now().served / DAY.as_secs();
    eventually("heard", || days(&one) == 31 && days(&two) == 31).await;
    // A server that starts goes on from there, and the others from what it counts alone.
    let three = Server::start(&store, "three").await;
    assert_eq!(days(&three), 31);
    three.clock.advance(DAY);
    three.registry.tend().await.unwrap();
    eventually("heard", || days(&one) == 32).await;
}

#[tokio::test]
async fn writes_do_not_grow_with_how_often_agents_come() {
    let (store, one, two) = two().await;
    for number in 0..50 {
        one.registry.register(jwt(&format!("app-{number}"), 0), NOW).await.unwrap();
    }
    eventually("known", || two.registry.agents_total().0 == 50).await;
    let before = store.writes();
    for minute in 0..120 {
        [&one, &two].iter().for_each(|server| server.clock.advance(Duration::from_secs(60)));
        for server in [&one, &two] {
            for number in 0..50 {
                server.registry.saw(&jwt(&format!("app-{number}"), 0).name);
            }
            server.registry.tend().await.unwrap();
        }
        if minute < 9 {
            let again = jwt("app-1", 0);
            one.registry.register(again, NOW.plus(Duration::from_secs(minute * 60))).await.unwrap();
        }
    }
    let writes = store.writes() - before;
    assert!(
        (10..=40).contains(&writes),
        "the time served now and then, and nothing else: {writes}"
    );
}

#[tokio::test]
async fn an_agent_that_one_server_sees_is_forgotten_by_none() {
    let (_store, one, two) = two().await;
    join(&one.registry, "node-1").await;
    join(&one.registry, "away").await;
    let line = one.registry.sessions().open("node-1", NOW);
    eventually("known", || two.registry.agents_total().0 == 2).await;
    for _ in 0..80 {
        [&one, &two].iter().for_each(|server| server.clock.advance(DAY / 2));
        for server in [&one, &two] {
            server.registry.tend().await.unwrap();
        }
        let served = one.registry.0.now().served;
        eventually("heard", || two.registry.0.now().served == served).await;
    }
    for server in [&one, &two] {
        eventually("forgotten", || server.registry.agent("away").is_none()).await;
        assert!(server.registry.agent("node-1").is_some());
    }
    drop(line);
}

#[tokio::test]
async fn while_the_store_is_away_reading_goes_on_and_writing_says_so_and_recovers_by_itself() {
    let (store, one, two) = two().await;
    join(&one.registry, "node-1").await;
    make_token(&one.registry, "node-2").await;
    eventually("known", || two.registry.token(&hash("node-2")).is_some()).await;
    store.set_away(true);
    for server in [&one, &two] {
        let refused = server.registry.redeem(hash("node-2"), key("a"), NOW).await;
        assert_eq!(refused, Err(RegistryError::Broken));
        assert!(server.registry.is_broken() && !server.registry.probe().await);
        assert!(server.registry.agent("node-1").is_some());
        assert!(server.registry.troubles()[0].contains("told to fail"));
    }
    store.set_away(false);
    for server in [&one, &two] {
        assert!(server.registry.probe().await && !server.registry.is_broken());
        eventually("read again", || server.registry.troubles().is_empty()).await;
    }
    two.registry.redeem(hash("node-2"), key("a"), NOW).await.unwrap();
    eventually("known", || one.registry.agent("node-2").is_some()).await;
}

#[tokio::test]
async fn whoever_wants_to_open_a_gate_knows_what_any_server_stored_before_or_learns_that_it_does_not()
 {
    let store = Flaky::default();
    let (one, deaf) = (Server::start(&store, "one").await, Server::deaf(&store, "two").await);
    for round in 1..=2 {
        let name = format!("mount-{round}");
        one.registry.add_relying_party(name, None, None, NOW).await.unwrap();
        assert_eq!(deaf.registry.unconfirmed(Sequence(1), NOW).unbounded, round - 1);
        deaf.registry.read_evidence().await.unwrap();
        assert_eq!(deaf.registry.unconfirmed(Sequence(1), NOW).unbounded, round);
    }
    one.registry.remove_relying_party("mount-1".to_owned()).await.unwrap();
    deaf.registry.read_evidence().await.unwrap();
    assert_eq!(deaf.registry.unconfirmed(Sequence(1), NOW).unbounded, 1);
    store.set_away(true);
    deaf.registry.read_evidence().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn bans_are_learned_although_no_watch_says_so_and_that_they_cannot_be_is_said() {
    let store = Flaky::default();
    let server = Server::start(&store, "one").await;
    store.set_silent();
    let silent = Server::start(&store, "two").await;
    eventually("looked", || silent.registry.troubles().is_empty()).await;
    server.registry.rule(Ruling::Ban, "node-1".to_owned(), sentence()).await.unwrap();
    eventually("learned", || silent.registry.agents_total().1 == 1).await;
    store.set_away(true);
    eventually("said", || !silent.registry.troubles().is_empty()).await;
    assert!(silent.registry.troubles()[0].contains("bans among it"));
    store.set_away(false);
    eventually("read again", || silent.registry.troubles().is_empty()).await;
}

#[tokio::test]
async fn a_write_whose_outcome_nobody_learns_is_known_once_the_store_answers() {
    let store = Flaky::default();
    let server = Server::start(&store, "one").await;
    make_token(&server.registry, "node-1").await;
    let elsewhere = spaces::TOKENS.key(crate::rows::id_of(&hash("node-1"))).unwrap();
    store.fail(0, Fault::UnknownStored);
    store.fake.fail_reads(true);
    let refused = server.registry.redeem(hash("node-1"), key("a"), NOW).await;
    assert_eq!(refused, Err(RegistryError::Broken));
    store.fake.fail_reads(false);
    assert!(store.get(&elsewhere).await.unwrap().is_some());
    eventually("read", || server.registry.token(&hash("node-1")).unwrap().used.is_some()).await;
    let other = server.registry.redeem(hash("node-1"), key("b"), NOW).await;
    assert_eq!(other, Err(RegistryError::TokenUsed));
    server.registry.redeem(hash("node-1"), key("a"), NOW).await.unwrap();
}
