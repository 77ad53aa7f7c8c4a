//! The one task that owns the agent's state: bundles, leaves, holders and their streams.
//!
//! Everybody else sends it [`Command`]s over a bounded channel and reads what it publishes. After each batch of commands
//! it settles (`run`): it expires, plans (see [`crate::install`]), makes durable, pushes, asks for leaves, and publishes. All of
//! that is by level, so a command lost or repeated does no harm, and a clock that jumps is noticed at the next tick.
//!
//! It knows no protocol for holders: what one wants, gets and says is in the words of `subscription`, and an adapter
//! (`crate::sds`) translates. `cargo xtask check` keeps Envoy's types out of this folder.

mod command;
mod doubts;
mod foreign;
mod lists;
mod pushes;
mod report;
mod revoked;
mod run;
mod state;
mod streams;
mod subscription;
mod told;
mod workload;
mod workloads;

pub(crate) use command::{Command, HubHandle, OfferError, Peer};
pub(crate) use state::{Hub, Parts, Publish};
pub(crate) use subscription::{
    Answer, Delivery, DeliveryId, Heard, Material, Pushed, Refusal, TrustVersion, Why,
};
