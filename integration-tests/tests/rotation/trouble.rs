//! What may go wrong in the middle of a rotation: it waits and says why, nobody loses a connection, and when the trouble
//! is over it goes on by itself.

use integration_tests::faults::{AuthorityMode, AuthoritySwitch};
use integration_tests::mesh::{LiveMesh, SOON, Talk, Window};
use plugins::Registry;
use proto::banyan::admin::v1::{Rotation, Verb};
use stores::spaces::BUNDLES;
use trust::Clock as _;

/// Leaves that outlive a test.
const LONG: u64 = 2 * 3_600;
const HOUR: i64 = 3_600;

struct WithAuthority(AuthoritySwitch);

impl ca_server::Embedding for WithAuthority {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_authority(self.0.clone());
    }
}

fn assert_nothing_failed(talk: &Talk) {
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
}

fn has_trouble(words: &'static str) -> impl Fn(&Rotation) -> bool {
    move |rotation| rotation.troubles.iter().any(|trouble| trouble.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_fails_a_check_is_named_and_given_up_or_made_anew() -> anyhow::Result<()> {
    let authority = AuthoritySwitch::new(AuthorityMode::Works);
    let mesh = LiveMesh::with_leaves_of(LONG, 2, 0, &WithAuthority(authority.clone())).await?;
    let old = mesh.ca.running().bundle();
    authority.turn(AuthorityMode::Lies);
    mesh.ca.rotate("misbehavior").await?;
    let told = mesh
        .ca
        .until_rotation("the check is named", SOON, has_trouble("creating the new root"))
        .await?;
    assert_eq!((told.phase.as_str(), told.to_root.len()), ("staging", 0), "{told:?}");
    mesh.ca.decide("give-up", Verb::Abort).await?;
    mesh.over("misbehavior").await?;
    assert_eq!(mesh.ca.running().bundle(), old);

    mesh.ca.rotate("again").await?;
    mesh.ca
        .until_rotation("the check is named again", SOON, has_trouble("creating the new root"))
        .await?;
    authority.turn(AuthorityMode::Works);
    mesh.over("again").await?;
    assert_ne!(mesh.ca.running().bundle().roots()[0].id(), old.roots()[0].id());
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_whose_transition_cannot_be_stored_is_not_taken_for_published()
-> anyhow::Result<()> {
    let window = Window::default();
    let mesh = LiveMesh::with_leaves_of(LONG, 2, 0, &window).await?;
    // Where the next bundle is to be kept stands something that nothing replaces.
    let place = format!("{:020}", 2);
    window.put(BUNDLES, &place, b"in the way").await?;
    mesh.ca.rotate("one").await?;
    let stuck =
        mesh.ca.until_rotation("it says so", SOON, has_trouble("publishing the bundle")).await?;
    assert_eq!(stuck.phase, "distributing");
    assert!(mesh.ca.decide("early", Verb::Activate).await.is_err(), "the gate is closed meanwhile");
    window.take(BUNDLES, &place).await?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_named_with_its_words_and_waited_for() -> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(LONG, 3, 0, &()).await?;
    mesh.proxies[1].refuse(true);
    mesh.ca.rotate("one").await?;
    let refused = |rotation: &Rotation| {
        let holders =
            rotation.gate.as_ref().map(|gate| gate.holders.as_slice()).unwrap_or_default();
        holders.len() == 1 && holders[0].last_nack.contains("refuses everything")
    };
    let waiting = mesh.ca.until_rotation("the refusal is told", SOON, refused).await?;
    let holder = &waiting.gate.unwrap_or_default().holders[0];
    assert_eq!(
        (holder.identity.as_str(), holder.agent.as_str()),
        (LiveMesh::identity(1).as_str(), "host-2")
    );
    mesh.proxies[1].refuse(false);
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_clock_is_an_hour_fast_takes_part() -> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(LONG, 3, 0, &()).await?;
    mesh.clocks[2].set_off_by(HOUR);
    mesh.rotate("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_clock_is_an_hour_slow_keeps_its_leaf_and_is_waited_for_by_name()
-> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(LONG, 3, 0, &()).await?;
    mesh.clocks[2].set_off_by(-HOUR);
    mesh.ca.rotate("one").await?;
    let only_the_slow = |rotation: &Rotation| {
        let gate = rotation.gate.as_ref();
        gate.is_some_and(|gate| {
            gate.name == "leaf"
                && !gate.holders.is_empty()
                && gate
                    .holders
                    .iter()
                    .all(|holder| holder.agent == "host-3" || holder.kind == "agent-identity")
        })
    };
    mesh.ca.until_rotation("only the slow one keeps its leaf", SOON, only_the_slow).await?;
    let before = mesh.proxies[2].holding();
    assert!(before.is_live(host::SystemClock.now()));
    mesh.clocks[2].set_off_by(0);
    mesh.over("one").await?;
    let now = mesh.proxies[2].holding();
    assert_ne!(before.serial(), now.serial());
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}
