//! Why a driver does not start.

use rotation::record::RecordError;

use crate::{StoreError, SubmitError};

/// Why a driver did not start. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not give the record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record is there and cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record cannot be written, or its writer broke a rule.
    #[error(transparent)]
    Write(#[from] SubmitError),
}
