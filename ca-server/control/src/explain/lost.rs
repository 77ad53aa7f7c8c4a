//! Rows that were lost when a backup was restored, as what keeps a gate closed.
//!
//! The record may have several segments for them, one for each word that counted them. People are told of one thing that ends
//! once: nobody knows more of it.

use rotation::evidence::Hold;
use rotation::{LOST_REPLICA, State};
use trust::Timestamp;

/// What keeps the gate closed, without lost rows; and until when those are waited for.
pub(super) fn apart<'h>(state: &State, holds: &'h [Hold]) -> (Vec<&'h Hold>, Option<Timestamp>) {
    let kept = holds.iter().filter(|hold| until(state, hold).is_none()).collect();
    (kept, holds.iter().filter_map(|hold| until(state, hold)).max())
}

/// All of them as one.
pub(super) fn in_words(until: Timestamp) -> String {
    format!(
        "leaves that were released after the backup that was restored are counted as living until {until}: nobody has their rows"
    )
}

fn until(state: &State, hold: &Hold) -> Option<Timestamp> {
    let Hold::Segment { segment, until } = hold else { return None };
    let whose = state.segments.get(segment)?.replica.as_str();
    (whose == LOST_REPLICA).then_some(*until)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rotation::{Contents, Segment, SegmentState};
    use trust::TrustDomain;

    use super::*;

    #[test]
    fn what_was_lost_is_one_thing_with_one_end_however_many_words_counted_it() {
        let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
        let mut holds = Vec::new();
        for (id, replica, until) in
            [("lost-g5", "lost", 30), ("ca-1-aa", "ca-1", 50), ("lost-7", "lost", 40)]
        {
            let segment = Segment {
                replica: replica.parse().unwrap(),
                state: SegmentState::Closed(Contents::Unread),
                bounds: BTreeMap::new(),
            };
            state.segments.insert(id.parse().unwrap(), segment);
            let segment = id.parse().unwrap();
            holds.push(Hold::Segment { segment, until: Timestamp::from_secs(until) });
        }
        let (kept, lost) = apart(&state, &holds);
        assert_eq!(kept, [&holds[1]]);
        assert_eq!(lost, Some(Timestamp::from_secs(40)));
        assert!(!in_words(Timestamp::from_secs(40)).contains("lost-"));
        assert_eq!(apart(&state, &holds[1..2]).1, None);
    }
}
