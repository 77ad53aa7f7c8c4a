//! Real engines for tests: members of etcd, a server of the API of Kubernetes, its controllers and those of cert-manager in
//! processes of their own, a PKI for them, and a line before them that can break.
//!
//! Programs come from `cargo xtask peers`. Everything listens on 127.0.0.1, on ports that the system chose.

mod accounts;
mod cert_manager;
mod controllers;
mod etcd;
mod kube;
mod pki;
mod process;
mod relay;

pub use accounts::{Pod, PodPlan};
pub use cert_manager::CertManager;
pub use controllers::ControllerManager;
pub use etcd::{Etcd, Setup};
pub use kube::{ApiServer, Asked, ISSUER, Token};
pub use pki::Pki;
pub use process::free;
pub use relay::{Line, Relay};
