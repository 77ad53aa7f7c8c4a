//! Writes that fail or whose outcome nobody learns, at each place of each change; and rows that somebody edited.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stores::fake::Fault;
use stores::{SharedStore as _, spaces};
use trust::{ManualClock, RootId, Sequence, SpkiHash};

use crate::error::{RegistryError, RegistryUnreadable};
use crate::fixture::{Flaky, NOW, Server, eventually, membership};
use crate::registry::{AgentRegistry, Limits};
use crate::rows::{AttestedRow, BanRow, Confirmation, DownstreamIssuer, Newcomer, TokenRow};
use crate::rulings::Ruling;

const DAY: Duration = Duration::from_secs(86_400);

fn sentence() -> BanRow {
    BanRow { by: "ann".to_owned(), reason: "stolen".to_owned(), at: NOW }
}

fn token() -> TokenRow {
    TokenRow {
        agent: "node-1".to_owned(),
        identities: BTreeSet::new(),
        expires: NOW.plus(DAY),
        used: None,
        made: None,
        pins: None,
        revoked: None,
        spent: false,
    }
}

fn key() -> SpkiHash {
    SpkiHash::of(b"key")
}

/// Everything that changes rows, in an order in which each works after those before it.
const CALLS: usize = 12;

async fn call(registry: &AgentRegistry, number: usize) -> Result<(), RegistryError> {
    let name = || "node-1".to_owned();
    let issuer = DownstreamIssuer { root: RootId::of(b"root"), ends: NOW.plus(DAY) };
    match number {
        0 => registry.add_token([1; 32], token(), NOW).await,
        1 => registry.redeem([1; 32], key(), NOW).await,
        2 => {
            let caller = Some("app".to_owned());
            let (name, identities) = ("ns/a/sa/app/0123456789abcdef".to_owned(), BTreeSet::new());
            registry.register(Newcomer { name, spki: key(), identities, caller }, NOW).await
        }
        3 => registry.rule(Ruling::Ban, name(), sentence()).await.map(drop),
        4 => registry.rule(Ruling::Unban, name(), sentence()).await.map(drop),
        5 => registry.rule(Ruling::Remove, name(), sentence()).await.map(drop),
        6 => registry.revoke_tokens([[1; 32]].into(), sentence()).await.map(drop),
        7 => registry.add_relying_party(name(), None, None, NOW).await.map(drop),
        8 => {
            let word = Confirmation { sequence: Sequence(1), by: "bob".to_owned(), at: NOW };
            registry.confirm_relying_party(name(), word, Sequence(1)).await.map(drop)
        }
        9 => {
            let word = AttestedRow { since: NOW, by: "eve".to_owned(), at: NOW };
            registry.attest(RootId::of(b"root"), word).await.map(drop)
        }
        10 => registry.add_downstream("east".to_owned(), [2; 32], NOW).await,
        11 => {
            let (downstream, request) = ("east".to_owned(), "one".to_owned());
            registry.count_issuer(downstream, request, issuer, NOW).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

/// Everything that is known, but for the versions.
fn known(registry: &AgentRegistry) -> String {
    let tables = registry.read().tables.clone();
    let tokens: std::collections::BTreeMap<_, _> = tables.tokens.iter().collect();
    format!(
        "{tokens:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        tables.agents,
        tables.bans,
        tables.acts,
        tables.relying_parties,
        tables.attested,
        tables.waivers,
        tables.federations,
        tables.downstreams,
    )
}

#[tokio::test]
async fn each_write_of_unknown_outcome_is_settled_by_reading_and_the_call_succeeds() {
    let undisturbed = Server::start(&Flaky::default(), "one").await;
    let mut most = 0;
    for number in 0..CALLS {
        call(&undisturbed.registry, number).await.unwrap();
    }
    for fault in [Fault::UnknownStored, Fault::UnknownNotStored] {
        for write in 0..4 {
            let store = Flaky::default();
            let server = Server::deaf(&store, "one").await;
            for number in 0..CALLS {
                let before = store.writes();
                store.fail(write, fault);
                let done = call(&server.registry, number).await;
                assert_eq!(done, Ok(()), "call {number}, {fault:?} of write {write}");
                most = most.max(store.writes() - before);
                // Where it had fewer writes.
                store.fail(u32::MAX, fault);
            }
            assert_eq!(known(&server.registry), known(&undisturbed.registry));
            let anew = Server::start(&store, "two").await;
            assert_eq!(known(&anew.registry), known(&undisturbed.registry), "as in the store");
        }
    }
    assert_eq!(most, 4, "a note, a token, an agent, and one of them twice");
}

#[tokio::test]
async fn a_call_that_stopped_after_any_of_its_writes_is_repeated_and_then_done() {
    let undisturbed = Server::start(&Flaky::default(), "one").await;
    for number in 0..CALLS {
        call(&undisturbed.registry, number).await.unwrap();
    }
    for write in 0..3 {
        let store = Flaky::default();
        for number in 0..CALLS {
            let server = Server::deaf(&store, "one").await;
            store.fail(write, Fault::Failed);
            let refused = call(&server.registry, number).await;
            store.fail(u32::MAX, Fault::Failed);
            if refused.is_ok() {
                continue;
            }
            assert_eq!(refused, Err(RegistryError::Broken), "call {number}, write {write}");
            // At another server, as after a crash.
            let other = Server::start(&store, "one").await;
            assert_eq!(call(&other.registry, number).await, Ok(()), "call {number}, write {write}");
        }
        let anew = Server::start(&store, "one").await;
        // Notes of what did not come about stay.
        let acts = |registry: &AgentRegistry| format!("{:?}", registry.read().acts);
        let rest = |registry: &AgentRegistry| known(registry).replace(&acts(registry), "");
        assert_eq!(rest(&anew.registry), rest(&undisturbed.registry), "write {write}");
    }
}

#[tokio::test]
async fn a_token_that_was_used_by_a_key_whose_agent_was_not_written_makes_that_agent_and_no_other()
{
    let store = Flaky::default();
    let one = Server::start(&store, "one").await;
    one.registry.add_token([1; 32], token(), NOW).await.unwrap();
    store.fail(1, Fault::Failed);
    assert_eq!(one.registry.redeem([1; 32], key(), NOW).await, Err(RegistryError::Broken));
    let two = Server::start(&store, "two").await;
    assert!(two.registry.agent("node-1").is_none());
    let other = two.registry.redeem([1; 32], SpkiHash::of(b"other"), NOW).await;
    assert_eq!(other, Err(RegistryError::TokenUsed));
    two.registry.redeem([1; 32], key(), NOW).await.unwrap();
    assert_eq!(two.registry.agent("node-1").unwrap().0.spki, key());

    // Of an agent that joins anew the former row is still there.
    two.registry.add_token([2; 32], token(), NOW).await.unwrap();
    let (later, new) = (NOW.plus(Duration::from_secs(60)), SpkiHash::of(b"new"));
    store.fail(1, Fault::Failed);
    assert_eq!(two.registry.redeem([2; 32], new, later).await, Err(RegistryError::Broken));
    assert_eq!(two.registry.agent("node-1").unwrap().0.spki, key());
    two.registry.redeem([2; 32], new, later).await.unwrap();
    assert_eq!(two.registry.agent("node-1").unwrap().0.spki, new);
    let former = two.registry.redeem([1; 32], key(), later).await;
    assert_eq!(former, Err(RegistryError::TokenUsed), "it joined with another token since");
}

/// Edits a row by hand.
async fn edit(store: &Flaky, space: stores::Space, id: &str) {
    let key = space.key(id).unwrap();
    let there = store.get(&key).await.unwrap().unwrap();
    let edited = String::from_utf8(there.value).unwrap().replace("ann", "eve");
    store.put(&key, edited.replace("{", "{ ").as_bytes(), &there.version).await.unwrap();
}

#[tokio::test]
async fn a_row_that_was_edited_is_named_lets_nobody_in_and_is_written_anew() {
    let store = Flaky::default();
    let one = Server::start(&store, "one").await;
    one.registry.add_token([1; 32], token(), NOW).await.unwrap();
    one.registry.redeem([1; 32], key(), NOW).await.unwrap();
    let ban = |ruling| one.registry.rule(ruling, "bad".to_owned(), sentence());
    ban(Ruling::Ban).await.unwrap();
    let party = |registry: &AgentRegistry| {
        let registry = registry.clone();
        let bound = Some(Duration::from_secs(60));
        async move { registry.add_relying_party("mount".to_owned(), bound, None, NOW).await }
    };
    party(&one.registry).await.unwrap();
    edit(&store, spaces::BANS, "bad").await;
    edit(&store, spaces::AGENTS, "node-1").await;
    edit(&store, spaces::RELYING_PARTIES, "mount").await;
    let two = Server::start(&store, "two").await;
    for server in [&one, &two] {
        let registry = &server.registry;
        eventually("seen", || registry.troubles().len() == 3).await;
        let said = registry.troubles().join("\n");
        for named in ["bans/bad", "agents/node-1", "relying-parties/mount", "checksum is wrong"] {
            assert!(said.contains(named), "{named} is missing in {said}");
        }
        assert!(registry.read().is_banned("bad", false, NOW), "its key says so");
        assert!(registry.agent("node-1").is_none());
        assert_eq!(registry.unconfirmed(Sequence(1), NOW).unbounded, 1, "a gate waits for it");
        let word = Confirmation { sequence: Sequence(1), by: "bob".to_owned(), at: NOW };
        let word = registry.confirm_relying_party("mount".to_owned(), word, Sequence(1)).await;
        assert_eq!(word, Err(RegistryError::RowUnreadable("mount".to_owned())));
    }
    ban(Ruling::Unban).await.unwrap();
    party(&one.registry).await.unwrap();
    two.registry.add_token([2; 32], token(), NOW).await.unwrap();
    two.registry.redeem([2; 32], key(), NOW).await.unwrap();
    for server in [&one, &two] {
        eventually("mended", || server.registry.troubles().is_empty()).await;
        assert!(server.registry.agent("node-1").is_some());
        assert!(!server.registry.read().is_banned("bad", false, NOW));
    }
}

#[tokio::test]
async fn a_downstream_ca_that_cannot_be_read_counts_as_before_and_keeps_a_server_from_starting() {
    let store = Flaky::default();
    let one = Server::start(&store, "one").await;
    let issuer = DownstreamIssuer { root: RootId::of(b"root"), ends: NOW.plus(DAY) };
    let count = |id: &str| one.registry.count_issuer("east".to_owned(), id.to_owned(), issuer, NOW);
    one.registry.add_downstream("east".to_owned(), [2; 32], NOW).await.unwrap();
    count("one").await.unwrap();
    edit(&store, spaces::DOWNSTREAMS, "east").await;
    eventually("seen", || one.registry.troubles().len() == 1).await;
    assert_eq!(one.registry.downstreams()[0].1.issuers.len(), 1);
    assert_eq!(count("two").await, Err(RegistryError::RowUnreadable("east".to_owned())));
    let clock = Arc::new(ManualClock::at(NOW));
    let membership = membership("two", &clock, Limits::default());
    let refused = AgentRegistry::open(Arc::new(store.clone()), membership).await.unwrap_err();
    assert!(matches!(refused, RegistryUnreadable::Row { .. }));
    let said = refused.to_string();
    assert!(said.contains("downstreams/east") && said.contains("put back the value"), "{said}");
    one.registry.remove_downstream("east".to_owned()).await.unwrap();
    Server::start(&store, "two").await;
}
