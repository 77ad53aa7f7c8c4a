//! What a cluster gets of a CA: a real API server over a real etcd, a real CA, and the process between them, whose account has
//! exactly the rights that docs/kubernetes.md lists.

#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod bench;
mod bundles;
mod cert_manager;
mod certificates;
mod config_maps;
mod controllers;
mod faults;
mod federated;
mod gateways;
mod inject;
mod lead;
mod older;
mod resources;
mod rights;
mod sign;
mod support;
mod waivers;
