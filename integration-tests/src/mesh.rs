//! A small mesh on this machine: a real CA, real agents, and real Envoys or foreign clients beside them.
//!
//! [`MeshCa`] is a CA behind a [`Gate`] that can be shut, [`TestAgent`] an agent with its own home, [`Subscriber`] one
//! stream of secrets, [`Proxy`] and [`CsrClient`] members that [`Traffic`] lets shake hands, [`Envoy`] a proxy in a
//! process of its own. [`LyingCa`] does what no real CA does, [`TokenIssuer`](crate::tokens::TokenIssuer) makes JWTs, and [`Tool`] runs programs of other projects.

mod agent;
mod authorities;
mod bare_envoy;
mod ca;
mod csr_client;
mod door;
mod envoy;
mod gate;
mod liar;
mod live;
mod pki;
mod proxy;
mod reader;
mod received;
mod rows;
mod subscriber;
mod tool;
mod traffic;
mod ztunnel;

pub use crate::support::{SOON, TRUST_DOMAIN, TestClock, Window, eventually, write_private};
pub use agent::TestAgent;
pub use authorities::{Cacerts, PythonAuthority};
pub use bare_envoy::BareEnvoy;
pub use ca::{MeshCa, Registered, admin_channel, tls_channel, until_rotation};
pub use csr_client::CsrClient;
pub use door::Door;
pub use envoy::{Envoy, Route, http};
pub use gate::Gate;
pub use liar::{LyingCa, Misbehavior, Presented};
pub use live::{LiveMesh, MeshPlan};
pub use pki::Pki;
pub use proxy::{Failed, Holding, Proxy, shake};
pub use reader::Reader;
pub use received::{Received, ReceivedLeaf};
pub use rows::Rows;
pub use subscriber::{Subscriber, certificates, serial};
pub use tool::{Tool, run};
pub use traffic::{Guest, Member, Talk, Traffic};
pub use ztunnel::{FakeZtunnel, ZtunnelFiles};
