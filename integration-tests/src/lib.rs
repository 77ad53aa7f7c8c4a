//! Whole-system tests, and what they stand on.
//!
//! | module | what |
//! |---|---|
//! | [`faults`] | CAs that crash and disks that fail |
#![forbid(unsafe_code)]

pub mod faults;
