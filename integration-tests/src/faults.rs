//! CAs that crash and disks that fail: what tests of faults stand on.
//!
//! [`CaDir`] is a data directory whose server is started again and again, in this process or as a [`ChildCa`] that can be
//! killed. [`FaultPlan`] puts faults into a server in this process. [`Member`] asks for leaves as an agent does, and
//! [`Durable`] reads what a server that is gone left on the disk.

mod ahead;
mod authority;
mod ca_dir;
mod child;
mod durable;
mod fault_plan;
mod member;
mod record;

pub use crate::support::{SOON, eventually};
pub use ahead::AheadClock;
pub use authority::{AuthorityMode, AuthoritySwitch};
pub use ca_dir::CaDir;
pub use child::ChildCa;
pub use durable::Durable;
pub use fault_plan::{FaultPlan, PlannedFaults};
pub use member::{Door, Leaf, Member, reason};
pub use record::RecordFaults;
