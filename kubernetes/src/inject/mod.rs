//! The webhook that gives Pods an agent as a native sidecar: what deploy/agent/sidecar.yaml does by hand.
//!
//! `pod.rs` says what a Pod gets, and has no I/O; `review.rs` reads and writes the API server's messages; `leaf.rs` keeps the
//! certificate that the webhook is served with, which is of the CA itself; `serve.rs` serves. The API server believes it by the
//! channel of the same name ([`crate::publish`]), so a rotation waits for that channel as for every other.

mod agent;
mod leaf;
mod places;
mod pod;
mod review;
mod serve;

pub(crate) use serve::{Injector, Reserved};
