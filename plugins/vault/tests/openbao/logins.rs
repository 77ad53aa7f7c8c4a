//! Tokens and logins: read again, renewed, made anew, refused.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use host::SystemClock;
use plugins::HealthState;
use serde_json::{Value, json};
use trust::{Clock as _, ManualClock};

use crate::server::{Bao, TlsCa, write_secret};
use crate::{Own, TOKEN, asked, context, signing, signing_bao, told};

/// An authority whose uptime is told; the wall clock starts at the real time, which is the server's.
fn with_clock() -> (Own, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    (Own { clock: Arc::clone(&clock) as _, ..Own::new() }, clock)
}

async fn lookup(bao: &Bao, token: &str) -> Value {
    bao.post("auth/token/lookup", json!({ "token": token })).await["data"].clone()
}

async fn tokens(bao: &Bao) -> usize {
    bao.get("auth/token/accessors?list=true").await["data"]["keys"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_revoked_token_is_told_and_the_next_one_in_the_file_is_used() {
    let bao = signing_bao().await;
    let token = bao.token("token", json!({})).await;
    let authority = Own::new().open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    bao.post("auth/token/revoke", json!({ "token": token })).await;
    let words = told(asked(authority.as_ref(), "one", root).await, &[&token]);
    assert!(
        words.contains("Denied") && words.contains("is not valid") && words.contains("/token"),
        "{words}"
    );
    let health = authority.check(&context("check")).await;
    assert_eq!(health.state, HealthState::Down);
    bao.token("token", json!({})).await;
    asked(authority.as_ref(), "one", root).await.unwrap();
    assert_eq!(authority.check(&context("check")).await.state, HealthState::Ok);
    assert!(!format!("{authority:?}").contains(token.as_str()));
}

#[tokio::test]
async fn a_token_is_renewed_when_half_of_its_life_is_over() {
    let bao = signing_bao().await;
    let token = bao.token("token", json!({ "period": "1h" })).await;
    let (own, clock) = with_clock();
    let authority = own.open(&bao, TOKEN);
    signing(authority.as_ref()).await.unwrap();
    clock.advance(Duration::from_secs(29 * 60));
    signing(authority.as_ref()).await.unwrap();
    assert_eq!(lookup(&bao, &token).await.get("last_renewal"), None, "not before it is due");
    clock.advance(Duration::from_secs(2 * 60));
    signing(authority.as_ref()).await.unwrap();
    assert!(lookup(&bao, &token).await["last_renewal"].is_string());
}

#[tokio::test]
async fn the_end_of_a_token_that_nobody_renews_is_in_the_health() {
    let bao = signing_bao().await;
    bao.token("token", json!({ "ttl": "2h", "renewable": false })).await;
    let (own, clock) = with_clock();
    let authority = own.open(&bao, TOKEN);
    let health = authority.check(&context("check")).await;
    let ends = health.earliest_expiry.unwrap();
    assert_eq!(health.state, HealthState::Ok);
    assert!(ends <= clock.now().plus(Duration::from_secs(7_200)));
    clock.advance(Duration::from_secs(4_000));
    let health = authority.check(&context("check")).await;
    assert_eq!(health.state, HealthState::Degraded);
    assert!(health.detail.contains("cannot be renewed"), "{}", health.detail);
}

/// Enables AppRole and writes a secret id. Answers with the settings.
async fn approle(bao: &Bao, role: Value) -> String {
    bao.post("sys/auth/approle", json!({ "type": "approle" })).await;
    bao.post("auth/approle/role/banyan", role).await;
    let role_id = bao.get("auth/approle/role/banyan/role-id").await["data"]["role_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let secret = bao.post("auth/approle/role/banyan/secret-id", json!({})).await;
    write_secret(&bao.home.path().join("secret-id"), secret["data"]["secret_id"].as_str().unwrap());
    format!("auth = {{ method = 'approle', role_id = '{role_id}', secret_id_file = 'secret-id' }}")
}

#[tokio::test]
async fn an_approle_logs_in_once_renews_and_logs_in_again_at_the_end() {
    let bao = signing_bao().await;
    let role = json!({ "token_policies": "banyan", "token_ttl": "1h", "token_max_ttl": "1h30m" });
    let settings = approle(&bao, role).await;
    let (own, clock) = with_clock();
    let authority = own.open(&bao, &settings);
    let before = tokens(&bao).await;
    let root = signing(authority.as_ref()).await.unwrap();
    asked(authority.as_ref(), "one", root).await.unwrap();
    assert_eq!(tokens(&bao).await, before + 1, "one login for all calls");
    clock.advance(Duration::from_secs(31 * 60));
    signing(authority.as_ref()).await.unwrap();
    assert_eq!(tokens(&bao).await, before + 1, "it is renewed");
    clock.advance(Duration::from_secs(61 * 60));
    signing(authority.as_ref()).await.unwrap();
    assert_eq!(tokens(&bao).await, before + 2, "it is over");
}

#[tokio::test]
async fn a_revoked_login_is_made_anew_once_and_a_wrong_secret_is_told_without_it() {
    let bao = signing_bao().await;
    let settings = approle(&bao, json!({ "token_policies": "banyan" })).await;
    let authority = Own::new().open(&bao, &settings);
    let root = signing(authority.as_ref()).await.unwrap();
    let before = tokens(&bao).await;
    revoke_logins(&bao, "approle").await;
    asked(authority.as_ref(), "one", root).await.unwrap();
    assert_eq!(tokens(&bao).await, before, "one was revoked, one was made");
    revoke_logins(&bao, "approle").await;
    write_secret(&bao.home.path().join("secret-id"), "wrong-secret-id");
    let words = told(asked(authority.as_ref(), "two", root).await, &["wrong-secret-id"]);
    assert!(
        words.contains("login at auth/approle/login failed") && words.contains("secret-id"),
        "{words}"
    );
}

/// Revokes every token that a method gave out.
async fn revoke_logins(bao: &Bao, method: &str) {
    bao.post(&format!("sys/leases/revoke-prefix/auth/{method}/login"), json!({ "sync": true }))
        .await;
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let bao = signing_bao().await;
    let clients = TlsCa::new("clients");
    let (_, key) = clients.certify("banyan", bao.home.path());
    bao.post("sys/auth/cert", json!({ "type": "cert" })).await;
    bao.post(
        "auth/cert/certs/banyan",
        json!({ "certificate": clients.pem, "token_policies": "banyan" }),
    )
    .await;
    let settings = "auth = { method = 'cert', role = 'banyan', cert_file = 'banyan.pem', key_file = 'banyan-key.pem' }";
    let authority = Own::new().open(&bao, settings);
    let root = signing(authority.as_ref()).await.unwrap();
    asked(authority.as_ref(), "one", root).await.unwrap();
    // A certificate of nobody that the server knows, read at the next login.
    TlsCa::new("strangers").certify("banyan", bao.home.path());
    revoke_logins(&bao, "cert").await;
    let words =
        told(asked(authority.as_ref(), "two", root).await, &[&fs::read_to_string(key).unwrap()]);
    assert!(words.contains("login at auth/cert/login failed"), "{words}");
}

#[tokio::test]
async fn logins_that_cannot_be_are_told_by_field() {
    let bao = signing_bao().await;
    fs::write(bao.home.path().join("jwt"), "a.b.c").unwrap();
    let kubernetes = "auth = { method = 'kubernetes', role = 'banyan', token_file = 'jwt' }";
    let words = told(Own::new().open(&bao, kubernetes).roots(&context("roots")).await, &["a.b.c"]);
    assert!(
        words.contains("auth/kubernetes/login failed") && words.contains("enabled at this path"),
        "{words}"
    );
    bao.post("sys/auth/kubernetes", json!({ "type": "kubernetes" })).await;
    let words = told(Own::new().open(&bao, kubernetes).roots(&context("roots")).await, &["a.b.c"]);
    assert!(
        words.contains("Denied") && words.contains("login at auth/kubernetes/login failed"),
        "{words}"
    );
    let gone = "auth = { method = 'token', token_file = 'gone' }";
    let words = told(Own::new().open(&bao, gone).roots(&context("roots")).await, &[]);
    assert!(words.contains("auth.token_file") && words.contains("gone"), "{words}");
    let down = Own::new().open(&bao, gone).check(&context("check")).await;
    assert!(down.state == HealthState::Down && down.detail.contains("auth.token_file"));
}
