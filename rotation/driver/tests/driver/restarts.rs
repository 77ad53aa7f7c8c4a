//! The process ends at any point and starts again.

use std::sync::Arc;

use rotation::Phase;
use rotation_driver::{EffectError, FaultStore};

use crate::fixture::*;

const EFFECTS: [&str; 4] = ["stage_root", "request_issuer", "publish_bundle", "switch_signer"];

#[tokio::test(start_paused = true)]
async fn a_bootstrap_that_was_killed_at_any_step_goes_on_and_makes_one_root() {
    for killed_at in EFFECTS {
        let fixture = Fixture::on(Arc::new(FaultStore::new()));
        fixture.effects.hang(Some(killed_at));
        let (handle, task) = fixture.start().await;
        handle.submit(bootstrap("f")).await.unwrap();
        let wanted = |effect: &rotation::PendingEffect| effect.effect.name() == killed_at;
        until(&handle, |state| state.pending.iter().any(wanted)).await;
        task.stop().await;

        fixture.effects.hang(None);
        let (handle, task) = fixture.start().await;
        let state = settled(&handle).await;
        assert_eq!(fixture.effects.roots_made(), [only_root(&state)], "killed at {killed_at}");
        assert_eq!((state.sequence.0, state.generation.0), (1, 5), "killed at {killed_at}");
        task.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_by_the_kill_is_asked_for_again_under_the_same_key() {
    let store = Arc::new(FaultStore::new());
    let fixture = Fixture::on(store.clone());
    fixture.effects.hang(Some("stage_root"));
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let after = store.stored();
    fixture.effects.hang(None);
    settled(&handle).await;
    task.stop().await;
    // The disk is as it was before the authority's first answer was stored.
    store.put(after);
    let (handle, task) = fixture.start().await;
    let state = settled(&handle).await;
    assert_eq!(fixture.effects.roots_made(), [only_root(&state)]);
    assert!(fixture.effects.calls().get("f.root").is_some_and(|asked| *asked == 2));
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_settled_state_owes_nothing_after_a_restart() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    settled(&handle).await;
    task.stop().await;
    let calls = fixture.effects.calls();
    let (handle, task) = fixture.start().await;
    assert!(matches!(handle.state().phase, Phase::Steady(_)));
    handle.submit(opened()).await.unwrap();
    task.stop().await;
    assert_eq!(fixture.effects.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn failures_of_an_effect_are_reported_until_it_works() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    fixture.effects.fail(vec![
        EffectError::Refused { reason: "wrong key".to_owned() },
        EffectError::Unavailable { reason: "no route".to_owned() },
    ]);
    let (handle, task) = fixture.start().await;
    let mut troubles = handle.troubles();
    handle.submit(bootstrap("f")).await.unwrap();
    let seen =
        troubles.wait_for(|troubles| troubles.iter().any(|trouble| trouble.attempts == 2)).await;
    let last = seen.unwrap().first().unwrap().clone();
    assert_eq!(last.last, EffectError::Refused { reason: "wrong key".to_owned() });
    settled(&handle).await;
    let cleared = tokio::time::timeout(
        std::time::Duration::from_secs(60),
        troubles.wait_for(|troubles| troubles.is_empty()),
    );
    assert!(cleared.await.is_ok());
    task.stop().await;
}
