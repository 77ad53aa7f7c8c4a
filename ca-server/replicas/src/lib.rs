//! The servers of one CA: their names, their leases, and who of them is there.
//!
//! A server [joins](Member::join) under its name, and [keeps](Member::keep) a lease by writing its row of the space
//! `replicas` again and again. The [lease](Lease) is counted on the boot clock, from before the renewal was sent; others
//! count from when they saw it, so nobody takes a server for dead whose lease still holds. Without a valid lease a server
//! releases nothing. A lease never decides who may write: versions do.
//!
//! [`Roster`] is what one server knows of the others.

mod drains;
mod error;
mod lease;
mod member;
mod roster;
mod row;
#[cfg(test)]
mod tests;

pub use drains::{DrainError, drain, remove, undrain, watch_drain};
pub use error::{JoinError, Lost};
pub use lease::Lease;
pub use member::{Currency, Joining, Member};
pub use roster::{Peer, Roster, watch_roster};
pub use row::{Drain, ReplicaRow, Standing, UnreadableRow};
