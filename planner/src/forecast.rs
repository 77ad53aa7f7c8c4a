//! What a plan came to. The members have the names that `docs/planning.md` lists: programs read them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use trust::Timestamp;

use crate::question::{Mesh, Question};
use crate::traffic::Traffic;
use crate::watcher::{Moment, Waited, Watcher, per_second, signed};

/// Moments in a forecast at most: of more, every second, third and so on is told.
const MOMENTS_MAX: usize = 240;

/// What a rotation would come to. All times are seconds since the rotation was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// What was asked.
    pub question: Asked,
    /// Whether it can end in time.
    pub answer: Answer,
    /// The phases, in their order.
    pub phases: Vec<PhaseLength>,
    /// Requests for leaves.
    pub csr: Csr,
    /// What each gate waited for.
    pub gates: Vec<GateWait>,
    /// What bundles cost.
    pub bundles: Bundles,
    /// The last leaf of the root that goes.
    pub old_root: OldRoot,
    /// Trust and leaves over time.
    pub timeline: Vec<Moment>,
}

/// What was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Agents and clients that ask for themselves; of a mesh that was found, agents alone.
    pub agents: u64,
    /// Leaves when the rotation was asked for.
    pub leaves: u64,
    /// Life of a leaf.
    pub leaf_ttl_seconds: u64,
    /// Leaves that agents are asked to renew early, a second.
    pub budget_per_second: u64,
    /// `rotation.settle`.
    pub settle_seconds: u64,
    /// `leaf.skew`.
    pub skew_seconds: u64,
    /// `rotation.withdrawal_max`.
    pub withdrawal_max_seconds: u64,
    /// The share of members without an agent; `None` of a mesh that was found.
    pub csr_only: Option<String>,
    /// The share of members that could not be reached; `None` of a mesh that was found.
    pub offline: Option<String>,
    /// What is left of the root's life; `None` if nobody said.
    pub root_left_seconds: Option<u64>,
    /// What chance followed from.
    pub seed: u64,
}

/// Whether it can end in time.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// Whether the rotation ended by itself.
    pub finishes: bool,
    /// Whether it ended before the root did, and nobody was refused a leaf; `None` if the root's end is not known.
    pub before_root_ends: Option<bool>,
    /// How long it took; `None` if it did not end.
    pub seconds: Option<f64>,
    /// How long the machine takes at most if nobody confirms anything.
    pub at_most_seconds: u64,
    /// What is left of the root's life when the rotation is over; less than 0 if it comes too late.
    pub margin_seconds: Option<i64>,
    /// Begin so long before the root ends, and even a rotation in which nobody confirms anything ends in time.
    pub begin_before_end_seconds: u64,
    /// What a rotation that did not end waits for, and what can be done.
    pub waits_for: Vec<String>,
}

/// A phase.
#[derive(Debug, Clone, Serialize)]
pub struct PhaseLength {
    /// Its name.
    pub phase: &'static str,
    /// When it began.
    pub from: f64,
    /// How long it lasted; `None` if it did not end.
    pub seconds: Option<f64>,
}

/// Requests for leaves.
#[derive(Debug, Clone, Serialize)]
pub struct Csr {
    /// How many a second before the rotation.
    pub usual_per_second: f64,
    /// The most in any second of the rotation.
    pub peak_per_second: u64,
    /// Which second that was.
    pub peak_at: i64,
    /// How many a second during the rotation.
    pub mean_per_second: f64,
    /// All during the rotation.
    pub total: u64,
    /// Requests that were refused since the root had too little life left for the shortest leaf.
    pub refused: u64,
}

/// What a gate waited for.
#[derive(Debug, Clone, Serialize)]
pub struct GateWait {
    /// Its name.
    pub gate: String,
    /// Who held it, by kind of leaf.
    pub holders: BTreeMap<&'static str, GateHolders>,
    /// What was seen of it last before it opened, but for handshakes in flight; `None` if it was never held.
    pub held_last: Option<String>,
    /// When that was.
    pub held_until: Option<i64>,
}

/// Leaves of one kind that held a gate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GateHolders {
    /// The most at any moment that was looked at.
    pub most: u64,
    /// The last moment at which one did.
    pub until: i64,
}

/// What bundles cost, as bytes of certificates.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bundles {
    /// Bundles pushed to agents.
    pub pushes: u64,
    /// Their bytes.
    pub push_bytes: u64,
    /// Words of agents that a bundle is applied.
    pub acknowledgements: u64,
    /// Bundles that came with the leaf of a client that asks for itself.
    pub with_leaves: u64,
    /// Their bytes.
    pub with_leaves_bytes: u64,
}

/// The last leaf of the root that goes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OldRoot {
    /// When the last leaf that was seen under it would end; gates count twice `leaf.skew` more.
    pub last_leaf_ends: Option<i64>,
    /// Its horizon: no leaf under it can end later.
    pub horizon: Option<i64>,
}

/// What was seen of a plan.
pub(crate) struct Seen<'a> {
    pub(crate) phases: Vec<(u64, &'static str)>,
    pub(crate) watcher: &'a Watcher,
    pub(crate) traffic: &'a Traffic,
    /// Since when nothing but the usual went on, when the rotation was asked for, and when the plan ended; in milliseconds
    /// since it began.
    pub(crate) usual_from: u64,
    pub(crate) begin: u64,
    pub(crate) ended: u64,
    /// When the rotation was asked for, by the plan's wall clock.
    pub(crate) began_at: i64,
    pub(crate) is_over: bool,
    pub(crate) horizon: Option<Timestamp>,
}

impl Forecast {
    pub(crate) fn of(question: &Question, seen: &Seen<'_>) -> Self {
        let phases = phases(seen);
        let took = (seen.is_over).then(|| {
            let last = seen.phases.last().map_or(seen.ended, |(at, _)| *at);
            last.saturating_sub(seen.begin)
        });
        let csr = csr(seen);
        Self {
            answer: answer(question, seen, took, csr.refused),
            question: asked(question, seen),
            phases,
            csr,
            gates: seen.watcher.waited.iter().map(gate).collect(),
            bundles: Bundles {
                pushes: seen.traffic.pushes,
                push_bytes: seen.traffic.push_bytes,
                acknowledgements: seen.traffic.words,
                with_leaves: seen.traffic.delivered,
                with_leaves_bytes: seen.traffic.delivered_bytes,
            },
            old_root: OldRoot {
                last_leaf_ends: seen.watcher.last_old.map(|at| at.as_secs() - seen.began_at),
                horizon: seen.horizon.map(|at| at.as_secs() - seen.began_at),
            },
            timeline: timeline(&seen.watcher.moments),
        }
    }

    /// How long a phase lasted, if it was there and ended.
    pub fn phase_seconds(&self, phase: &str) -> Option<f64> {
        self.phases.iter().find(|one| one.phase == phase)?.seconds
    }
}

fn asked(question: &Question, seen: &Seen<'_>) -> Asked {
    let (agents, csr_only, offline) = match &question.mesh {
        Mesh::Sketched(sketch) => {
            (sketch.agents, Some(sketch.csr_only.to_string()), Some(sketch.offline.to_string()))
        }
        Mesh::Found(found) => {
            let agents: std::collections::BTreeSet<_> =
                found.iter().filter_map(|leaf| leaf.agent).collect();
            (agents.len() as u64, None, None)
        }
    };
    let before = seen.watcher.moments.iter().rev().find(|moment| moment.seconds <= 0);
    Asked {
        agents,
        leaves: before.map_or(0, |moment| moment.leaves),
        leaf_ttl_seconds: question.leaf_ttl.as_secs(),
        budget_per_second: question.budget,
        settle_seconds: question.policy.settle.as_secs(),
        skew_seconds: question.policy.skew.as_secs(),
        withdrawal_max_seconds: question.policy.withdrawal_max.as_secs(),
        csr_only,
        offline,
        root_left_seconds: question.root_left.map(|left| left.as_secs()),
        seed: question.seed,
    }
}

fn answer(question: &Question, seen: &Seen<'_>, took: Option<u64>, refused: u64) -> Answer {
    let seconds = took.map(in_seconds);
    let left = question.root_left.map(|left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
    let margin = left.zip(took).map(|(left, took)| left - signed(took.div_ceil(1_000)));
    let at_most = question.at_most();
    Answer {
        finishes: took.is_some(),
        before_root_ends: left.map(|_| margin.is_some_and(|margin| margin >= 0) && refused == 0),
        seconds,
        at_most_seconds: at_most.as_secs(),
        margin_seconds: margin,
        // Leaves are whole until then, too.
        begin_before_end_seconds: (at_most + question.policy.leaf_lifetime_max).as_secs(),
        waits_for: if took.is_some() { Vec::new() } else { seen.watcher.stuck.clone() },
    }
}

fn phases(seen: &Seen<'_>) -> Vec<PhaseLength> {
    let of_rotation: Vec<_> = seen.phases.iter().filter(|(at, _)| *at >= seen.begin).collect();
    let mut phases: Vec<_> = of_rotation
        .iter()
        .enumerate()
        .map(|(at, (began, phase))| PhaseLength {
            phase,
            from: in_seconds(began.saturating_sub(seen.begin)),
            seconds: of_rotation.get(at + 1).map(|(next, _)| in_seconds(next - began)),
        })
        .collect();
    if seen.is_over {
        // The rest that follows is no phase of the rotation.
        phases.pop();
    }
    phases
}

fn csr(seen: &Seen<'_>) -> Csr {
    let (from, to) = (seen.begin / 1_000, seen.ended.div_ceil(1_000));
    let usual_from = seen.usual_from.div_ceil(1_000);
    let (peak_at, peak) = seen.traffic.peak(from, to);
    let total = seen.traffic.issued(from, to);
    let usual = seen.traffic.issued(usual_from, from);
    Csr {
        usual_per_second: per_second(usual, from.saturating_sub(usual_from)),
        peak_per_second: peak,
        peak_at: signed(peak_at) - signed(from),
        mean_per_second: per_second(total, to - from),
        total,
        refused: seen.traffic.refused(from, to),
    }
}

fn gate(waited: &Waited) -> GateWait {
    let holders = waited.kinds.iter();
    GateWait {
        gate: waited.gate.to_string(),
        holders: holders
            .map(|(name, kind)| (*name, GateHolders { most: kind.at_most, until: kind.until }))
            .collect(),
        held_last: waited.last.as_ref().map(|(_, what)| what.clone()),
        held_until: waited.last.as_ref().map(|(at, _)| *at),
    }
}

fn timeline(moments: &[Moment]) -> Vec<Moment> {
    let every = moments.len().div_ceil(MOMENTS_MAX).max(1);
    let last = moments.len().saturating_sub(1);
    let told = moments.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
    told.map(|(_, moment)| moment.clone()).collect()
}

/// To a tenth of a second.
fn in_seconds(millis: u64) -> f64 {
    (Duration::from_millis(millis).as_secs_f64() * 10.0).round() / 10.0
}
