//! The engine on the API of Kubernetes: one object for each key, in one namespace.
//!
//! A key of a plain space is a ConfigMap, one of a secret space a Secret. The object's name is a hash; the id stands in an
//! annotation, so that any id fits, and is compared with the one that was asked for. A version is the object's UID and its
//! resource version, which every write names as what must be there. Reads ask for no resource version: they are
//! linearizable.
//!
//! What is not here: a cache, a queue, leases. Nothing is tried again but what surely was not done.

mod answer;
mod api;
mod call;
mod connection;
mod list;
mod names;
mod object;
mod settings;
mod store;
mod watch;

pub use kube_access::{Access, InCluster, POD_TOKEN};
pub use settings::{InvalidSettings, Settings};
pub use store::KubernetesStore;
