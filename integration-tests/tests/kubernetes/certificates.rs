//! Certificates of tests: asked for, and judged by OpenSSL.

use std::path::PathBuf;

use integration_tests::mesh::{Tool, run};
use ledger::RowKind;

use super::support::World;

/// A CSR that names this and these.
pub(crate) fn csr_of(
    uri: Option<&str>,
    dns: &[&str],
) -> anyhow::Result<rcgen::CertificateSigningRequest> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(uri) = uri {
        params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into()?));
    }
    for name in dns {
        params.subject_alt_names.push(rcgen::SanType::DnsName((*name).try_into()?));
    }
    Ok(params.serialize_request(&rcgen::KeyPair::generate()?)?)
}

/// OpenSSL's judgement of a chain under the bundle in force, and what it reads out of the leaf.
pub(crate) async fn openssl(world: &World, chain: &str) -> anyhow::Result<(bool, String)> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let bundle = write("bundle.pem", world.ca.running().bundle().pem())?;
    // OpenSSL takes the first certificate of a file as the one to be verified.
    let chain = write("chain.pem", chain)?;
    let mut verify = Tool::Openssl.command()?;
    verify.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-purpose", "sslclient"]);
    verify.arg("-CAfile").arg(bundle).arg("-untrusted").arg(&chain).arg(&chain);
    let (good, said) = run(&mut verify).await?;
    let mut read = Tool::Openssl.command()?;
    read.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(&chain);
    let (_, read) = run(&mut read).await?;
    Ok((good, format!("{said}{read}")))
}

/// The rows of the account `cart` of the namespace `shop`.
pub(crate) fn rows(world: &World) -> anyhow::Result<Vec<RowKind>> {
    let rows = world.ca.rows()?;
    let ours = rows.intents.values().filter(|(identity, _)| identity.ends_with("/ns/shop/sa/cart"));
    Ok(ours.map(|(_, kind)| *kind).collect())
}
