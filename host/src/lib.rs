//! What touches the machine: the system clock, the system's randomness, durable files.
//!
//! Every other crate takes these through a trait (`trust::Clock`, `trust::Randomness`, [`Disk`]), so that tests
//! can hold time still and make any single write fail. This crate decides nothing and parses nothing.
//!
//! Start at [`Disk`], which says what is durable when. Its fake, `FaultDisk`, stands beside it, with the
//! feature `testing`.
#![forbid(unsafe_code)]

mod clock;
mod dir_lock;
mod disk;
#[cfg(any(test, feature = "testing"))]
mod fault_disk;
pub mod peers;
mod permissions;
mod randomness;
mod real_disk;

pub use clock::SystemClock;
pub use dir_lock::{DirLock, DirLockError};
pub use disk::{AppendFile, Disk};
#[cfg(any(test, feature = "testing"))]
pub use fault_disk::{Fault, FaultDisk, How, Operation};
pub use permissions::{LoosePermissions, check_private};
pub use randomness::OsRandomness;
pub use real_disk::RealDisk;
