//! The embedded engine: one file, for one process.

mod file;
mod store;

pub use file::{FORMAT, OpenError};
pub use store::RedbStore;
