//! Beside the server: what a Kubernetes cluster gets of a CA.
//!
//! A process of its own that speaks to one server through its admin socket alone, and to one cluster. It has no identity and no
//! trust of its own, and one that is broken stops no issuance. Start at [`run`], which starts a task for each part that the
//! configuration ([`config`]) has a section for; a part gets what it needs as a [`World`] and says how it is on the
//! [`board`].
//!
//! What is not here: who calls the CA (that is judged in the server), and anything that a gate rests on but the word of a relying
//! party.

pub mod api;
pub mod board;
pub mod ca;
pub mod config;
pub mod health;
mod inject;
pub mod lead;
pub mod metrics;
mod publish;
pub mod resources;
mod rights;
pub mod run;
mod sign;
pub mod world;

pub use config::{Config, ConfigError};
pub use run::{HostDeps, Running};
pub use world::World;
