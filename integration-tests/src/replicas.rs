//! Three servers of one CA, each a process of its own over a real etcd, with members that talk without pause, and an account
//! from outside of every certificate that a client was given.
//!
//! [`Trio`] is all of it, [`Server`] one of the servers, [`Net`] a network of their own with a way to cut it. [`Hooks`] is what a
//! test slips into a server's process: another wall clock, and deaths.

mod account;
mod balancer;
mod hammer;
mod hooks;
mod net;
mod plan;
mod server;
mod trio;

pub use account::{Account, Figures};
pub use balancer::Balancer;
pub use hammer::{GIVEN, Hammer};
pub use hooks::{Deaths, Hooks};
pub use net::Net;
pub use plan::Plan;
pub use server::{LEASE, Server};
pub use trio::Trio;
