//! A cluster without nodes: a real API server over a real etcd, what the chart renders, and Pods in networks and file systems
//! of their own.
//!
//! There is no kubelet here. [`Pod`] is a fake of one: it makes the volumes that a Pod names of what the API server really
//! has, runs the containers with what their specification says, and knows nothing of images, users, limits and probes but
//! the path that says whether it is ready. Where a Pod is started on a node that it shares with others, its containers are in
//! cgroups that are named as a kubelet names them, and each begins a cgroup namespace, as container runtimes have it.

#![expect(
    clippy::indexing_slicing,
    reason = "an index of JSON that is not there reads as null, and is made when it is written to"
)]

mod cgroup;
mod container;
mod image;
mod kubelet;
mod pod;
mod site;
mod tools;
mod volumes;

pub use container::Container;
pub use image::Image;
pub use kubelet::Kubelet;
pub use pod::Pod;
pub use site::Cluster;
pub use tools::{Chart, kubectl, rendered};
