//! The directory of the release that kept each part in files of its own: taken over once, whatever stops it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use host::{Fault, FaultDisk, How, SystemClock};
use integration_tests::faults::{CaDir, Door, Durable, FaultPlan, Member, write_private};
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::token_service_client::TokenServiceClient;
use proto::banyan::admin::v1::{ListAgentsRequest, ListRelyingPartiesRequest, ListTokensRequest};

use stores::spaces::{AUTHORITY_BOOKS, BUNDLES, ISSUER_REQUESTS, ROOT_KEYS};

use crate::support::{LIMITS, channel, confirm, rotation, rotations, until, verified};

const ARCHIVE: &str = "fixtures/data-dir-2026-11-29.tar.gz";
const REQUEST: &str = "before-the-upgrade";

/// A CA of this release on the directory that the former one left.
fn upgraded() -> anyhow::Result<CaDir> {
    let ca_dir = CaDir::new(LIMITS)?;
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(ARCHIVE);
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive).arg("-C").arg(ca_dir.directory()).arg("--no-same-owner");
    let status = tar.arg("data").status().context("install `tar`")?;
    ensure!(status.success(), "tar: {status}");
    Ok(ca_dir)
}

/// How many key files there are.
fn keys(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).into_iter().flatten();
    files
        .filter(|file| {
            file.as_ref().is_ok_and(|file| file.path().extension() == Some("key".as_ref()))
        })
        .count()
}

fn former(ca_dir: &CaDir, part: &str) -> PathBuf {
    ca_dir.data().join("former").join(part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_directory_is_taken_over_whole_and_its_rotation_ends() -> anyhow::Result<()> {
    let ca_dir = upgraded()?;
    let before = rotation_driver::former_record(&ca_dir.data().join("record.redb")).await?;
    let before = rotation::record::decode(&before.context("no record")?.record)?;
    let running = ca_dir.start().await?;
    let all = ["record.redb", "registry.redb", "bundles", "requests", "authority/main/self-signed"];
    for part in all {
        assert!(former(&ca_dir, part).exists() && !ca_dir.data().join(part).exists(), "{part}");
    }
    assert_eq!(keys(&ca_dir.data().join("keys")), 2, "the issuers'");
    assert_eq!(keys(&former(&ca_dir, "keys")), 2, "the roots'");
    let window = ca_dir.window();
    for (space, ids) in [
        (BUNDLES, vec!["00000000000000000001", "00000000000000000002"]),
        (AUTHORITY_BOOKS, vec!["main/.names", "main/self-signed"]),
    ] {
        let found = window.all(&ca_dir.data(), space).await?;
        let found: Vec<_> = found.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(found, ids);
    }
    let requests = window.all(&ca_dir.data(), ISSUER_REQUESTS).await?;
    assert!(requests.iter().any(|entry| entry.id == format!("{REQUEST}.issuer")), "{requests:?}");
    let root_keys = window.all(&ca_dir.data(), ROOT_KEYS).await?;
    assert_eq!(root_keys.iter().filter(|entry| entry.id.ends_with(".key")).count(), 2);

    let record = verified(&running).await?;
    assert_eq!(Vec::from_iter(record.roots.keys()), Vec::from_iter(before.roots.keys()));
    assert_eq!((record.sequence.0, before.sequence.0), (2, 2));
    let door = Door::of(&running)?;
    let agents = AgentAdminServiceClient::new(channel(&running.admin_socket))
        .list_agents(ListAgentsRequest::default())
        .await?
        .into_inner()
        .agents;
    assert!(agents.len() == 1 && agents[0].id.ends_with("/agent-1"), "{agents:?}");
    let tokens = TokenServiceClient::new(channel(&running.admin_socket))
        .list_tokens(ListTokensRequest::default())
        .await?
        .into_inner()
        .tokens;
    assert!(tokens.iter().any(|token| token.agent == "agent-2"), "{tokens:?}");
    let asked =
        rotations(&running).list_relying_parties(ListRelyingPartiesRequest::default()).await?;
    let parties = asked.into_inner().relying_parties;
    assert_eq!(parties.iter().map(|party| party.name.as_str()).collect::<Vec<_>>(), ["mount"]);
    assert_eq!(rotation(&running).await?.phase, "distributing");

    confirm(&running, "mount").await?;
    until(&running, "the last gate", |rotation| rotation.phase == "withdrawing").await?;
    confirm(&running, "mount").await?;
    let over = |rotation: &proto::banyan::admin::v1::Rotation| {
        rotation.phase == "steady" && rotation.done.iter().any(|done| done == REQUEST)
    };
    until(&running, "it goes on by itself", over).await?;
    let mut member = Member::join(&door, "agent-3").await?;
    let released = [member.own_leaf(), member.issue().await?];
    assert_eq!(verified(&running).await?.roots.len(), 2, "no root is made anew");
    CaDir::stop(running).await?;

    Durable::read(&ca_dir.data()).await?.covers(&released)?;
    let running = ca_dir.start().await?;
    assert_eq!(verified(&running).await?.roots.len(), 2);
    CaDir::stop(running).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_that_breaks_off_anywhere_is_taken_up_by_the_next_start() -> anyhow::Result<()>
{
    for how in [How::DiesBefore, How::DiesAfter, How::NotStored] {
        for nth in 0.. {
            let ca_dir = upgraded()?;
            // What a killed one left half filled.
            write_private(&ca_dir.data().join("state.redb.unfinished"), "half")?;
            let disk = FaultDisk::default();
            disk.plan(Fault::next_change(how).after(nth));
            let no_fault = FaultPlan::default();
            let started = tokio::select! {
                started = ca_dir.start_with(Arc::new(disk.clone()), Arc::new(SystemClock), &no_fault) => Some(started?),
                () = dead(&disk) => None,
            };
            if let Some(Ok(running)) = started {
                CaDir::stop(running).await?;
            }
            let over = !ca_dir.data().join("authority").exists();
            let running = ca_dir.start().await.with_context(|| format!("{how:?} at {nth}"))?;
            let record = verified(&running).await?;
            assert_eq!((record.roots.len(), record.sequence.0), (2, 2), "{how:?} at {nth}");
            assert!(former(&ca_dir, "record.redb").exists(), "{how:?} at {nth}");
            assert!(former(&ca_dir, "authority").exists(), "{how:?} at {nth}");
            assert_eq!(keys(&ca_dir.data().join("keys")), 2, "{how:?} at {nth}");
            CaDir::stop(running).await?;
            if over {
                assert!(nth > 6, "only {nth} changes were failed");
                break;
            }
        }
    }
    Ok(())
}

async fn dead(disk: &FaultDisk) {
    while !disk.is_dead() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_comes_back_beside_the_state_is_refused_and_nothing_is_lost()
-> anyhow::Result<()> {
    let ca_dir = upgraded()?;
    CaDir::stop(ca_dir.start().await?).await?;
    for part in ["record.redb", "registry.redb"] {
        std::fs::copy(former(&ca_dir, part), ca_dir.data().join(part))?;
    }
    let said = ca_dir.start_once().await?.unwrap_err().to_string();
    assert!(said.contains("are not the same") && said.contains("move"), "{said}");
    // The advice: the state is moved elsewhere, and what the older release left is taken over.
    std::fs::rename(ca_dir.data().join("state.redb"), ca_dir.beside("elsewhere"))?;
    let said = ca_dir.start_once().await?.unwrap_err().to_string();
    assert!(said.contains("former") && said.contains("move it elsewhere"), "{said}");
    std::fs::remove_dir_all(ca_dir.data().join("former"))?;
    let running = ca_dir.start().await?;
    assert_eq!(verified(&running).await?.sequence.0, 2);
    CaDir::stop(running).await
}
