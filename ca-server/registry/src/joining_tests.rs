use std::collections::BTreeSet;

use stores::fake::FakeStore;
use trust::SpiffeId;

use super::*;
use crate::fixture::{NOW, open};

const DAY: Duration = Duration::from_secs(86_400);

fn token() -> TokenRow {
    TokenRow {
        agent: "node-1".to_owned(),
        identities: BTreeSet::from([SpiffeId::parse("spiffe://example.org/web").unwrap()]),
        expires: NOW.plus(Duration::from_secs(3_600)),
        used: None,
        made: None,
        pins: None,
        revoked: None,
        spent: false,
    }
}

fn key(text: &str) -> SpkiHash {
    SpkiHash::of(text.as_bytes())
}

async fn with_token() -> (FakeStore, AgentRegistry) {
    let store = FakeStore::new();
    let registry = open(&store).await;
    registry.add_token([7; 32], token(), NOW).await.unwrap();
    (store, registry)
}

#[tokio::test]
async fn a_token_makes_one_agent_and_is_retried_only_with_the_same_key_and_soon() {
    let (_, registry) = with_token().await;
    let later = |secs| NOW.plus(Duration::from_secs(secs));
    let redeem = |name: &'static str, at| registry.redeem([7; 32], key(name), at);
    redeem("a", NOW).await.unwrap();
    assert_eq!(redeem("b", later(1)).await, Err(RegistryError::TokenUsed));
    redeem("a", later(300)).await.unwrap();
    assert_eq!(redeem("a", later(301)).await, Err(RegistryError::TokenUsed));
    let (agent, _) = registry.agent("node-1").unwrap();
    assert_eq!(agent.spki, key("a"));
    let unknown = registry.redeem([8; 32], key("a"), NOW).await;
    assert_eq!(unknown, Err(RegistryError::TokenUnknown));
}

#[tokio::test]
async fn a_token_ends() {
    let (_, registry) = with_token().await;
    let late = token().expires.plus(Duration::from_secs(1));
    let refused = registry.redeem([7; 32], key("a"), late).await;
    assert_eq!(refused, Err(RegistryError::TokenExpired(token().expires)));
    assert!(registry.agent("node-1").is_none());
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let (store, registry) = with_token().await;
    registry.redeem([7; 32], key("a"), NOW).await.unwrap();
    drop(registry);
    let registry = open(&store).await;
    let (agent, _) = registry.agent("node-1").unwrap();
    assert_eq!(agent.spki, key("a"));
    assert_eq!(agent.identities, token().identities);
    assert_eq!(registry.token(&[7; 32]).unwrap().used, Some((key("a"), NOW)));
}

#[tokio::test]
async fn old_tokens_are_forgotten() {
    let (_, registry) = with_token().await;
    let late = token().expires.plus(DAY).plus(Duration::from_secs(1));
    registry.add_token([8; 32], token(), late).await.unwrap();
    assert!(registry.token(&[7; 32]).is_none() && registry.token(&[8; 32]).is_some());
}
