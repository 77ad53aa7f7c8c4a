//! What is kept of what agents say of leaves of other servers, and for how long.

use trust::Sequence;

use super::super::testing::{World, serial, world};
use super::*;

fn applied(sequence: u64) -> Word {
    Word::Applied(Sequence(sequence), EvidenceClass::Applied)
}

fn kept(world: &World, after: u64) -> Vec<(String, Word)> {
    let kept = world.peers.outbox.after(after, usize::MAX);
    kept.into_iter().map(|(_, said)| (said.agent, said.word)).collect()
}

#[test]
fn the_newest_word_about_a_leaf_is_kept_and_what_was_said_before_is_no_news() {
    let world = world();
    let voice = world.peers.voice("node-1");
    voice.say(serial(1), applied(4));
    let told = *world.peers.outbox.changes().borrow();
    for word in [applied(4), applied(3)] {
        voice.say(serial(1), word);
    }
    assert_eq!(kept(&world, told), [], "all of it was told");
    voice.say(serial(1), applied(5));
    voice.say(serial(1), Word::Applied(Sequence(2), EvidenceClass::HandshakeObserved));
    assert_eq!(kept(&world, told).len(), 2, "a stronger proof of an older bundle counts too");
    assert_eq!(kept(&world, 0)[0], ("node-1".to_owned(), applied(5)));
}

#[test]
fn what_an_agent_holds_is_forgotten_with_its_stream_and_what_it_gave_up_is_not() {
    let world = world();
    let (former, other) = (world.peers.voice("node-1"), world.peers.voice("node-2"));
    former.say(serial(1), applied(4));
    former.say(serial(2), applied(4));
    former.say(serial(3), Word::Released);
    other.say(serial(1), applied(4));
    // Its next stream is open before the former one ends, and says one of them again.
    let next = world.peers.voice("node-1");
    next.say(serial(2), applied(4));
    drop(former);
    let node_1: Vec<_> =
        kept(&world, 0).into_iter().filter(|(agent, _)| agent == "node-1").collect();
    assert_eq!(node_1.len(), 2, "{node_1:?}");
    drop((next, other));
    assert_eq!(kept(&world, 0), [("node-1".to_owned(), Word::Released)]);
    let longest = Duration::from_secs(60);
    world.clock.advance(longest);
    world.peers.outbox.expire(trust::Clock::uptime(&*world.clock), longest);
    assert_eq!(world.peers.outbox.kept(), 1, "a leaf may live as long");
    world.clock.advance(Duration::from_secs(1));
    world.peers.outbox.expire(trust::Clock::uptime(&*world.clock), longest);
    assert_eq!(world.peers.outbox.kept(), 0);
    assert!(world.peers.outbox.table().agents.is_empty(), "nothing is left of who is gone");
}

#[test]
fn one_agent_takes_only_so_much_room_at_its_own_cost_and_all_of_them_too() {
    let world = world();
    let (loud, quiet) = (world.peers.voice("loud"), world.peers.voice("quiet"));
    quiet.say(serial(1), applied(4));
    let many = |number: usize| {
        let mut bytes = [0x40; Serial::LEN];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        Serial::from_bytes(&bytes).unwrap()
    };
    (0..3 * KEPT_OF_AGENT_MAX).for_each(|number| loud.say(many(number), applied(4)));
    assert_eq!(world.peers.outbox.kept(), KEPT_OF_AGENT_MAX + 1);
    assert_eq!(kept(&world, 0)[0].0, "quiet");
    assert_eq!(world.counters.forgotten(), 2 * KEPT_OF_AGENT_MAX as u64);
    let crowd: Vec<_> = (0..=KEPT_MAX / KEPT_OF_AGENT_MAX)
        .map(|number| world.peers.voice(&format!("node-{number}")))
        .collect();
    for voice in &crowd {
        (0..KEPT_OF_AGENT_MAX).for_each(|number| voice.say(many(number), applied(4)));
    }
    assert_eq!(world.peers.outbox.kept(), KEPT_MAX);
    drop(crowd);
    quiet.say(serial(2), applied(4));
    assert_eq!(world.peers.outbox.kept(), KEPT_OF_AGENT_MAX + 2, "there is room again");
}
