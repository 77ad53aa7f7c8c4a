//! A CA that is broken: what it says is refused, reported, and changes nothing that is served.

use std::sync::Arc;

use integration_tests::mesh::{
    LyingCa, Misbehavior, Pki, Subscriber, TestAgent, certificates, eventually, serial,
};
use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::server_message::Message as Down;
use trust::Serial;

use super::WEB;

struct Deceived {
    signer: Arc<Pki>,
    ca: LyingCa,
    agent: TestAgent,
    roots: Subscriber,
    leaf: Subscriber,
    serial: Serial,
}

/// An agent and a workload that were served well so far.
async fn trusting() -> anyhow::Result<Deceived> {
    let signer = Arc::new(Pki::new("first")?);
    let ca = LyingCa::start(Arc::clone(&signer)).await?;
    let agent = TestAgent::of(ca.address())?
        .with_token(&ca.token()?)?
        .with_own_workload(WEB)
        .joined()
        .await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    roots.applied().await?;
    let serial = serial(&leaf.applied().await?)?;
    Ok(Deceived { signer, ca, agent, roots, leaf, serial })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_an_ambiguous_and_a_forged_bundle_are_refused_and_reported() -> anyhow::Result<()>
{
    let mut bench = trusting().await?;
    let other = Pki::new("other")?;
    let empty = wire::Bundle { roots: Vec::new(), ..Pki::bundle(&[&bench.signer], 2)? };
    let ambiguous = Pki::bundle(&[&other], 1)?;
    let forged = wire::Bundle { digest: vec![7; 32], ..Pki::bundle(&[&bench.signer, &other], 3)? };
    let foreign =
        wire::Bundle { trust_domain: "other.org".to_owned(), ..Pki::bundle(&[&other], 4)? };
    for (count, (bundle, words)) in (1..).zip([
        (empty, "never empty"),
        (ambiguous, "second time"),
        (forged, "digest"),
        (foreign, "other.org"),
    ]) {
        bench.ca.tell(Down::Bundle(bundle));
        bench.agent.until_it_says(words).await?;
        eventually(words, async || bench.ca.nacks().len() == count).await?;
        assert!(bench.ca.nacks()[count - 1].reason.contains(words), "{:?}", bench.ca.nacks());
    }
    assert!(bench.roots.is_quiet().await, "the holder hears of none of them");
    let status = bench.agent.status()?;
    assert_eq!(
        (status.sequence, status.roots.as_slice()),
        (1, [bench.signer.root().id()].as_slice())
    );
    let kept = std::fs::read_to_string(bench.agent.path("state/bundle.json"))?;
    assert!(!kept.contains("\"sequence\": 2") && !kept.contains("\"sequence\": 3"), "{kept}");

    bench.ca.publish(Pki::bundle(&[&bench.signer, &other], 5)?);
    assert_eq!(certificates(&bench.roots.applied().await?)?.len(), 2, "the next good one is taken");
    bench.agent.until("all is well", |status| status.conditions.is_empty()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_sequence_changes_nothing_now_and_after_a_restart() -> anyhow::Result<()> {
    let mut bench = trusting().await?;
    let second = Pki::new("second")?;
    bench.ca.publish(Pki::bundle(&[&bench.signer, &second], 7)?);
    assert_eq!(certificates(&bench.roots.applied().await?)?.len(), 2);
    bench.ca.publish(Pki::bundle(&[&bench.signer], 6)?);
    assert!(bench.roots.is_quiet().await);
    assert_eq!(bench.agent.status()?.sequence, 7);

    bench.agent.stop().await;
    bench.agent.start().await?;
    bench
        .agent
        .until("connected again", |status| status.connected && status.member.is_some())
        .await?;
    let mut roots = Subscriber::open(&bench.agent.socket(), "ROOTCA").await?;
    assert_eq!(
        certificates(&roots.applied().await?)?.len(),
        2,
        "the CA's older bundle is not taken"
    );
    assert_eq!(bench.agent.status()?.sequence, 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_leaf_is_refused_and_reported_and_the_last_good_one_is_served_on()
-> anyhow::Result<()> {
    for (misbehavior, words) in [
        (Misbehavior::OtherKey, "another key"),
        (Misbehavior::OtherIdentity, "spiffe://example.org/other"),
        (Misbehavior::EmptyBundle, "never empty"),
    ] {
        let mut bench = trusting().await?;
        bench.ca.misbehavior(misbehavior);
        let serials = vec![bench.serial.as_bytes().to_vec()];
        let renew = || Down::Reissue(wire::ReissueHint { serials: serials.clone(), spread_ms: 0 });
        bench.ca.tell(renew());
        let failed = |status: &agent::Status| {
            status.workloads[0].last_error.as_ref().is_some_and(|error| error.contains(words))
        };
        bench.agent.until(words, failed).await?;
        eventually("it is reported", async || {
            bench.ca.nacks().iter().any(|nack| nack.reason.contains(words))
        })
        .await?;
        assert!(bench.leaf.is_quiet().await, "{misbehavior:?}");
        let mut again = Subscriber::open(&bench.agent.socket(), "default").await?;
        assert_eq!(serial(&again.applied().await?)?, bench.serial, "{misbehavior:?}");
        bench.ca.misbehavior(Misbehavior::None);
        assert_ne!(serial(&bench.leaf.applied().await?)?, bench.serial, "{misbehavior:?}");
    }
    Ok(())
}
