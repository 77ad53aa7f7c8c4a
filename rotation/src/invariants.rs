//! What must hold of every state, and of every two states that follow each other. Whoever runs the machine checks
//! both before it stores a state; a violation means a fault in this crate, and the former state stays.

mod further;
mod one_state;
mod rotation;
mod two_states;
mod violation;

use crate::State;

pub use violation::{BUNDLE_ROOTS_MAX, Property, Violation};

/// Checks one state.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check(state: &State) -> Result<(), Violation> {
    one_state::check(state)
}

/// Checks `next` and that it may follow `former` directly.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check_next(former: &State, next: &State) -> Result<(), Violation> {
    check(next)?;
    two_states::check(former, next)
}
