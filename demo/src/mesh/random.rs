//! What was drawn for a run with random faults, and what came of it.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Map, Value, json};
use trust::plain::counted;

use super::plan::{Phase, Planned};

/// Faults that are told before it begins.
const FIRST: usize = 4;

/// The faults of a run that were drawn from a seed.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The seed.
    pub seed: u64,
    /// What was drawn.
    pub plan: Vec<Planned>,
    /// What came, in the rotation in which it did.
    pub made: Vec<Planned>,
    /// What did not, since the last phase for it was over before it was seen.
    pub missed: Vec<Planned>,
}

type Counted = BTreeMap<&'static str, u64>;

impl Drawn {
    /// Whether all of it came.
    ///
    /// # Errors
    /// Names what did not.
    pub fn verdict(&self) -> anyhow::Result<()> {
        if !self.missed.is_empty() {
            bail!("these faults were drawn and never came: {}", listed_in_words(&self.missed));
        }
        Ok(())
    }

    /// One line before it begins.
    pub fn announced(&self) -> String {
        let plan = counted(u32::try_from(self.plan.len()).unwrap_or(u32::MAX), "fault", "faults");
        let first = self.plan.get(..FIRST).unwrap_or(&self.plan);
        format!(
            "drew {plan} from seed {}, the first: {}; --seed {} draws the same again",
            self.seed,
            listed_in_words(first),
            self.seed
        )
    }

    fn by_kind(&self) -> Counted {
        tally(self.made.iter().map(|one| one.fault.name()))
    }

    fn by_phase(&self, kind: Option<&str>) -> Counted {
        let of_kind =
            self.made.iter().filter(|one| kind.is_none_or(|kind| one.fault.name() == kind));
        let mut phases: Counted = Phase::ALL.iter().map(|phase| (phase.name(), 0)).collect();
        phases.extend(tally(of_kind.map(|one| one.phase.name())));
        phases
    }

    /// For programs.
    pub fn as_json(&self) -> Map<String, Value> {
        let of_kind = |kind: &&'static str| ((*kind).to_owned(), json!(self.by_phase(Some(kind))));
        let plan = self.plan.iter().map(|one| {
            json!({
                "rotation": one.rotation,
                "phase": one.phase.name(),
                "fault": one.fault.name(),
                "member": one.member + 1,
            })
        });
        let mut found = Map::new();
        found.insert("seed".to_owned(), json!(self.seed));
        found.insert("faults_made".to_owned(), json!(self.made.len()));
        found.insert("faults_by_kind".to_owned(), json!(self.by_kind()));
        found.insert("faults_by_phase".to_owned(), json!(self.by_phase(None)));
        let both: Map<_, _> = self.by_kind().keys().map(of_kind).collect();
        found.insert("faults_by_kind_and_phase".to_owned(), Value::Object(both));
        found.insert("fault_plan".to_owned(), Value::Array(plan.collect()));
        found
    }

    /// For people.
    pub fn as_text(&self) -> String {
        let mut text = format!(
            "faults under this traffic, drawn from seed {}: {} ({})\n",
            self.seed,
            self.made.len(),
            listed(&self.by_phase(None))
        );
        for (kind, count) in self.by_kind() {
            text.push_str(&format!("  {kind} {count} ({})\n", listed(&self.by_phase(Some(kind)))));
        }
        text
    }
}

fn tally(names: impl Iterator<Item = &'static str>) -> Counted {
    let mut counted = Counted::new();
    names.for_each(|name| *counted.entry(name).or_default() += 1);
    counted
}

fn listed(counted: &Counted) -> String {
    let parts: Vec<_> = counted.iter().map(|(name, count)| format!("{name} {count}")).collect();
    parts.join(", ")
}

/// Which they are, and when they come.
pub fn listed_in_words(planned: &[Planned]) -> String {
    planned.iter().map(in_words).collect::<Vec<_>>().join(", ")
}

fn in_words(planned: &Planned) -> String {
    let Planned { rotation, phase, fault, member } = planned;
    format!("{} at {} in rotation {rotation} while {}", fault.name(), member + 1, phase.name())
}
