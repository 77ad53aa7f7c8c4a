//! What operators do outside of the record: the journal has each word, with who and why.

use std::sync::Arc;

use rotation::Event;
use rotation_driver::{FaultStore, Outcome, RecordStore as _, SubmitError, Word, replay};

use crate::fixture::*;

fn forgotten() -> Event {
    Event::OperatorActed {
        verb: "leaf forget".to_owned(),
        about: "4a01".to_owned(),
        detail: "spiffe://example.org/web".to_owned(),
    }
}

fn word() -> Word {
    Word { by: "ann (uid 0)".to_owned(), reason: "the node burnt down".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn each_word_of_an_operator_is_in_the_journal_with_who_and_why_and_moves_nothing() {
    let store = Arc::new(FaultStore::new());
    let fixture = Fixture::on(store.clone());
    let (handle, task) = fixture.start().await;
    handle.submit(bootstrap("f")).await.unwrap();
    let state = settled(&handle).await;
    for _ in 0..2 {
        handle.submit_as(forgotten(), word()).await.unwrap();
    }
    assert_eq!(handle.state(), state);
    let said: Vec<_> =
        fixture.journal().await.into_iter().filter(|entry| entry.event == forgotten()).collect();
    assert_eq!(said.len(), 2, "the same word twice is two words");
    for entry in said {
        assert_eq!((entry.by, entry.reason), (word().by, word().reason));
        assert_eq!(entry.outcome, Outcome::Unchanged);
    }
    let replayed = replay(fixture.domain(), &store.journal(0, usize::MAX).await.unwrap()).unwrap();
    assert_eq!((replayed.state, replayed.unchanged), (state.as_ref().clone(), 2));
    task.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_word_that_cannot_be_written_down_is_no_word() {
    let store = Arc::new(FaultStore::new());
    let fixture = Fixture::on(store.clone());
    let (handle, task) = fixture.start().await;
    store.fail_appends(1);
    let error = handle.submit_as(forgotten(), word()).await.unwrap_err();
    assert!(matches!(error, SubmitError::NotStored(_)), "{error}");
    handle.submit_as(forgotten(), word()).await.unwrap();
    assert_eq!(fixture.journal().await.len(), 1);
    task.stop().await;
}
