//! The machine among a small mesh, every order of events: two agents with a proxy each, a client that only sends
//! CSRs, one replica, requests and handshakes in flight, crashes, lost streams, refusals, a clock that steps, delay and
//! loss.
//!
//! The record is moved by the real `rotation::step`, and what an agent hands to its proxy by the real `install::plan` of
//! the agent. What the mesh and the driver do by the rules, they do not do when a protection is taken out; the walk must
//! then meet a handshake that fails.
//!
//! Loss and delay of messages need no moves of their own: whatever is on its way arrives in some move, late or never.
//! `cargo xtask model` walks the whole of larger settings too.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the words of these tests are well formed, or the test fails"
)]

mod agents;
mod deadlines;
mod distrust;
mod entities;
mod evidence;
mod fingerprint;
mod holder;
mod kept;
mod mesh;
mod moves;
mod pair;
mod protections;
mod replica;
mod restored;
mod walk;
mod whole;
mod words;

#[path = "../../../agent/src/install.rs"]
mod install;
