//! Holders that refuse, answer for what was never sent, or do not read.

use std::sync::Arc;

use integration_tests::mesh::{
    LyingCa, Pki, Subscriber, TestAgent, certificates, eventually, serial,
};
use ledger::EvidenceClass;
use proto::sds::DiscoveryResponse;
use tokio::net::UnixStream;
use trust::Sequence;

use super::{WEB, mesh};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_holder_is_shown_to_the_operator_of_the_ca_and_proves_nothing()
-> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    let answer = roots.next().await??;
    roots.nack(&answer, "these roots make no sense").await?;
    agent.until("the refusal is counted", |status| status.nacks == 1).await?;
    eventually("the CA shows the refusal", async || {
        let agents = ca.status().await.map(|status| status.agents).unwrap_or_default();
        agents.iter().any(|agent| agent.nacks == 1 && agent.last_nack.contains("make no sense"))
    })
    .await?;
    assert!(roots.is_quiet().await, "what was refused is not offered again");
    assert!(leaf.is_quiet().await, "no leaf without roots");
    let rows = ca.rows()?;
    let proven = rows.of(WEB).iter().any(|serial| rows.proven.contains_key(serial));
    assert!(!proven, "{rows:#?}");
    assert_eq!(agent.status()?.holders[0].applied, None);
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_stale_nonce_is_no_evidence_and_the_true_one_is() -> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    let answer = roots.next().await??;
    let stale = DiscoveryResponse { nonce: "1-999".to_owned(), ..answer.clone() };
    roots.ack(&stale).await?;
    roots.nack(&stale, "stale").await?;
    assert!(leaf.is_quiet().await, "the leaf still waits for the roots");
    assert_eq!((agent.status()?.nacks, agent.status()?.holders[0].applied), (0, None));

    roots.ack(&answer).await?;
    let serial = serial(&leaf.applied().await?)?;
    ca.rotate_in_mode("one", "manual").await?;
    let answer = roots.next().await??;
    roots.ack(&DiscoveryResponse { nonce: "1-999".to_owned(), ..answer.clone() }).await?;
    assert!(leaf.is_quiet().await);
    let proof = || ca.rows().ok().and_then(|rows| rows.proven.get(&serial).copied());
    assert_eq!(proof(), None, "the leaf was promised at bundle 1, and nothing is said of the next");
    roots.ack(&answer).await?;
    let proven = || proof() == Some((EvidenceClass::Applied, Sequence(2)));
    eventually("the row is proven", || std::future::ready(proven())).await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_that_do_not_read_hold_up_nobody_and_get_only_the_newest() -> anyhow::Result<()> {
    const SLOW: usize = 20;
    const CHANGES: u64 = 12;
    let signer = Arc::new(Pki::new("first")?);
    let ca = LyingCa::start(Arc::clone(&signer)).await?;
    let agent = TestAgent::of(ca.address())?
        .with_token(&ca.token()?)?
        .with_own_workload(WEB)
        .joined()
        .await?;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(Subscriber::open(&agent.socket(), "ROOTCA").await?);
    }
    let mute =
        [UnixStream::connect(agent.socket()).await?, UnixStream::connect(agent.socket()).await?];

    let mut good = Subscriber::open(&agent.socket(), "ALL").await?;
    good.applied().await?;
    let mut others = Vec::new();
    for sequence in 2..2 + CHANGES {
        others.push(Pki::new(&format!("root {sequence}"))?);
        let all: Vec<&Pki> = std::iter::once(signer.as_ref()).chain(&others).collect();
        ca.publish(Pki::bundle(&all, sequence)?);
        let answer = good.applied().await?;
        assert!(
            answer.version_info.starts_with(&format!("{sequence}-")),
            "{}",
            answer.version_info
        );
    }
    // The status follows the pushes; it is not part of them.
    eventually("the status tells the newest", async || {
        agent.status().is_ok_and(|status| status.sequence == 1 + CHANGES)
    })
    .await?;

    let mut late = slow.remove(0);
    assert_eq!(
        certificates(&late.applied().await?)?.len(),
        1,
        "what was sent before it stopped reading"
    );
    assert_eq!(
        certificates(&late.applied().await?)?.len(),
        1 + others.len(),
        "then the newest at once"
    );
    assert!(late.is_quiet().await);
    drop(mute);
    Ok(())
}
