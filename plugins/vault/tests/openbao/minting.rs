//! A mount of its own: roots are made, activated and retired there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plugins::state::MemoryState;
use plugins::{
    AuthorityState, HealthState, KeySpec, Outcome, PluginError, RootAuthority, StageRequest,
    StateError, StateName,
};
use plugins_conformance::authority::{Subject, run};
use serde_json::json;
use trust::RootId;

use crate::server::Bao;
use crate::{MINT, Own, SIGN, TOKEN, asked, context, domain, told};

/// Settings with every ability.
fn settings() -> String {
    format!("mint_roots = true\nexclusive = true\n{TOKEN}")
}

async fn minting_bao() -> Bao {
    let bao = Bao::start().await;
    bao.mount("pki").await;
    bao.policy("banyan", &format!("{SIGN}{MINT}")).await;
    bao.token("token", json!({})).await;
    bao
}

fn wanted(key: KeySpec) -> StageRequest {
    StageRequest::new(domain(), Duration::from_secs(3_650 * 86_400), key)
}

async fn staged(
    authority: &dyn RootAuthority,
    id: &str,
    key: KeySpec,
) -> Result<RootId, PluginError> {
    match authority.staging().unwrap().stage(&context(id), &wanted(key)).await? {
        Outcome::Ready(der) => Ok(RootId::of(&der)),
        pending => panic!("{pending:?}"),
    }
}

async fn issuers(bao: &Bao) -> usize {
    bao.get("pki/issuers?list=true").await["data"]["keys"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_mount_of_its_own_passes_the_suite_with_every_ability() {
    let bao = minting_bao().await;
    let own = Own::new();
    let clock = Arc::clone(&own.clock);
    let subject =
        Subject::new(move || own.open(&bao, &settings()), domain(), clock).variant("minting");
    let report = run(&subject).await;
    report.assert_conforms();
    assert!(
        report.skipped().iter().all(|rule| rule.contains("pending") || rule.starts_with("cross-")),
        "it answers at once, and cannot cross-sign\n{report}"
    );
}

#[tokio::test]
async fn the_first_root_of_an_empty_mount_signs_only_once_it_is_activated() {
    let bao = minting_bao().await;
    let own = Own::new();
    let authority = own.open(&bao, &settings());
    assert_eq!(authority.check(&context("check")).await.state, HealthState::Degraded);
    assert!(authority.roots(&context("roots")).await.unwrap().roots.is_empty());
    let root = staged(authority.as_ref(), "first", KeySpec::P256).await.unwrap();
    let set = own.open(&bao, &settings()).roots(&context("roots")).await.unwrap();
    assert_eq!(
        (set.roots.len(), set.signing),
        (1, None),
        "the server made it the default by itself"
    );
    asked(authority.as_ref(), "below", root).await.unwrap();
    authority.staging().unwrap().activate(&context("activate"), &root).await.unwrap();
    assert_eq!(authority.roots(&context("roots")).await.unwrap().signing, Some(root));
}

#[tokio::test]
async fn roots_of_every_kind_of_key_are_made_and_sign() {
    let bao = minting_bao().await;
    let authority = Own::new().open(&bao, &settings());
    for key in KeySpec::ALL {
        let root = staged(authority.as_ref(), &format!("root-{key}"), key).await.unwrap();
        asked(authority.as_ref(), &format!("issuer-{key}"), root).await.unwrap();
    }
    assert_eq!(authority.roots(&context("roots")).await.unwrap().roots.len(), 3);
}

/// State whose puts fail from a count on, and store nothing.
#[derive(Debug)]
struct Failing {
    inner: MemoryState,
    puts_left: AtomicUsize,
}

#[async_trait]
impl AuthorityState for Failing {
    async fn get(&self, name: &StateName) -> Result<Option<Vec<u8>>, StateError> {
        self.inner.get(name).await
    }

    async fn put(&self, name: &StateName, contents: &[u8]) -> Result<(), StateError> {
        let left = self
            .puts_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            let detail = "the disk is full".to_owned();
            return Err(StateError { operation: "store", name: name.to_string(), detail });
        }
        self.inner.put(name, contents).await
    }
}

#[tokio::test]
async fn a_stop_between_the_server_s_root_and_our_record_of_it_makes_no_second_root() {
    let bao = minting_bao().await;
    for (puts, made) in [(0, 0), (1, 1)] {
        let state =
            Arc::new(Failing { inner: MemoryState::new(), puts_left: AtomicUsize::new(puts) });
        let own = Own { state: Arc::clone(&state) as _, ..Own::new() };
        let before = issuers_or_none(&bao).await;
        let id = format!("broken-off-{puts}");
        let error =
            staged(own.open(&bao, &settings()).as_ref(), &id, KeySpec::P256).await.unwrap_err();
        assert!(error.may_be_repeated(), "{error:?}");
        assert_eq!(issuers_or_none(&bao).await, before + made);
        state.puts_left.store(usize::MAX, Ordering::SeqCst);
        let again = own.open(&bao, &settings());
        let root = staged(again.as_ref(), &id, KeySpec::P256).await.unwrap();
        assert_eq!(issuers(&bao).await, before + 1);
        assert_eq!(staged(again.as_ref(), &id, KeySpec::P256).await.unwrap(), root);
        let other = staged(again.as_ref(), &id, KeySpec::P384).await.unwrap_err();
        assert!(matches!(other, PluginError::Denied { .. }), "{other:?}");
    }
}

async fn issuers_or_none(bao: &Bao) -> usize {
    let answer = bao.ask(plugin_http::Method::GET, "pki/issuers?list=true", None).await;
    answer.body["data"]["keys"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_retired_root_s_key_is_gone_from_the_server() {
    let bao = minting_bao().await;
    let authority = Own::new().open(&bao, &settings());
    let (staging, retiring) = (authority.staging().unwrap(), authority.retiring().unwrap());
    let old = staged(authority.as_ref(), "old", KeySpec::P256).await.unwrap();
    staging.activate(&context("activate"), &old).await.unwrap();
    let new = staged(authority.as_ref(), "new", KeySpec::P256).await.unwrap();
    let keys =
        async || bao.get("pki/keys?list=true").await["data"]["keys"].as_array().unwrap().len();
    assert_eq!((issuers(&bao).await, keys().await), (2, 2));
    let signs = retiring.retire(&context("retire"), &old).await;
    assert!(told(signs, &[]).contains("activate another one first"));
    staging.activate(&context("activate-new"), &new).await.unwrap();
    retiring.retire(&context("retire"), &old).await.unwrap();
    assert_eq!((issuers(&bao).await, keys().await), (1, 1));
    let back = staging.activate(&context("back"), &old).await.unwrap_err();
    assert!(matches!(back, PluginError::Denied { .. }), "{back:?}");
}

#[tokio::test]
async fn a_mount_whose_default_follows_the_latest_issuer_gets_no_root() {
    let bao = minting_bao().await;
    let id = bao.root("pki", "theirs").await;
    bao.post("pki/config/issuers", json!({ "default": id, "default_follows_latest_issuer": true }))
        .await;
    let authority = Own::new().open(&bao, &settings());
    let words = told(staged(authority.as_ref(), "one", KeySpec::P256).await, &[]);
    assert!(
        words.contains("mint_roots") && words.contains("default_follows_latest_issuer=false"),
        "{words}"
    );
    assert_eq!(issuers(&bao).await, 1, "nothing was made");
    let shared = Own::new().open(&bao, &format!("mint_roots = true\n{TOKEN}"));
    assert!(
        shared.retiring().is_none(),
        "others may use the keys of a mount that is not exclusive"
    );
}
