//! A cohort gets leaves of the new root before everybody else does, while everybody talks to everybody.

use integration_tests::mesh::{LiveMesh, MeshPlan, SOON, Talk, eventually, http};
use proto::banyan::admin::v1::{DecideRotationRequest, Rotation, StartRotationRequest, Verb};
use trust::{Cohort, RootId, SpiffeId};

/// A mesh of four agents and two clients, whose cohorts are watched for two seconds.
async fn mesh() -> anyhow::Result<LiveMesh> {
    let rotation = "canary_observe = \"2s\"\n".to_owned();
    let plan = MeshPlan { life: 60, agents: 4, clients: 2, rotation, ..MeshPlan::default() };
    LiveMesh::of(&plan, &()).await
}

async fn rotate(mesh: &LiveMesh, mode: &str, canary: &str) -> anyhow::Result<()> {
    let request = StartRotationRequest {
        request_id: "one".to_owned(),
        mode: mode.to_owned(),
        canary: canary.to_owned(),
        ..StartRotationRequest::default()
    };
    mesh.ca.rotations().start_rotation(request).await?;
    Ok(())
}

async fn decide(mesh: &LiveMesh, verb: Verb, cohort: &str) -> anyhow::Result<Rotation> {
    let request = DecideRotationRequest {
        request_id: format!("{verb:?}-{}", cohort.len()),
        verb: verb.into(),
        by: "ann".to_owned(),
        reason: "a test".to_owned(),
        cohort: cohort.to_owned(),
    };
    Ok(mesh.ca.rotations().decide_rotation(request).await?.into_inner())
}

async fn in_phase(mesh: &LiveMesh, phase: &str) -> anyhow::Result<Rotation> {
    mesh.ca.until_rotation(phase, SOON, |rotation| rotation.phase == phase).await
}

/// What a scraper gets.
async fn metrics(mesh: &LiveMesh) -> anyhow::Result<String> {
    Ok(http(mesh.ca.running().plain_addr, "GET", "/metrics").await?.1)
}

/// Waits until each proxy of the cohort has a leaf of the new root, and sees that the others have one of the former.
async fn split(mesh: &LiveMesh, cohort: &str, [old, new]: [RootId; 2]) -> anyhow::Result<()> {
    let cohort: Cohort = cohort.parse()?;
    let (mut first, mut others) = (0, 0);
    for (index, proxy) in mesh.proxies.iter().enumerate() {
        let is_first = cohort.has(&SpiffeId::parse(&LiveMesh::identity(index))?);
        (first, others) = (first + usize::from(is_first), others + usize::from(!is_first));
        let wanted = if is_first { new } else { old };
        eventually(&format!("{} has its root", proxy.name()), || async {
            proxy.holding().root() == Some(wanted)
        })
        .await?;
    }
    assert!(first > 0 && others > 0, "{first} and {others}: a cohort of somebody and not of all");
    Ok(())
}

/// The root that signed first, and the one beside it.
fn roots(mesh: &LiveMesh, old: RootId) -> [RootId; 2] {
    let bundle = mesh.ca.running().bundle();
    let new = bundle.roots().iter().map(|root| root.id()).find(|root| *root != old);
    [old, new.expect("both roots are in the bundle")]
}

fn assert_nothing_failed(talk: &Talk) {
    assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_mesh_goes_first_grows_and_nobody_notices() -> anyhow::Result<()> {
    let mesh = mesh().await?;
    let old = mesh.ca.running().bundle().roots()[0].id();
    rotate(&mesh, "manual", "50%").await?;
    let open = |rotation: &Rotation| rotation.gate.as_ref().is_some_and(|gate| gate.open);
    mesh.ca.until_rotation("everybody trusts both", SOON * 2, open).await?;
    decide(&mesh, Verb::Activate, "").await?;
    let both = roots(&mesh, old);
    split(&mesh, "50%", both).await?;
    mesh.all_meet().await?;
    decide(&mesh, Verb::Widen, "80%").await?;
    split(&mesh, "80%", both).await?;
    mesh.all_meet().await?;
    // The second word: a request id is for one.
    mesh.ca.decide("for-all", Verb::Activate).await.map(drop).or_else(|status| {
        // Settle has begun anew when the canary began.
        assert!(status.message().contains("handshakes in flight"), "{status:?}");
        anyhow::Ok(())
    })?;
    if mesh.ca.rotation().await?.phase == "canary" {
        mesh.ca.until_rotation("it was watched", SOON, open).await?;
        mesh.ca.decide("for-all-again", Verb::Activate).await?;
    }
    mesh.over("one").await?;
    mesh.lives_under(both[1]).await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_that_refuses_its_leaves_is_held_taken_back_mended_and_goes_forward_again()
-> anyhow::Result<()> {
    let mesh = mesh().await?;
    let old = mesh.ca.running().bundle().roots()[0].id();
    let third = LiveMesh::identity(2);
    rotate(&mesh, "manual", &third).await?;
    let open = |rotation: &Rotation| rotation.gate.as_ref().is_some_and(|gate| gate.open);
    mesh.ca.until_rotation("everybody trusts both", SOON * 2, open).await?;
    mesh.proxies[2].refuse(true);
    decide(&mesh, Verb::Activate, "").await?;
    let held = mesh
        .ca
        .until_rotation("the canary is held", SOON, |rotation| {
            rotation.cohort.as_ref().is_some_and(|cohort| !cohort.held_for.is_empty())
        })
        .await?;
    let named = |text: &String| text.contains(&third) && text.contains("refuses everything");
    assert!(held.troubles.iter().any(named), "{:#?}", held.troubles);
    let status = mesh.ca.status().await?;
    assert!(
        status.conditions.iter().any(|text| text.contains("the canary is held since")),
        "{:?}",
        status.conditions
    );
    let page = metrics(&mesh).await?;
    for (name, value) in [("held{", "1"), ("trouble_ratio{kind=\"refused\"}", "1.0")] {
        let name = format!("banyan_canary_{name}");
        let line = page.lines().find(|line| line.starts_with(&name));
        assert!(line.is_some_and(|line| line.ends_with(&format!(" {value}"))), "{name} {line:?}");
    }
    decide(&mesh, Verb::Rollback, "").await?;
    assert!(!metrics(&mesh).await?.contains("banyan_canary_held{"), "it is over");
    mesh.proxies[2].refuse(false);
    eventually("the third has a leaf of the former root", || async {
        mesh.proxies[2].holding().root() == Some(old)
    })
    .await?;
    mesh.all_meet().await?;
    mesh.ca.decide("forward", Verb::Activate).await?;
    in_phase(&mesh, "distributing").await?;
    mesh.ca.until_rotation("everybody trusts both still", SOON * 2, open).await?;
    mesh.ca.decide("first", Verb::Activate).await?;
    split(&mesh, &third, roots(&mesh, old)).await?;
    mesh.ca.until_rotation("it was watched", SOON, open).await?;
    mesh.ca.decide("for-all", Verb::Activate).await?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}
