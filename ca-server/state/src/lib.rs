//! The state of a CA as a whole, wherever it is stored: whose it is, and where it went.
//!
//! What each space holds is the affair of whoever uses it; here are only the words that are about all of them.
#![forbid(unsafe_code)]

mod owner;

pub use owner::{FORMAT, Owner, OwnerError, claim, owner};
