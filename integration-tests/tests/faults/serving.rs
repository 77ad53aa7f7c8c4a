//! Writes that fail while the server serves: what clients, probes and operators are told, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use ca_server::Running;
use host::{Fault, FaultDisk, How, Operation, SystemClock};
use integration_tests::faults::{
    CaDir, Door, Durable, FaultPlan, Leaf, Member, TestClock, eventually, reason,
};

struct Serving {
    ca_dir: CaDir,
    disk: FaultDisk,
    running: Running,
    door: Door,
    member: Member,
    released: Vec<Leaf>,
}

impl Serving {
    async fn start() -> Self {
        let (ca_dir, disk) = (CaDir::new("").unwrap(), FaultDisk::default());
        let started = ca_dir
            .start_with(Arc::new(disk.clone()), Arc::new(SystemClock), &FaultPlan::default())
            .await;
        let running = started.unwrap().unwrap();
        let door = Door::of(&running).unwrap();
        let mut member = Member::join(&door, "agent").await.unwrap();
        let released = vec![member.own_leaf(), member.issue().await.unwrap()];
        assert!(door.is_ready().await);
        Self { ca_dir, disk, running, door, member, released }
    }

    /// Whether the server, started again, is the same CA and covers what it released.
    async fn ends(self) {
        let root = self.running.bundle().roots()[0].id();
        CaDir::stop(self.running).await.unwrap();
        Durable::read(&self.ca_dir.data()).await.unwrap().covers(&self.released).unwrap();
        let running = self.ca_dir.start().await.unwrap();
        assert_eq!(running.bundle().roots()[0].id(), root);
        let door = Door::of(&running).unwrap();
        Member::join(&door, "later").await.unwrap().issue().await.unwrap();
        assert!(door.is_ready().await);
        CaDir::stop(running).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_issuance_and_readiness_and_both_come_back_by_themselves() {
    let mut serving = Serving::start().await;
    serving.disk.plan(Fault::next(Operation::Append, How::DiskFull).on("ledger").times(u64::MAX));
    let refused = serving.member.issue().await.unwrap_err();
    assert_eq!(reason(&refused), "LEDGER_STOPPED", "{refused:?}");
    eventually("probes are told", || async { !serving.door.is_ready().await }).await.unwrap();
    let conditions = serving.door.status().await.unwrap().conditions;
    assert!(conditions.iter().any(|said| said.contains("free some")), "{conditions:?}");

    serving.disk.heal();
    eventually("ready again, without a request", || serving.door.is_ready()).await.unwrap();
    serving.released.push(serving.member.issue().await.unwrap());
    assert!(serving.door.status().await.unwrap().healthy);
    serving.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_issuance_for_good_and_says_to_restart() {
    let mut serving = Serving::start().await;
    serving.disk.plan(Fault::next(Operation::Sync, How::NotStored).on("ledger"));
    let refused = serving.member.issue().await.unwrap_err();
    assert_eq!(reason(&refused), "LEDGER_STOPPED", "{refused:?}");
    eventually("probes are told", || async { !serving.door.is_ready().await }).await.unwrap();
    serving.disk.heal();
    // The disk works again, but nobody knows what is on it.
    let refused = serving.member.issue().await.unwrap_err();
    assert_eq!(reason(&refused), "LEDGER_STOPPED", "{refused:?}");
    let conditions = serving.door.status().await.unwrap().conditions;
    assert!(conditions.iter().any(|said| said.contains("restart this server")), "{conditions:?}");
    assert!(!serving.door.is_ready().await);
    serving.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_leaf_is_given_beyond_a_horizon_that_cannot_be_raised() {
    let ca_dir = CaDir::new("[leaf]\nttl_max = \"1h\"\nttl_default = \"1h\"").unwrap();
    let (fault_plan, clock) = (FaultPlan::default(), Arc::new(TestClock::default()));
    let started = ca_dir
        .start_with(Arc::new(FaultDisk::default()), Arc::<TestClock>::clone(&clock), &fault_plan)
        .await;
    let running = started.unwrap().unwrap();
    let door = Door::of(&running).unwrap();
    let mut released = vec![Member::join(&door, "first").await.unwrap().own_leaf()];

    fault_plan.record.refuse(true);
    // A quarter of an hour behind the horizon that the start has stored for leaves of an hour, less the shortest leaf.
    clock.set_ahead(Duration::from_secs(73 * 60));
    let refused = Member::join(&door, "second").await.unwrap_err();
    assert_eq!(reason(&refused), "HORIZON_BEHIND", "{refused:?}");
    eventually("probes are told", || async { !door.is_ready().await }).await.unwrap();
    let conditions = door.status().await.unwrap().conditions;
    assert!(conditions.iter().any(|said| said.contains("horizon")), "{conditions:?}");

    fault_plan.record.refuse(false);
    eventually("ready again", || door.is_ready()).await.unwrap();
    // The server's own leaf is of the clock that is ahead by now, or will be soon.
    let ahead = door.clone().with_clock(Arc::<TestClock>::clone(&clock));
    let joined = || async { Member::join(&ahead, "third").await.is_ok() };
    eventually("clients with the same clock are served", joined).await.unwrap();
    released.push(Member::join(&ahead, "fourth").await.unwrap().own_leaf());
    CaDir::stop(running).await.unwrap();
    Durable::read(&ca_dir.data()).await.unwrap().covers(&released).unwrap();
}
