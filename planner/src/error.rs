//! Why there is no plan.

use crate::question::BadQuestion;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The question makes no sense.
    #[error(transparent)]
    Question(#[from] BadQuestion),
    /// The plan could not go on, which is a fault of this program.
    #[error("the plan broke off, which is a fault to report: {0}")]
    Broken(String),
}

impl PlanError {
    /// A failure of the machinery of a plan, which has no faults of its own.
    pub(crate) fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}
