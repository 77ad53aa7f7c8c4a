//! The state that all servers of a CA share: where it is, whose it is, and how it gets there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod backup;
mod engines;
mod etcd;
mod former;
mod kubernetes;
mod moving;
mod peers;
mod support;
