//! A downstream CA that is dead, and one that should never have been.

use proto::banyan::admin::v1::Rotation;

use crate::tier_ca::{Mesh, TierCa};

fn waits_for(tier: &'static str) -> impl Fn(&Rotation) -> bool {
    move |rotation| {
        let gate = rotation.gate.as_ref();
        gate.is_some_and(|gate| {
            gate.holders.len() == 1 && gate.holders.iter().all(|holder| holder.identity == tier)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_downstream_ca_is_waited_for_until_its_issuer_ends_or_somebody_removes_it()
-> anyhow::Result<()> {
    let mut top = TierCa::top().await?;
    let mut dead = TierCa::below(&top, "dead").await?;
    let alive = TierCa::below(&top, "alive").await?;
    let old = top.root();
    dead.down().await?;
    let mesh = Mesh::over(&[&top, &alive]).await?;
    top.rotate("one", "auto").await?;
    let waiting = top.until("only the dead downstream CA is waited for", waits_for("dead")).await?;
    let gate = waiting.gate.unwrap();
    let until = gate.holders.first().unwrap().until;
    assert!(
        (1_500..1_900).contains(&(until - gate.at)),
        "its issuer lives for 30 minutes: {gate:?}"
    );
    // What is waited for has twice the skew in it; then settle.
    assert_eq!(gate.opens_at_latest, until + 1, "{gate:?}");
    assert_eq!(alive.rotation().await?.phase, "distributing", "and everybody else waits with it");
    // What is waited for is durable.
    top.down().await?;
    top.up().await?;
    top.until("only the dead downstream CA is waited for, again", waits_for("dead")).await?;
    top.remove_downstream("dead").await?;
    top.until("over", |rotation| rotation.phase == "steady").await?;
    let new = top.root();
    assert_ne!(old, new);
    alive.settled(new).await?;
    mesh.lives_under(new).await?;
    mesh.stop().await?;
    let back = dead.up().await;
    assert!(back.is_ok(), "it serves what it has: {back:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downstream_ca_with_a_void_token_or_under_a_strange_root_does_not_begin()
-> anyhow::Result<()> {
    let (top, other) = (TierCa::top().await?, TierCa::top().await?);
    let void = TierCa::try_below(&top, &other.add_downstream("elsewhere").await?, &top).await;
    let told = void.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(told.contains("token_file") && told.contains("banyan downstream add"), "{told}");
    let untrusted = TierCa::try_below(&top, &top.add_downstream("east").await?, &other).await;
    let told = untrusted.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(told.contains("cannot connect to the upstream CA"), "{told}");
    Ok(())
}
