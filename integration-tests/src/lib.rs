//! Whole-system tests, and what they stand on.
//!
//! | module | what |
//! |---|---|
//! | [`attacks`] | attacks on a server's sockets, and what good clients notice |
//! | [`cluster`] | what the chart renders, with a real API server, in Pods that a fake of a kubelet runs |
//! | [`faults`] | CAs that crash and disks that fail |
//! | [`mesh`] | a CA, agents and Envoys that work together |
//! | [`pty`] | a pseudo-terminal and the emulator that reads it |
//! | [`replicas`] | three servers of one CA over a real etcd, and what is counted of them from outside |
//! | [`untrusted`] | a CA and hostile clients, and what their requests leave behind |
//! | [`support`] | a server's place, its faults and its clock, names, bounded waits and files, for all of them |
#![forbid(unsafe_code)]

pub mod attacks;
pub mod cluster;
pub mod faults;
pub mod mesh;
pub mod pty;
pub mod replicas;
pub mod support;
pub mod tokens;
pub mod untrusted;
