//! The state of a CA as a whole, wherever it is stored: whose it is, and where it went.
//!
//! What each space holds is the affair of whoever uses it; here are only the words that are about all of them.
#![forbid(unsafe_code)]

mod error;
mod marks;
mod moving;
mod owner;

pub use error::{FORMAT, OwnerError};
pub use marks::moved_to;
pub use moving::{MoveError, Moved, Place, move_state};
pub use owner::{Owner, claim, owner};
