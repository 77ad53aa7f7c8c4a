//! Certificates through Kubernetes, with the rights of the chart: of cert-manager's own controllers into a Secret, which follows a
//! rotation; for a CertificateSigningRequest; and for a Pod's request.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration_tests::cluster::{Chart, Cluster, rendered};
use integration_tests::mesh::{Tool, admin_channel, run};
use integration_tests::support::eventually;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{GetRotationRequest, StartRotationRequest};
use serde_json::{Value, json};
use stores_peers::CertManager;

use super::mesh::of_deploy;
use super::servers::{rights_are_used, started};
use super::{NAMESPACE, cluster};

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const SIGNER: &str = "example.org/mesh";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const UID: &str = "9c1b2a36-64d5-4a0e-8f0c-0d4a0a3f0b11";
/// Three lives of a leaf and what the gates add, on a machine that is busy.
const ROTATION_MAX: Duration = Duration::from_secs(150);
/// What a certificate of cert-manager is asked to live for: it renews at two thirds of that.
const LIFE: &str = "15s";

pub(crate) async fn certificates_of_cert_manager_csrs_and_pods_are_signed_with_exactly_the_charts_rights(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = cluster(name, 1).await? else { return Ok(()) };
    cluster.kubectl(&["apply", "-f", &of_deploy("crds")], "").await?;
    let cert_manager = CertManager::start(&cluster.api).await?;
    let chart = Chart {
        files: ["ci/short-lives.yaml", "ci/certificates.yaml"].map(str::to_owned).into(),
        // A Pod's certificate lives for an hour at least.
        set: [
            "replicas=1",
            "config.leaf.ttl_max=2h",
            "controllers.resources=false",
            "authentication.enabled=false",
        ]
        .map(str::to_owned)
        .into(),
    };
    let text = chart.render(NAMESPACE).await?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &text).await?;
    cluster.add_namespace("shop", json!({})).await?;
    cluster.add_account("shop", "cart").await?;
    let servers = started(&mut cluster, 1).await?;
    let server = servers.first().context("no server")?;

    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &certificates()).await?;
    for secret in ["cart-tls", "cluster-tls"] {
        let ready =
            eventually(secret, || async { secret_of(&cluster, secret).await.is_ok() }).await;
        ready.with_context(|| logs(&cert_manager, &servers))?;
    }
    let first = secret_of(&cluster, "cart-tls").await?;
    let (good, said) = first.verified(&first.ca).await?;
    ensure!(good, "under the roots that are beside it: {said}");
    ensure!(said.contains(&format!("URI:{CART}, DNS:cart.shop.svc")), "{said}");

    let mut rotations =
        RotationServiceClient::new(admin_channel(&server.path("run", "admin.sock")?));
    let request = StartRotationRequest { request_id: "first".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await?;
    let mut looks = Looks::default();
    let over = async {
        loop {
            looks.look(&cluster).await?;
            let now = rotations.get_rotation(GetRotationRequest::default()).await?.into_inner();
            if now.last_ending == "completed" {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match tokio::time::timeout(ROTATION_MAX, over).await {
        Ok(over) => over?,
        Err(_) => bail!("the rotation does not end:\n{}", logs(&cert_manager, &servers)),
    }
    ensure!(looks.certificates.len() > 1, "no certificate was renewed meanwhile");
    eventually("the Secret has the new root alone beside its certificate", || async {
        let secret = secret_of(&cluster, "cart-tls").await.ok();
        secret
            .is_some_and(|secret| secret.ca.matches("BEGIN").count() == 1 && secret.ca != first.ca)
    })
    .await?;

    let csr = a_csr(&cluster).await?;
    let pod = a_pods_request(&cluster).await?;
    let roots = bundle(&cluster).await?;
    for (what, chain) in [("CSR", &csr), ("Pod", &pod)] {
        let (good, said) = verified(chain, &roots).await?;
        ensure!(good && said.contains(&format!("URI:{CART}\n")), "{what}: {said}");
    }
    let signing: Vec<&str> =
        rendered(&text).into_iter().filter(|one| one.contains("-sign-")).collect();
    // A role and its binding for each kind.
    ensure!(signing.len() == 6, "{signing:?}");
    rights_are_used(&cluster, &signing.join("\n---\n")).await?;
    println!(
        "figures of {name}: looks {}, certificates {}, not verified {}",
        looks.looks,
        looks.certificates.len(),
        looks.failed
    );
    Ok(())
}

/// Two issuers, and a certificate of each.
fn certificates() -> String {
    let issuer = |kind: &str, spec: &Value| {
        json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": kind,
            "metadata": { "name": "mesh", "namespace": "shop" }, "spec": spec })
    };
    let certificate = |name: &str, kind: &str, dns: &[&str]| {
        json!({ "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
            "metadata": { "name": name, "namespace": "shop" }, "spec": {
                "secretName": format!("{name}-tls"), "duration": LIFE, "uris": [CART], "dnsNames": dns,
                "privateKey": { "algorithm": "ECDSA", "size": 256 },
                "issuerRef": { "group": "banyan.dev", "kind": kind, "name": "mesh" } } })
    };
    let mut cluster =
        issuer("BanyanClusterIssuer", &json!({ "namespaces": ["shop"], "accounts": ["*"] }));
    cluster["metadata"] = json!({ "name": "mesh" });
    let all = [
        issuer("BanyanIssuer", &json!({ "accounts": ["cart"], "serviceNames": true })),
        cluster,
        certificate("cart", "BanyanIssuer", &["cart.shop.svc"]),
        certificate("cluster", "BanyanClusterIssuer", &[]),
    ];
    all.map(|one| one.to_string()).join("\n---\n")
}

fn logs(cert_manager: &CertManager, servers: &[integration_tests::cluster::Pod]) -> String {
    let containers = servers.iter().flat_map(|pod| &pod.containers);
    let logs = containers.map(integration_tests::cluster::Container::log);
    logs.chain([cert_manager.log()]).collect()
}

/// What cert-manager wrote.
struct Secret {
    chain: String,
    ca: String,
}

impl Secret {
    async fn verified(&self, roots: &str) -> anyhow::Result<(bool, String)> {
        verified(&self.chain, roots).await
    }
}

async fn secret_of(cluster: &Cluster, name: &str) -> anyhow::Result<Secret> {
    let secret = cluster.get(&format!("/api/v1/namespaces/shop/secrets/{name}")).await?;
    let text = |key: &str| -> anyhow::Result<String> {
        let value = secret["data"][key].as_str().with_context(|| format!("no {key}"))?;
        Ok(String::from_utf8(STANDARD.decode(value)?)?)
    };
    Ok(Secret { chain: text("tls.crt")?, ca: text("ca.crt")? })
}

/// What the namespace's channel has.
async fn bundle(cluster: &Cluster) -> anyhow::Result<String> {
    let path = "/api/v1/namespaces/shop/configmaps/banyan-trust-bundle";
    let object = cluster.get(path).await?;
    object["data"]["ca.crt"].as_str().map(str::to_owned).context("no bundle")
}

/// OpenSSL's judgement of a chain under roots, and the names that it reads.
async fn verified(chain: &str, roots: &str) -> anyhow::Result<(bool, String)> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let (roots, chain) = (write("roots.pem", roots)?, write("chain.pem", chain)?);
    let mut verify = Tool::Openssl.command()?;
    verify.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-purpose", "sslserver"]);
    verify.arg("-CAfile").arg(roots).arg("-untrusted").arg(&chain).arg(&chain);
    let (good, said) = run(&mut verify).await?;
    let mut read = Tool::Openssl.command()?;
    read.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(&chain);
    let (_, read) = run(&mut read).await?;
    Ok((good, format!("{said}{read}")))
}

/// Looks at a Secret under the bundle of its namespace while a root is replaced.
#[derive(Default)]
struct Looks {
    looks: u64,
    failed: u64,
    certificates: BTreeSet<String>,
}

impl Looks {
    /// Fails if the certificate that is alive is not under what is trusted. One that has ended is cert-manager's to replace.
    async fn look(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        // The Secret first: what is trusted afterwards may be without a root that nobody has a living leaf of.
        let secret = secret_of(cluster, "cart-tls").await?;
        let roots = bundle(cluster).await?;
        let (good, said) = secret.verified(&roots).await?;
        self.looks += 1;
        if !good {
            self.failed += 1;
            let over = said.contains("certificate has expired");
            let again = secret_of(cluster, "cart-tls").await?;
            ensure!(over || again.chain != secret.chain, "a Secret is not trusted: {said}");
        }
        self.certificates.insert(secret.chain);
        Ok(())
    }
}

/// Asks as the account itself, which somebody then approves: the chain.
async fn a_csr(cluster: &Cluster) -> anyhow::Result<String> {
    let account = "system:serviceaccount:shop:cart";
    let args = [
        "create",
        "clusterrole",
        "ask",
        "--verb=create",
        "--resource=certificatesigningrequests.certificates.k8s.io",
    ];
    cluster.kubectl(&args, "").await?;
    let args =
        ["create", "clusterrolebinding", "ask", "--clusterrole=ask", "--serviceaccount=shop:cart"];
    cluster.kubectl(&args, "").await?;
    let token = cluster.kubectl(&["create", "token", "cart", "-n", "shop"], "").await?;
    let body = json!({ "metadata": { "name": "cart" }, "spec": {
        "signerName": SIGNER, "request": STANDARD.encode(csr()?.pem()?), "expirationSeconds": 600,
        "usages": ["digital signature", "client auth", "server auth"] } });
    eventually("the account may ask", || async {
        cluster.api.ask_as(token.trim(), "POST", CSRS, Some(body.clone())).await.is_ok()
    })
    .await?;
    let made = cluster.get(&format!("{CSRS}/cart")).await?;
    ensure!(made["spec"]["username"] == account, "{made}");
    cluster.kubectl(&["certificate", "approve", "cart"], "").await?;
    let path = format!("{CSRS}/cart");
    let chain = until_written(cluster, &path, "certificate").await?;
    Ok(String::from_utf8(STANDARD.decode(chain)?)?)
}

/// Asks as a kubelet does for a Pod: the chain.
async fn a_pods_request(cluster: &Cluster) -> anyhow::Result<String> {
    let all = "/apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests";
    let body = json!({ "metadata": { "name": "cart" }, "spec": {
        "signerName": SIGNER, "podName": "cart-0", "podUID": UID, "serviceAccountName": "cart",
        "serviceAccountUID": UID, "nodeName": "node", "nodeUID": UID, "maxExpirationSeconds": 3_600,
        "stubPKCS10Request": STANDARD.encode(csr()?.der()) } });
    cluster.api.ask("POST", all, Some(body)).await?;
    until_written(cluster, &format!("{all}/cart"), "certificateChain").await
}

async fn until_written(cluster: &Cluster, path: &str, key: &str) -> anyhow::Result<String> {
    let status = || async { cluster.get(path).await.unwrap_or_default()["status"].clone() };
    let waited = eventually(path, || async { status().await[key].is_string() }).await;
    let status = status().await;
    waited.with_context(|| status.to_string())?;
    status[key].as_str().map(str::to_owned).context("no text")
}

fn csr() -> anyhow::Result<rcgen::CertificateSigningRequest> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(&rcgen::KeyPair::generate()?)?)
}
