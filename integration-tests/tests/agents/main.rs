//! A real agent among faults: untrusted clients at its socket, holders that refuse, a CA that is away or lies, a first contact
//! with the wrong one.
#![forbid(unsafe_code)]

mod absence;
mod failover;
mod files;
mod first_contact;
mod gone;
mod herd;
mod holders;
mod issuer;
mod misbehavior;
mod removed;
mod revoked;
mod socket;
mod status;

use integration_tests::mesh::{MeshCa, TestAgent};

/// The identity of the one workload.
const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

/// A CA and an agent that is a member of its mesh, with a workload for this user.
async fn mesh() -> anyhow::Result<(MeshCa, TestAgent)> {
    let ca = MeshCa::start("", "").await?;
    let agent = TestAgent::of(ca.gate().address())?
        .with_token(&ca.token("host-1", &[WEB]).await?)?
        .with_own_workload(WEB)
        .joined()
        .await?;
    Ok((ca, agent))
}
