//! `banyan rotate check` asks a real server, changes nothing there, and is green only where a rotation would end by itself.

use std::sync::Arc;

use host::{RealDisk, SystemClock};
use integration_tests::faults::{AuthorityMode, AuthoritySwitch, CaDir, FaultPlan, eventually};

use super::issuer::asked;
use super::said::banyan_at;

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_said_to_be_ready_only_while_nothing_would_stop_it() -> anyhow::Result<()> {
    let (ca_dir, switch) = (CaDir::new("")?, AuthoritySwitch::new(AuthorityMode::Works));
    let fault_plan = FaultPlan { authority: Some(switch.clone()), ..FaultPlan::default() };
    let running =
        ca_dir.start_with(Arc::new(RealDisk), Arc::new(SystemClock), &fault_plan).await??;
    let run = async |words: &[&str]| banyan_at(&running, words).await;
    let check = async || run(&["rotate", "check", "--json"]).await;

    let ready = check().await?;
    assert_eq!(ready.code, Some(0), "{} {}", ready.out, ready.err);
    let ready = ready.json()?;
    assert_eq!(ready["ready"], true, "{ready}");
    assert!(ready["outlook"]["ends_within_seconds"].is_u64(), "{ready}");
    assert!(ready["not_seen"].as_array().is_some_and(|all| !all.is_empty()), "{ready}");

    // Somebody whose word alone counts: nobody knows when a rotation would end.
    let name = "other-mesh";
    let added = run(&["relying-party", "add", name]).await?;
    assert_eq!(added.code, Some(0), "{} {}", added.out, added.err);
    let waits = check().await?;
    assert_eq!(waits.code, Some(1), "{} {}", waits.out, waits.err);
    let waits = waits.json()?;
    assert_eq!(waits["ready"], false, "{waits}");
    assert!(waits["words"].to_string().contains(name), "{waits}");
    let removed = run(&["relying-party", "remove", name]).await?;
    assert_eq!(removed.code, Some(0), "{} {}", removed.out, removed.err);
    assert_eq!(check().await?.code, Some(0), "it is mended");

    // The authority is away, and back.
    switch.turn(AuthorityMode::Down);
    eventually("the check sees it", || async {
        check().await.is_ok_and(|said| said.code == Some(1))
    })
    .await?;
    let away = check().await?.json()?;
    assert_eq!(away["ready"], false, "{away}");
    assert!(away["stops"].to_string().contains("main"), "{away}");
    switch.turn(AuthorityMode::Works);
    eventually("it is ready again", || async {
        check().await.is_ok_and(|said| said.code == Some(0))
    })
    .await?;

    // Nothing was begun by any of these; and once something is, nothing else can.
    assert_eq!(asked(&running, &["status"]).await?, Some(0));
    let before = run(&["status", "--json"]).await?.json()?;
    assert_eq!((&before["phase"], &before["sequence"]), (&"steady".into(), &1.into()), "{before}");
    let started = run(&["rotate", "start", "--manual"]).await?;
    assert_eq!(started.code, Some(0), "{} {}", started.out, started.err);
    let under_way = check().await?;
    assert_eq!(under_way.code, Some(1), "{} {}", under_way.out, under_way.err);
    assert!(under_way.err.contains("banyan rotate explain"), "{}", under_way.err);
    CaDir::stop(running).await
}
