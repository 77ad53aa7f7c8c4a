//! A small mesh on this machine: a real CA, real agents, and real Envoys or foreign clients beside them.
//!
//! [`MeshCa`] is a CA behind a [`Gate`] that can be shut, [`TestAgent`] an agent with its own home, [`Subscriber`] one
//! stream of secrets, [`Proxy`] and [`CsrClient`] members that [`Traffic`] lets shake hands, [`Envoy`] a proxy in a process of its own. [`LyingCa`] does what no real CA does, [`TokenIssuer`]
//! makes JWTs, and [`Tool`] runs programs of other projects.

mod agent;
mod authorities;
mod ca;
mod clock;
mod csr_client;
mod envoy;
mod gate;
mod issuer;
mod liar;
mod live;
mod pki;
mod proxy;
mod rows;
mod subscriber;
mod tool;
mod traffic;

pub use agent::TestAgent;
pub use authorities::{Cacerts, PythonAuthority};
pub use ca::{MeshCa, Registered, admin_channel, tls_channel};
pub use clock::ShiftedClock;
pub use csr_client::CsrClient;
pub use envoy::{Envoy, Route};
pub use gate::Gate;
pub use issuer::TokenIssuer;
pub use liar::{Face, Lie, LyingCa};
pub use live::{LiveMesh, MeshPlan};
pub use pki::Pki;
pub use proxy::{Failed, Holding, Proxy, shake};
pub use rows::Rows;
pub use subscriber::{Subscriber, certificates, serial};
pub use tool::{Tool, run};
pub use traffic::{Guest, Member, Talk, Traffic};

use std::time::Duration;

/// The trust domain of every test mesh.
pub const TRUST_DOMAIN: &str = "example.org";
/// Longest wait for something that should happen soon, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(30);

/// Waits until a condition holds, asking every few milliseconds.
///
/// # Errors
/// When it does not hold in time; the error names it.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.map_err(|_| anyhow::anyhow!("not in time: {what}"))
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// As the operating system says.
pub fn write_private(path: &std::path::Path, contents: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, contents)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}
