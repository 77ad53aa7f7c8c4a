//! Signers: requests of a real API server, signed by a real CA, and verified by OpenSSL.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration_tests::support::{SOON, eventually};
use ledger::RowKind;
use proto::banyan::admin::v1::signer_service_client::SignerServiceClient;
use proto::banyan::admin::v1::{SignRequest, StartRotationRequest, Verb};
use serde_json::{Value, json};
use trust::{Certificate, Validity};

use super::certificates::{csr_of, openssl, rows};
use super::rights::{Right, used};
use super::support::{MESH, World, never, rules, until_says};

const GROUP: &str = "/apis/certificates.k8s.io/v1";
const CSRS: &str = "[sign.csr]\nsigner_names = [\"example.org/mesh\"]\n";
const PODS: &str = "[sign.pod_certificates]\nsigner_names = [\"example.org/mesh\"]\n";
/// Long: here nobody fails, and whoever stands still for a while on a busy machine shall not be taken for one that did.
const LEAD: &str = "[lead]\nnamespace = \"banyan\"\nduration = \"60s\"\n";
const SIGNER: &str = "example.org/mesh";
const POD_UID: &str = "9c1b2a36-64d5-4a0e-8f0c-0d4a0a3f0b11";
/// The account that asks.
const CART: &str = "/ns/shop/sa/cart";

/// A world in which the account `cart` of the namespace `shop` may ask for certificates: it, and its token.
async fn shop(rights: &[&str]) -> anyhow::Result<(World, String)> {
    shop_of(&[], rights).await
}

/// The same, with options of the API server.
async fn shop_of(options: &[&str], rights: &[&str]) -> anyhow::Result<(World, String)> {
    let world = World::start_with_options(options, rights).await?;
    world.api.add_namespace("shop").await?;
    let accounts = "/api/v1/namespaces/shop/serviceaccounts";
    let account = json!({ "metadata": { "name": "cart" } });
    world.api.ask("POST", accounts, Some(account)).await?;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "ask" }, "rules": [{
        "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["create"] }] });
    world.api.ask("POST", &format!("{rbac}/clusterroles"), Some(role)).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({ "metadata": { "name": "ask" },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "ask" },
        "subjects": [{ "apiGroup": group, "kind": "Group", "name": "system:serviceaccounts" }] });
    world.api.ask("POST", &format!("{rbac}/clusterrolebindings"), Some(binding)).await?;
    let token = world.api.ask("POST", &format!("{accounts}/cart/token"), Some(json!({}))).await?;
    let token = token["status"]["token"].as_str().context("no token")?.to_owned();
    let review = json!({ "spec": { "resourceAttributes": {
        "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create" } } });
    eventually("the account may ask", || async {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = world.api.ask_as(&token, "POST", path, Some(review.clone())).await;
        answer.is_ok_and(|answer| answer["status"]["allowed"] == true)
    })
    .await?;
    Ok((world, token))
}

/// A CSR that names nothing, or this.
fn csr(uri: Option<&str>) -> anyhow::Result<rcgen::CertificateSigningRequest> {
    csr_of(uri, &[])
}

/// Asks for a certificate, and answers with the path of the request.
async fn ask(
    world: &World,
    token: &str,
    [name, signer]: [&str; 2],
    uri: Option<&str>,
) -> anyhow::Result<String> {
    let body = json!({ "metadata": { "name": name }, "spec": {
        "signerName": signer, "request": STANDARD.encode(csr(uri)?.pem()?),
        "usages": ["digital signature", "client auth", "server auth"], "expirationSeconds": 7200 } });
    let all = format!("{GROUP}/certificatesigningrequests");
    world.api.ask_as(token, "POST", &all, Some(body)).await?;
    Ok(format!("{all}/{name}"))
}

async fn approve(world: &World, path: &str) -> anyhow::Result<()> {
    let mut object = world.api.ask("GET", path, None).await?;
    object["status"]["conditions"] = json!([{ "type": "Approved", "status": "True",
        "reason": "Test", "message": "known" }]);
    world.api.ask("PUT", &format!("{path}/approval"), Some(object)).await.map(drop)
}

async fn status(world: &World, path: &str) -> Value {
    let object = world.api.ask("GET", path, None).await;
    object.map(|object| object["status"].clone()).unwrap_or_default()
}

/// Waits for the certificate of a CSR: PEM.
async fn until_signed(world: &World, path: &str) -> anyhow::Result<String> {
    let certificate =
        || async { status(world, path).await["certificate"].as_str().map(str::to_owned) };
    eventually("it is signed", || async { certificate().await.is_some() }).await?;
    let pem = STANDARD.decode(certificate().await.unwrap_or_default())?;
    Ok(String::from_utf8(pem)?)
}

/// Waits for the condition of this type, and answers with its reason and message.
async fn until_condition(
    world: &World,
    path: &str,
    type_: &str,
) -> anyhow::Result<(String, String)> {
    let found = || async {
        let status = status(world, path).await;
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == type_)
    };
    eventually(&format!("it has the condition {type_}"), || async { found().await.is_some() })
        .await?;
    let one = found().await.unwrap_or_default();
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    Ok((text("reason"), text("message")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_csr_is_signed_for_the_account_that_made_it_and_no_other_ever()
-> anyhow::Result<()> {
    let (world, token) = shop(&["banyan-sign-csr"]).await?;
    let waiting = ask(&world, &token, ["waiting", SIGNER], None).await?;
    let denied = ask(&world, &token, ["denied", SIGNER], None).await?;
    let foreign = ask(&world, &token, ["foreign", "other.org/mesh"], None).await?;
    approve(&world, &foreign).await?;
    let mut object = world.api.ask("GET", &denied, None).await?;
    object["status"]["conditions"] =
        json!([{ "type": "Denied", "status": "True", "reason": "Test", "message": "no" }]);
    world.api.ask("PUT", &format!("{denied}/approval"), Some(object)).await?;
    let running = world.beside(CSRS).await?;
    let id = format!("spiffe://{}{CART}", world.ca.running().bundle().trust_domain());
    let good = ask(&world, &token, ["good", SIGNER], Some(&id)).await?;
    approve(&world, &good).await?;
    let chain = until_signed(&world, &good).await?;
    let (verified, said) = openssl(&world, &chain).await?;
    assert!(verified && said.contains(&format!("URI:{id}")), "{said}");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "leaf and issuer, and no root");
    for root in world.ca.running().bundle().roots() {
        assert!(!chain.contains(&root.certificate().pem().to_string()), "a root is in the chain");
    }
    // Nobody covers it, and that is said before a rotation waits for ever.
    let look = StartRotationRequest {
        request_id: "look".to_owned(),
        dry_run: true,
        ..StartRotationRequest::default()
    };
    let forecast = world.ca.rotations().start_rotation(look).await?.into_inner().forecast;
    let named = format!("{id} (channel-trusted) has its roots from a channel");
    assert!(forecast.iter().any(|said| said.contains(&named)), "{forecast:?}");
    never("something else is signed", Duration::from_secs(2), || async {
        let mut any = false;
        for path in [&waiting, &denied, &foreign] {
            let status = status(&world, path).await;
            let conditions = status["conditions"].as_array().map_or(0, Vec::len);
            let touched = conditions > usize::from(path != &waiting);
            any |= status["certificate"].is_string() || touched;
        }
        any
    })
    .await?;
    assert_eq!(rows(&world)?, [RowKind::ChannelTrusted], "one leaf, and no leaf for nothing");
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_signed_fails_once_and_says_why() -> anyhow::Result<()> {
    let (world, token) = shop(&["banyan-sign-csr"]).await?;
    let running = world.beside(CSRS).await?;
    let admin = stores_peers::Token::Admin.as_str();
    let user = ask(&world, admin, ["user", SIGNER], None).await?;
    let domain = world.ca.running().bundle().trust_domain().to_string();
    let other = format!("spiffe://{domain}/ns/shop/sa/till");
    let named = ask(&world, &token, ["named", SIGNER], Some(&other)).await?;
    for path in [&user, &named] {
        approve(&world, path).await?;
    }
    let (reason, message) = until_condition(&world, &user, "Failed").await?;
    assert_eq!(reason, "NoServiceAccount");
    assert!(message.contains("\"admin\""), "{message}");
    let (reason, message) = until_condition(&world, &named, "Failed").await?;
    assert_eq!(reason, "Refused");
    assert!(message.contains("CSR_IDENTITY_MISMATCH"), "{message}");
    until_says(&running, "sign/csr", true, "0 requests are open").await?;
    assert_eq!(rows(&world)?, []);
    let version = |object: Value| object["metadata"]["resourceVersion"].clone();
    let before = version(world.api.ask("GET", &user, None).await?);
    never("it is written again", Duration::from_secs(2), || async {
        world.api.ask("GET", &user, None).await.is_ok_and(|object| version(object) != before)
    })
    .await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_ca_is_away_a_request_waits_and_is_signed_once_by_one_of_several()
-> anyhow::Result<()> {
    let (world, token) = shop(&["banyan-sign-csr", "banyan-lead"]).await?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("admin.sock");
    let sections = format!("{CSRS}{LEAD}");
    let first = world.beside_at(&socket, world.api.address(), &sections).await?;
    let second = world.beside_at(&socket, world.api.address(), &sections).await?;
    let mut paths = Vec::new();
    for name in ["one", "two", "three", "four"] {
        let path = ask(&world, &token, [name, SIGNER], None).await?;
        approve(&world, &path).await?;
        paths.push(path);
    }
    eventually("one of them waits for the CA", || async {
        let waits = |running: &kubernetes::Running| {
            let lines = running.board().lines();
            lines.get("sign/csr").is_some_and(|line| !line.ready && line.text.contains("CA"))
        };
        waits(&first) || waits(&second)
    })
    .await?;
    for path in &paths {
        let status = status(&world, path).await;
        assert_eq!(status["conditions"].as_array().map(Vec::len), Some(1), "{status}");
    }
    std::os::unix::fs::symlink(&world.ca.running().admin_socket, &socket)?;
    for path in &paths {
        until_signed(&world, path).await?;
    }
    assert_eq!(rows(&world)?.len(), paths.len(), "one leaf for each request");
    first.shutdown().await;
    second.shutdown().await;
    Ok(())
}

/// What a kubelet asks for.
fn pod_spec(seconds: u64) -> anyhow::Result<Value> {
    Ok(json!({
        "signerName": SIGNER, "podName": "cart-0", "podUID": POD_UID, "serviceAccountName": "cart",
        "serviceAccountUID": POD_UID, "nodeName": "node", "nodeUID": POD_UID,
        "maxExpirationSeconds": seconds, "stubPKCS10Request": STANDARD.encode(csr(None)?.der()) }))
}

/// Asks for the certificate of a Pod as a kubelet does.
async fn ask_for_pod(world: &World, name: &str, seconds: u64) -> anyhow::Result<String> {
    let body = json!({ "metadata": { "name": name }, "spec": pod_spec(seconds)? });
    let all = format!("{GROUP}/namespaces/shop/podcertificaterequests");
    world.api.ask("POST", &format!("{all}?fieldValidation=Strict"), Some(body)).await?;
    Ok(format!("{all}/{name}"))
}

/// A Pod's certificate as it is in the status of its request.
struct Issued {
    chain: String,
    /// Of the certificate itself.
    validity: Validity,
    status: Value,
}

impl Issued {
    /// Seconds of its life.
    fn life(&self) -> u64 {
        self.validity.not_after().since(self.validity.not_before()).as_secs()
    }

    /// When it is refreshed if that is so many seconds after its beginning.
    fn after(&self, secs: u64) -> Value {
        json!(self.validity.not_before().plus(Duration::from_secs(secs)).to_string())
    }

    fn refresh(&self) -> &Value {
        &self.status["beginRefreshAt"]
    }
}

async fn until_issued(world: &World, path: &str) -> anyhow::Result<Issued> {
    until_condition(world, path, "Issued").await?;
    let status = status(world, path).await;
    let chain = status["certificateChain"].as_str().context("no chain")?.to_owned();
    let leaf = Certificate::parse(pem::parse(&chain)?.contents())?;
    let validity = leaf.validity();
    assert_eq!(status["notBefore"], json!(validity.not_before().to_string()));
    assert_eq!(status["notAfter"], json!(validity.not_after().to_string()));
    Ok(Issued { chain, validity, status })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_certificate_keeps_its_bounds_and_is_refreshed_sooner_under_a_root_that_goes()
-> anyhow::Result<()> {
    let (world, _) = shop(&["banyan-sign-pod-certificates", "banyan-publish-config-maps"]).await?;
    let domain = world.ca.running().bundle().trust_domain().to_string();
    let covers = format!("{MESH}covers = [\"spiffe://{domain}{CART}\"]\n");
    let running = world.beside(&format!("{covers}{PODS}")).await?;
    let issued = async |name: &str, seconds: u64| -> anyhow::Result<Issued> {
        let path = ask_for_pod(&world, name, seconds).await?;
        until_issued(&world, &path).await
    };
    let day = issued("day", 86_400).await?;
    let (verified, said) = openssl(&world, &day.chain).await?;
    assert!(verified && said.contains(CART), "{said}");
    assert!((86_000..=86_400).contains(&day.life()), "{}", day.life());
    assert_eq!(*day.refresh(), day.after(day.life() / 2));
    let hour = issued("hour", 3_600).await?;
    assert_eq!((hour.life(), hour.refresh()), (3_600, &hour.after(1_800)));
    let former = world.ca.running().bundle();
    world.ca.rotate_in_mode("one", "manual").await?;
    let waits = |rotation: &proto::banyan::admin::v1::Rotation| rotation.phase == "distributing";
    world.ca.until_rotation("both roots are out", SOON, waits).await?;
    let goes = issued("goes", 86_400).await?;
    assert_eq!(*goes.refresh(), goes.after(goes.life() / 6), "of a root that goes");
    let goes = issued("goes-hour", 3_600).await?;
    assert_eq!(*goes.refresh(), goes.after(600), "sooner is not taken");
    // The word of the channel that covers them opens the gate, and no leaf has to end for that.
    eventually("the new root signs", || async {
        // It is refused until the gate is open.
        let _ = world.ca.decide("two", Verb::Activate).await;
        world.ca.rotation().await.is_ok_and(|rotation| rotation.phase == "draining")
    })
    .await?;
    let new = issued("new", 86_400).await?;
    assert_eq!(*new.refresh(), new.after(new.life() / 2), "of the root that stays");
    let (verified, said) = openssl(&world, &new.chain).await?;
    assert!(verified, "{said}");
    assert!(former.roots().len() < world.ca.running().bundle().roots().len());
    assert!(rows(&world)?.iter().all(|kind| *kind == RowKind::ChannelTrusted));
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_gets_what_it_can_and_a_key_without_a_csr_is_denied() -> anyhow::Result<()>
{
    let options = [
        "--emulated-version=1.36",
        "--feature-gates=PodCertificateRequest=true",
        "--runtime-config=certificates.k8s.io/v1beta1=true",
    ];
    let (world, _) = shop_of(&options, &["banyan-sign-pod-certificates"]).await?;
    let running = world.beside(PODS).await?;
    let all = "/apis/certificates.k8s.io/v1beta1/namespaces/shop/podcertificaterequests";
    let mut spec = pod_spec(86_400)?;
    let ask = async |name: &str, spec: &Value| -> anyhow::Result<String> {
        let body = json!({ "metadata": { "name": name }, "spec": spec });
        world.api.ask("POST", &format!("{all}?fieldValidation=Strict"), Some(body)).await?;
        Ok(format!("{all}/{name}"))
    };
    let path = ask("new", &spec).await?;
    let issued = until_issued(&world, &path).await?;
    let (verified, said) = openssl(&world, &issued.chain).await?;
    assert!(verified && said.contains(CART), "{said}");
    let key = rcgen::KeyPair::generate()?;
    let fields = spec.as_object_mut().context("a spec")?;
    fields.remove("stubPKCS10Request");
    let spki = pem::parse(key.public_key_pem())?.into_contents();
    let proof = rcgen::SigningKey::sign(&key, POD_UID.as_bytes())?;
    fields.insert("pkixPublicKey".to_owned(), json!(STANDARD.encode(spki)));
    fields.insert("proofOfPossession".to_owned(), json!(STANDARD.encode(proof)));
    let path = ask("old", &spec).await?;
    let (reason, message) = until_condition(&world, &path, "Denied").await?;
    assert_eq!(reason, "NoCSR");
    assert!(message.contains("stubPKCS10Request"), "{message}");
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_right_of_the_signers_is_missing_and_none_is_superfluous() -> anyhow::Result<()> {
    const ROLES: [&str; 2] = ["banyan-sign-csr", "banyan-sign-pod-certificates"];
    let (world, token) = shop(&ROLES).await?;
    let running = world.beside(&format!("{CSRS}{PODS}")).await?;
    let path = ask(&world, &token, ["one", SIGNER], None).await?;
    approve(&world, &path).await?;
    until_signed(&world, &path).await?;
    let path = ask_for_pod(&world, "one", 86_400).await?;
    until_issued(&world, &path).await?;
    running.shutdown().await;
    let listed: BTreeSet<Right> = ROLES.iter().flat_map(|role| rules(role)).collect();
    let used = used(&world)?;
    // To sign is checked, and not asked.
    let unused: Vec<_> = listed.difference(&used).filter(|right| right.2 != "sign").collect();
    assert_eq!(unused, Vec::<&Right>::new(), "superfluous");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_sign_nothing_fails_and_the_part_says_so() -> anyhow::Result<()> {
    let (world, _) = shop(&[]).await?;
    let rules = json!([{ "apiGroups": ["certificates.k8s.io"], "verbs": ["get", "list", "watch"],
        "resources": ["podcertificaterequests"] }, { "apiGroups": ["certificates.k8s.io"],
        "resources": ["podcertificaterequests/status"], "verbs": ["update"] }]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "half" }, "rules": rules });
    world.api.ask("POST", &format!("{rbac}/clusterroles"), Some(role)).await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({ "metadata": { "name": "half" },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "half" },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": "ca" }] });
    world.api.ask("POST", &format!("{rbac}/clusterrolebindings"), Some(binding)).await?;
    let running = world.beside(PODS).await?;
    let path = ask_for_pod(&world, "one", 86_400).await?;
    until_says(&running, "sign/pod-certificates", false, "not permitted to \"sign\"").await?;
    assert_eq!(status(&world, &path).await["conditions"], Value::Null);
    assert_eq!(rows(&world)?.len(), 1);
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_signs_on_the_port_that_the_network_reaches() -> anyhow::Result<()> {
    let world = World::start(&[]).await?;
    let channel = world.ca.channel(None, rustls::DEFAULT_VERSIONS).await?;
    let refused = SignerServiceClient::new(channel).sign(SignRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unimplemented);
    Ok(())
}
