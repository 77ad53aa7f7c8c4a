//! Whether this agent's own proxies can verify the root that shall sign: it shakes hands with their listeners, twice.
//!
//! What is presented first is a leaf that the proxy trusts already, then one of the root that shall sign. Only the difference between
//! the two says anything of the proxy; a listener that does not even take the first tells nothing.

mod handshake;
mod prober;

pub(crate) use prober::Prober;
