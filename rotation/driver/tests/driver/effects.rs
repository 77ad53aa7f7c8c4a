//! Effects run beside the events.

use std::sync::Arc;
use std::time::Duration;

use rotation::{Effect, Event};
use rotation_driver::{DriverHandle, EffectError, FaultStore, SubmitError};

use crate::fixture::*;

async fn renewing(fixture: &Fixture) -> (DriverHandle, rotation_driver::DriverTask) {
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let root = only_root(settled(&handle).await.as_ref());
    handle.submit(opened()).await.unwrap();
    fixture.effects.hang(Some("request_issuer"));
    handle
        .submit(Event::IssuerRenewalRequested {
            request_id: "r".parse().unwrap(),
            root,
            replica: None,
            replaces: false,
        })
        .await
        .unwrap();
    (handle, task)
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_hangs_does_not_hold_up_horizons() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let (handle, task) = renewing(&fixture).await;
    let root = only_root(&handle.state());
    let begun = tokio::time::Instant::now();
    for ahead in 1..=20 {
        let state = handle.submit(fixture.horizon(root, ahead * 60)).await.unwrap();
        assert!(state.roots.get(&root).unwrap().renewal.is_some());
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "none of them waited");
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_answer_is_given_up_and_made_again() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let (handle, task) = renewing(&fixture).await;
    let mut troubles = handle.troubles();
    let seen = troubles.wait_for(|troubles| !troubles.is_empty()).await.unwrap().clone();
    let EffectError::Unavailable { reason } = &seen.first().unwrap().last else {
        panic!("{seen:?}")
    };
    assert_eq!(reason, "no answer within 60 s");
    fixture.effects.hang(None);
    let state = settled(&handle).await;
    assert!(fixture.effects.calls().get("r.issuer").is_some_and(|calls| *calls >= 2));
    assert_eq!(state.roots.values().map(|root| root.issuers.len()).collect::<Vec<_>>(), [2]);
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_effect_of_a_quiet_bootstrap_is_performed_once() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let state = settled(&handle).await;
    assert!(
        fixture.effects.calls().values().all(|calls| *calls == 1),
        "{:?}",
        fixture.effects.calls()
    );
    assert_eq!(fixture.effects.calls().len(), 4);
    let root = state.signing_root().unwrap();
    let issuer = state.roots.get(&root).unwrap().active_issuer;
    let switch = Effect::SwitchSigner { root, issuer };
    assert!(fixture.effects.calls().contains_key(&switch.idempotence_key()));
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_driver_says_so_and_leaves_no_effect_running() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let (handle, task) = renewing(&fixture).await;
    let effects = Arc::downgrade(&fixture.effects);
    task.stop().await;
    assert!(matches!(handle.submit(opened()).await, Err(SubmitError::Stopped)));
    drop(fixture);
    assert!(effects.upgrade().is_none(), "nobody holds the effects any more");
}
