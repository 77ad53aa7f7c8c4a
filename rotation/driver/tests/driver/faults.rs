//! Every durable write, failed in every way: the answer is true, and the state is the one before or the one after.

use std::sync::Arc;

use rotation::record::{decode, encode};
use rotation_driver::{
    FaultStore, Outcome, RecordStore as _, StartError, Stored, SubmitError, WriteFault,
};

use crate::fixture::*;

#[tokio::test(start_paused = true)]
async fn a_bootstrap_survives_a_fault_at_any_of_its_writes() {
    for nth in 0..6 {
        for fault in [WriteFault::FailedNotStored, WriteFault::FailedButStored, WriteFault::Refused]
        {
            let store = Arc::new(FaultStore::new());
            let fixture = Fixture::on(store.clone());
            store.fail_write(nth, fault);
            let (handle, task) = fixture.start().await;
            let answer = handle.submit(bootstrap("f")).await;
            if nth == 0 && fault != WriteFault::FailedButStored {
                assert!(matches!(answer, Err(SubmitError::NotStored(_))), "{fault:?}: {answer:?}");
                assert_eq!((store.stored(), handle.state().generation.0), (None, 0));
                handle.submit(bootstrap("f")).await.unwrap();
            } else {
                assert_eq!(answer.unwrap().generation.0, 1, "write {nth}, {fault:?}");
            }
            let state = settled(&handle).await;
            assert_eq!(state.generation.0, 5, "write {nth}, {fault:?}: each change is made once");
            assert_eq!(fixture.effects.roots_made(), [only_root(&state)], "write {nth}, {fault:?}");
            assert_eq!(decode(&store.stored().unwrap().record).unwrap(), *state);
            let journal = fixture.journal().await;
            assert!(
                journal.iter().all(|entry| matches!(entry.outcome, Outcome::Changed { .. })),
                "{journal:?}"
            );
            assert_eq!(
                journal.iter().map(|entry| entry.generation).collect::<Vec<_>>(),
                [0, 1, 2, 3, 4]
            );
            task.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_does_not_answer_the_outcome_is_called_unknown_and_settles_later() {
    for (fault, stored_after) in
        [(WriteFault::FailedNotStored, 0), (WriteFault::FailedButStored, 1)]
    {
        let store = Arc::new(FaultStore::new());
        let fixture = Fixture::on(store.clone());
        let (handle, task) = fixture.start().await;
        fixture.effects.hang(Some("stage_root"));
        store.fail_write(0, fault);
        store.fail_loads(2);
        let error = handle.submit(bootstrap("f")).await.unwrap_err();
        assert!(matches!(error, SubmitError::Unknown(_)), "{error}");
        assert_eq!(handle.state().generation.0, 0, "the last known state is served on");
        let error = handle.submit(bootstrap("g")).await.unwrap_err();
        assert!(matches!(error, SubmitError::NotStored(_)), "{error}");
        // No event is needed for the driver to find out, and to go on with what it owes.
        if stored_after == 1 {
            until(&handle, |state| state.generation.0 == 1).await;
            until_called(&fixture, "f.root").await;
        }
        assert_eq!(handle.submit(bootstrap("f")).await.unwrap().generation.0, 1);
        fixture.effects.hang(None);
        assert_eq!(fixture.effects.roots_made(), [only_root(settled(&handle).await.as_ref())]);
        task.stop().await;
    }
}

async fn until_called(fixture: &Fixture, key: &str) {
    for _ in 0..1_000 {
        if fixture.effects.calls().contains_key(key) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{key} was not performed");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_moves_nothing_and_is_in_the_journal() {
    let store = Arc::new(FaultStore::new());
    let fixture = Fixture::on(store.clone());
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let state = settled(&handle).await;
    let stored = store.stored();
    let error = handle.submit(bootstrap("g")).await.unwrap_err();
    assert!(error.to_string().contains("start a rotation with"), "{error}");
    assert_eq!((handle.state(), store.stored()), (state, stored));
    let last = fixture.journal().await.pop().unwrap();
    assert!(matches!(last.outcome, Outcome::Refused(_)), "{last:?}");
    assert_eq!(last.event, bootstrap("g"));
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_journal_replays_to_the_stored_record() {
    let store = Arc::new(FaultStore::new());
    let fixture = Fixture::on(store.clone());
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let root = only_root(settled(&handle).await.as_ref());
    handle.submit(opened()).await.unwrap();
    handle.submit(fixture.horizon(root, 3_600)).await.unwrap();
    let mut state = rotation::State::uninitialised(handle.state().trust_domain.clone());
    for entry in fixture.journal().await {
        assert_eq!(entry.generation(), state.generation);
        let transition = rotation::step(&state, &entry.event, entry.at(), &entry.policy).unwrap();
        assert_eq!(entry.outcome, Outcome::Changed { effects: transition.effects });
        state = transition.next;
    }
    assert_eq!(encode(&state).unwrap(), store.stored().unwrap().record);
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_drivers_on_one_record_found_one_root() {
    let store = Arc::new(FaultStore::new());
    let (one, other) = (Fixture::on(store.clone()), Fixture::on(store.clone()));
    let (first, first_task) = one.start().await;
    let (second, second_task) = other.start().await;
    let answers = tokio::join!(first.submit(bootstrap("f")), second.submit(bootstrap("g")));
    assert!(answers.0.is_ok() != answers.1.is_ok(), "{answers:?}");
    let states = tokio::join!(settled(&first), async {
        // The slower one learns of the record when it has something to write.
        let _ = second.submit(opened()).await;
        settled(&second).await
    });
    assert_eq!(only_root(&states.0), only_root(&states.1));
    let last = decode(&store.stored().unwrap().record).unwrap();
    assert_eq!(last.roots.len(), 1);
    first_task.stop().await;
    second_task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_used_is_an_error_and_never_a_first_boot() {
    let store = Arc::new(FaultStore::new());
    let fixture = Fixture::on(store.clone());
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    settled(&handle).await;
    task.stop().await;
    let good = store.stored().unwrap();
    let mut damaged = good.clone();
    damaged.record[20] ^= 1;
    let mut newer = good.clone();
    newer.record[8..12].copy_from_slice(&(rotation::record::FORMAT + 1).to_be_bytes());
    let mut other = decode(&good.record).unwrap();
    other.trust_domain = trust::TrustDomain::parse("other.org").unwrap();
    let other = Stored { record: encode(&other).unwrap(), ..good.clone() };
    let shifted = Stored { generation: good.generation.next(), ..good.clone() };
    for (stored, text) in [
        (damaged, "restore the latest backup"),
        (newer, "start the release that wrote it"),
        (other, "correct trust_domain or data_dir"),
        (shifted, "the store says 6"),
    ] {
        store.put(Some(stored.clone()));
        let error = fixture.try_start().await.unwrap_err();
        assert!(
            matches!(error, StartError::Record(_)) && error.to_string().contains(text),
            "{error}"
        );
        assert_eq!(store.load().await.unwrap(), Some(stored), "nothing was written");
    }
}
