//! Attestation by Pod: which Pod of its node a calling process runs in, and whose that Pod is.
//!
//! | file | what |
//! |---|---|
//! | `cgroup.rs` | the Pod that the kernel's account of a process names; pure |
//! | `caught.rs` | the process at the other end of a connection, held while that account is read |
//! | `view.rs` | the Pods of the node, as the API server told them last |
//! | `watch.rs` | keeps them: a list, then a watch |
//!
//! `crate::sds::attest` makes an answer of them. A user id tells nothing here: whoever may make Pods chooses theirs. What a container cannot choose is the cgroup that the
//! kubelet had made for its Pod.

mod caught;
mod cgroup;
mod view;
mod watch;

pub(crate) use caught::{Caught, caught, own_place};
pub(crate) use cgroup::{Layout, Place, PodUid};
pub(crate) use view::{KnownPod, View};
pub(crate) use watch::PodWatch;
