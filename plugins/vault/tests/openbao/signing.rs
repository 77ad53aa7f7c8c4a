//! Mounts that others rule: their roots are announced, their issuers sign.

use std::sync::Arc;
use std::time::Duration;

use plugin_http::Method;
use plugins::{HealthState, PluginError};
use plugins_conformance::Broken;
use plugins_conformance::authority::{Subject, run};
use serde_json::json;
use trust::{Certificate, RootId};

use crate::server::Bao;
use crate::{Own, SIGN, TOKEN, asked, context, domain, lasting, signing, signing_bao, told};

#[tokio::test]
async fn the_default_root_of_a_mount_passes_the_suite() {
    let bao = signing_bao().await;
    let own = Own::new();
    let clock = Arc::clone(&own.clock);
    assert!(!own.open(&bao, TOKEN).describe().exclusive, "others may sign there too");
    let subject =
        Subject::new(move || own.open(&bao, TOKEN), domain(), clock).variant("default root");
    let report = run(&subject).await;
    report.assert_conforms();
    let verdicts = report.verdicts().filter_map(|(_, verdict)| verdict.as_ref().err());
    let unable =
        |broken: &Broken| matches!(broken, Broken::Skipped(why) if why.starts_with("it cannot"));
    assert!(verdicts.into_iter().all(unable), "{report}");
}

#[tokio::test]
async fn an_intermediate_passes_the_suite_once_its_root_is_in_the_mount() {
    let bao = Bao::start().await;
    bao.mount("offline").await;
    bao.mount("pki").await;
    bao.root("offline", "top").await;
    let csr = bao
        .post(
            "pki/intermediate/generate/internal",
            json!({ "common_name": "mid", "key_type": "ec" }),
        )
        .await;
    let body = json!({ "csr": csr["data"]["csr"], "common_name": "mid", "max_path_length": 1, "not_after": "2039-01-01T00:00:00Z" });
    let signed = bao.post("offline/root/sign-intermediate", body).await;
    bao.post(
        "pki/intermediate/set-signed",
        json!({ "certificate": signed["data"]["certificate"] }),
    )
    .await;
    bao.policy("banyan", SIGN).await;
    bao.token("token", json!({})).await;

    let own = Own::new();
    let authority = own.open(&bao, TOKEN);
    let words = told(authority.roots(&context("roots")).await, &[]);
    assert!(
        words.contains("leads to no root in the mount") && words.contains("issuers/import"),
        "{words}"
    );

    let root = signed["data"]["issuing_ca"].clone();
    bao.post("pki/issuers/import/cert", json!({ "pem_bundle": root })).await;
    let root = signing(authority.as_ref()).await.unwrap();
    let chain = asked(authority.as_ref(), "one", root).await.unwrap();
    assert_eq!(Certificate::parse(&chain[1]).unwrap().subject_text(), "CN=mid");
    let own = Own::new();
    let clock = Arc::clone(&own.clock);
    let subject =
        Subject::new(move || own.open(&bao, TOKEN), domain(), clock).variant("intermediate");
    run(&subject).await.assert_conforms();
}

#[tokio::test]
async fn a_root_rotated_inside_the_mount_is_seen_and_the_former_one_stays_until_it_is_deleted() {
    let bao = signing_bao().await;
    let authority = Own::new().open(&bao, TOKEN);
    let first = authority.roots(&context("roots")).await.unwrap();
    let old = first.signing.unwrap();
    let waiting = Arc::clone(&authority);
    let seen = first.generation;
    let waiting = tokio::spawn(async move { waiting.watching().unwrap().changed(seen).await });
    let former =
        bao.get("pki/config/issuers").await["data"]["default"].as_str().unwrap().to_owned();
    bao.root("pki", "second").await;
    let both =
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
    let new = both.signing.unwrap();
    assert!(both.generation > seen && both.roots.len() == 2 && new != old);
    for (id, root) in [("under-old", old), ("under-new", new)] {
        asked(authority.as_ref(), id, root).await.unwrap();
    }
    bao.delete(&format!("pki/issuer/{former}")).await;
    let after = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((after.roots.len(), after.signing), (1, Some(new)));
    let denied = asked(authority.as_ref(), "under-deleted", old).await.unwrap_err();
    assert!(matches!(denied, PluginError::Denied { .. }), "{denied:?}");
}

#[tokio::test]
async fn a_named_issuer_signs_whatever_the_default_is() {
    let bao = signing_bao().await;
    let first = signing(Own::new().open(&bao, TOKEN).as_ref()).await.unwrap();
    bao.root("pki", "second").await;
    let named = Own::new().open(&bao, &format!("issuer = 'first'\nexclusive = true\n{TOKEN}"));
    assert_eq!(signing(named.as_ref()).await.unwrap(), first);
    assert!(named.describe().exclusive && named.staging().is_none() && named.retiring().is_none());
    let none = Own::new().open(&bao, &format!("issuer = 'third'\n{TOKEN}"));
    let words = told(none.roots(&context("roots")).await, &[]);
    assert!(words.contains("Denied") && words.contains("third"), "{words}");
}

#[tokio::test]
async fn names_of_mounts_and_namespaces_that_are_wrong_are_told_by_field() {
    let bao = signing_bao().await;
    bao.mount("empty").await;
    bao.post("sys/mounts/kv", json!({ "type": "kv" })).await;
    bao.policy("banyan", "path \"*\" { capabilities = [\"read\", \"list\", \"update\"] }").await;
    for (settings, field, word) in [
        ("mount = 'nowhere'", "mount", "nothing is mounted"),
        ("mount = 'empty'", "mount", "no issuer that signs"),
        ("mount = 'kv'", "mount", "no issuer that signs"),
        ("namespace = 'nowhere'", "namespace", "does not exist"),
    ] {
        let authority = Own::new().open(&bao, &format!("{settings}\n{TOKEN}"));
        let error = authority.roots(&context("roots")).await.unwrap_err();
        let right = matches!(&error, PluginError::Misconfigured { field: found, detail }
            if found == field && detail.contains(word));
        assert!(right, "{settings}: {error:?}");
        assert_eq!(authority.check(&context("check")).await.state, HealthState::Down);
    }
}

#[tokio::test]
async fn a_mount_in_a_namespace_is_reached() {
    let bao = Bao::start().await;
    bao.post("sys/namespaces/team", json!({})).await;
    bao.mount("team:pki").await;
    let body =
        json!({ "common_name": "theirs", "key_type": "ec", "not_after": "2040-01-01T00:00:00Z" });
    bao.post("team:pki/root/generate/internal", body).await;
    bao.post("team:sys/policies/acl/banyan", json!({ "policy": SIGN })).await;
    let token = bao.post("team:auth/token/create", json!({ "policies": ["banyan"] })).await;
    let token = token["auth"]["client_token"].as_str().unwrap();
    crate::server::write_secret(&bao.home.path().join("token"), token);
    let authority = Own::new().open(&bao, &format!("namespace = 'team'\n{TOKEN}"));
    let root = signing(authority.as_ref()).await.unwrap();
    assert_eq!(asked(authority.as_ref(), "one", root).await.unwrap().len(), 1);
    assert_eq!(authority.check(&context("check")).await.state, HealthState::Ok);
    let outside = Own::new().open(&bao, TOKEN).roots(&context("roots")).await;
    assert!(told(outside, &[token]).contains("Denied"));
    assert_eq!(
        bao.ask(Method::GET, "sys/mounts/pki", None).await.status.as_u16(),
        400,
        "it is only there"
    );
}

#[tokio::test]
async fn what_would_outlive_the_mount_s_issuer_is_refused_with_its_end_and_what_fits_is_signed() {
    let bao = signing_bao().await;
    let body =
        json!({ "common_name": "short", "issuer_name": "short", "key_type": "ec", "ttl": "720h" });
    let id = bao.post("pki/root/rotate/internal", body).await["data"]["issuer_id"].clone();
    bao.post("pki/root/replace", json!({ "default": id })).await;
    let own = Own::new();
    let authority = own.open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    let day = Duration::from_secs(86_400);
    let refused = lasting(authority.as_ref(), "one", root, 40 * day).await.unwrap_err();
    let PluginError::Outlives { above, ends } = &refused else { panic!("{refused:?}") };
    assert!(above.contains(id.as_str().unwrap()) && above.contains("pki"), "{above}");
    let now = own.clock.now();
    assert!(*ends > now.plus(29 * day) && *ends <= now.plus(30 * day), "{ends}");
    // As the caller does it: a minute less than what is left, and under the same id, for nothing was made.
    let left = ends.since(now) - Duration::from_secs(60);
    let chain = lasting(authority.as_ref(), "one", root, left).await.unwrap();
    assert!(Certificate::parse(&chain[0]).unwrap().validity().not_after() <= *ends);
}

#[tokio::test]
async fn an_issuer_longer_than_the_mount_s_leases_is_not_shortened() {
    let bao = signing_bao().await;
    bao.post("sys/mounts/pki/tune", json!({ "max_lease_ttl": "1h" })).await;
    let own = Own::new();
    let authority = own.open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    let chain = asked(authority.as_ref(), "one", root).await.unwrap();
    let issuer = Certificate::parse(&chain[0]).unwrap();
    let wanted = own.clock.now().plus(Duration::from_secs(30 * 86_400 - 60));
    assert!(issuer.validity().not_after() >= wanted);
    assert_eq!(issuer.names().uris, ["spiffe://example.org"]);
    assert_eq!(RootId::of(&authority.roots(&context("roots")).await.unwrap().roots[0]), root);
}
