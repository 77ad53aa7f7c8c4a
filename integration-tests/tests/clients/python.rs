//! A Python client gets a certificate, and Python's `cryptography` verifies it.

use std::path::Path;

use integration_tests::mesh::{Tool, run, write_private};
use serde_json::{Value, json};

use super::{CART, Desk};

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_gets_a_certificate_and_cryptography_verifies_it() -> anyhow::Result<()> {
    let desk = Desk::open("").await?;
    let (token, out) = (desk.file("token"), desk.file("out"));
    write_private(&token, &desk.token)?;
    std::fs::create_dir(&out)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.py");
    let mut python = Tool::Python.command()?;
    python
        .arg("-B")
        .arg(script)
        .arg(&desk.protos)
        .arg(desk.address())
        .arg(&desk.roots)
        .arg(&token)
        .arg(&out);
    let (succeeded, said) = run(&mut python).await?;
    assert!(succeeded, "{said}");
    let seen: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
    assert_eq!(seen["subjects"], json!([CART]));
    assert_eq!(seen["own_key"], json!(true));
    assert_eq!(seen["seconds"], json!(3_660), "an hour, and the minute that the start lies back");
    assert_eq!(seen["subject"], json!(""));
    // Names, constraints and usages are critical; usage for TLS, key ids and "no revocation" are not.
    let extensions = json!({
        "2.5.29.17": true, "2.5.29.19": true, "2.5.29.15": true,
        "2.5.29.37": false, "2.5.29.14": false, "2.5.29.35": false, "2.5.29.56": false,
    });
    assert_eq!(seen["extensions"], extensions);
    desk.ca.stop().await
}
