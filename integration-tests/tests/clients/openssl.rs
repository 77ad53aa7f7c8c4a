//! OpenSSL's command line verifies what grpcurl got, and reads it out.

use std::path::PathBuf;

use integration_tests::mesh::{Pki, Tool, run};

use super::{CART, Chain, Desk, grpcurl};

struct Files {
    leaf: PathBuf,
    intermediates: PathBuf,
    roots: PathBuf,
}

async fn files(desk: &Desk) -> anyhow::Result<Files> {
    let Chain { leaf, intermediates, roots } = grpcurl::create(
        desk,
        &["-import-path", &desk.protos.display().to_string(), "-proto", "ca.proto"],
    )
    .await?;
    let write = |name: &str, text: String| {
        let path = desk.file(name);
        std::fs::write(&path, text).map(|()| path)
    };
    Ok(Files {
        leaf: write("leaf.pem", leaf)?,
        intermediates: write("intermediates.pem", intermediates)?,
        roots: write("reply-roots.pem", roots)?,
    })
}

async fn verify(files: &Files, purpose: &str) -> anyhow::Result<(bool, String)> {
    let mut command = Tool::Openssl.command()?;
    command.args([
        "verify",
        "-x509_strict",
        "-no-CApath",
        "-no-CAstore",
        "-purpose",
        purpose,
        "-CAfile",
    ]);
    command.arg(&files.roots).arg("-untrusted").arg(&files.intermediates).arg(&files.leaf);
    run(&mut command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_the_chain_for_both_ends_of_a_connection_and_under_no_other_root()
-> anyhow::Result<()> {
    let desk = Desk::open("").await?;
    let mut files = files(&desk).await?;
    for purpose in ["sslserver", "sslclient"] {
        let (verified, said) = verify(&files, purpose).await?;
        assert!(verified && said.contains("leaf.pem: OK"), "{purpose}: {said}");
    }
    let (verified, said) = verify(&files, "smimesign").await?;
    assert!(!verified, "a purpose that it is not for: {said}");
    files.roots = desk.file("other.pem");
    std::fs::write(&files.roots, Pki::new("other")?.root().certificate().pem())?;
    let (verified, said) = verify(&files, "sslserver").await?;
    assert!(!verified && said.contains("unable to get"), "{said}");
    desk.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_reads_exactly_the_profile_out_of_the_leaf() -> anyhow::Result<()> {
    let desk = Desk::open("").await?;
    let files = files(&desk).await?;
    let mut command = Tool::Openssl.command()?;
    command.args(["x509", "-noout", "-text", "-certopt", "ext_dump", "-in"]).arg(&files.leaf);
    let (read, text) = run(&mut command).await?;
    assert!(read, "{text}");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let after = |header: &str| {
        let at = lines.iter().position(|line| line.starts_with(header));
        at.and_then(|at| lines.get(at + 1)).copied().unwrap_or_default()
    };
    assert!(lines.contains(&"Version: 3 (0x2)"), "{text}");
    assert!(lines.contains(&"Subject:"), "the subject is empty: {text}");
    assert!(lines.contains(&"Signature Algorithm: ecdsa-with-SHA256"), "{text}");
    assert_eq!(after("X509v3 Subject Alternative Name: critical"), format!("URI:{CART}"));
    assert_eq!(after("X509v3 Basic Constraints: critical"), "CA:FALSE");
    assert_eq!(after("X509v3 Key Usage: critical"), "Digital Signature");
    let usages = "TLS Web Server Authentication, TLS Web Client Authentication";
    assert_eq!(after("X509v3 Extended Key Usage:"), usages);
    let named = lines.iter().filter(|line| line.starts_with("X509v3 ")).count();
    // "X509v3 extensions:" itself, the four above and the two key ids. RFC 9608's mark has a name in newer versions only.
    assert!((named == 7 && text.contains("2.5.29.56")) || named == 8, "{text}");
    desk.ca.stop().await
}
