//! A root that is renewed with the same key and name, under two Envoys: BoringSSL looks for issuers by name and key.

use std::time::Duration;

use integration_tests::mesh::Cacerts;

use super::{SERVER, pair};

const ROTATION_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_talk_on_while_a_root_is_renewed_with_its_key_and_name() -> anyhow::Result<()> {
    let cacerts = Cacerts::make().await?;
    let section = cacerts.section("istio", "exclusive = true");
    let pair = pair(
        &format!("[rotation]\nsettle = \"1s\"\n[root]\nauthority = \"istio\"\n{section}"),
        &[SERVER],
    )
    .await?;
    let root = cacerts.renew_root().await?;
    let is_over = |rotation: &proto::banyan::admin::v1::Rotation| {
        let bundle = pair.ca.running().bundle();
        rotation.phase == "steady" && bundle.roots().len() == 1 && bundle.roots()[0].der() == root
    };
    let rotation =
        pair.ca.until_rotation("the renewed root alone is trusted", ROTATION_MAX, is_over);
    let mut rotation = Box::pin(rotation);
    let mut answered = 0_u64;
    loop {
        tokio::select! {
            biased;
            over = &mut rotation => {
                over?;
                break;
            }
            got = pair.client.get(0) => {
                let (status, body) = got?;
                anyhow::ensure!(status == 200, "after {answered} requests: {status} {body}");
                answered += 1;
            }
        }
    }
    drop(rotation);
    assert_eq!(pair.client.get(0).await?.0, 200, "with the renewed root alone");
    assert!(answered > 20, "{answered}");
    assert_eq!((pair.client.tls_failures().await?, pair.server.tls_failures().await?), (0, 0));
    pair.ca.stop().await
}
