//! What the machine is told about the mesh, and the gates that rest on it.
//!
//! A report counts; it never lists rows. The driver makes it from the ledger and from what relying parties confirmed;
//! only the functions here draw conclusions from it, the same ones for [`step`](crate::step()) and for whoever
//! explains why a gate is closed.

mod gates;
mod holds;
mod report;
mod words;

pub use gates::{
    Gate, GateName, canary_gate, converged_gate, gate, leaf_gate, not_everybody_trusts, trust_gate,
    trust_gate_again,
};
pub use holds::Hold;
pub use report::{Evidence, RelyingParties, Tally};
