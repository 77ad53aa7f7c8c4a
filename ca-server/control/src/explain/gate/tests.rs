//! What is said of a gate fits what the rotation does.

use std::collections::BTreeSet;
use std::time::Duration;

use rotation::evidence::Hold;
use rotation::{RequestId, Sighting};
use trust::{Sequence, TrustDomain};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn gate(name: GateName, open: bool, opens_at_latest: Option<Timestamp>) -> Gate {
    let holds = match open {
        true => Vec::new(),
        false => vec![Hold::Settling { left: Duration::from_secs(30) }],
    };
    Gate { name, holds, opens_at_latest, rests_on: BTreeSet::new() }
}

fn rotation(mode: Mode, held: bool) -> Rotation {
    Rotation {
        request_id: RequestId::parse("one").unwrap(),
        authority: "main".parse().unwrap(),
        mode,
        requested_at: NOW,
        stage_again: None,
        canary: None,
        held_since: held.then_some(NOW),
    }
}

fn state(seen: bool) -> State {
    let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
    if seen {
        let sighting = Sighting { sequence: Sequence(9), digest: None, since: NOW };
        state.seen.open.insert("node-1".to_owned(), sighting);
    }
    state
}

#[test]
fn a_gate_opens_by_itself_only_if_nobody_must_say_a_word() {
    for name in [GateName::Trust, GateName::Canary, GateName::Leaves, GateName::Converged] {
        for (open, latest) in [(true, Some(NOW)), (false, Some(NOW)), (false, None)] {
            for mode in [Mode::Auto, Mode::Manual] {
                for (held, seen) in [(false, false), (true, false), (false, true), (true, true)] {
                    let (gate, rotation) = (gate(name, open, latest), rotation(mode, held));
                    let opening = Opening::of(&gate, &rotation, &state(seen));
                    let ways = ["say so with `banyan root attest ab --by NAME`".to_owned()];
                    let holds: Vec<_> = gate.holds.iter().map(ToString::to_string).collect();
                    let words = Words { holds: &holds, ways: &ways, is_troubled: false };
                    let said = summary(&gate, opening, &rotation, words);
                    assert_eq!(
                        said.contains("banyan root attest"),
                        opening == Opening::ByWord,
                        "{said}"
                    );
                    let by_itself = said.contains("it opens by itself");
                    assert_eq!(by_itself, !held && !seen && !open && latest.is_some(), "{said}");
                    assert_eq!(by_itself, opening.at_latest().is_some(), "{said}");
                    assert!(by_itself || open || !opening.waits_for().is_empty(), "{said}");
                    assert_eq!(said.contains("banyan rotate resume"), held, "{said}");
                    let waits = name.waits_for_activation();
                    let by_hand = waits && mode == Mode::Manual && !held && !seen;
                    let activates = said.contains("banyan rotate activate");
                    assert_eq!(activates, by_hand && (open || latest.is_some()), "{said}");
                }
            }
        }
    }
}
