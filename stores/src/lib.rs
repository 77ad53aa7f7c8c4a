//! What all replicas of a CA must know, in one place: versioned keys, and writes that succeed only on the version they
//! were made for.
//!
//! The port is [`SharedStore`]. It is no database: atomic is one write of one key, for the API of Kubernetes has no
//! transactions over objects. Whoever needs two keys to agree writes them in an order in which a crash between them does
//! no harm, and repairs it when it reads.
//!
//! [`spaces`] lists everything that is stored; [`marked`] and [`settle`] are what most users of the port need besides: values
//! that tell an edit, and writes whose outcome is known.
//!
//! Each engine is a crate of its own below this one; `stores-contract` is the suite that each of them passes.

mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod hints;
mod key;
pub mod marked;
pub mod settle;
pub mod spaces;
mod store;

pub use error::{ReadError, WriteError};
pub use hints::{HintSender, Hints, Look, hints};
pub use key::{ID_BYTES_MAX, InvalidKey, Key, Sensitivity, Space, VALUE_BYTES_MAX, Version};
pub use store::{Entry, Page, SharedStore, Versioned};
