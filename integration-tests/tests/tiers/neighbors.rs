//! Neighbors: two CAs with roots of their own, whose members talk to each other while each root is replaced.

use std::sync::Arc;
use std::time::Duration;

use integration_tests::mesh::{Holding, eventually, shake};
use trust::RootId;

use crate::tier_ca::{Mesh, TierCa};
use crate::weakened::Hides;

/// Two members at each.
async fn mesh(a: &TierCa, b: &TierCa) -> anyhow::Result<Mesh> {
    Mesh::over(&[a, a, b, b]).await
}

async fn over(ca: &TierCa, id: &str) -> anyhow::Result<()> {
    let id = id.to_owned();
    ca.until("over", |rotation| rotation.phase == "steady" && rotation.done.contains(&id))
        .await
        .map(drop)
}

/// Everybody trusts the roots that sign, and nothing else.
async fn everybody_trusts(mesh: &Mesh, sites: [&TierCa; 2]) -> anyhow::Result<()> {
    let mut wanted = [sites[0].signing().await?, sites[1].signing().await?];
    wanted.sort();
    eventually("everybody trusts what signs", || async {
        mesh.proxies.iter().all(|proxy| {
            let mut trusted = proxy.holding().trusted();
            trusted.sort();
            trusted == wanted
        })
    })
    .await
}

fn fails(one: &Holding, other: &Holding) -> bool {
    shake(("one", one), ("other", other)).is_err() || shake(("other", other), ("one", one)).is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_root_is_replaced_in_turn_while_members_of_both_talk() -> anyhow::Result<()> {
    let [a, b] = TierCa::neighbors(Arc::new(()), "").await?;
    let mesh = mesh(&a, &b).await?;
    let former = [a.signing().await?, b.signing().await?];
    a.rotate("one", "auto").await?;
    over(&a, "one").await?;
    b.rotate("two", "auto").await?;
    over(&b, "two").await?;
    let now = [a.signing().await?, b.signing().await?];
    assert!(former[0] != now[0] && former[1] != now[1]);
    everybody_trusts(&mesh, [&a, &b]).await?;
    for ca in [&a, &b] {
        ca.is_well().await?;
    }
    println!("figures: handshakes {}", mesh.handshakes());
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_roots_are_replaced_at_the_same_time_and_neither_waits_for_ever() -> anyhow::Result<()>
{
    let [a, b] = TierCa::neighbors(Arc::new(()), "").await?;
    let mesh = mesh(&a, &b).await?;
    let former = [a.signing().await?, b.signing().await?];
    let (one, two) = tokio::join!(a.rotate("one", "auto"), b.rotate("two", "auto"));
    one?;
    two?;
    let (one, two) = tokio::join!(over(&a, "one"), over(&b, "two"));
    one?;
    two?;
    let now = [a.signing().await?, b.signing().await?];
    assert!(former[0] != now[0] && former[1] != now[1]);
    everybody_trusts(&mesh, [&a, &b]).await?;
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_does_not_sign_before_a_frozen_proxy_of_the_neighbor_has_it()
-> anyhow::Result<()> {
    let [a, b] = TierCa::neighbors(Arc::new(()), "").await?;
    let mesh = mesh(&a, &b).await?;
    let frozen = mesh.proxies.last().unwrap();
    frozen.freeze(true);
    a.rotate("one", "auto").await?;
    let named = a
        .until("the neighbor is named", |rotation| {
            let holders = rotation.gate.iter().flat_map(|gate| &gate.holders);
            let mut parties = holders.filter(|holder| holder.kind == "relying-party");
            rotation.phase == "distributing" && parties.any(|holder| holder.identity == "ca/b")
        })
        .await?;
    assert!(!named.gate.unwrap().open);
    a.neighbor_waits("b", "whose holder has").await?;
    // Settle is 1 s: an open gate would have been passed long before.
    let long = Duration::from_secs(4);
    tokio::time::timeout(long, a.in_phase("draining")).await.expect_err("the gate is closed");
    frozen.freeze(false);
    over(&a, "one").await?;
    everybody_trusts(&mesh, [&a, &b]).await?;
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_word_of_the_neighbor_a_proxy_there_fails_when_the_new_root_signs()
-> anyhow::Result<()> {
    let [a, b] = TierCa::neighbors(Arc::new(Hides), "").await?;
    let mesh = mesh(&a, &b).await?;
    mesh.proxies.last().unwrap().freeze(true);
    let old = a.signing().await?;
    a.rotate("one", "auto").await?;
    a.in_phase("draining").await?;
    let first = mesh.proxies.first().unwrap();
    eventually("a leaf of the new root", || async {
        first.holding().root().is_some_and(|root| root != old)
    })
    .await?;
    let seen = mesh.handshakes();
    eventually("everybody meets it", || async { mesh.handshakes() > seen + 100 }).await?;
    let talk = mesh.talk().await?;
    assert!(!talk.failed.is_empty(), "{} handshakes and none failed", talk.handshakes);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbor_that_is_away_keeps_its_trust_and_holds_a_rotation_until_it_is_back()
-> anyhow::Result<()> {
    let [a, mut b] = TierCa::neighbors(Arc::new(()), "").await?;
    let mesh = mesh(&a, &b).await?;
    b.down().await?;
    a.says("neighbor b does not tell its roots").await?;
    a.rotate("one", "auto").await?;
    a.in_phase("distributing").await?;
    let before = mesh.handshakes();
    let long = Duration::from_secs(4);
    tokio::time::timeout(long, a.in_phase("draining")).await.expect_err("the gate is closed");
    eventually("everybody talks on", || async { mesh.handshakes() > before + 50 }).await?;
    assert_eq!(a.bundle().roots().len(), 3, "both of its own, and that of the neighbor");
    b.up().await?;
    over(&a, "one").await?;
    everybody_trusts(&mesh, [&a, &b]).await?;
    a.is_well().await?;
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbor_that_comes_back_with_an_older_bundle_or_as_another_ca_changes_nothing_and_is_told_of()
-> anyhow::Result<()> {
    let [a, mut b] = TierCa::neighbors(Arc::new(()), "").await?;
    let mesh = mesh(&a, &b).await?;
    b.down().await?;
    let older = b.copied()?;
    b.up().await?;
    b.rotate("one", "auto").await?;
    over(&b, "one").await?;
    everybody_trusts(&mesh, [&a, &b]).await?;
    let trusted = a.bundle();
    b.down().await?;
    let present = b.copied()?;
    b.restore(&older)?;
    b.up().await?;
    // Its certificate is under a root that was withdrawn since.
    a.says("neighbor b does not tell its roots").await?;
    b.down().await?;
    let (mut another, address) = (TierCa::top().await?, b.address());
    another.down().await?;
    another.up_at(address).await?;
    a.says("neighbor b does not tell its roots").await?;
    assert_eq!(a.bundle(), trusted, "the last good ones stay");
    another.down().await?;
    b.restore(&present)?;
    b.up().await?;
    a.is_well().await?;
    assert_eq!(a.bundle(), trusted);
    let talk = mesh.talk().await?;
    assert!(talk.failed.is_empty(), "{:#?}", talk.failed.first());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_the_neighbor_let_go_stays_trusted_for_as_long_as_it_is_kept()
-> anyhow::Result<()> {
    let [a, b] = TierCa::neighbors(Arc::new(()), "keep = \"1h\"\n").await?;
    let mesh = mesh(&a, &b).await?;
    let late = mesh.proxies.last().unwrap().holding();
    let old = b.signing().await?;
    b.rotate("one", "auto").await?;
    over(&b, "one").await?;
    a.says("leaves the bundle in").await?;
    let trusted: Vec<RootId> = a.bundle().roots().iter().map(trust::Root::id).collect();
    assert!(trusted.contains(&old), "{trusted:?}");
    // A leaf that was forgotten there is still let in here; its holder trusts what it was given.
    let member = mesh.proxies.first().unwrap().holding();
    assert!(!fails(&late, &member), "it was removed too early there");
    mesh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbor_gets_no_issuer_and_is_not_half_removed() -> anyhow::Result<()> {
    let [a, b] = TierCa::neighbors(Arc::new(()), "").await?;
    let token = a.add_neighbor("c").await?;
    let below = TierCa::try_below(&a, &token, &a).await;
    assert!(below.is_err(), "it has an issuer under the root");
    let refused = a.remove_relying_party("ca/c").await.expect_err("its token is good");
    assert!(refused.message().contains("banyan downstream remove c"), "{refused}");
    a.remove_downstream("c").await?;
    // Nobody is waited for any more who is not there.
    a.rotate("one", "auto").await?;
    over(&a, "one").await?;
    let wanted = [a.signing().await?, b.signing().await?];
    eventually("the neighbor has the new root", || async {
        wanted.iter().all(|root| b.bundle().contains(root))
    })
    .await
}
