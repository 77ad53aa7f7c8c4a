//! CAs that crash and disks that fail: what tests of faults stand on.
//!
//! [`CaDir`] is a data directory whose server is started again and again, in this process or as a [`ChildCa`] that can be
//! killed. [`FaultPlan`] puts faults into a server in this process. [`Member`] asks for leaves as an agent does, and
//! [`Durable`] reads what a server that is gone left on the disk.

mod child;
mod durable;
mod member;

pub use crate::support::{
    AuthorityMode, AuthoritySwitch, CaDir, Crossing, FaultPlan, RecordFaults, SOON, TestClock,
    Window, eventually, write_private,
};
pub use child::ChildCa;
pub use durable::Durable;
pub use member::{Door, Leaf, Member, Shown, reason};
