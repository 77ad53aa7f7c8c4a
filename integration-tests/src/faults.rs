//! CAs that crash and disks that fail: what tests of faults stand on.
//!
//! [`Site`] is a data directory whose server is started again and again, in this process or as a [`ChildCa`] that can be
//! killed. [`Outfit`] puts faults into a server in this process. [`Member`] asks for leaves as an agent does, and
//! [`Durable`] reads what a server that is gone left on the disk.

mod ahead;
mod authority;
mod child;
mod durable;
mod member;
mod outfit;
mod record;
mod site;

pub use crate::support::{SOON, eventually};
pub use ahead::AheadClock;
pub use authority::{AuthorityMode, AuthoritySwitch};
pub use child::ChildCa;
pub use durable::Durable;
pub use member::{Door, Leaf, Member, reason};
pub use outfit::{Fitted, Outfit};
pub use record::RecordFaults;
pub use site::Site;
