//! Proxies that acknowledge a bundle and cannot verify its new root: named before it signs, by real handshakes with their listeners.

use integration_tests::mesh::{LiveMesh, MeshPlan, SOON, Talk, admin_channel, eventually};
use proto::banyan::admin::v1::waiver_service_client::WaiverServiceClient;
use proto::banyan::admin::v1::{AddWaiverRequest, Holder, Rotation, Verb};
use trust::RootId;

/// Life of leaves that nobody waits for, in seconds.
const LONG: u64 = 3_600;

/// A mesh whose proxies have listeners; the last one verifies the first root alone.
async fn with_an_unable_one(policy: &str) -> anyhow::Result<(LiveMesh, RootId)> {
    let rotation = format!("probe = \"{policy}\"\n");
    let plan = MeshPlan { life: LONG, agents: 3, rotation, listeners: true, ..MeshPlan::default() };
    let mesh = LiveMesh::of(&plan, &()).await?;
    let old = mesh.ca.running().bundle().roots()[0].id();
    mesh.doors[2].verifies_only(Some(old));
    Ok((mesh, old))
}

fn holders(rotation: &Rotation) -> impl Iterator<Item = &Holder> {
    rotation.gate.iter().flat_map(|gate| &gate.holders)
}

/// Waits until the gate waits for nobody but the one that cannot verify, and says what it says of it.
async fn named(mesh: &LiveMesh) -> anyhow::Result<String> {
    let alone = |one: &Rotation| {
        let mut all = holders(one);
        all.next().is_some_and(|one| one.unable) && all.next().is_none()
    };
    let rotation = mesh.ca.until_rotation("the gate names it", SOON, alone).await?;
    assert_eq!(rotation.phase, "distributing");
    let holder = holders(&rotation).next().cloned().unwrap_or_default();
    assert_eq!((holder.identity, holder.until), (LiveMesh::identity(2), 0), "{rotation:?}");
    assert_eq!(rotation.gate.unwrap_or_default().opens_at_latest, 0, "no time opens it");
    Ok(holder.text)
}

fn assert_nothing_failed(talk: &Talk) {
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_verify_holds_the_gate_by_name_until_another_version_takes_its_place()
-> anyhow::Result<()> {
    let (mesh, old) = with_an_unable_one("always").await?;
    mesh.ca.rotate("one").await?;
    let text = named(&mesh).await?;
    for part in [
        "acknowledged bundle 2 and cannot verify the new root (listener 127.0.0.1:",
        "it refuses the new root: alert UnknownCA",
        "`banyan rotate abort`",
        &format!("`banyan waiver add NAME --covers {}", LiveMesh::identity(2)),
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let status = mesh.ca.status().await?;
    let said = status.conditions.iter().any(|text| text.contains("cannot verify the new root"));
    assert!(said && !status.healthy, "{:?}", status.conditions);
    mesh.all_meet().await?;
    assert_eq!(mesh.ca.rotation().await?.phase, "distributing");
    mesh.doors[2].verifies_only(None);
    let seen = |one: &Rotation| {
        let gate = one.gate.as_ref();
        one.phase != "distributing"
            || gate.is_some_and(|gate| gate.rests_on.contains(&"handshake-observed: 3".to_owned()))
    };
    mesh.ca.until_rotation("all were seen to verify", SOON, seen).await?;
    mesh.over("one").await?;
    assert_ne!(mesh.ca.running().bundle().roots()[0].id(), old);
    assert!(mesh.ca.status().await?.healthy);
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_waits_for_it_is_given_up_and_another_one_succeeds_once_it_is_mended()
-> anyhow::Result<()> {
    let (mesh, old) = with_an_unable_one("always").await?;
    mesh.ca.rotate("one").await?;
    named(&mesh).await?;
    mesh.ca.decide("give-up", Verb::Abort).await.map_err(|status| anyhow::anyhow!("{status}"))?;
    mesh.over("one").await?;
    assert_eq!(mesh.ca.running().bundle().roots()[0].id(), old, "nothing was lost");
    mesh.doors[2].verifies_only(None);
    mesh.rotate("two").await?;
    assert_ne!(mesh.ca.running().bundle().roots()[0].id(), old);
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_waiver_that_names_it_the_rotation_goes_on_without_it() -> anyhow::Result<()> {
    let (mesh, _) = with_an_unable_one("always").await?;
    mesh.ca.rotate("one").await?;
    named(&mesh).await?;
    let mut waivers = WaiverServiceClient::new(admin_channel(&mesh.ca.running().admin_socket));
    let waiver = |force| AddWaiverRequest {
        name: "old-proxy".to_owned(),
        covers: vec![LiveMesh::identity(2)],
        lasts_seconds: 3_600,
        by: "ann".to_owned(),
        reason: "is switched off tonight".to_owned(),
        force,
        ..AddWaiverRequest::default()
    };
    let refused = waivers.add_waiver(waiver(false)).await.expect_err("its agent is connected");
    assert!(refused.message().contains("connected"), "{refused:?}");
    waivers.add_waiver(waiver(true)).await?;
    mesh.over("one").await?;
    mesh.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_tells_nothing_leaves_its_proxy_at_its_word_and_that_is_told()
-> anyhow::Result<()> {
    let (mesh, _) = with_an_unable_one("always").await?;
    mesh.doors[2].shut(true);
    mesh.ca.rotate_in_mode("one", "manual").await?;
    let open = |one: &Rotation| {
        let gate = one.gate.as_ref();
        gate.is_some_and(|gate| {
            gate.open
                && gate.rests_on.contains(&"handshake-observed: 2".to_owned())
                && gate.rests_on.contains(&"applied (its listener cannot be probed): 1".to_owned())
        })
    };
    mesh.ca.until_rotation("the gate is open", SOON, open).await?;
    // It comes back before the new root signs, and shows what it is.
    mesh.doors[2].shut(false);
    named(&mesh).await?;
    let refused = mesh.ca.decide("now", Verb::Activate).await.expect_err("the gate is closed");
    assert!(refused.message().contains("cannot verify the new root"), "{refused:?}");
    mesh.doors[2].verifies_only(None);
    mesh.ca
        .until_rotation("the gate is open again", SOON, |one| {
            one.gate.as_ref().is_some_and(|gate| gate.open)
        })
        .await?;
    mesh.ca.decide("go", Verb::Activate).await.map_err(|status| anyhow::anyhow!("{status}"))?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_restarted_while_the_gate_waits_finds_it_again() -> anyhow::Result<()> {
    let (mut mesh, _) = with_an_unable_one("always").await?;
    mesh.ca.rotate("one").await?;
    named(&mesh).await?;
    mesh.agents[2].stop().await;
    mesh.agents[2].start().await?;
    let mesh = mesh;
    eventually("the agent is back", || async {
        mesh.agents[2].status().is_ok_and(|status| status.connected)
    })
    .await?;
    named(&mesh).await?;
    mesh.doors[2].verifies_only(None);
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_algorithm_stays_or_policy_says_never_nobody_is_probed() -> anyhow::Result<()> {
    for policy in ["new-algorithms", "never"] {
        let (mesh, _) = with_an_unable_one(policy).await?;
        mesh.rotate("one").await?;
        mesh.stop().await?;
    }
    Ok(())
}
