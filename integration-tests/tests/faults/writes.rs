//! Every durable write of a first start and of some leaves, failed one after the other in every way.
//!
//! The writes of a run without faults are counted first, so that none is forgotten when code is added.

use std::sync::Arc;
use std::time::Duration;

use host::{Fault, FaultDisk, How, Operation, SystemClock};
use integration_tests::faults::{
    CaDir, Door, Durable, FaultPlan, Leaf, Member, RecordFaults, reason,
};
use rotation_driver::WriteFault;
use trust::RootId;

/// What changes a disk.
const CHANGES: [Operation; 10] = [
    Operation::Replace,
    Operation::AppendOpen,
    Operation::Append,
    Operation::Reserve,
    Operation::Sync,
    Operation::Truncate,
    Operation::Remove,
    Operation::RemoveDir,
    Operation::Rename,
    Operation::CreateDirAll,
];

/// Records that come together are written at once or one after the other: a run may have more writes than another.
const MORE: u64 = 3;

/// What a run came to.
#[derive(Debug, Default)]
struct Run {
    released: Vec<Leaf>,
    /// What the server said when it did not start.
    said: Option<String>,
    /// Reasons of refusals.
    refused: Vec<String>,
}

/// A start, a registration, two leaves, a stop. Ends early when the process dies.
async fn run(ca_dir: &CaDir, disk: &FaultDisk, fault_plan: &FaultPlan) -> Run {
    let mut run = Run::default();
    let started = tokio::select! {
        started = ca_dir.start_with(Arc::new(disk.clone()), Arc::new(SystemClock), fault_plan) => started.unwrap(),
        () = died(disk) => return run,
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            run.said = Some(error.to_string());
            return run;
        }
    };
    let door = Door::of(&running).unwrap();
    match Member::join(&door, "agent").await {
        Ok(mut member) => {
            run.released.push(member.own_leaf());
            for _ in 0..2 {
                match member.issue().await {
                    Ok(leaf) => run.released.push(leaf),
                    Err(refused) => run.refused.push(reason(&refused)),
                }
            }
        }
        Err(refused) => run.refused.push(reason(&refused)),
    }
    if !disk.is_dead() && !run.refused.is_empty() {
        // What is wrong is told for as long as it lasts; a single fault may be over.
        door.status().await.unwrap();
    }
    CaDir::stop(running).await.unwrap();
    run
}

async fn died(disk: &FaultDisk) {
    while !disk.is_dead() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What must hold after any fault: everything released is covered, and the next start is the same CA and works.
async fn works_afterwards(ca_dir: &CaDir, run: &Run, what: &str) {
    if let Some(said) = &run.said {
        let helps =
            ["check", "again", "restart", "free some"].iter().any(|help| said.contains(help));
        assert!(helps, "{what}: it does not say what to do: {said}");
    }
    for refused in &run.refused {
        let expected = ["LEDGER_WRITE_FAILED", "LEDGER_STOPPED", "REGISTRY_UNAVAILABLE"];
        assert!(expected.contains(&refused.as_str()), "{what}: {refused}");
    }
    let before = Durable::read(&ca_dir.data()).await.unwrap();
    before.covers(&run.released).unwrap_or_else(|error| panic!("{what}: {error}"));

    let running = ca_dir.start().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let roots: Vec<RootId> = running.bundle().roots().iter().map(|root| root.id()).collect();
    let door = Door::of(&running).unwrap();
    let mut member = Member::join(&door, "later").await.unwrap();
    let released =
        [run.released.clone(), vec![member.own_leaf(), member.issue().await.unwrap()]].concat();
    let status = door.status().await.unwrap();
    assert!(status.healthy, "{what}: {:?}", status.conditions);
    CaDir::stop(running).await.unwrap();
    let after = Durable::read(&ca_dir.data()).await.unwrap();
    after.covers(&released).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(roots, Vec::from_iter(after.roots()), "{what}");
    assert!(before.roots().is_subset(&after.roots()), "{what}: a root was lost");
    assert_eq!(ca_dir.roots_made().await.unwrap(), 1, "{what}: the authority made another root");
}

/// How often the disk is changed in a run without faults, and how often something is appended.
async fn changes_of_a_clean_run() -> (u64, u64) {
    let (ca_dir, disk) = (CaDir::new("").unwrap(), FaultDisk::default());
    let run = run(&ca_dir, &disk, &FaultPlan::default()).await;
    assert_eq!((run.said.as_deref(), run.refused.len(), run.released.len()), (None, 0, 3));
    for path in ["keys/store.json", ".key", "state.redb"] {
        let written = disk.count(Operation::Replace, path) + disk.count(Operation::Rename, path);
        assert!(written > 0, "{path} goes around the disk");
    }
    assert!(
        disk.count(Operation::Append, "ledger") > 3 && disk.count(Operation::Sync, "ledger") > 3
    );
    let changes = CHANGES.map(|change| disk.count(change, "") as u64).into_iter().sum();
    (changes, disk.count(Operation::Append, "") as u64)
}

async fn every_change_fails(how: How) {
    let (changes, appends) = changes_of_a_clean_run().await;
    let (count, fault) = match how {
        How::Torn(_) => (appends, Fault::next(Operation::Append, how)),
        _ => (changes, Fault::next_change(how)),
    };
    let mut felt = 0;
    for nth in 0..count + MORE {
        let (ca_dir, disk) = (CaDir::new("").unwrap(), FaultDisk::default());
        disk.plan(fault.clone().after(nth));
        let fault_plan =
            FaultPlan { record: RecordFaults::dying_with(&disk), ..FaultPlan::default() };
        let run = run(&ca_dir, &disk, &fault_plan).await;
        felt += u64::from(run.said.is_some() || !run.refused.is_empty() || disk.is_dead());
        works_afterwards(&ca_dir, &run, &format!("{how:?} at change {nth} of {count}")).await;
    }
    println!(
        "{how:?}: {felt} of {} faults were felt outside; the others were tried again within, or came too late",
        count + MORE
    );
    assert!(felt > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_that_failed_and_stored_nothing_loses_a_leaf_or_makes_a_second_root() {
    every_change_fails(How::NotStored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_that_failed_but_stored_loses_a_leaf_or_makes_a_second_root() {
    every_change_fails(How::Stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_full_disk_loses_a_leaf_or_makes_a_second_root() {
    every_change_fails(How::DiskFull).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_torn_append_loses_a_leaf_or_makes_a_second_root() {
    every_change_fails(How::Torn(9)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_death_before_a_write_loses_a_leaf_or_makes_a_second_root() {
    every_change_fails(How::DiesBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_death_after_a_write_loses_a_leaf_or_makes_a_second_root() {
    every_change_fails(How::DiesAfter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failed_write_of_the_record_loses_a_leaf_or_makes_a_second_root() {
    let (ca_dir, fault_plan) = (CaDir::new("").unwrap(), FaultPlan::default());
    run(&ca_dir, &FaultDisk::default(), &fault_plan).await;
    let writes = fault_plan.record.writes();
    // Asked for, root prepared, issuer signed, published and switched, segment opened, horizon raised.
    assert!(writes >= 6, "{writes}");
    for fault in [WriteFault::FailedNotStored, WriteFault::FailedButStored, WriteFault::Refused] {
        for nth in 0..writes {
            let ca_dir = CaDir::new("").unwrap();
            let fault_plan =
                FaultPlan { record: RecordFaults::at(nth, fault), ..FaultPlan::default() };
            let run = run(&ca_dir, &FaultDisk::default(), &fault_plan).await;
            let what = format!("{fault:?} at write {nth} of {writes}");
            if fault == WriteFault::FailedButStored {
                // Read again, it turns out to be stored.
                assert_eq!((run.said.as_deref(), run.released.len()), (None, 3), "{what}");
            }
            works_afterwards(&ca_dir, &run, &what).await;
        }
    }
}
