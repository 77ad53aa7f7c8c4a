//! grpcurl gets certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration_tests::mesh::{Tool, run};
use tokio::process::Command;
use trust::Certificate;

use super::{CART, CREATE, Chain, Desk};

/// grpcurl, with the CA's roots and a token.
fn grpcurl(desk: &Desk) -> anyhow::Result<Command> {
    let mut command = Tool::Grpcurl.command()?;
    command.arg("-cacert").arg(&desk.roots);
    command.arg("-H").arg(format!("authorization: Bearer {}", desk.token));
    Ok(command)
}

/// Asks for a certificate with these further arguments; answers with the reply's chain.
pub(super) async fn create(desk: &Desk, know_how: &[&str]) -> anyhow::Result<Chain> {
    let message = serde_json::json!({ "csr": desk.csr().await?, "validityDuration": "3600" });
    let mut command = grpcurl(desk)?;
    command.args(know_how).arg("-d").arg(message.to_string()).arg(desk.address()).arg(CREATE);
    let (answered, said) = run(&mut command).await?;
    anyhow::ensure!(answered, "{said}");
    Chain::from_json(&said)
}

fn identity(chain: &Chain) -> anyhow::Result<String> {
    let leaf = Certificate::parse(pem::parse(&chain.leaf)?.contents())?;
    Ok(leaf.spiffe_id()?.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_learns_the_service_by_reflection_and_gets_a_certificate() -> anyhow::Result<()> {
    let desk = Desk::open("reflection = true").await?;
    let (listed, services) = run(grpcurl(&desk)?.arg(desk.address()).arg("list")).await?;
    assert!(listed && services.contains("istio.v1.auth.IstioCertificateService"), "{services}");
    let chain = create(&desk, &[]).await?;
    assert_eq!(identity(&chain)?, CART);
    assert_eq!(chain.roots, *desk.ca.running().bundle().pem().as_ref());
    desk.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_gets_a_certificate_with_the_published_file_where_reflection_is_off()
-> anyhow::Result<()> {
    let desk = Desk::open("").await?;
    let (listed, said) = run(grpcurl(&desk)?.arg(desk.address()).arg("list")).await?;
    assert!(!listed && said.contains("reflection"), "{said}");
    let protos = desk.protos.display().to_string();
    let chain = create(&desk, &["-import-path", &protos, "-proto", "ca.proto"]).await?;
    assert_eq!(identity(&chain)?, CART);
    desk.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_tells_grpcurl_the_code_the_cause_and_the_reason() -> anyhow::Result<()> {
    let mut desk = Desk::open("").await?;
    let protos = desk.protos.display().to_string();
    desk.token.push_str("AAAA");
    let refused = create(&desk, &["-import-path", &protos, "-proto", "ca.proto"]).await;
    let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        said.contains("Code: Unauthenticated") && said.contains("signature does not verify"),
        "{said}"
    );
    // Google's file for details is not ours to publish, so grpcurl shows them in base64.
    let details = said.split_once("\"@value\": \"").and_then(|(_, rest)| rest.split_once('"'));
    let details = STANDARD.decode(details.map(|(value, _)| value).unwrap_or_default())?;
    assert!(String::from_utf8_lossy(&details).contains("TOKEN_SIGNATURE_INVALID"), "{said}");
    desk.ca.stop().await
}
