//! Where a rotation stands, as values.

use std::sync::Arc;

use rotation::{State, Verb};

use super::gate::GateView;
use crate::canary::CohortView;

/// How far something got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// So many of them.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// Where a rotation stands.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The record.
    pub state: Arc<State>,
    /// Live leaves whose holders are known to trust the bundle.
    pub trust: Done,
    /// Live leaves under the root that stays.
    pub leaves: Done,
    /// Work that fails and is tried again.
    pub troubles: Vec<String>,
    /// The verbs that would change something.
    pub legal: Vec<Verb>,
    /// The gate that the phase ends at.
    pub gate: Option<GateView>,
    /// What was rehearsed of the root that comes, and what was not.
    pub rehearsed: Vec<String>,
    /// What there is of the second net, where it is wanted.
    pub second_net: Vec<String>,
    /// Its canary, if it has one.
    pub cohort: Option<CohortView>,
}
