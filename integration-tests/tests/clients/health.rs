//! A probe of the plain port, as orchestrators send it.

use std::path::Path;

use integration_tests::mesh::{Tool, run};

use super::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn the_grpc_health_probe_on_the_plain_port_answers_serving() -> anyhow::Result<()> {
    let desk = Desk::open("").await?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    for (service, serving) in
        [("", true), ("istio.v1.auth.IstioCertificateService", true), ("no.such.Service", false)]
    {
        let mut probe = Tool::Grpcurl.command()?;
        probe.arg("-plaintext").arg("-import-path").arg(&here).args([
            "-proto",
            "health.proto",
            "-d",
        ]);
        probe.arg(serde_json::json!({ "service": service }).to_string());
        probe.arg(desk.ca.running().plain_addr.to_string()).arg("grpc.health.v1.Health/Check");
        let (answered, said) = run(&mut probe).await?;
        assert_eq!(answered && said.contains("\"SERVING\""), serving, "{service}: {said}");
        assert!(serving || said.contains("NotFound"), "{said}");
    }
    desk.ca.stop().await
}
