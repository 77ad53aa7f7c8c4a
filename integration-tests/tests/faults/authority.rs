//! Leaves are issued while the root authority is away.

use std::sync::Arc;
use std::time::Duration;

use host::RealDisk;
use integration_tests::faults::{
    AuthorityMode, AuthoritySwitch, CaDir, Door, FaultPlan, Member, TestClock, eventually,
};

/// An issuer that ends in half an hour, and leaves that fit four times into it.
const SHORT: &str =
    "[root]\nissuer_lifetime = \"30m\"\n[leaf]\nttl_default = \"7m\"\nttl_max = \"7m\"";

async fn away(mode: AuthorityMode) {
    let (ca_dir, switch) = (CaDir::new(SHORT).unwrap(), AuthoritySwitch::new(AuthorityMode::Works));
    let fault_plan = FaultPlan { authority: Some(switch.clone()), ..FaultPlan::default() };
    let clock = Arc::new(TestClock::default());
    let start =
        || ca_dir.start_with(Arc::new(RealDisk), Arc::<TestClock>::clone(&clock), &fault_plan);
    let running = start().await.unwrap().unwrap();
    let door = Door::of(&running).unwrap().with_clock(Arc::<TestClock>::clone(&clock));
    let (asked, before) = (switch.asked(), door.status().await.unwrap());

    // Past half of its life the issuer is to be renewed, by an authority that is away.
    switch.turn(mode);
    clock.set_ahead(Duration::from_secs(16 * 60));
    let caught_up = || async { Member::join(&door, "any").await.is_ok() };
    eventually("horizon and serving leaf have caught up with the clock", caught_up).await.unwrap();
    let mut member = Member::join(&door, "agent").await.unwrap();
    eventually("the authority is asked", || std::future::ready(switch.asked() > asked))
        .await
        .unwrap();
    for _ in 0..20 {
        member.issue().await.unwrap();
    }
    assert!(door.is_ready().await);
    let status = door.status().await.unwrap();
    assert_eq!(status.issuer_not_after, before.issuer_not_after);

    // Nothing of the start needs it either.
    CaDir::stop(running).await.unwrap();
    let running = start().await.unwrap().unwrap();
    let door = Door::of(&running).unwrap().with_clock(Arc::<TestClock>::clone(&clock));
    Member::join(&door, "other").await.unwrap().issue().await.unwrap();
    if mode == AuthorityMode::Down {
        let told = || async {
            let conditions = door.status().await.unwrap().conditions;
            conditions.iter().any(|said| said.contains("the authority is down"))
        };
        eventually("operators are told", told).await.unwrap();
    }

    // When it is back, the renewal that waited is done.
    switch.turn(AuthorityMode::Works);
    let renewed =
        || async { door.status().await.unwrap().issuer_not_after > before.issuer_not_after };
    eventually("the issuer is renewed", renewed).await.unwrap();
    let after = door.status().await.unwrap();
    assert_eq!(after.active_root, before.active_root);
    Member::join(&door, "third").await.unwrap().issue().await.unwrap();
    CaDir::stop(running).await.unwrap();
    assert_eq!(ca_dir.roots_made().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_are_issued_while_the_authority_hangs() {
    away(AuthorityMode::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_are_issued_while_the_authority_is_down() {
    away(AuthorityMode::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_issuer_has_ended_starts_says_so_and_issues_again_when_the_authority_does() {
    let (ca_dir, switch) = (CaDir::new(SHORT).unwrap(), AuthoritySwitch::new(AuthorityMode::Works));
    let fault_plan = FaultPlan { authority: Some(switch.clone()), ..FaultPlan::default() };
    let clock = Arc::new(TestClock::default());
    let start =
        || ca_dir.start_with(Arc::new(RealDisk), Arc::<TestClock>::clone(&clock), &fault_plan);
    CaDir::stop(start().await.unwrap().unwrap()).await.unwrap();

    // It was off for longer than its issuer lasts, and its authority is away when it comes back.
    switch.turn(AuthorityMode::Down);
    clock.set_ahead(Duration::from_secs(40 * 60));
    let running = start().await.unwrap().unwrap();
    let door = Door::of(&running).unwrap().with_clock(Arc::<TestClock>::clone(&clock));
    let conditions = door.status().await.unwrap().conditions;
    assert!(conditions.iter().any(|said| said.contains("has ended")), "{conditions:#?}");
    assert!(!door.is_ready().await);
    assert!(
        !running.bundle().roots().is_empty(),
        "the bundle is there for whoever asks on this machine"
    );

    switch.turn(AuthorityMode::Works);
    let issues = || async {
        match Member::join(&door, "late").await {
            Ok(mut member) => member.issue().await.is_ok(),
            Err(_) => false,
        }
    };
    eventually("leaves are issued again without a restart", issues).await.unwrap();
    eventually("it is ready", || door.is_ready()).await.unwrap();
    CaDir::stop(running).await.unwrap();
    assert_eq!(ca_dir.roots_made().await.unwrap(), 1);
}
