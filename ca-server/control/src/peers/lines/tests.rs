//! Whom a server calls, and what one that is dead costs.

use super::super::testing::{Manner, World, serial, world};
use super::*;
use trust::CertificateId;

async fn ask(world: &World, name: &str) -> Result<(), NotAnswered> {
    let (issuer, name) = (CertificateId::of(b"issuer"), name.parse().unwrap());
    let call = world.peers.lines.call(&name, "look_up", |calls, place| async move {
        calls.look_up(&place, issuer, serial(1)).await.map(drop)
    });
    call.await
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_costs_its_deadline_once_and_is_tried_by_one_call_at_a_time()
{
    let world = world();
    world.there(&[("b", "b-1")]);
    world.fakes.behave(Manner::Hangs);
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&world, "b").await, Err(NotAnswered::Late));
    assert_eq!(began.elapsed(), CALL_WITHIN);
    for _ in 0..1_000 {
        assert_eq!(ask(&world, "b").await, Err(NotAnswered::Resting));
    }
    assert_eq!(began.elapsed(), CALL_WITHIN, "none of them waited");
    world.clock.advance(REST_FIRST);
    let all = futures::future::join_all((0..10).map(|_| ask(&world, "b"))).await;
    let late = all.iter().filter(|answer| **answer == Err(NotAnswered::Late)).count();
    assert_eq!((late, world.fakes.calls()), (1, 2), "{all:?}");
    // The second rest is longer, and none is longer than the longest.
    world.clock.advance(REST_FIRST);
    assert_eq!(ask(&world, "b").await, Err(NotAnswered::Resting));
    for _ in 0..20 {
        world.clock.advance(REST_MOST);
        assert_eq!(ask(&world, "b").await, Err(NotAnswered::Late));
    }
    world.clock.advance(REST_MOST);
    world.fakes.behave(Manner::KnowsNone);
    assert_eq!(ask(&world, "b").await, Ok(()));
    assert_eq!(ask(&world, "b").await, Ok(()), "it answers again, and rests no more");
    assert_eq!(world.counters.calls("b", "look_up", "answered"), 2);
    assert!(world.counters.calls("b", "look_up", "resting") > 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_leaves_the_next_one_to_find_out() {
    let world = world();
    world.there(&[("b", "b-1")]);
    world.fakes.behave(Manner::Fails);
    assert!(matches!(ask(&world, "b").await, Err(NotAnswered::Failed(_))));
    world.clock.advance(REST_FIRST);
    world.fakes.behave(Manner::Hangs);
    let soon = Duration::from_millis(10);
    assert!(tokio::time::timeout(soon, ask(&world, "b")).await.is_err(), "its client went away");
    world.fakes.behave(Manner::KnowsNone);
    assert_eq!(ask(&world, "b").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_stopped_has_no_lease_or_no_address_is_not_called_and_a_new_process_is_at_once() {
    let world = world();
    world.there(&[("b", "b-1")]);
    assert_eq!(ask(&world, "c").await, Err(NotAnswered::Away), "nobody knows it");
    world.change("b", |peer| peer.row.address = None);
    assert_eq!(ask(&world, "b").await, Err(NotAnswered::Away));
    let said = world.peers.conditions();
    assert!(said[0].contains("replica b does not say where it is reached"), "{said:?}");
    world.there(&[("b", "b-1")]);
    world.change("b", |peer| peer.row.standing = replicas::Standing::Stopped);
    assert_eq!(ask(&world, "b").await, Err(NotAnswered::Away));
    world.there(&[("b", "b-1")]);
    world.clock.advance(Duration::from_secs(3_601));
    assert_eq!(ask(&world, "b").await, Err(NotAnswered::Away), "its lease has passed");
    assert!(world.peers.conditions().is_empty(), "that it is silent is said elsewhere");
    world.there(&[("b", "b-1")]);
    world.fakes.behave(Manner::Fails);
    assert!(matches!(ask(&world, "b").await, Err(NotAnswered::Failed(_))));
    assert_eq!(ask(&world, "b").await, Err(NotAnswered::Resting));
    world.fakes.behave(Manner::KnowsNone);
    world.there(&[("b", "b-2")]);
    assert_eq!(ask(&world, "b").await, Ok(()), "it was started again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_holds_its_lease_and_cannot_be_asked_is_named_with_why() {
    let world = world();
    world.there(&[("b", "b-1")]);
    world.fakes.behave(Manner::Fails);
    assert!(ask(&world, "b").await.is_err());
    assert!(world.peers.conditions().is_empty(), "one call may fail");
    world.clock.advance(NAMED_AFTER);
    assert!(ask(&world, "b").await.is_err());
    let said = world.peers.conditions();
    assert!(
        said[0].contains("b.example.org:15012 for 10s (it refuses: so it is told to)"),
        "{said:?}"
    );
    world.fakes.behave(Manner::KnowsNone);
    world.clock.advance(REST_MOST);
    assert!(ask(&world, "b").await.is_ok());
    assert!(world.peers.conditions().is_empty());
}
