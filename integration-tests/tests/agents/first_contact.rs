//! The first contact: only the right CA is told a secret, and only the right key joins.

use std::sync::Arc;
use std::time::Duration;

use integration_tests::mesh::{LyingCa, MeshCa, Pki, Presented, Subscriber, TestAgent};
use integration_tests::tokens::TokenIssuer;
use proto::banyan::agent::v1 as wire;
use trust::join_token::{JoinSecret, JoinToken};
use trust::{BundleDigest, ManualClock, SpiffeId, Timestamp};

use super::WEB;

/// The CA's own bundle as it goes over the wire.
fn bundle_of(ca: &MeshCa) -> wire::Bundle {
    let bundle = ca.running().bundle();
    wire::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        sequence: bundle.sequence().0,
        digest: bundle.digest().as_bytes().to_vec(),
        roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_pins_another_bundle_or_another_trust_domain_lets_the_agent_believe_nobody()
-> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let good = JoinToken::decode(&ca.token("host-1", &[WEB]).await?)?;
    let secret = || JoinSecret::random(&host::OsRandomness::new());
    let other_digest =
        BundleDigest::from_bytes(&[7; 32]).ok_or_else(|| anyhow::anyhow!("not 32 bytes"))?;
    let other_domain = SpiffeId::parse("spiffe://other.org/banyan/ca/ca-1")?;
    for (token, words) in [
        (
            JoinToken::new(good.ca_id().clone(), other_digest, secret())?,
            "no bundle with this digest",
        ),
        (JoinToken::new(other_domain, good.bundle_digest(), secret())?, "trust domain `other.org`"),
    ] {
        let mut agent = TestAgent::of(ca.gate().address())?.with_token(&token.encode())?;
        agent.start().await?;
        let status = agent.until_it_says(words).await?;
        assert!(status.sequence == 0 && status.member.is_none(), "{status:#?}");
        assert!(!agent.path("state/bundle.json").exists(), "nothing is believed");
        agent.stop().await;
    }
    let status = ca.status().await?;
    assert!(status.agents.is_empty(), "nobody has joined");
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_poses_as_the_ca_is_told_no_token_and_no_jwt() -> anyhow::Result<()> {
    let issuer = TokenIssuer::of_mesh();
    let key_set = issuer.key_set();
    let files = [(TokenIssuer::KEY_SET_FILE, key_set.as_str())];
    let ca =
        MeshCa::start_with("", TokenIssuer::SECTION, &files, Arc::new(host::SystemClock)).await?;
    // A true leaf of this mesh, and the true bundle: only the name is not that of a CA.
    let shown = ca.workload_leaf("host-9", WEB).await?;
    let poser = LyingCa::presenting(
        Arc::new(Pki::new("own")?),
        Presented { shown, bundle: bundle_of(&ca) },
    )
    .await?;

    let mut by_token = TestAgent::of(poser.address())?
        .with_token(&ca.token("host-1", &[WEB]).await?)?
        .with_own_workload(WEB);
    by_token.start().await?;
    by_token.until_it_says(WEB).await?;
    let roots = ca.write_roots()?;
    let mut by_jwt =
        TestAgent::of(poser.address())?.with_jwt(&issuer.of_account("shop", "web"), &roots)?;
    by_jwt.start().await?;
    by_jwt.until_it_says("NotValidForName").await?;
    for agent in [&by_token, &by_jwt] {
        assert!(agent.status()?.member.is_none());
    }
    assert_eq!(poser.registered(), 0, "no secret was sent");
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_joins_the_ca_of_the_bundle_file_and_no_other() -> anyhow::Result<()> {
    let issuer = TokenIssuer::of_mesh();
    let key_set = issuer.key_set();
    let files = [(TokenIssuer::KEY_SET_FILE, key_set.as_str())];
    let ca =
        MeshCa::start_with("", TokenIssuer::SECTION, &files, Arc::new(host::SystemClock)).await?;
    let jwt = issuer.of_account("shop", "web");
    let untrusted = ca.directory().join("other.pem");
    std::fs::write(&untrusted, Pki::new("other")?.root().certificate().pem())?;
    let mut wary = TestAgent::of(ca.gate().address())?.with_jwt(&jwt, &untrusted)?;
    wary.start().await?;
    wary.until_it_says("UnknownIssuer").await?;
    assert!(ca.status().await?.agents.is_empty());

    let roots = ca.write_roots()?;
    let agent = TestAgent::of(ca.gate().address())?
        .with_jwt(&jwt, &roots)?
        .with_own_workload(WEB)
        .joined()
        .await?;
    assert_eq!(agent.status()?.sequence, 1, "the CA's own bundle took the file's place");
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    let mut trust = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    trust.applied().await?;
    leaf.applied().await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_joins_one_key_and_that_key_again_for_five_minutes() -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let ca = MeshCa::start_with("", "", &[], Arc::clone(&clock) as _).await?;
    let token = ca.token("host-1", &[WEB]).await?;
    let start = || -> anyhow::Result<TestAgent> {
        TestAgent::of(ca.gate().address())?.with_clock(Arc::clone(&clock) as _).with_token(&token)
    };
    let mut first = start()?.joined().await?;

    let mut thief = start()?;
    thief.start().await?;
    thief.until_it_says("was used before").await?;
    assert!(thief.status()?.member.is_none());
    thief.stop().await;

    // The answer was lost on its way: the key is there, the certificate is not.
    first.stop().await;
    std::fs::remove_file(first.path("state/agent.pem"))?;
    clock.advance(Duration::from_secs(299));
    first.start().await?;
    first.until("a member again", |status| status.member.is_some()).await?;

    first.stop().await;
    std::fs::remove_file(first.path("state/agent.pem"))?;
    clock.advance(Duration::from_secs(2));
    first.start().await?;
    first.until_it_says("was used before").await?;
    assert!(first.status()?.member.is_none());
    ca.stop().await
}
