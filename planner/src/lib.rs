//! What a rotation would come to: the real machine, driver, ledger, evidence and paced re-issue of a server, in one process and in
//! virtual time, against simulated members.
//!
//! | module | what |
//! |---|---|
//! | [`question`] | what is asked: who is there, under which policy |
//! | `clock`, `memory`, `chance` | time, store, disk and chance of a plan |
//! | `server`, `effects` | the server, whose signatures are only counted |
//! | `mesh`, `traffic` | the members, and what they send |
//! | `watcher`, [`forecast`] | what is seen of it, and what it means |
//! | [`svg`] | how it is drawn |
//!
//! It decides nothing of its own: when a phase ends the machine says, by evidence that is read from the ledger as a server reads it.
//! What it cannot see is said in `docs/planning.md`. Start at [`plan`].
//!
//! The crate `simulation` is something else: it looks for faults of servers. This one is for operators.
#![forbid(unsafe_code)]

mod agenda;
mod chance;
mod clock;
mod effects;
mod error;
pub mod forecast;
mod memory;
mod mesh;
pub mod question;
mod run;
mod server;
pub mod svg;
mod traffic;
mod watcher;

pub use error::PlanError;
pub use forecast::Forecast;
pub use question::{BadQuestion, Found, Mesh, NoShare, Question, Share, Sketch};
pub use run::plan;
pub use watcher::Moment;
