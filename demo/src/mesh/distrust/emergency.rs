//! One emergency, as an operator goes through it: look, distrust, have renewed who can be asked, cut off when only those are
//! left who cannot, and mend.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use proto::banyan::admin::v1::{Exposure, Rotation};
use tokio::time::Instant;
use trust::RootId;

use super::finding::{Finding, Preview};
use super::mixed::{Cast, Mixed};
use super::observer::{Observer, Seen};
use super::operator::Operator;
use crate::mesh::members::Member;
use crate::mesh::stage::Stage;
use crate::mesh::view::View;

/// Request id of the rotation that brings a standby root.
const STANDBY: &str = "demo-standby";
/// Longest wait for anything that must come: a gate may wait for an agent's next word.
const WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(100);

/// What one emergency is played with.
pub struct Scene<'a> {
    /// How many there are of each kind.
    pub cast: Cast,
    /// Whether a standby root is prepared before.
    pub standby: bool,
    /// Where all of it is.
    pub directory: &'a Path,
    /// What ends with the demo.
    pub stage: &'a mut Stage,
    /// Where it is told.
    pub view: &'a mut View,
}

/// Plays it from the first member to the last one that is mended.
///
/// # Errors
/// If the mesh does not come up, the CA refuses an act, or something that must come does not.
pub async fn play(scene: Scene<'_>) -> anyhow::Result<Finding> {
    let Scene { cast, standby, directory, stage, view } = scene;
    let mesh = set_up(&cast, standby, directory, stage, view).await?;
    let ca = stage.cas.first().context("no CA")?;
    let operator = Operator::new(ca.admin_socket());
    let old = operator.signing().await?;
    let offline = cut_off(&stage.members, &cast);
    let (exposure, preview) = look(&operator, old, &cast).await?;
    view.say(&format!("{offline} agents are cut off from the CA; every pair talks"));

    // What is seen from here on counts.
    let mut observer = Observer::start(&mesh.workloads);
    let told = Instant::now();
    operator.distrust(old).await?;
    view.say("the root that signs is distrusted");
    if !standby {
        hasten(&operator, &mesh, &exposure).await?;
        view.say("who is out of reach is waived, and clients of the CSR API have the next root by a restart");
    }
    eventually("another root that signs", async || Ok(operator.signing().await? != old)).await?;
    let (new, signed) = (operator.signing().await?, told.elapsed());
    view.say("another root signs; leaves are asked for anew");
    until_renewed(&operator, &mesh, Roots { old, new }, &preview).await?;
    let replaced = told.elapsed();
    operator.cut(old).await?;
    view.say("only those are left who cannot be asked: the root is cut off");
    eventually("trust in the new root alone", async || Ok(mesh.trust_only(new))).await?;
    let gone = told.elapsed();
    let seen = observer.whole_round().await?;
    drop(observer);
    view.say(&format!("{} pairs broke", seen.broken.len()));

    bring_back(&operator, &mesh, stage).await?;
    let mended = told.elapsed();
    view.say("every pair talks again");
    if !standby {
        operator.unwaive().await?;
    }
    eventually("the end of the rotation", async || Ok(is_steady(&operator.rotation().await?)))
        .await?;
    Ok(Finding {
        standby,
        preview,
        seen,
        workloads: mesh.workloads.iter().map(|one| one.id().to_string()).collect(),
        seconds_to_next_signer: signed.as_secs_f64(),
        seconds_to_last_old_leaf: replaced.as_secs_f64(),
        seconds_to_cut: gone.as_secs_f64(),
        seconds_to_mended: mended.as_secs_f64(),
        journal_transitions: operator.verify_journal().await?,
    })
}

/// A mesh in which every pair talks, with a standby root if there shall be one.
async fn set_up(
    cast: &Cast,
    standby: bool,
    directory: &Path,
    stage: &mut Stage,
    view: &mut View,
) -> anyhow::Result<Mixed> {
    let with = if standby { "with" } else { "without" };
    view.say(&format!("{with} a standby root: starting the mesh"));
    std::fs::create_dir_all(directory)?;
    let mut mesh = Mixed::start(*cast, directory, stage).await?;
    let ca = stage.cas.first().context("no CA")?;
    if standby {
        let operator = Operator::new(ca.admin_socket());
        operator.prepare_standby(STANDBY).await?;
        eventually("a standby root that everybody trusts", async || {
            let rotation = operator.rotation().await?;
            Ok(is_steady(&rotation) && rotation.done.iter().any(|done| done == STANDBY))
        })
        .await?;
        view.say("everybody trusts the standby root");
    }
    mesh.join_csr_only(ca).await?;
    all_talk(&Observer::start(&mesh.workloads).whole_round().await?)?;
    Ok(mesh)
}

/// What the preview says once it is known who is away, compared with who is there.
async fn look(
    operator: &Operator,
    old: RootId,
    cast: &Cast,
) -> anyhow::Result<(Exposure, Preview)> {
    let (workloads, reachable) = (cast.workloads() as u64, cast.reachable() as u64);
    eventually("agents that are seen to be away", async || {
        Ok(operator.preview(old).await?.reachable == reachable)
    })
    .await?;
    let exposure = operator.preview(old).await?;
    let preview = Preview::of(&exposure)?;
    anyhow::ensure!(
        (preview.workloads, preview.reachable) == (workloads, reachable),
        "the preview tells of {} workloads and {} that can be asked; there are {workloads} and {reachable}",
        preview.workloads,
        preview.reachable
    );
    Ok((exposure, preview))
}

/// Without a standby root the next one must be trusted before it signs. Nobody waits for who is out of reach, and clients of the CSR
/// API have it at once when they are restarted.
async fn hasten(operator: &Operator, mesh: &Mixed, exposure: &Exposure) -> anyhow::Result<()> {
    let away = exposure.stranded.iter().filter(|one| one.kind != "csr-only");
    operator.waive(away.map(|one| one.identity.clone()).collect()).await?;
    eventually("a bundle with the next root", async || {
        Ok(operator.rotation().await?.phase == "distributing")
    })
    .await?;
    restart_csr_only(operator, mesh).await
}

/// The root that is distrusted, and the one that signs.
#[derive(Clone, Copy)]
struct Roots {
    old: RootId,
    new: RootId,
}

/// Waits until whoever can be asked has renewed, so that the preview of the cut tells only of the others: those that the first
/// preview named.
async fn until_renewed(
    operator: &Operator,
    mesh: &Mixed,
    roots: Roots,
    preview: &Preview,
) -> anyhow::Result<()> {
    let mut left = None;
    eventually("leaves of the new root for everybody who can be asked", async || {
        // While the switch is under way nothing may be cut off.
        let Ok(exposure) = operator.preview_of_cut(roots.old).await else { return Ok(false) };
        let of_cut = Preview::of(&exposure)?;
        let over = mesh.live_under(roots.new) && of_cut.workloads == of_cut.stranded.len() as u64;
        left = Some(of_cut);
        Ok(over)
    })
    .await?;
    let left = left.context("no preview of the cut")?.stranded;
    anyhow::ensure!(
        left == preview.stranded,
        "the preview of the cut names {left:?}, the one before the word {:?}",
        preview.stranded
    );
    Ok(())
}

fn is_steady(rotation: &Rotation) -> bool {
    rotation.phase == "steady"
}

/// Cuts those agents off from the CA that are out of reach; answers how many.
fn cut_off(members: &[Member], cast: &Cast) -> usize {
    let away = members.iter().skip(cast.reachable());
    away.inspect(|member| member.partition(true)).count()
}

/// Restarts clients of the CSR API, which then have leaves with the present roots, and has their former leaves forgotten.
async fn restart_csr_only(operator: &Operator, mesh: &Mixed) -> anyhow::Result<()> {
    let before: Vec<_> = mesh.csr_only().iter().map(|one| one.serial()).collect();
    mesh.csr_only().iter().for_each(|one| one.ask_anew());
    eventually("new leaves of clients of the CSR API", async || {
        let both = mesh.csr_only().iter().zip(&before);
        Ok(both.filter(|(one, former)| one.serial() == **former).count() == 0)
    })
    .await?;
    for client in mesh.csr_only() {
        let former = operator.former_leaves(client.id().as_str(), client.serial()).await?;
        if !former.is_empty() {
            operator.forget(former).await?;
        }
    }
    Ok(())
}

/// Brings back who broke, and waits until every pair talks.
async fn bring_back(operator: &Operator, mesh: &Mixed, stage: &Stage) -> anyhow::Result<()> {
    let ca = stage.cas.first().context("no CA")?;
    for member in stage.members.iter().skip(mesh.reachable().len()) {
        member.partition(false);
        member.give_token(ca).await?;
    }
    restart_csr_only(operator, mesh).await?;
    let mut observer = Observer::start(&mesh.workloads);
    let mut seen = Seen::default();
    let talking = eventually("a mesh where every pair talks", async || {
        seen = observer.whole_round().await?;
        Ok(seen.broken.is_empty())
    })
    .await;
    if talking.is_err() {
        let said: Vec<_> = stage.members.iter().flat_map(Member::conditions).collect();
        all_talk(&seen).with_context(|| format!("agents say: {}", said.join("; ")))?;
    }
    Ok(())
}

fn all_talk(seen: &Seen) -> anyhow::Result<()> {
    match seen.broken.first_key_value() {
        None => Ok(()),
        Some((_, why)) => {
            anyhow::bail!("{} pairs do not talk, the first: {why}", seen.broken.len())
        }
    }
}

/// Waits until it is so; what cannot be asked now is asked again.
async fn eventually(
    what: &str,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let until = Instant::now() + WITHIN;
    loop {
        let answer = is_so().await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= until {
            let asked = answer.map(|_| ());
            return asked
                .and_then(|()| anyhow::bail!("no end"))
                .with_context(|| format!("there is not, after {WITHIN:?}: {what}"));
        }
        tokio::time::sleep(EVERY).await;
    }
}
