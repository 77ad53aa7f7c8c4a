//! The contract of cert-manager's issuers: CertificateRequests of a real API server that has its kinds, made, approved and denied
//! here. Its controllers are in the family `chart`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration_tests::support::eventually;
use kubernetes::resources;
use ledger::RowKind;
use serde_json::{Value, json};
use stores_peers::CertManager;

use super::certificates::{csr_of, openssl, rows};
use super::rights::{Right, used};
use super::support::{World, never, rules, until_says};

const ROLE: &str = "banyan-sign-cert-manager";
const SECTION: &str = "[sign.cert_manager]\n";
const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/shop/certificaterequests";
const ISSUERS: &str = "/apis/banyan.dev/v1alpha1/namespaces/shop/banyanissuers";
const CLUSTER_ISSUERS: &str = "/apis/banyan.dev/v1alpha1/banyanclusterissuers";
const CART: &str = "/ns/shop/sa/cart";

/// A world with the namespace `shop`, our kinds, and those of cert-manager unless it is absent.
async fn shop(cert_manager: bool) -> anyhow::Result<World> {
    let world = World::start(&[ROLE]).await?;
    world.api.add_namespace("shop").await?;
    for (_, manifest) in resources::manifests()? {
        world.api.apply("", &manifest).await?;
    }
    for kinds in [ISSUERS, CLUSTER_ISSUERS] {
        eventually("our kinds are served", || async {
            world.api.ask("GET", kinds, None).await.is_ok()
        })
        .await?;
    }
    if cert_manager {
        CertManager::kinds(&world.api).await?;
    }
    Ok(world)
}

async fn add_issuer(world: &World, name: &str, spec: Value) -> anyhow::Result<()> {
    let body = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "BanyanIssuer",
        "metadata": { "name": name }, "spec": spec });
    let path = format!("{ISSUERS}?fieldValidation=Strict");
    world.api.ask("POST", &path, Some(body)).await.map(drop)
}

fn id(world: &World) -> String {
    format!("spiffe://{}{CART}", world.ca.running().bundle().trust_domain())
}

/// What is asked for.
struct Asked<'a> {
    name: &'a str,
    issuer: [&'a str; 2],
    uri: Option<&'a str>,
    dns: &'a [&'a str],
}

async fn ask(world: &World, asked: Asked<'_>) -> anyhow::Result<String> {
    let [kind, issuer] = asked.issuer;
    let request = csr_of(asked.uri, asked.dns)?.pem()?;
    let body = json!({ "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
        "metadata": { "name": asked.name }, "spec": {
            "issuerRef": { "group": "banyan.dev", "kind": kind, "name": issuer },
            "duration": "2h0m0s", "request": STANDARD.encode(request),
            "usages": ["digital signature", "key encipherment"] } });
    let path = format!("{REQUESTS}?fieldValidation=Strict");
    world.api.ask("POST", &path, Some(body)).await?;
    Ok(format!("{REQUESTS}/{}", asked.name))
}

/// Asks for the identity of the account `cart`.
async fn ask_for_cart(world: &World, name: &str, issuer: &str) -> anyhow::Result<String> {
    let uri = id(world);
    let asked = Asked { name, issuer: ["BanyanIssuer", issuer], uri: Some(&uri), dns: &[] };
    ask(world, asked).await
}

/// Says what an approver says.
async fn judge(world: &World, path: &str, types: &[&str]) -> anyhow::Result<()> {
    // Whoever else writes its status comes first.
    let done = eventually("it is judged", || async {
        let Ok(mut object) = world.api.ask("GET", path, None).await else { return false };
        let all = types.iter().map(|type_| {
            json!({ "type": type_, "status": "True", "reason": "Test", "message": "known" })
        });
        object["status"]["conditions"] = all.collect();
        world.api.ask("PUT", &format!("{path}/status"), Some(object)).await.is_ok()
    });
    done.await
}

async fn status(world: &World, path: &str) -> Value {
    let object = world.api.ask("GET", path, None).await;
    object.map(|object| object["status"].clone()).unwrap_or_default()
}

/// Waits until the condition `Ready` has this reason; answers with the whole status, and the message.
async fn until_ready(
    world: &World,
    path: &str,
    reason: &str,
    words: &str,
) -> anyhow::Result<Value> {
    let said = |status: &Value| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready: Vec<_> = all.into_iter().filter(|one| one["type"] == "Ready").collect();
        assert!(ready.len() <= 1, "one condition of a type: {ready:?}");
        ready.into_iter().next().unwrap_or_default()
    };
    let waited = eventually(reason, || async {
        let ready = said(&status(world, path).await);
        let message = ready["message"].as_str().unwrap_or_default();
        ready["reason"] == reason && message.contains(words)
    });
    let waited = waited.await;
    let status = status(world, path).await;
    waited.with_context(|| status.to_string())?;
    Ok(status)
}

fn pem(status: &Value, key: &str) -> anyhow::Result<String> {
    let text = status[key].as_str().with_context(|| format!("no {key}"))?;
    Ok(String::from_utf8(STANDARD.decode(text)?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_is_issued_with_its_roots_and_nothing_else_ever() -> anyhow::Result<()> {
    let world = shop(true).await?;
    add_issuer(&world, "mesh", json!({ "accounts": ["cart"], "serviceNames": true })).await?;
    let cluster = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "BanyanClusterIssuer",
        "metadata": { "name": "mesh" }, "spec": { "namespaces": ["*"], "accounts": ["*"] } });
    world.api.ask("POST", CLUSTER_ISSUERS, Some(cluster)).await?;
    let waiting = ask_for_cart(&world, "waiting", "mesh").await?;
    let denied = ask_for_cart(&world, "denied", "mesh").await?;
    judge(&world, &denied, &["Approved", "Denied"]).await?;
    let running = world.beside(SECTION).await?;
    let uri = id(&world);
    let dns: &[&str] = &["cart.shop.svc", "cart.shop.svc.cluster.local"];
    let asked = Asked { name: "good", issuer: ["BanyanIssuer", "mesh"], uri: Some(&uri), dns };
    let good = ask(&world, asked).await?;
    let asked = Asked {
        name: "cluster",
        issuer: ["BanyanClusterIssuer", "mesh"],
        uri: Some(&uri),
        dns: &[],
    };
    let by_cluster = ask(&world, asked).await?;
    for path in [&good, &by_cluster] {
        judge(&world, path, &["Approved"]).await?;
    }
    let issued = until_ready(&world, &good, "Issued", "").await?;
    let chain = pem(&issued, "certificate")?;
    let (verified, said) = openssl(&world, &chain).await?;
    let names = [format!("URI:{uri}"), dns.iter().map(|name| format!(", DNS:{name}")).collect()];
    assert!(verified && said.contains(&names.concat()), "{said}");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "leaf and issuer, and no root");
    assert_eq!(pem(&issued, "ca")?, **world.ca.running().bundle().pem());
    assert!(issued["failureTime"].is_null(), "{issued}");
    until_ready(&world, &by_cluster, "Issued", "").await?;
    let refused = until_ready(&world, &denied, "Denied", "denied").await?;
    assert!(refused["failureTime"].is_string() && refused["certificate"].is_null(), "{refused}");
    for issuer in [format!("{ISSUERS}/mesh"), format!("{CLUSTER_ISSUERS}/mesh")] {
        let shown = until_ready(&world, &issuer, "CAAnswers", "").await?;
        assert_eq!(shown["conditions"][0]["status"], "True", "{shown}");
    }
    never("what nobody approved is touched", Duration::from_secs(2), || async {
        status(&world, &waiting).await != Value::Null
    })
    .await?;
    assert_eq!(rows(&world)?, [RowKind::ChannelTrusted; 2], "one leaf for each");
    running.shutdown().await;
    let used = used(&world)?;
    let listed: BTreeSet<Right> = rules(ROLE).into_iter().collect();
    let unused: Vec<_> = listed.difference(&used).collect();
    assert_eq!(unused, Vec::<&Right>::new(), "superfluous");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_issuer_does_not_allow_fails_once_and_says_what_would_help() -> anyhow::Result<()> {
    let world = shop(true).await?;
    add_issuer(&world, "mesh", json!({ "accounts": ["cart"] })).await?;
    let unclear = add_issuer(&world, "unclear", json!({ "accounts": ["cart", "*"] })).await;
    let unclear = format!("{:#}", unclear.err().context("a star among names is taken")?);
    assert!(unclear.contains("alone in accounts"), "{unclear}");
    let running = world.beside(SECTION).await?;
    let (cart, pay) = (id(&world), id(&world).replace("/shop/", "/pay/"));
    let till = id(&world).replace("cart", "till");
    for (name, uri, dns, words) in [
        ("till", Some(till.as_str()), &[][..], "AccountRefused: the issuer's spec.accounts has no"),
        ("pay", Some(&pay), &[], "IdentityRefused"),
        ("none", None, &[], "IdentityMissing: it names no identity: write \"spiffe://"),
        ("dns", Some(&cart), &["cart.shop.svc"], "set spec.serviceNames of the issuer to true"),
    ] {
        let asked = Asked { name, issuer: ["BanyanIssuer", "mesh"], uri, dns };
        let path = ask(&world, asked).await?;
        judge(&world, &path, &["Approved"]).await?;
        let failed = until_ready(&world, &path, "Failed", words).await?;
        assert!(failed["failureTime"].is_string() && failed["certificate"].is_null(), "{failed}");
    }
    assert_eq!(rows(&world)?, []);
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_yet_is_waited_for_and_each_wait_is_told() -> anyhow::Result<()> {
    let world = shop(false).await?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("admin.sock");
    let running = world.beside_at(&socket, world.api.address(), SECTION).await?;
    until_says(&running, "sign/cert-manager", false, "install cert-manager").await?;
    CertManager::kinds(&world.api).await?;
    let path = ask_for_cart(&world, "early", "mesh").await?;
    judge(&world, &path, &["Approved"]).await?;
    until_ready(&world, &path, "Pending", "CA").await?;
    std::os::unix::fs::symlink(&world.ca.running().admin_socket, &socket)?;
    until_ready(&world, &path, "Pending", "there is no BanyanIssuer \"mesh\" in shop").await?;
    add_issuer(&world, "mesh", json!({ "accounts": ["*"] })).await?;
    let issued = until_ready(&world, &path, "Issued", "").await?;
    assert!(issued["failureTime"].is_null(), "to wait is no failure: {issued}");
    assert_eq!(rows(&world)?.len(), 1);
    running.shutdown().await;
    Ok(())
}
