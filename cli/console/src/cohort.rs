//! A canary in words, and as JSON.

use proto::banyan::admin::v1::{CohortStanding, Rotation};
use serde_json::{Value, json as object};

/// The phase in which the new root signs for a cohort.
pub(crate) const CANARY: &str = "canary";
/// The phase in which no rotation is under way.
pub const STEADY: &str = "steady";
/// The phases in their order.
const PHASES: [&str; 6] = [STEADY, "staging", "distributing", CANARY, "draining", "withdrawing"];

/// The phases of a rotation, in their order.
pub fn phases(rotation: &Rotation) -> Vec<&'static str> {
    let has = |phase: &&str| *phase != CANARY || rotation.cohort.is_some();
    PHASES.into_iter().filter(has).collect()
}

/// For whom the new root signs first, and what is seen of them.
pub(crate) fn words(cohort: &CohortStanding, phase: &str) -> String {
    let whom = &cohort.cohort;
    if phase != CANARY {
        return format!("canary: the new root signs for {whom} first");
    }
    let mut text = format!(
        "canary: the new root signs for {whom}; of the cohort's leaves {} are new and in use, {} of members that are not there, \
         {} still of the former root",
        cohort.taken, cohort.silent, cohort.waiting
    );
    if cohort.observed_for > 0 {
        text.push_str(&format!("; well for {} s of {} s", cohort.observed_for, cohort.observe));
    }
    if !cohort.trouble.is_empty() {
        text.push_str(&format!("; {}", cohort.trouble));
    }
    text
}

/// The same for programs.
pub(crate) fn json(cohort: &CohortStanding) -> Value {
    object!({
        "cohort": cohort.cohort,
        "taken": cohort.taken,
        "silent": cohort.silent,
        "waiting": cohort.waiting,
        "trouble": cohort.trouble,
        "held_for": cohort.held_for,
        "observed_for_seconds": cohort.observed_for,
        "observe_seconds": cohort.observe,
    })
}
