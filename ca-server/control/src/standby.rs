//! A standby root by policy (`[root.standby]`): prepared when there is none that lasts, replaced before it ends by the next one
//! first, and never while anything else about roots is under way.

use std::time::Duration;

use rotation::{AuthorityName, Ending, Event, Mode, RequestId, RootEntry, StagingStep, State};
use rotation_driver::{EffectError, Trouble};
use trust::plain::span;
use trust::{RootId, Timestamp};

/// What the requests of this policy are named after.
const NAME: &str = "standby";
/// How long an authority may fail while the root of this policy is made: whoever wants another rotation waits meanwhile.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
/// Pause after an attempt that could not begin; doubled after each further one.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What the configuration says of standby roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyPolicy {
    /// Whose root it is.
    pub authority: AuthorityName,
    /// How long before its end the next one is prepared.
    pub renew_before: Duration,
    /// How long none is prepared after somebody gave one up.
    pub retry_after: Duration,
}

/// What is due for a standby root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// One that lasts is there, or something is under way.
    Nothing,
    /// One is to be prepared under this id, for this reason.
    Prepare(RequestId, String),
    /// This one goes under this id, for this reason: another one lasts.
    Drop(RootId, RequestId, String),
    /// One is wanted, and not asked for now: why, and what to do.
    Held(String),
}

/// Pauses between attempts that could not begin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pauses {
    again: Duration,
    attempts: u32,
}

impl Pauses {
    /// Whether it may be tried at this uptime.
    pub fn is_over(&self, uptime: Duration) -> bool {
        uptime >= self.again
    }

    /// The pause after one more attempt that could not begin.
    #[must_use]
    pub fn longer(self, uptime: Duration) -> Self {
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(self.attempts)).min(PAUSE_MAX);
        Self { again: uptime.saturating_add(pause), attempts: self.attempts.saturating_add(1) }
    }
}

impl StandbyPolicy {
    /// What is due in this state.
    pub fn due(&self, state: &State, now: Timestamp) -> Due {
        // Whatever is asked for above a bundle that is not known is refused until an operator has decided.
        let Some(steady) = state.phase.steady().filter(|_| state.seen.highest().is_none()) else {
            return Due::Nothing;
        };
        let ours = |entry: &RootEntry| entry.authority == self.authority;
        let lasts = |entry: &RootEntry| entry.not_after > now.plus(self.renew_before);
        let mut standby: Vec<_> = state.standby().filter(|(_, entry)| !entry.tainted).collect();
        standby.sort_by_key(|(_, entry)| entry.not_after);
        if standby.iter().any(|(_, entry)| ours(entry) && lasts(entry)) {
            let over =
                standby.iter().find(|(_, entry)| !lasts(entry) && !entry.signed_since_staged());
            return over.map_or(Due::Nothing, |(id, entry)| self.drops(**id, entry));
        }
        if standby.iter().filter(|(_, entry)| ours(entry)).count() > 1 {
            return Due::Held(format!(
                "authority {} gives standby roots that end within root.standby.renew_before ({}), so no further one is asked for: \
                 write a shorter time there, or have it give roots that last longer",
                self.authority,
                span(self.renew_before)
            ));
        }
        let given_up = state
            .phase
            .ended()
            .filter(|ended| ended.ending == Ending::Aborted && is_named(&ended.request_id));
        let again_at = steady.since.plus(self.retry_after);
        if given_up.is_some() && now < again_at {
            return Due::Held(format!(
                "there is no standby root that lasts ([root.standby]), and the last attempt at one was given up: it is asked for again at \
                 {again_at} (rotation.retry_aborted_after); `banyan root standby prepare --authority {}` begins it now",
                self.authority
            ));
        }
        let why = match standby.iter().find(|(_, entry)| ours(entry)) {
            None => {
                format!("[root.standby]: there is no standby root of authority {}", self.authority)
            }
            Some((id, entry)) => {
                format!("[root.standby]: standby root {} ends at {}", id.short(), entry.not_after)
            }
        };
        // The bundle is another one after each that was prepared; attempts that came to nothing are counted.
        let first = format!("{NAME}-{}", state.sequence);
        let of_these = |id: &&RequestId| {
            let rest = id.as_str().strip_prefix(&first);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let id = match state.done.iter().filter(of_these).count() {
            0 => first,
            attempts => format!("{first}-{}", attempts + 1),
        };
        RequestId::parse(&id).map_or(Due::Nothing, |id| Due::Prepare(id, why))
    }

    fn drops(&self, root: RootId, entry: &RootEntry) -> Due {
        let why = format!(
            "[root.standby]: standby root {} ends at {}, and another one is trusted",
            root.short(),
            entry.not_after
        );
        let id = RequestId::parse(&format!("{NAME}-drop-{}", root.short()));
        id.map_or(Due::Nothing, |id| Due::Drop(root, id, why))
    }

    /// Asks for a standby root.
    pub fn event(&self, request_id: RequestId) -> Event {
        let (authority, mode) = (self.authority.clone(), Mode::Standby);
        Event::RotationRequested { request_id, authority, mode, stage_again: None, canary: None }
    }
}

/// Whether a request is one of this policy.
fn is_named(id: &RequestId) -> bool {
    let rest = id.as_str().strip_prefix(NAME).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Why a root that this policy asked for is given up: its authority has failed for so long that others must not wait for it. Who
/// waits for a person waits as long as it takes.
pub fn given_up(
    state: &State,
    troubles: &[Trouble],
    now: Timestamp,
) -> Option<(RequestId, String)> {
    let staging = state.phase.staging()?;
    let (rotation, since) = (state.phase.rotation()?, state.phase.since()?);
    let ours = rotation.mode == Mode::Standby && is_named(&rotation.request_id);
    let ready = matches!(staging.step, StagingStep::Ready { .. });
    if !ours || ready || rotation.held_since.is_some() || now.since(since) < GIVE_UP_AFTER {
        return None;
    }
    let mut failing = troubles.iter().map(|trouble| &trouble.last);
    let failing = failing.find(|last| !matches!(last, EffectError::NotYet { .. }))?;
    let id = RequestId::parse(&format!("{}-given-up", rotation.request_id)).ok()?;
    Some((id, format!("[root.standby]: authority {} failed: {failing}", rotation.authority)))
}

#[cfg(test)]
mod tests;
