//! Why a rotation begins that nobody asks for: the root nears its end, the configuration names another authority or algorithm, the root
//! has reached its age, or a schedule says so. And which of these began one, read off its request id.
//!
//! What is due is a level, read off the record: each request is named after what it is for, so that several servers, a restart and a
//! second look ask for one rotation together.

use std::time::Duration;

use plugins::KeySpec;
use rotation::{Ending, Policy, RequestId, RootEntry, State};
use trust::{Certificate, KeyKind, PublicKey, RootId, Timestamp};

use crate::schedule::{Closed, Schedule};

/// Before this time a condition tells that windows and freezes leave none in which the root could be replaced.
const TOLD_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// What the configuration says of rotations that nobody asks for.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    /// Who makes new roots.
    pub authority: String,
    /// Age at which a root is replaced; none for any.
    pub max_age: Option<Duration>,
    /// How long a rotation that was given up is not asked for again for the same cause.
    pub retry_after: Duration,
    /// When they may begin.
    pub schedule: Schedule,
    /// Kind of the key that the authority gives a new root, where the configuration says it.
    pub root_key: Option<KeySpec>,
}

/// Why a rotation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The root that signed would have ended.
    Expiry,
    /// The configuration names another authority, or another algorithm.
    Configuration,
    /// The root had reached its age.
    Age,
    /// A schedule.
    Schedule,
    /// The authority signed with another root.
    Authority,
    /// The upstream CA replaced its root.
    Upstream,
    /// Somebody asked for it.
    Operator,
}

impl Cause {
    const NAMED: [(Self, &str); 6] = [
        (Self::Expiry, "expiry-"),
        (Self::Configuration, "config-"),
        (Self::Age, "age-"),
        (Self::Schedule, "schedule-"),
        (Self::Authority, "notice-"),
        (Self::Upstream, "tier-"),
    ];

    /// Why the rotation of this request began.
    pub fn of(request: &RequestId) -> Self {
        let named = Self::NAMED.iter().find(|(_, prefix)| request.as_str().starts_with(prefix));
        named.map_or(Self::Operator, |(cause, _)| *cause)
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Configuration => "configuration",
            Self::Age => "age",
            Self::Schedule => "schedule",
            Self::Authority => "authority",
            Self::Upstream => "upstream",
            Self::Operator => "operator",
        }
    }

    fn prefix(self) -> &'static str {
        Self::NAMED.iter().find(|(cause, _)| *cause == self).map_or("", |(_, prefix)| *prefix)
    }
}

/// What it is judged by, beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The record.
    pub state: &'a State,
    /// The limits of the machine.
    pub policy: &'a Policy,
    /// How long relying parties are waited for that say nothing.
    pub parties: Duration,
    /// Now.
    pub now: Timestamp,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing, or a rotation is under way.
    Nothing,
    /// A rotation is to be asked for under this id.
    Ask(Asked),
    /// It waits.
    Held(Held),
}

/// A rotation that is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Why.
    pub cause: Cause,
    /// The root that signs.
    pub root: RootId,
    /// Names what it is for.
    pub request_id: RequestId,
    /// What would have kept it from beginning, if it could wait.
    pub in_spite_of: Option<Closed>,
}

/// A rotation that is due and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Why it is due.
    pub cause: Cause,
    /// The root that signs.
    pub root: RootId,
    /// What it waits for.
    pub until: Until,
}

/// What a rotation waits for that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// The last one for this cause was given up: it is asked for again at this time.
    Again(Timestamp),
    /// A window, or the end of a freeze: the first moment, if there is one within 400 days.
    Open(Closed, Option<Timestamp>),
}

/// How much time the root that signs leaves.
struct Room {
    /// From when on it is replaced for its end.
    early: Timestamp,
    /// The last moment from which the slowest way still ends in time.
    late: Timestamp,
}

impl Causes {
    /// What is due.
    pub fn due(&self, look: &Look<'_>) -> Due {
        let (state, now) = (look.state, look.now);
        // Where agents hold what was never published it would be refused until an operator has decided.
        if !state.phase.is_steady() || state.seen.highest().is_some() {
            return Due::Nothing;
        }
        let Some((root, entry)) = signing(state) else { return Due::Nothing };
        let closed = self.schedule.closed(now);
        let mut held = None;
        let causes = [
            (Cause::Expiry, self.is_ending(entry, look)),
            (Cause::Configuration, self.differs(entry)),
            (Cause::Age, self.is_old(entry, now)),
            (Cause::Schedule, self.unserved(state, now).is_some()),
        ];
        for (cause, _) in causes.into_iter().filter(|(_, is)| *is) {
            let urgent = cause == Cause::Expiry && self.cannot_wait(entry, look);
            let wait = |until| Some(Held { cause, root, until });
            let attempt = match cause {
                Cause::Schedule => self.unserved(state, now).and_then(named_after).map(Ok),
                _ => attempt(state, &root, cause, self.retry_after, now),
            };
            match (attempt, &closed) {
                (Some(Err(again)), _) => held = held.or(wait(Until::Again(again))),
                (Some(Ok(request_id)), closed) if closed.is_none() || urgent => {
                    return Due::Ask(Asked {
                        cause,
                        root,
                        request_id,
                        in_spite_of: closed.clone(),
                    });
                }
                (Some(Ok(_)), Some(closed)) => {
                    let opens = self.schedule.opens(now);
                    held = held.or(wait(Until::Open(closed.clone(), opens)));
                }
                (Some(Ok(_)), None) | (None, _) => {}
            }
        }
        held.map_or(Due::Nothing, Due::Held)
    }

    /// A due time of the schedule that passed without a rotation, and is not made up for any more.
    pub fn missed(&self, state: &State, now: Timestamp) -> Option<Timestamp> {
        let due = self.schedule.last_due(now)?;
        let is_late = now.since(due) > self.schedule.make_up_within;
        (is_late && state.phase.is_steady() && !is_served(state, due)).then_some(due)
    }

    /// Whether windows and freezes leave no moment in which the root could be replaced before it is too late, told a month before.
    pub fn no_time_left(&self, look: &Look<'_>) -> Option<(RootId, Timestamp)> {
        if !self.schedule.before_expiry {
            return None;
        }
        let (root, entry) = signing(look.state)?;
        let room = room(entry, look)?;
        if look.now.plus(TOLD_BEFORE) < room.early {
            return None;
        }
        let first = self.schedule.opens(room.early.max(look.now));
        first.is_none_or(|first| first >= room.late).then_some((root, room.early))
    }

    fn is_ending(&self, entry: &RootEntry, look: &Look<'_>) -> bool {
        self.schedule.before_expiry && room(entry, look).is_some_and(|room| look.now >= room.early)
    }

    /// Whether a root that ends leaves no later moment to begin at.
    fn cannot_wait(&self, entry: &RootEntry, look: &Look<'_>) -> bool {
        let opens = self.schedule.opens(look.now);
        room(entry, look).is_none_or(|room| {
            look.now >= room.late || opens.is_none_or(|opens| opens >= room.late)
        })
    }

    fn differs(&self, entry: &RootEntry) -> bool {
        let other_key = || {
            let wanted = self.root_key.map(|key| match key {
                KeySpec::P256 => KeyKind::P256,
                KeySpec::P384 => KeyKind::P384,
                KeySpec::Ed25519 => KeyKind::Ed25519,
            });
            wanted.is_some_and(|wanted| key_kind(entry).is_some_and(|kind| kind != wanted))
        };
        self.schedule.on_config_change
            && (entry.authority.as_str() != self.authority || other_key())
    }

    fn is_old(&self, entry: &RootEntry, now: Timestamp) -> bool {
        let begins = certificate(entry).map(|certificate| certificate.validity().not_before());
        match (self.max_age, begins) {
            (Some(age), Some(begins)) => now.since(begins) >= age,
            _ => false,
        }
    }

    /// The last due time, if nothing came of it and it is not too late.
    fn unserved(&self, state: &State, now: Timestamp) -> Option<Timestamp> {
        let due = self.schedule.last_due(now)?;
        (now.since(due) <= self.schedule.make_up_within && !is_served(state, due)).then_some(due)
    }
}

/// Whether a rotation was asked for at this due time, or one ended well since then: what was under way counts for it.
fn is_served(state: &State, due: Timestamp) -> bool {
    let ended_well = state.phase.steady().is_some_and(|steady| {
        let ending = steady.ended.as_ref().map_or(Ending::Completed, |ended| ended.ending);
        steady.since >= due && ending == Ending::Completed
    });
    ended_well || named_after(due).is_some_and(|id| state.done.contains(&id))
}

/// The request of a due time.
fn named_after(due: Timestamp) -> Option<RequestId> {
    let at = jiff::Timestamp::from_second(due.as_secs()).ok()?;
    let prefix = Cause::Schedule.prefix();
    RequestId::parse(&format!("{prefix}{}", at.strftime("%Y%m%dT%H%MZ"))).ok()
}

/// The next request for a root and a cause, or when there is one again after the last was given up.
fn attempt(
    state: &State,
    root: &RootId,
    cause: Cause,
    retry_after: Duration,
    now: Timestamp,
) -> Option<Result<RequestId, Timestamp>> {
    let first = format!("{}{}", cause.prefix(), root.short());
    let number = |id: &RequestId| match id.as_str().strip_prefix(&first)? {
        "" => Some(1_u64),
        rest => rest.strip_prefix('-')?.parse().ok(),
    };
    let attempts = state.done.iter().filter_map(number).max().unwrap_or(0);
    // The last rotation that ended without replacing this root was one for this cause, or a later one by hand.
    let again_at = state.phase.steady()?.since.plus(retry_after);
    if attempts > 0 && now < again_at {
        return Some(Err(again_at));
    }
    let id = match attempts {
        0 => first,
        _ => format!("{first}-{}", attempts + 1),
    };
    RequestId::parse(&id).ok().map(Ok)
}

fn signing(state: &State) -> Option<(RootId, &RootEntry)> {
    let root = state.signing_root()?;
    Some((root, state.roots.get(&root)?))
}

fn room(entry: &RootEntry, look: &Look<'_>) -> Option<Room> {
    let needed = look.policy.rotation_at_most() + look.policy.withdrawal_max + look.parties;
    let (begins, ends) = (certificate(entry)?.validity().not_before(), entry.not_after);
    // A root that lives hardly longer than a rotation lasts is not replaced before half of its life.
    let half = begins.plus(ends.since(begins) / 2);
    let late = ends.minus(needed);
    Some(Room { early: late.minus(needed).max(half), late })
}

fn certificate(entry: &RootEntry) -> Option<Certificate> {
    Certificate::parse(entry.der.as_bytes()).ok()
}

fn key_kind(entry: &RootEntry) -> Option<KeyKind> {
    PublicKey::parse(certificate(entry)?.spki_der()).ok().map(|key| key.kind())
}

#[cfg(test)]
mod tests;
