//! What a rotation that starts now would wait for, said before anybody asks for one: for people in sentences, for programs in
//! numbers. What cannot be known before is said too.

use std::time::Duration;

use ledger::RowKind;
use plugins::Description;
use rotation::{Mode, State};
use trust::{Cohort, Timestamp};

use crate::ca::Ca;
use crate::cross_upkeep;
use crate::explain::{self, Holder, KINDS, kind_name};
use crate::roster::AgentView;
use crate::{further, own_trust, roster};
use trust::plain::about;

/// Holders that are named, of each sort.
const NAMED_MAX: usize = 16;

/// What is known before.
#[derive(Debug)]
pub struct Forecast {
    /// One sentence for each thing.
    pub said: Vec<String>,
    /// The same for programs.
    pub outlook: Outlook,
}

/// What is known before, for programs.
#[derive(Debug)]
pub struct Outlook {
    /// When the new root signs at the latest, and when the former root's last leaf ends; `None` where only a word ends the wait.
    pub signs_within: Option<Duration>,
    /// When the last leaf of the former root ends.
    pub ends_within: Option<Duration>,
    /// Leaves that are waited for.
    pub leaves: Vec<LiveLeaves>,
    /// Who lacks the bundle in force already.
    pub behind: Vec<Holder>,
    /// Whether nobody else will issue under the new root.
    pub exclusive: bool,
    /// What cannot be known before.
    pub unknown: Vec<String>,
}

/// Live leaves of one kind.
#[derive(Clone, Copy, Debug)]
pub struct LiveLeaves {
    /// Which kind.
    pub kind: RowKind,
    /// How many.
    pub count: u64,
    /// The end of the last of them.
    pub last_ends: Timestamp,
}

/// A rotation that somebody thinks of.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Who makes the new root.
    pub target: Option<&'a Description>,
    /// Who lets it sign.
    pub mode: Mode,
    /// For whom it signs first, if not for everybody at once.
    pub canary: Option<&'a Cohort>,
    /// Whether it would make no progress.
    pub blocked: bool,
}

/// What a rotation that starts now would come to.
pub fn of(ca: &Ca, state: &State, asked: &Asked<'_>) -> Forecast {
    let target = asked.target;
    let (rows, now) = (ca.evidence.rows(), ca.clock.now());
    let mut said = Vec::new();
    let mut leaves = Vec::new();
    for kind in KINDS {
        let tally = rows.tally(|standing| standing.kind == kind && !standing.own_trust);
        let Some(last) = tally.latest_not_after else { continue };
        let (name, count) = (kind_name(kind), tally.rows);
        let live = if count == 1 { "leaf lives" } else { "leaves live" };
        said.push(format!("{count} {name} {live}, the last until {last}: {}", waited(kind)));
        leaves.push(LiveLeaves { kind, count, last_ends: last });
    }
    let own = own_trust::forecast(ca, NAMED_MAX);
    said.extend(own.said);
    let behind = explain::behind(ca, state, now);
    said.extend(
        behind
            .iter()
            .take(NAMED_MAX)
            .map(|holder| format!("behind already: {}", holder.sentence())),
    );
    said.extend(absent(ca));
    said.extend(relying_parties(ca));
    let last_issuer = downstreams(ca, now, &mut said);
    said.extend(present_root(ca, state));
    said.extend(further::forecast(state));
    said.push(ca.rehearsing.forecast());
    said.extend(cross_upkeep::forecast(ca, state));
    let exclusive = target.is_none_or(|target| target.exclusive);
    said.extend(target.and_then(|target| shared(ca, target)));
    let last = rows.all().latest_not_after.max(last_issuer);
    let unbounded = unbounded(ca);
    let parties =
        longest_staleness(ca.registry.relying_parties().into_iter().map(|(_, row)| row.staleness));
    let times = Times {
        trusts: (!own.never && unbounded.is_none()).then(|| {
            trust_at_most(ca, last, now).max(trust_at_most(ca, Some(now.plus(parties)), now))
        }),
        ends: (!is_unattested(ca, state)).then(|| {
            let at_most =
                |last: Option<Timestamp>| last.map(|last| trust_at_most(ca, Some(last), now));
            let downstreams = at_most(last_issuer).unwrap_or_default().saturating_mul(2);
            let others = at_most(others_end(ca, state)).unwrap_or_default();
            let observed = asked.canary.map(|_| ca.policy.canary_observe + ca.policy.settle);
            let observed = observed.unwrap_or_default();
            ca.policy.rotation_at_most().max(downstreams).max(others) + parties + observed
        }),
        mode: asked.mode,
        blocked: asked.blocked,
        unbounded,
    };
    said.extend(times.in_words());
    said.extend(asked.canary.map(|cohort| first(ca, cohort)));
    let unknown = unknown(ca, target);
    said.extend(unknown.iter().map(|text| format!("not known before: {text}")));
    let outlook = Outlook {
        signs_within: times.signs(),
        ends_within: times.ends.filter(|_| times.signs().is_some()),
        leaves,
        behind,
        exclusive,
        unknown,
    };
    Forecast { said, outlook }
}

/// What is known of a canary before.
fn first(ca: &Ca, cohort: &Cohort) -> String {
    let members = ca.ledger.rows_of(|identity| cohort.has(identity)).len();
    let observe = about(ca.policy.canary_observe);
    match members {
        0 => format!(
            "canary: nobody in {cohort} has a leaf of this server now; while that is so the canary waits for somebody's word"
        ),
        members => format!(
            "canary: of {cohort} {members} leaves live here; the new root signs for them first, and for everybody once at least half of \
             them were seen to be well for {observe}"
        ),
    }
}

/// The latest times, if nobody confirms anything; `None` where only a word ends the wait.
struct Times {
    /// When the trust gate is open.
    trusts: Option<Duration>,
    /// When the former root's last leaf has ended.
    ends: Option<Duration>,
    mode: Mode,
    blocked: bool,
    /// Relying parties that the trust gate waits for without an end.
    unbounded: Option<String>,
}

impl Times {
    /// When the new root signs; `None` also where an operator lets it sign, or it would never come.
    fn signs(&self) -> Option<Duration> {
        self.trusts.filter(|_| self.mode == Mode::Auto && !self.blocked)
    }

    fn in_words(&self) -> Vec<String> {
        if self.blocked {
            return vec!["how long it takes cannot be said before it can make progress".to_owned()];
        }
        match self.mode {
            Mode::Standby => vec![self.signing()],
            Mode::Auto | Mode::Manual => vec![self.signing(), self.ending()],
        }
    }

    fn signing(&self) -> String {
        let closed = match (self.trusts, self.mode, &self.unbounded) {
            (Some(within), Mode::Auto, _) => {
                return format!(
                    "if nobody confirms anything, the new root signs within {} at the latest",
                    about(within)
                );
            }
            (Some(within), Mode::Standby, _) => {
                return format!(
                    "if nobody confirms anything, everybody trusts the standby root within {} at the latest; it does not sign",
                    about(within)
                );
            }
            (Some(within), Mode::Manual, _) => {
                return format!(
                    "if nobody confirms anything, the trust gate is open within {} at the latest; the new root signs only at \
                     `banyan rotate activate`, since the mode is manual",
                    about(within)
                );
            }
            (None, _, Some(names)) => format!("the trust gate stays closed until {names} confirms"),
            (None, _, None) => {
                "the trust gate stays closed until a relying party's word covers those that take no \
                                validation secret from their agents"
                    .to_owned()
            }
        };
        let then = match self.mode {
            Mode::Auto | Mode::Standby => "",
            Mode::Manual => ", and then for `banyan rotate activate`, since the mode is manual",
        };
        let what = match self.mode {
            Mode::Standby => "the new root never becomes a standby root by itself",
            Mode::Auto | Mode::Manual => "the new root never signs by itself",
        };
        format!("{what}: {closed}{then}")
    }

    fn ending(&self) -> String {
        match (self.ends, self.signs()) {
            (None, _) => "the former root never leaves by itself: the leaf gate stays closed until somebody attests that the \
                          others have stopped"
                .to_owned(),
            (Some(_), None) => "the former root's last leaf ends only after that".to_owned(),
            (Some(within), Some(_)) => {
                format!("and the former root's last leaf ends within {} from now at the latest", about(within))
            }
        }
    }
}

/// Relying parties without a staleness bound.
fn unbounded(ca: &Ca) -> Option<String> {
    let all = ca.registry.relying_parties();
    let mut names =
        all.iter().filter(|(_, row)| row.staleness.is_none()).map(|(name, _)| name.as_str());
    let first = names.next()?;
    Some(match names.count() {
        0 => first.to_owned(),
        more => format!("{first}, and {more} more without staleness bound,"),
    })
}

fn relying_parties(ca: &Ca) -> Vec<String> {
    let all = ca.registry.relying_parties();
    let mut said: Vec<_> = all
        .iter()
        .take(NAMED_MAX)
        .map(|(name, row)| match row.staleness {
            Some(bound) => format!("relying party {name} must confirm, or is waited for {}", about(bound)),
            None => format!(
                "relying party {name} must confirm by its word: `banyan relying-party confirm {name}`"
            ),
        })
        .collect();
    if !all.is_empty() {
        said.push(
            "each relying party is asked twice: for the bundle with both roots, and for the one without the former root"
                .to_owned(),
        );
    }
    said
}

/// Agents that are not connected: nothing of theirs can be confirmed before they are.
fn absent(ca: &Ca) -> Vec<String> {
    let roster = roster::roster(ca);
    let away = roster.total.saturating_sub(roster.connected);
    if ca.replication.others_serve() {
        let agents = trust::plain::counted(away, "agent is", "agents are");
        let text = format!(
            "{agents} not connected to this server: other servers may have them (the same command there), and whoever has none is waited for \
             until its leaves end"
        );
        return if away > 0 { vec![text] } else { Vec::new() };
    }
    let agents = ca.registry.agents_named(&roster.excerpt).into_iter();
    let away_by_name =
        agents.map(|agent| AgentView::of(ca, agent)).filter(|agent| !agent.connected);
    let said_of = |AgentView { name, last_seen, .. }: AgentView| {
        let seen = match last_seen == Timestamp::default() {
            true => String::new(),
            false => format!(", last seen {last_seen}"),
        };
        format!(
            "behind already: agent {name} is not connected{seen}, its leaves are waited for until they end"
        )
    };
    let mut said: Vec<_> = away_by_name.take(NAMED_MAX).map(said_of).collect();
    let more = away.saturating_sub(u64::try_from(said.len()).unwrap_or(u64::MAX));
    if more > 0 {
        said.push(format!("behind already: {more} more agents are not connected"));
    }
    said
}

fn downstreams(ca: &Ca, now: Timestamp, said: &mut Vec<String>) -> Option<Timestamp> {
    let mut last = None;
    for downstream in ca.downstreams.downstreams() {
        let Some(until) = downstream.until(&ca.policy, now) else { continue };
        last = last.max(Some(until));
        let name = &downstream.name;
        said.push(format!(
            "downstream CA {name} must report each step, or is waited for until its last issuer ends at {until}"
        ));
    }
    last
}

fn present_root(ca: &Ca, state: &State) -> Vec<String> {
    let Some(entry) = state.signing_root().and_then(|root| state.roots.get(&root)) else {
        return Vec::new();
    };
    let mut said = vec![format!("the root that signs ends at {}", entry.not_after)];
    if ca.upstreams.has(entry.authority.as_str()) {
        said.push(
            "it is a root of the upstream CA, whose rotations are followed here: start them there"
                .to_owned(),
        );
    } else if !entry.exclusive {
        said.push(
            "others issue under the root that signs: leaves of theirs are not counted, so whoever holds one should be a \
             relying party (`banyan relying-party add`), and the root goes only when somebody attests that they have stopped \
             (`banyan root attest`)"
                .to_owned(),
        );
    }
    said
}

/// A new root that would count as shared for all of its life.
fn shared(ca: &Ca, target: &Description) -> Option<String> {
    let name = &target.name;
    if target.exclusive || ca.upstreams.has(name.as_str()) {
        return None;
    }
    let bound = match ca.evidence.foreign_leaf_max(name.as_str()) {
        Some(longest) => format!("`banyan root attest`, and then {}", about(longest)),
        None => "foreign_leaf_max in that section and `banyan root attest`".to_owned(),
    };
    Some(format!(
        "the new root will count as shared with others for as long as it lives, since section [authority.{name}] has no \
         `exclusive = true`: the way off it later needs {bound}. If nobody else issues under it, write `exclusive = true` there \
         and restart this server before you start"
    ))
}

fn unknown(ca: &Ca, target: Option<&Description>) -> Vec<String> {
    let mut unknown = vec![
        "who relies on the bundle without a leaf and is no relying party here: `banyan relying-party add` names them".to_owned(),
        "whether each proxy can verify the new root: an acknowledgement says that it has it".to_owned(),
    ];
    if let Some(target) = target {
        let name = &target.name;
        unknown.push(match target.plugin.as_str() {
            "manual" => format!(
                "how long the two ceremonies of authority {name} take: all times count from when its root and issuer are there"
            ),
            _ => format!("how long authority {name} takes: all times count from when its root and issuer are there"),
        });
    }
    if roster::roster(ca).total > 0 {
        unknown.push("whether agents that are not connected come back".to_owned());
    }
    unknown
}

/// Whether others issue under the root that signs, and nobody has attested that they stopped.
fn is_unattested(ca: &Ca, state: &State) -> bool {
    let Some(root) = state.signing_root() else { return false };
    state.roots.get(&root).is_some_and(|entry| {
        let is_above = ca.upstreams.has(entry.authority.as_str());
        !entry.exclusive && !is_above && ca.evidence.foreign(&root, entry).is_none()
    })
}

/// When the last leaf of others under the root that signs ends, as was attested.
fn others_end(ca: &Ca, state: &State) -> Option<Timestamp> {
    let root = state.signing_root()?;
    Some(ca.evidence.foreign(&root, state.roots.get(&root)?)?.1)
}

const fn waited(kind: RowKind) -> &'static str {
    match kind {
        RowKind::AgentHeld | RowKind::AgentIdentity => {
            "their agents confirm the bundle and renew, or they are waited for"
        }
        RowKind::CsrOnly => "each gate waits until the last of them has ended or asked again",
        RowKind::ChannelTrusted => "they are waited for to their end",
        RowKind::Probe => "nothing waits for them",
        RowKind::Own => "this server renews them itself",
    }
}

/// How long relying parties are waited for that say nothing, from when the bundle is out.
fn longest_staleness(bounds: impl Iterator<Item = Option<Duration>>) -> Duration {
    bounds.flatten().max().unwrap_or_default()
}

fn trust_at_most(ca: &Ca, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = last.map_or(Duration::ZERO, |last| last.since(now));
    left + ca.policy.skew * 2 + ca.policy.settle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mode: Mode, trusts: Option<u64>) -> Times {
        let trusts = trusts.map(Duration::from_secs);
        Times {
            trusts,
            ends: Some(Duration::from_secs(190)),
            mode,
            blocked: false,
            unbounded: None,
        }
    }

    #[test]
    fn the_relying_party_that_may_say_nothing_for_longest_counts() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(
            longest_staleness([Some(days(1)), None, Some(days(100))].into_iter()),
            days(100)
        );
        assert_eq!(longest_staleness([None].into_iter()), Duration::ZERO);
    }

    #[test]
    fn no_time_is_told_for_what_only_a_person_or_nothing_ends() {
        let auto = times(Mode::Auto, Some(95));
        assert_eq!(auto.signs(), Some(Duration::from_secs(95)));
        assert!(auto.in_words()[0].ends_with("the new root signs within 95 s at the latest"));
        for trusts in [Some(95), None] {
            let manual = times(Mode::Manual, trusts);
            let said = manual.in_words();
            assert_eq!(manual.signs(), None);
            assert!(
                said[0].contains("`banyan rotate activate`, since the mode is manual"),
                "{said:?}"
            );
            assert!(said[1].ends_with("only after that"), "{said:?}");
        }
        let blocked = Times { blocked: true, ..times(Mode::Auto, Some(95)) };
        assert_eq!(blocked.signs(), None);
        assert!(
            !blocked.in_words().iter().any(|said| said.contains("within")),
            "{:?}",
            blocked.in_words()
        );
    }
}
