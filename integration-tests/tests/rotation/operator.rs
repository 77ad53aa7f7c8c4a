//! What an operator may do to a rotation under traffic, and what is refused with the state unmoved.

use std::time::Duration;

use integration_tests::mesh::{LiveMesh, SOON};
use proto::banyan::admin::v1::{Rotation, Verb};
use tonic::Code;

/// Life of a leaf whose end is waited for, in seconds: it begins before a rotation and must not be over before somebody
/// has looked at what holds the gate.
const FROZEN_LIFE: u64 = 40;
/// How late a gate may be seen open after the time that was said, on a machine that is busy.
const LATE_MAX: u64 = 5;

async fn refused(
    mesh: &LiveMesh,
    request_id: &str,
    verb: Verb,
    words: &[&str],
) -> anyhow::Result<()> {
    let before = mesh.ca.rotation().await?;
    let status = mesh.ca.decide(request_id, verb).await.expect_err("it is not legal");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    for word in words.iter().chain(&[before.phase.as_str()]) {
        assert!(status.message().contains(word), "{word} is missing in: {}", status.message());
    }
    let after = mesh.ca.rotation().await?;
    let place = |rotation: &Rotation| {
        (rotation.phase.clone(), rotation.request_id.clone(), rotation.held_since)
    };
    assert_eq!(place(&before), place(&after), "the state moved");
    Ok(())
}

async fn in_phase(mesh: &LiveMesh, phase: &str) -> anyhow::Result<Rotation> {
    mesh.ca.until_rotation(phase, SOON, |rotation| rotation.phase == phase).await
}

fn assert_nothing_failed(talk: &integration_tests::mesh::Talk) {
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_before_the_switch_leaves_the_old_root_alone() -> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(3_600, 3, 0, &()).await?;
    let old = mesh.ca.running().bundle();
    refused(
        &mesh,
        "x",
        Verb::Abort,
        &["no rotation", "start a rotation with `banyan rotate start`"],
    )
    .await?;
    mesh.ca.rotate_in_mode("one", "manual").await?;
    in_phase(&mesh, "distributing").await?;
    let second = mesh.ca.rotate("two").await.expect_err("one at a time");
    assert!(second.to_string().contains("one"), "{second}");
    mesh.ca.rotate_in_mode("one", "manual").await?;
    refused(&mesh, "back", Verb::Rollback, &["nothing to roll back", "banyan rotate abort"])
        .await?;
    mesh.ca.decide("stop", Verb::Abort).await?;
    mesh.over("one").await?;
    let now = mesh.ca.running().bundle();
    assert_eq!((now.digest(), now.sequence().0), (old.digest(), old.sequence().0 + 2));
    mesh.ca.decide("stop", Verb::Abort).await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_lets_the_old_root_sign_again_and_the_way_forward_stays_open()
-> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(3_600, 3, 0, &()).await?;
    let old = mesh.ca.running().bundle().roots()[0].id();
    mesh.ca.rotate_in_mode("one", "manual").await?;
    let open = |rotation: &Rotation| rotation.gate.as_ref().is_some_and(|gate| gate.open);
    mesh.ca.until_rotation("everybody trusts the new root", SOON, open).await?;
    mesh.ca.decide("hold", Verb::Hold).await?;
    refused(&mesh, "early", Verb::Activate, &["on hold", "resume"]).await?;
    mesh.ca.decide("resume", Verb::Resume).await?;
    // It keeps a leaf of the old root, so the switch can be taken back for as long as this takes.
    mesh.proxies[2].freeze(true);
    mesh.ca.decide("go", Verb::Activate).await?;
    mesh.ca.decide("hold-2", Verb::Hold).await?;
    refused(&mesh, "late", Verb::Abort, &["has signed", "roll it back"]).await?;
    mesh.ca.decide("back", Verb::Rollback).await?;
    refused(&mesh, "again", Verb::Rollback, &["already"]).await?;
    mesh.proxies[2].freeze(false);
    mesh.ca.decide("resume-2", Verb::Resume).await?;
    mesh.over("one").await?;
    assert_eq!(mesh.ca.running().bundle().roots()[0].id(), old, "the old root signs");
    mesh.lives_under(old).await?;
    refused(&mesh, "after", Verb::Rollback, &["no rotation"]).await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_proxy_is_named_and_waited_for_until_the_time_that_was_said() -> anyhow::Result<()>
{
    let mesh = LiveMesh::with_leaves_of(FROZEN_LIFE, 3, 0, &()).await?;
    mesh.proxies[2].freeze(true);
    mesh.ca.rotate("one").await?;
    // Its agent opens a new stream when it renews its own certificate: for a moment it is not connected.
    let only_the_frozen = |rotation: &Rotation| {
        let gate = rotation.gate.as_ref();
        gate.is_some_and(|gate| {
            gate.name == "trust"
                && gate.holds.len() == 2
                && gate.holders_total == 1
                && gate.holders.iter().all(|holder| holder.agent_connected)
        })
    };
    let waiting =
        mesh.ca.until_rotation("only the frozen one is waited for", SOON, only_the_frozen).await?;
    let gate = waiting.gate.unwrap_or_default();
    let holder = &gate.holders[0];
    assert_eq!(
        (holder.identity.as_str(), holder.agent.as_str()),
        (LiveMesh::identity(2).as_str(), "host-3")
    );
    assert_eq!((holder.evidence_wanted.as_str(), holder.wanted), ("applied", waiting.sequence));
    assert!(holder.applied < holder.wanted, "{holder:?}");
    let early = mesh.ca.decide("early", Verb::Activate).await.expect_err("the gate is closed");
    for words in [gate.holds[0].as_str(), holder.identity.as_str(), "it opens by itself at"] {
        assert!(early.message().contains(words), "{words} is missing in: {}", early.message());
    }
    let most = u64::try_from(gate.opens_at_latest - gate.at)? + LATE_MAX;
    mesh.ca
        .until_rotation("the gate opens by itself", Duration::from_secs(most), |rotation| {
            rotation.phase != "distributing"
        })
        .await?;
    mesh.proxies[2].freeze(false);
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relying_party_is_waited_for_until_somebody_says_that_it_has_the_bundle()
-> anyhow::Result<()> {
    use proto::banyan::admin::v1::{AddRelyingPartyRequest, ConfirmRelyingPartyRequest};
    let mesh = LiveMesh::with_leaves_of(3_600, 2, 0, &()).await?;
    let mut client = mesh.ca.rotations();
    let partner = || "partner".to_owned();
    client
        .add_relying_party(AddRelyingPartyRequest { name: partner(), ..Default::default() })
        .await?;
    mesh.ca.rotate("one").await?;
    let waits = |rotation: &Rotation| {
        let gate = rotation.gate.as_ref();
        gate.is_some_and(|gate| {
            gate.holders_total == 1 && gate.opens_at_latest == 0 && gate.holders.len() == 1
        })
    };
    let waiting = mesh.ca.until_rotation("only the partner is waited for", SOON, waits).await?;
    assert_eq!(waiting.gate.unwrap_or_default().holders[0].identity, "partner");
    let future = ConfirmRelyingPartyRequest {
        name: partner(),
        sequence: 99,
        by: String::new(),
        ..Default::default()
    };
    assert!(client.confirm_relying_party(future).await.is_err());
    let word = || ConfirmRelyingPartyRequest {
        name: partner(),
        sequence: 0,
        by: "ops on call".to_owned(),
        ..Default::default()
    };
    let confirmed = client.confirm_relying_party(word()).await?.into_inner();
    assert!(confirmed.confirmed_by.starts_with("ops on call (uid "), "{confirmed:?}");
    let gone = |rotation: &Rotation| rotation.phase == "withdrawing" || rotation.phase == "steady";
    mesh.ca.until_rotation("the new root alone is left", SOON, gone).await?;
    client.confirm_relying_party(word()).await?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}
