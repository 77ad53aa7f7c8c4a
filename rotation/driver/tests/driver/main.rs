//! The driver under test: over stores that fail, effects that hang, and restarts at every point.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod effects;
mod faults;
mod fixture;
mod restarts;
mod rotations;
mod several;
mod shared;
mod stored;
mod words;
