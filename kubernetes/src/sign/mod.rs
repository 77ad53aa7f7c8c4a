//! Signers: requests of the cluster for certificates, brought to the CA, and the certificates brought back.
//!
//! [`signer`] is the same for every kind of request: one process of several works, each request is in one pair of hands at a time, and
//! what fails for now is tried again; [`work`] is one attempt. [`request`] is what is wanted, and what comes of it. [`csr`],
//! [`pod_certificate`] and [`cert_manager`] read and write the kinds of [`kind`]; none asks anybody anything. [`issuer`] reads what
//! the issuer allows that a request of cert-manager names.
//!
//! The leaf counts at the gates of a rotation until its end, so none is asked for twice without need: one that could not be
//! written is kept for the next attempt.

mod cert_manager;
mod csr;
mod issuer;
mod kind;
mod pod_certificate;
mod request;
mod signer;
mod work;

pub(crate) use kind::Kind;
pub(crate) use signer::Signer;
pub(crate) use work::Scope;
