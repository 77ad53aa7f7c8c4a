//! The machine under test: by script, by random walk, by walking everything, and by breaking it on purpose.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the words of these tests are well formed, or the test fails"
)]

mod advice;
mod broken;
mod canary;
mod distrust;
mod explore;
mod further;
mod gates;
mod probes;
mod prune;
mod questions;
mod recovered;
mod replicas;
mod returns;
mod rotations;
mod script;
mod scripts;
mod sightings;
mod stored;
mod stored_names;
mod verbs;
mod walk;
mod words;
