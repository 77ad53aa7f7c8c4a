//! The embedded engine: one file, for one process.

mod file;
mod store;
mod unfinished;

pub use file::{FORMAT, OpenError};
pub use store::RedbStore;
pub use unfinished::Unfinished;
