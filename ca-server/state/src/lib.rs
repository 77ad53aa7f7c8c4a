//! The state of a CA as a whole, wherever it is stored: whose it is, where it went, and what of it is in a backup.
//!
//! What each space holds is the affair of whoever uses it; here are only the words that are about all of them.
#![forbid(unsafe_code)]

pub mod backup;
mod copying;
mod error;
mod marks;
mod moving;
mod owner;
mod restoring;

pub use error::{FORMAT, OwnerError};
pub use marks::{moved_to, restored};
pub use moving::{MoveError, Moved, Place, move_state};
pub use owner::{Owner, claim, owner};
pub use restoring::{RestoreError, Restored, Restoring, recovered};
