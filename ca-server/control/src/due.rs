//! Rotations that nobody asks for, on a running CA: what is judged, and what is said of it.

use rotation::State;
use trust::Timestamp;

use crate::ca::Ca;
use crate::causes::{Cause, Due, Held, Look, Until};
use crate::schedule::Closed;

/// What is due now. At a CA whose roots come from an upstream CA nothing is: they are replaced there.
pub fn now(ca: &Ca, state: &State, now: Timestamp) -> Due {
    match ca.upstreams.has(&ca.causes.authority) {
        true => Due::Nothing,
        false => ca.causes.due(&look(ca, state, now)),
    }
}

fn look<'a>(ca: &'a Ca, state: &'a State, now: Timestamp) -> Look<'a> {
    let parties = ca.registry.relying_parties();
    let parties = parties.iter().filter_map(|(_, row)| row.staleness).max().unwrap_or_default();
    Look { state, policy: &ca.policy, parties, now }
}

/// Whether the root that signs is replaced before it ends without anybody's asking.
pub fn replaces_ending_roots(ca: &Ca) -> bool {
    ca.causes.schedule.before_expiry && !ca.upstreams.has(&ca.causes.authority)
}

/// What is wrong: a rotation that is due and was given up, and a root for whose replacement no time is left open.
pub fn conditions(ca: &Ca, state: &State, at: Timestamp) -> Vec<String> {
    let mut said = Vec::new();
    if let Due::Held(Held { cause, root, until: Until::Again(until) }) = now(ca, state, at) {
        let why = match cause {
            Cause::Expiry => "nears its end",
            Cause::Configuration => {
                "is not what the configuration says (root.authority, or its key)"
            }
            _ => "is older than rotation.max_root_age",
        };
        said.push(format!(
            "root {} {why}, and the rotation for that was given up: it is asked for again at {until} \
             (rotation.retry_aborted_after); `banyan rotate start` begins it now",
            root.short()
        ));
    }
    if let Some((root, early)) = ca.causes.no_time_left(&look(ca, state, at)) {
        said.push(format!(
            "windows and freezes of rotation.schedule leave no time to replace root {} before it ends: a rotation begins at {} all the \
             same; open a window before that, or `banyan rotate start`",
            root.short(),
            early.max(at)
        ));
    }
    said
}

/// What is due and waits for its time, or was missed: nothing of it is wrong.
pub fn waiting(ca: &Ca, state: &State, at: Timestamp) -> Vec<String> {
    let mut said = Vec::new();
    if let Due::Held(Held { cause, until: Until::Open(closed, opens), .. }) = now(ca, state, at) {
        let opens = opens.map_or_else(
            || "not within 400 days".to_owned(),
            |opens| format!("at {}", ca.causes.schedule.zone.told(opens)),
        );
        said.push(format!(
            "a rotation is due (cause: {}) and begins {opens}, because {} (rotation.schedule); `banyan rotate start` begins one now",
            cause.name(),
            because(&closed)
        ));
    }
    if let Some(due) = ca.causes.missed(state, at) {
        let zone = &ca.causes.schedule.zone;
        let next = ca.causes.schedule.next_due(at, 1);
        let next = next.first().map_or_else(|| "never".to_owned(), |next| zone.told(*next));
        said.push(format!(
            "no rotation came of the due time {} (rotation.schedule), and make_up_within is over: the next is due at {next}; \
             `banyan rotate start` begins one now",
            zone.told(due)
        ));
    }
    said
}

/// Why nothing begins.
pub fn because(closed: &Closed) -> String {
    match closed {
        Closed::Window => "no window is open".to_owned(),
        Closed::Freeze(name) => format!("freeze {name} holds"),
    }
}
