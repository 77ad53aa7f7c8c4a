//! What goes wrong in the life of a server, and passes.

use std::fs;

use plugins::{HealthState, PluginError, RootAuthority};
use serde_json::json;

use crate::server::TlsCa;
use crate::{Own, SIGN, TOKEN, asked, context, signing, signing_bao, told};

async fn health(authority: &dyn RootAuthority) -> (HealthState, String) {
    let health = authority.check(&context("check")).await;
    (health.state, health.detail)
}

#[tokio::test]
async fn a_sealed_server_is_down_and_serves_again_once_it_is_unsealed() {
    let bao = signing_bao().await;
    let authority = Own::new().open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    let chain = asked(authority.as_ref(), "one", root).await.unwrap();
    assert_eq!(health(authority.as_ref()).await, (HealthState::Ok, String::new()));
    bao.seal().await;
    let (state, detail) = health(authority.as_ref()).await;
    assert!(state == HealthState::Down && detail.contains("sealed"), "{detail}");
    for error in [
        asked(authority.as_ref(), "two", root).await.unwrap_err(),
        signing(authority.as_ref()).await.unwrap_err(),
    ] {
        let right =
            matches!(&error, PluginError::AuthorityDown { detail } if detail.contains("unseal"));
        assert!(right && error.may_be_repeated(), "{error:?}");
    }
    bao.unseal().await;
    assert_eq!(signing(authority.as_ref()).await.unwrap(), root);
    asked(authority.as_ref(), "two", root).await.unwrap();
    assert_eq!(chain.len(), 1);
    assert_eq!(health(authority.as_ref()).await.0, HealthState::Ok);
}

#[tokio::test]
async fn what_was_answered_is_answered_again_while_the_server_is_away() {
    let mut bao = signing_bao().await;
    let own = Own::new();
    let authority = own.open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    let keys = plugins::memory::MemoryKeys::new();
    let id = context("kept");
    let key =
        plugins::KeyBackend::generate(&keys, &id.request_id, plugins::KeySpec::P256).await.unwrap();
    let csr = plugins::ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let request = plugins::IssuerRequest::new(root, csr, crate::domain(), day);
    let first = authority.sign_issuer(&id, &request).await.unwrap();
    bao.kill();
    assert_eq!(
        own.open(&bao, TOKEN).sign_issuer(&id, &request).await.unwrap(),
        first,
        "after a restart"
    );
    assert_eq!(authority.sign_issuer(&id, &request).await.unwrap(), first);
    let error = signing(authority.as_ref()).await.unwrap_err();
    assert!(matches!(error, PluginError::AuthorityDown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_path_that_is_not_permitted_is_told_with_the_line_that_permits_it() {
    let bao = signing_bao().await;
    let token = bao.token("token", json!({})).await;
    let line = r#"path "pki/issuer/+/sign-intermediate" { capabilities = ["update"] }"#;
    let without: String = SIGN.lines().filter(|line| !line.contains("sign-intermediate")).collect();
    bao.policy("banyan", &without).await;
    let authority = Own::new().open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    let error = asked(authority.as_ref(), "one", root).await;
    let PluginError::Denied { reason } = error.clone().unwrap_err() else { panic!("{error:?}") };
    assert!(reason.contains(line) && reason.contains("POST pki/issuer/"), "{reason}");
    told(error, &[&token]);
    assert_eq!(health(authority.as_ref()).await.0, HealthState::Ok, "reading is permitted");
    bao.policy("banyan", &format!("{without}\n{line}")).await;
    asked(authority.as_ref(), "one", root).await.unwrap();
}

#[tokio::test]
async fn a_server_certificate_is_believed_by_the_roots_that_the_file_holds_now() {
    let bao = signing_bao().await;
    let authority = Own::new().open(&bao, TOKEN);
    let root = signing(authority.as_ref()).await.unwrap();
    let other = TlsCa::new("other CA");
    other.certify("server", bao.home.path());
    bao.reload_tls().await;
    let error = signing(authority.as_ref()).await.unwrap_err();
    let right =
        matches!(&error, PluginError::AuthorityDown { detail } if detail.contains("certificate"));
    assert!(right, "{error:?}");
    assert_eq!(health(authority.as_ref()).await.0, HealthState::Down);
    fs::write(bao.home.path().join("ca.pem"), &other.pem).unwrap();
    assert_eq!(signing(authority.as_ref()).await.unwrap(), root);
    asked(authority.as_ref(), "one", root).await.unwrap();
    fs::write(bao.home.path().join("ca.pem"), "no PEM").unwrap();
    assert!(signing(authority.as_ref()).await.unwrap_err().to_string().contains("ca.pem"));
}
