//! A root that was stolen, while everybody talks: with a standby root, without one, and cut off.

use std::collections::BTreeSet;

use integration_tests::mesh::{LiveMesh, MeshPlan, SOON, Talk, eventually};
use proto::banyan::admin::v1::{
    Exposure, ReadJournalRequest, RootVerb, RuleRootRequest, RuleRootResponse,
};
use trust::RootId;

/// Life of leaves that nobody waits for, in seconds.
const LONG: u64 = 3_600;

fn assert_nothing_failed(talk: &Talk) {
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
}

fn word(id: &str, root: RootId, verb: RootVerb) -> RuleRootRequest {
    RuleRootRequest {
        request_id: id.to_owned(),
        root: root.as_bytes().to_vec(),
        verb: verb.into(),
        by: "ann".to_owned(),
        reason: "its key was seen elsewhere".to_owned(),
        ..RuleRootRequest::default()
    }
}

async fn say(mesh: &LiveMesh, request: RuleRootRequest) -> Result<RuleRootResponse, tonic::Status> {
    Ok(mesh.ca.rotations().rule_root(request).await?.into_inner())
}

async fn preview(mesh: &LiveMesh, root: RootId) -> anyhow::Result<Exposure> {
    let request = RuleRootRequest { dry_run: true, ..word("preview", root, RootVerb::Distrust) };
    Ok(say(mesh, request).await?.exposure.unwrap_or_default())
}

fn signing(mesh: &LiveMesh) -> RootId {
    mesh.ca.running().bundle().roots()[0].id()
}

/// A mesh whose agents all trust a standby root. Answers the root that signs, and that one.
async fn with_standby(agents: usize) -> anyhow::Result<(LiveMesh, RootId, RootId)> {
    let mesh = LiveMesh::with_leaves_of(LONG, agents, 0, &()).await?;
    let old = signing(&mesh);
    mesh.ca.rotate_in_mode("standby", "standby").await?;
    mesh.over("standby").await?;
    let bundle = mesh.ca.running().bundle();
    let standby = bundle.roots().iter().map(trust::Root::id).find(|id| *id != old);
    let standby = standby.expect("the bundle has a standby root");
    let status = mesh.ca.status().await?;
    assert_eq!((status.phase.as_str(), status.active_root), ("steady", old.as_bytes().to_vec()));
    Ok((mesh, old, standby))
}

async fn says_distrusted(mesh: &LiveMesh) -> anyhow::Result<bool> {
    let status = mesh.ca.status().await?;
    let says = status.conditions.iter().any(|text| text.contains("is distrusted by ann"));
    assert!(!(says && status.healthy), "{status:?}");
    Ok(says)
}

/// Every entry of the journal leads from one state to the next by the rules, to the record or beyond.
async fn the_journal_replays(mesh: &LiveMesh) -> anyhow::Result<()> {
    let request = ReadJournalRequest { from: 0, limit: 1_000 };
    let read = mesh.ca.rotations().read_journal(request).await?.into_inner();
    assert!(!read.more, "one page has all");
    let entries: Vec<_> = read.entries.into_iter().map(|one| (one.index, one.entry)).collect();
    let record: rotation::State = serde_json::from_slice(&read.record)?;
    let replayed = rotation_driver::replay(record.trust_domain.clone(), &entries)?;
    assert!(replayed.state.generation >= record.generation);
    let cut = replayed.state.roots.values().filter(|root| root.is_cut()).count();
    assert_eq!(cut, 1, "the word is in the record");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_standby_root_a_stolen_one_goes_and_no_member_behind_an_agent_notices()
-> anyhow::Result<()> {
    let (mesh, old, standby) = with_standby(3).await?;
    let sequence = mesh.ca.running().bundle().sequence();
    let before = preview(&mesh, old).await?;
    assert_eq!((before.workloads, before.reachable, before.stranded_total), (3, 3, 0));
    let begun = say(&mesh, word("stolen", old, RootVerb::Distrust)).await?;
    assert!(begun.said[0].contains("nothing is distributed"), "{:?}", begun.said);
    let rotation = begun.rotation.unwrap_or_default();
    assert_eq!((rotation.phase.as_str(), rotation.sequence), ("distributing", sequence.0));
    assert!(says_distrusted(&mesh).await?);
    mesh.lives_under(standby).await?;
    mesh.over(&rotation.request_id).await?;
    assert!(!says_distrusted(&mesh).await?, "it is gone");
    let bundle = mesh.ca.running().bundle();
    let trusted: BTreeSet<_> = bundle.roots().iter().map(trust::Root::id).collect();
    assert_eq!(trusted, BTreeSet::from([standby]));
    let after = preview(&mesh, old).await?;
    assert_eq!((after.leaves, after.workloads), (0, 0), "all that could be asked did renew");
    let roots = mesh.ca.roots().await?;
    let gone = roots.iter().find(|root| root.id == old.as_bytes()).expect("it stays known");
    assert_eq!((gone.state.as_str(), gone.tainted), ("retired", true));
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_standby_root_a_new_one_is_made_and_trusted_before_the_stolen_one_goes()
-> anyhow::Result<()> {
    let mesh = LiveMesh::with_leaves_of(LONG, 2, 0, &()).await?;
    let old = signing(&mesh);
    let begun = say(&mesh, word("stolen", old, RootVerb::Distrust)).await?;
    let request = begun.rotation.unwrap_or_default().request_id;
    mesh.over(&request).await?;
    let new = signing(&mesh);
    assert_ne!(old, new);
    mesh.lives_under(new).await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_when_a_stolen_root_is_cut_off_is_who_the_preview_names() -> anyhow::Result<()> {
    let (mut mesh, old, standby) = with_standby(3).await?;
    mesh.agents[2].crash();
    eventually("the agent is seen to be away", || async {
        preview(&mesh, old).await.is_ok_and(|seen| seen.reachable == 2)
    })
    .await?;
    let before = preview(&mesh, old).await?;
    let predicted: BTreeSet<_> = before
        .stranded
        .iter()
        .filter(|one| one.kind == "agent-held")
        .map(|one| one.identity.clone())
        .collect();
    assert_eq!((before.workloads, predicted.len()), (3, 1), "{before:?}");
    assert_eq!(predicted, BTreeSet::from([LiveMesh::identity(2)]));
    let cut = |confirm: &str| RuleRootRequest {
        confirm: confirm.to_owned(),
        ..word("cut", old, RootVerb::Cut)
    };
    let early = say(&mesh, cut(&old.to_string())).await.expect_err("it is not distrusted");
    assert!(early.message().contains("is not distrusted"), "{early:?}");
    say(&mesh, word("stolen", old, RootVerb::Distrust)).await?;
    mesh.ca.until_rotation("the standby root signs", SOON, |one| one.phase == "draining").await?;
    eventually("who can be asked has renewed", || async {
        mesh.proxies[..2].iter().all(|proxy| proxy.holding().root() == Some(standby))
    })
    .await?;
    // The switch is in force when the leaf gate is all that is waited for.
    mesh.ca
        .until_rotation("the rest is waited for", SOON, |one| {
            one.gate.as_ref().is_some_and(|gate| {
                gate.holders.iter().all(|holder| holder.agent == LiveMesh::agent_name(2))
            })
        })
        .await?;
    let left = preview(&mesh, old).await?;
    assert_eq!((left.workloads, left.stranded_total), (1, before.stranded_total), "{left:?}");
    let untyped = say(&mesh, cut(&old.short().to_string())).await.expect_err("it is not typed");
    assert!(untyped.message().contains(&format!("--confirm {old}")), "{untyped:?}");
    assert_eq!(mesh.ca.rotation().await?.phase, "draining", "nothing has moved");
    say(&mesh, cut(&old.to_string())).await?;
    eventually("who has an agent trusts the standby root alone", || async {
        mesh.proxies[..2].iter().all(|proxy| proxy.holding().trusted() == [standby])
    })
    .await?;
    mesh.all_meet().await?;
    the_journal_replays(&mesh).await?;
    let talk = mesh.stop().await?;
    assert!(!talk.failed.is_empty(), "the one that was named breaks");
    let broken = LiveMesh::agent_name(2);
    let others: Vec<_> =
        talk.failed.iter().filter(|failed| !format!("{failed:?}").contains(&broken)).collect();
    assert!(others.is_empty(), "somebody else broke: {others:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_root_by_policy_takes_over_unnoticed_and_the_next_one_comes_by_itself()
-> anyhow::Result<()> {
    let sections = "[root.standby]\nauthority = \"spare\"\n[authority.main]\nplugin = \"self-signed\"\n\
                    [authority.spare]\nplugin = \"self-signed\"\n";
    let sections = sections.to_owned();
    let plan = MeshPlan { life: LONG, agents: 2, sections, ..MeshPlan::default() };
    let mesh = LiveMesh::of(&plan, &()).await?;
    let trusted = || async {
        let steady = mesh.ca.status().await.is_ok_and(|status| status.phase == "steady");
        let bundle = mesh.ca.running().bundle();
        if steady { bundle.roots().iter().map(trust::Root::id).collect() } else { BTreeSet::new() }
    };
    eventually("a standby root is trusted", || async { trusted().await.len() == 2 }).await?;
    let signs = mesh.ca.status().await?.active_root;
    let (old, standby): (Vec<_>, Vec<_>) =
        trusted().await.into_iter().partition(|id| id.as_bytes().as_slice() == signs);
    let (old, standby) = (old[0], standby[0]);
    let begun = say(&mesh, word("stolen", old, RootVerb::Distrust)).await?;
    assert!(begun.said[0].contains("nothing is distributed"), "{:?}", begun.said);
    mesh.lives_under(standby).await?;
    eventually("the next one stands by, and the stolen one is gone", || async {
        let trusted = trusted().await;
        trusted.len() == 2 && trusted.contains(&standby) && !trusted.contains(&old)
    })
    .await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}
