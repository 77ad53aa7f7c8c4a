//! Where a rotation stands, as values.

use std::sync::Arc;

use rotation::{State, Verb};

use super::gate::GateView;

/// How far something got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// So many of them.
    pub(crate) done: u64,
    /// Of so many.
    pub(crate) total: u64,
}

/// Where a rotation stands.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    pub(crate) state: Arc<State>,
    /// Live leaves whose holders are known to trust the bundle.
    pub(crate) trust: Done,
    /// Live leaves under the root that stays.
    pub(crate) leaves: Done,
    /// Work that fails and is tried again.
    pub(crate) troubles: Vec<String>,
    /// The verbs that would change something.
    pub(crate) legal: Vec<Verb>,
    /// The gate that the phase ends at.
    pub(crate) gate: Option<GateView>,
}
