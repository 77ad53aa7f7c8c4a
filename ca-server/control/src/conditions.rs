//! What is wrong with a running CA, one sentence each, with what to do: levels, read off what is, and never events.

use std::time::Duration;

use ledger::LiveRow;
use rotation::{
    AuthorityName, Contents, Effect, ReplicaName, RootEntry, Segment, SegmentId, SegmentState,
    State,
};
use rotation_driver::EffectError;
use trust::plain::{counted, span};
use trust::{RootId, Serial, Timestamp};

use crate::authority_upkeep::Drift;
use crate::away;
use crate::bans;
use crate::ca::Ca;
use crate::canary;
use crate::crl;
use crate::due;
use crate::explain;
use crate::exposure;
use crate::findings::Look;
use crate::further;
use crate::issuers;
use crate::leaves;
use crate::own_issuer;
use crate::rehearsing;
use crate::seen;
use crate::standby;

/// An issuer or root that ends within this time is worth a sentence.
const ENDING_SOON: Duration = Duration::from_secs(30 * 86_400);
/// Refusals that are named.
const REFUSING_MAX: usize = 16;

/// What keeps this server from issuing leaves, one sentence each, with what to do. While there is anything, the server
/// is not ready.
pub fn obstacles(ca: &Ca) -> Vec<String> {
    let (now, snapshot) = (ca.clock.now(), ca.cell.load());
    let shortest = now.plus(ca.issuer.profile().settings().ttl_min);
    let mut obstacles = Vec::new();
    obstacles.extend(clock(ca));
    obstacles.extend(ca.replication.obstacles());
    if let Err(error) = ca.ledger.check() {
        obstacles.push(error.to_string());
    }
    obstacles.extend(ca.findings.of(Look::Ground));
    // Leaves go on: agents judge them by the bundle that they hold.
    let state = ca.driver.state();
    obstacles.extend(seen::sentence(&state));
    obstacles.extend(own_issuer::missing(&state, &ca.replica));
    if snapshot.horizon() < shortest {
        let text =
            "the horizon is behind, so no leaf can be issued: see the log for why it is not raised";
        obstacles.push(text.to_owned());
    }
    let signer_end = snapshot.signer().validity().not_after();
    if signer_end < shortest {
        let ended = if signer_end <= now { "has ended" } else { "ends too soon for any leaf" };
        obstacles.push(format!(
            "the issuer's chain {ended} ({signer_end}), so no leaf can be issued: `banyan authority check` says how the \
             authority is, `banyan issuer renew` asks it for a new one"
        ));
    }
    obstacles
}

/// A wall clock that is not believed.
fn clock(ca: &Ca) -> Option<String> {
    let diverged = ca.clock.agreed().err()?;
    if diverged.awaits_restart {
        return Some(format!("{diverged}: until then no leaf is issued and no gate opens"));
    }
    let wall = diverged.wall;
    Some(format!(
        "{diverged}: no leaf is issued and no gate opens until both agree; if {wall} is wrong set the clock right, if it is \
         right say so with `banyan clock accept --by NAME --reason TEXT`"
    ))
}

/// What is wrong, one sentence each, with what to do.
pub fn conditions(ca: &Ca, state: &State) -> Vec<String> {
    let (now, snapshot) = (ca.clock.now(), ca.cell.load());
    let mut conditions = obstacles(ca);
    conditions.extend(ca.shortage.clone());
    conditions.extend(ca.replication.conditions(state));
    conditions.extend(ca.peers.conditions());
    conditions.extend(ca.registry.troubles());
    conditions.extend(ca.registry.crowded());
    conditions.extend(ca.findings.of(Look::Files));
    conditions.extend(ca.findings.of(Look::KeySets));
    conditions.extend(ca.clusters.troubles());
    for (name, trouble) in
        ca.authority_troubles.borrow().iter().filter(|(_, trouble)| !trouble.waits)
    {
        let text = &trouble.text;
        conditions.push(format!("root authority {name} is unhealthy, issuance continues: {text}"));
    }
    conditions.extend(ca.authority_drift.borrow().values().flat_map(Drift::sentences).cloned());
    conditions.extend(ca.federated.conditions());
    conditions.extend(ca.neighbor_troubles.borrow().values().flatten().cloned());
    let configured = |name: &str| match name.strip_prefix(AuthorityName::NEIGHBOR) {
        Some(neighbor) => ca.neighbors.contains(neighbor),
        None => ca.authorities.contains_key(name),
    };
    conditions.extend(further::conditions(state, configured, now, ENDING_SOON));
    conditions.extend(ca.rehearsing.obstacle());
    conditions.extend(ca.cross.conditions(state, now));
    conditions.extend(standby_held(ca, state, now));
    conditions.extend(due::conditions(ca, state, now));
    for trouble in ca.driver.troubles().borrow().iter() {
        let what = trouble.pending.effect.doing();
        match &trouble.last {
            EffectError::NotYet { reason, .. } => {
                let late = waits_since(state, &ca.replica)
                    .is_some_and(|since| now.since(since) > ca.evidence.alarm_after());
                if late && !waits_for_person(ca, &trouble.pending.effect) {
                    conditions.push(format!("{what} waits: {reason}"));
                }
            }
            last => {
                let attempts = counted(trouble.attempts, "time", "times");
                conditions.push(format!("{what} failed {attempts}; retrying: {last}"));
            }
        }
    }
    conditions.extend(ca.levels.conditions());
    conditions.extend(leaves::held_after_all(ca));
    conditions.extend(unread(ca, state, now));
    conditions.extend(explain::unanswered(ca, state));
    let settings = ca.issuer.profile().settings();
    let signer_end = snapshot.signer().validity().not_after();
    if (now.plus(settings.ttl_min)..now.plus(settings.ttl_max)).contains(&signer_end) {
        conditions.push(format!(
            "the issuer's chain ends at {signer_end}, and cuts leaves short: `banyan issuer renew`"
        ));
    }
    conditions.extend(refusing(ca, state));
    conditions.extend(explain::unable(ca, state));
    conditions.extend(canary::conditions(state, ca.evidence.cohort().as_ref()));
    conditions.extend(away::condition(ca));
    conditions.extend(exposure::conditions(state));
    conditions.extend(issuers::conditions(ca, state));
    conditions.extend(crl::holders::condition(ca));
    conditions.extend(endings(ca, state, now));
    let ceremony = state.pending.iter().any(|owed| waits_for_person(ca, &owed.effect));
    conditions.extend(waiting(state, ca.evidence.alarm_after(), now).filter(|_| !ceremony));
    conditions
}

/// What waits for a person and is not wrong, one sentence each. When the life of what it is about gets short, that is a
/// condition of its own.
pub fn persons(ca: &Ca) -> Vec<String> {
    let troubles = ca.authority_troubles.borrow();
    let waiting = troubles.iter().filter(|(_, trouble)| trouble.waits);
    let waiting = waiting.map(|(name, trouble)| format!("authority {name}: {}", trouble.text));
    let (state, now) = (ca.driver.state(), ca.clock.now());
    let bans = bans::standing(ca, now);
    let due = due::waiting(ca, &state, now);
    let unrehearsed = rehearsing::left_out(&state);
    waiting
        .chain(waivers(ca))
        .chain(bans)
        .chain(due)
        .chain(issuers::over(ca, &state))
        .chain(unrehearsed)
        .collect()
}

/// Waivers that stand: while they do, nothing is waited for of those whom they cover.
fn waivers(ca: &Ca) -> impl Iterator<Item = String> {
    let now = ca.clock.now();
    let standing = ca.registry.waivers().into_iter().filter(move |(_, row)| row.stands(now));
    standing.map(|(name, row)| {
        // What an object of a cluster says is said again as long as it is there.
        let end = match name.strip_prefix("kubernetes/") {
            Some(object) => format!("delete the Waiver {object}"),
            None => format!("`banyan waiver remove {name}`"),
        };
        format!(
            "waiver {name} of {} stands until {}, so no gate waits until whom it covers trusts the bundle ({}): \
             `banyan waiver list`, {end}",
            row.by, row.until, row.reason
        )
    })
}

/// Whether the authority that an effect is owed by waits for a person.
fn waits_for_person(ca: &Ca, effect: &Effect) -> bool {
    let authority = match effect {
        Effect::StageRoot { authority, .. } | Effect::RequestIssuer { authority, .. } => authority,
        Effect::PublishBundle { .. } | Effect::SwitchSigner { .. } => return false,
    };
    ca.authority_troubles.borrow().get(authority.as_str()).is_some_and(|trouble| trouble.waits)
}

/// Agents and holders that refuse the bundle in force and keep their former roots.
fn refusing(ca: &Ca, state: &State) -> Vec<String> {
    let wanted = state.sequence;
    let lacks = |serial: &Serial| {
        let live = ca.ledger.find(serial).filter(LiveRow::counts);
        let proven = |live: &LiveRow| {
            live.evidence.applied.by(ca.evidence.required(live.row.kind)) >= wanted
        };
        live.filter(|live| !proven(live))
    };
    let mut said = Vec::new();
    for (agent, refused) in ca.sessions.refusing(REFUSING_MAX) {
        for (serial, reason) in refused {
            match serial.map(|serial| lacks(&serial)) {
                None => said.push(format!(
                    "agent {agent} refuses bundle {wanted} and keeps its former one: {reason}; it gets no leaf until it has \
                     the bundle, so look at its log and its state directory"
                )),
                Some(Some(live)) => said.push(format!(
                    "a holder of {} behind agent {agent} refuses bundle {wanted} and keeps its former roots: {reason}; look \
                     at that proxy",
                    live.row.identity
                )),
                // It has the bundle by now, or its leaf is gone.
                Some(None) => {}
            }
        }
    }
    said.truncate(REFUSING_MAX);
    said
}

/// Rows of leaves that may live, of which nothing is known: their files are gone, were cut short or are others.
fn unread(ca: &Ca, state: &State, now: Timestamp) -> Vec<String> {
    let unread = state
        .segments
        .iter()
        .filter(|(_, segment)| segment.state == SegmentState::Closed(Contents::Unread));
    let said = |(id, segment): (&SegmentId, &Segment)| {
        let until = segment.last_bound().filter(|bound| !ca.policy.has_passed(*bound, now))?;
        if segment.replica != ca.replica {
            let replica = &segment.replica;
            let way = match ca.replication.holds_lease(replica) {
                true => format!(
                    "it serves again without them, as with a new disk: if its former ledger/{id} is somewhere, stop it, put that there \
                     and start it"
                ),
                false => "if that replica has its disk, start it again under its name".to_owned(),
            };
            return Some(format!(
                "rows of leaves in segment {id} of replica {replica} are not known, so gates of a rotation count it as full until \
                 {until}: {way}"
            ));
        }
        let mut faults = ca.ledger.faults().iter();
        let fault = faults.find(|fault| fault.segment.as_str() == id.as_str());
        let why = fault.map_or_else(|| "its files are gone".to_owned(), ToString::to_string);
        Some(format!(
            "rows of leaves in segment {id} are not known ({why}), so gates of a rotation count it as full until {until}: if \
             its files under ledger/{id} are in a backup, stop this server, put them back and start it"
        ))
    };
    // What a restored record went on without is waited for, and cannot be put back.
    unread
        .filter(|(_, segment)| segment.replica.as_str() != rotation::LOST_REPLICA)
        .filter_map(said)
        .collect()
}

/// A standby root that policy asks for, and that is not asked for now.
fn standby_held(ca: &Ca, state: &State, now: Timestamp) -> Option<String> {
    match ca.standby.as_ref()?.due(state, now) {
        standby::Due::Held(why) => Some(why),
        standby::Due::Nothing | standby::Due::Prepare(..) | standby::Due::Drop(..) => None,
    }
}

/// Since when an effect that is not done yet may have been waiting.
fn waits_since(state: &State, replica: &ReplicaName) -> Option<Timestamp> {
    let renewals = state.roots.values().filter_map(|entry| entry.renewal_for(replica));
    let asked = renewals.map(|renewal| renewal.requested_at).min();
    match state.phase.rotation() {
        Some(_) => state.phase.since(),
        None => asked.or_else(|| state.phase.since()),
    }
}

/// Roots that end soon, said early enough that a rotation in which nobody confirms anything still ends before them. What is replaced by
/// itself in time is no condition.
fn endings(ca: &Ca, state: &State, now: Timestamp) -> Vec<String> {
    let by_itself = due::replaces_ending_roots(ca);
    let needed = ca.policy.rotation_at_most();
    let soon = now.plus(ENDING_SOON.max(needed * 2));
    let ending = state.own_bundle().filter(|(_, entry)| entry.not_after < soon && !entry.tainted);
    let stand_by: Vec<_> = state.standby().map(|(id, _)| *id).collect();
    let said = |(id, entry): (&RootId, &RootEntry)| {
        let (root, end) = (id.short(), entry.not_after);
        if stand_by.contains(id) {
            // By policy the next one comes by itself, or it is said why not.
            return ca.standby.is_none().then(|| format!(
                "standby root {root} ends at {end}: `banyan root standby prepare` makes another one, then `banyan root standby drop \
                 {root}`"
            ));
        }
        match (state.phase.rotation().is_some(), end < now.plus(needed)) {
            (false, false) if by_itself && state.signing_root() == Some(*id) => None,
            (false, false) => Some(format!("root {root} ends at {end}: start a rotation")),
            (false, true) => Some(format!(
                "root {root} ends at {end}, and a rotation may take {} if nobody confirms anything: start one now",
                span(needed)
            )),
            (true, true) => Some(format!(
                "root {root} ends at {end}, and the rotation may last longer than that: `banyan rotate explain` says what \
                 it waits for"
            )),
            (true, false) => None,
        }
    };
    ending.filter_map(said).collect()
}

/// A phase of a rotation that lasts long.
fn waiting(state: &State, alarm_after: Duration, now: Timestamp) -> Option<String> {
    let rotation = state.phase.rotation()?;
    let since = state.phase.since()?;
    let (phase, held) = (state.phase.name(), rotation.held_since.is_some());
    (now.since(since) > alarm_after).then(|| match held {
        true => {
            format!(
                "the rotation is on hold while {phase} since {since}: `banyan rotate resume` lets it go on"
            )
        }
        false => {
            format!("the rotation is {phase} since {since}: `banyan rotate explain` says what it waits for")
        }
    })
}
