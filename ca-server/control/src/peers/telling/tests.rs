//! Who hears of what agents said, and when again.

use ledger::EvidenceClass;
use trust::Sequence;

use super::super::calls::Word;
use super::super::lines::CALL_WITHIN;
use super::super::testing::{Manner, World, eventually, serial, world};
use super::*;
use auth::authn::mtls::{RowWord, Standing};
use trust::{SpiffeId, SpkiHash};

const LONGEST: Duration = Duration::from_secs(3_600);

fn applied(sequence: u64) -> Word {
    Word::Applied(Sequence(sequence), EvidenceClass::Applied)
}

fn told(world: &World, name: &str) -> Vec<Serial> {
    let told = world.fakes.told.lock().unwrap();
    told.iter().filter(|(to, _)| to == name).map(|(_, said)| said.serial).collect()
}

fn row() -> RowWord {
    RowWord {
        spki: SpkiHash::of(b"key"),
        identity: SpiffeId::parse("spiffe://example.org/x").unwrap(),
        certificate: None,
        standing: Standing::Live,
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_hears_everything_once_and_who_starts_anew_hears_all_of_it_again() {
    let world = world();
    world.there(&[("b", "b-1"), ("c", "c-1")]);
    let telling = tokio::spawn(Arc::clone(&world.peers).keep_telling(LONGEST));
    let voice = world.peers.voice("node-1");
    (0..200).for_each(|number| voice.say(serial(number), applied(4)));
    let voice_2 = world.peers.voice("node-2");
    (0..200).for_each(|number| voice_2.say(serial(number), applied(4)));
    eventually("both heard it", || {
        told(&world, "b").len() == 400 && told(&world, "c").len() == 400
    })
    .await;
    let calls = world.fakes.calls();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.fakes.calls(), calls, "nothing is told twice");
    world.there(&[("b", "b-2"), ("c", "c-1")]);
    eventually("b hears it again", || told(&world, "b").len() == 800).await;
    assert_eq!(told(&world, "c").len(), 400);
    telling.abort();
}

#[tokio::test(start_paused = true)]
async fn what_a_server_does_not_hear_it_is_told_when_it_answers_again() {
    let world = world();
    world.there(&[("b", "b-1")]);
    world.fakes.behave(Manner::Hangs);
    let telling = tokio::spawn(Arc::clone(&world.peers).keep_telling(LONGEST));
    let voice = world.peers.voice("node-1");
    voice.say(serial(1), applied(4));
    eventually("b was called", || world.fakes.calls() == 1).await;
    tokio::time::sleep(CALL_WITHIN + Duration::from_secs(5)).await;
    assert_eq!(world.fakes.calls(), 1, "it rests, and so does the task");
    world.fakes.behave(Manner::KnowsNone);
    world.clock.advance(Duration::from_secs(60));
    eventually("b heard it", || told(&world, "b") == [serial(1)]).await;
    telling.abort();
}

#[tokio::test(start_paused = true)]
async fn that_a_leaf_was_given_up_is_kept_until_its_server_has_heard_of_it() {
    let world = world();
    world.there(&[("c", "c-1")]);
    let telling = tokio::spawn(Arc::clone(&world.peers).keep_telling(LONGEST));
    let voice = world.peers.voice("node-1");
    voice.say(serial(1), Word::Released);
    drop(voice);
    eventually("c heard it", || told(&world, "c").len() == 1).await;
    assert_eq!(world.peers.outbox.kept(), 1, "it is no leaf of c");
    world.fakes.behave(Manner::Knows(row()));
    world.there(&[("b", "b-1"), ("c", "c-1")]);
    eventually("b heard it", || told(&world, "b").len() == 1).await;
    eventually("nobody else needs it", || world.peers.outbox.kept() == 0).await;
    telling.abort();
}

#[tokio::test(start_paused = true)]
async fn no_more_leaves_are_asked_for_in_one_call_than_it_takes() {
    let world = world();
    world.there(&[("b", "b-1")]);
    let leaves = |count| vec![serial(1); count];
    world.peers.ask_to_renew(Vec::new()).await;
    assert_eq!(world.fakes.calls(), 0);
    let too_many = vec![("one".to_owned(), leaves(RENEWALS_MAX)), ("two".to_owned(), leaves(1))];
    world.peers.ask_to_renew(too_many).await;
    assert_eq!(world.fakes.calls(), 1);
}
