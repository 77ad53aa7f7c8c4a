//! A cohort that gets leaves of the new root first: who it is, that it grows, and what came of it.

use anyhow::{Context as _, bail};
use proto::banyan::admin::v1::{CohortStanding, Rotation};
use serde_json::json;
use trust::Cohort;

use super::members::workload_id;
use super::rotation::Rotations;
use super::view::View;
use crate::options::DemoOptions;

/// The share of a cohort that was widened, unless it had more than half of it before.
const WIDENED_PERCENT: u8 = 50;

/// The story of the cohorts of all rotations.
#[derive(Debug)]
pub struct CanaryStory {
    first: Cohort,
    wider: Cohort,
    /// Of each rotation.
    seen: Vec<Seen>,
}

/// What was seen in one rotation.
#[derive(Debug, Default)]
struct Seen {
    /// Leaves of the new root that were in use by members of the cohort when it was widened, of all of the cohort's.
    first: [u64; 2],
    is_wider: bool,
    /// The same at last.
    last: [u64; 2],
    held_for: String,
}

impl CanaryStory {
    /// With the cohort that was asked for, if one was.
    ///
    /// # Errors
    /// If it, or the one that it is widened to, has nobody in it or everybody: nothing would come of that.
    pub fn begin(options: &DemoOptions, agents: u16) -> anyhow::Result<Option<Self>> {
        let Some(first) = options.canary.clone() else { return Ok(None) };
        let percent = first.percent().saturating_mul(2).clamp(WIDENED_PERCENT, 99);
        let wider = Cohort::new(percent.max(first.percent()), first.covers().clone())?;
        let mut sizes = [0_u16; 2];
        for number in 1..=agents {
            let id = workload_id(number)?;
            sizes[0] += u16::from(first.has(&id));
            sizes[1] += u16::from(wider.has(&id));
        }
        if sizes[0] == 0 || sizes[0] == agents {
            let who = if sizes[0] == 0 { "nobody" } else { "everybody" };
            bail!(
                "{who} of the {agents} workloads with an agent is in {first}: say --canary 50%, or more --agents"
            );
        }
        if sizes[1] == sizes[0] {
            bail!(
                "{wider}, to which {first} is widened, has no more of the {agents} workloads: say another share, or more --agents"
            );
        }
        Ok(Some(Self { first, wider, seen: Vec::new() }))
    }

    /// Looks at what the CA says of its rotation, and widens the cohort as soon as that says something of the new root.
    ///
    /// # Errors
    /// If the CA refuses that.
    pub async fn look(&mut self, rotations: &Rotations, view: &mut View) -> anyhow::Result<()> {
        let number = usize::try_from(rotations.number()).unwrap_or(usize::MAX);
        let in_canary = |one: &&Rotation| one.phase == "canary" && rotations.is_under_way();
        let Some(standing) = rotations.last().filter(in_canary).and_then(|one| one.cohort.as_ref())
        else {
            return Ok(());
        };
        while self.seen.len() < number {
            self.seen.push(Seen::default());
        }
        let seen = self.seen.last_mut().context("no rotation is under way")?;
        let all = standing.taken + standing.silent + standing.waiting;
        if !standing.held_for.is_empty() {
            seen.held_for.clone_from(&standing.held_for);
        }
        if is_of(standing, &self.wider) {
            seen.last = [standing.taken, all];
        } else if !seen.is_wider && standing.taken > 0 && standing.taken * 2 >= all {
            seen.first = [standing.taken, all];
            // A server that is away for a moment is asked again.
            if rotations.widen(&self.wider).await? {
                seen.is_wider = true;
                view.say(&format!("the cohort is widened from {} to {}", self.first, self.wider));
            }
        }
        Ok(())
    }

    /// Why this did not show what it was to show.
    pub fn wrong(&self, rotations: u32) -> Option<String> {
        let held = self.seen.iter().find(|seen| !seen.held_for.is_empty());
        if let Some(held) = held {
            return Some(format!("a canary was held since {}", held.held_for));
        }
        let widened = self.seen.iter().filter(|seen| seen.is_wider && seen.last[0] > seen.first[0]);
        let widened = widened.count();
        (widened != usize::try_from(rotations).unwrap_or(usize::MAX)).then(|| {
            format!("{widened} of {rotations} rotations were seen with a cohort that grew")
        })
    }

    /// What came of it, for programs.
    pub fn as_json(&self) -> serde_json::Value {
        let one = |seen: &Seen| {
            json!({
                "first_taken": seen.first[0],
                "first_leaves": seen.first[1],
                "widened": seen.is_wider,
                "last_taken": seen.last[0],
                "last_leaves": seen.last[1],
                "held_for": (!seen.held_for.is_empty()).then_some(&seen.held_for),
            })
        };
        json!({
            "cohort": self.first.to_string(),
            "widened_to": self.wider.to_string(),
            "rotations": self.seen.iter().map(one).collect::<Vec<_>>(),
        })
    }

    /// The same for people.
    pub fn as_text(&self) -> String {
        let mut text = String::new();
        for (number, seen) in (1..).zip(&self.seen) {
            let [[first, all], [last, of]] = [seen.first, seen.last];
            text.push_str(&format!(
                "rotation {number}: {} went first ({first} of {all} leaves were of the new root), then {} ({last} of {of}), then all\n",
                self.first, self.wider
            ));
        }
        text
    }
}

fn is_of(standing: &CohortStanding, cohort: &Cohort) -> bool {
    standing.cohort == cohort.to_string()
}
