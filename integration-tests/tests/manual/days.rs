//! A rotation that waits for people, for days.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::RealDisk;
use integration_tests::faults::{CaDir, Door, FaultPlan, Member, TestClock};
use integration_tests::mesh::{admin_channel, eventually};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::{StatusRequest, StatusResponse};

use super::offline::{OFFLINE, Offline, Operator, SELF_SIGNED};

const LIMITS: &str = "[leaf]\nskew = \"2s\"\nbackdate = \"2s\"\n[rotation]\nsettle = \"1s\"\n";
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// A ceremony that waits is told, and is no fault.
async fn waits_and_is_well(socket: &Path, ceremony: &str) -> anyhow::Result<()> {
    let mut admin = AdminServiceClient::new(admin_channel(socket));
    let mut last = StatusResponse::default();
    for _ in 0..600 {
        last = admin.status(StatusRequest {}).await?.into_inner();
        if last.healthy && last.waiting.iter().any(|text| text.contains(ceremony)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("{ceremony} does not just wait: {:#?} and {:#?}", last.waiting, last.conditions)
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_waiting_and_a_restart_on_each_do_no_harm() -> anyhow::Result<()> {
    let ca_dir = CaDir::new(&format!("{LIMITS}{SELF_SIGNED}{OFFLINE}"))?;
    let (offline, clock, fault_plan) =
        (Offline::of(&ca_dir)?, Arc::new(TestClock::default()), FaultPlan::default());
    let start =
        || ca_dir.start_with(Arc::new(RealDisk), Arc::<TestClock>::clone(&clock), &fault_plan);
    let mut running = start().await??;
    let mut served = 0;
    let operator = Operator::at(&running.admin_socket);
    operator.rotate("out", "offline").await?;
    let mut waits_for = offline.ceremony("root").await?;
    let mut root = String::new();
    for day in 1..=6_u64 {
        clock.set_ahead(Duration::from_secs(day * DAY));
        CaDir::stop(running).await?;
        running = start().await??;
        let door = Door::of(&running)?.with_clock(Arc::<TestClock>::clone(&clock));
        let mut member = Member::join(&door, &format!("agent-{day}")).await?;
        member.issue().await?;
        served += 1;
        operator.until_it_says(&waits_for).await?;
        waits_and_is_well(&running.admin_socket, &waits_for).await?;
        assert_eq!(offline.waiting(), [waits_for.as_str()], "day {day}: nothing is asked twice");
        assert_eq!(operator.rotation().await?.phase, "staging");
        assert_eq!(running.bundle().roots().len(), 1, "and nobody trusts anything new");
        if day == 3 {
            // The offline machine has the real time, days before the server's.
            let longer = |commands: String| commands.replace("-days 3651", "-days 3700");
            root = offline.follow(&waits_for, longer).await?;
            offline.bring(&waits_for, &root)?;
            waits_for = offline.ceremony("issuer").await?;
        }
    }
    let longer = |commands: String| commands.replace("-days 366", "-days 400");
    let issuer = offline.follow(&waits_for, longer).await?;
    offline.bring(&waits_for, &issuer)?;
    let distributing = || async {
        operator
            .rotation()
            .await
            .is_ok_and(|rotation| !["staging", ""].contains(&rotation.phase.as_str()))
    };
    eventually("the answer is taken and the rotation goes on", distributing).await?;

    // Members that confirm nothing: their leaves end.
    let door = Door::of(&running)?.with_clock(Arc::<TestClock>::clone(&clock));
    let mut hours = 6 * 24;
    while !operator.is_over("out").await {
        hours += 1;
        anyhow::ensure!(hours < 6 * 24 + 72, "not over: {:#?}", operator.rotation().await?);
        clock.set_ahead(Duration::from_secs(hours * HOUR));
        let again = || async { door.is_ready().await };
        eventually("the server has caught up with the clock", again).await?;
        let moved = async {
            let former =
                operator.rotation().await.map(|rotation| rotation.generation).unwrap_or_default();
            while operator.rotation().await.is_ok_and(|rotation| rotation.generation == former) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // Not each hour moves it; what is counted in real seconds goes on in them.
        let _ = tokio::time::timeout(Duration::from_secs(8), moved).await;
    }
    door.trust_listed().await?;
    let leaf = Member::join(&door, "last").await?.issue().await?;
    let issuer = trust::Certificate::parse(pem::parse(&issuer)?.contents())?;
    assert_eq!(leaf.issuer_der(), issuer.subject_der());
    let root = trust::RootId::of(pem::parse(&root)?.contents());
    assert!(running.bundle().contains(&root) && running.bundle().roots().len() == 1);
    assert_eq!(served, 6);
    CaDir::stop(running).await
}
