//! Rotations onto the roots of real CAs of other projects, and away from them, while everybody talks.

#[cfg(feature = "real-spire")]
mod spire;
mod step_ca;
