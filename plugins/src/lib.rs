//! The contract between Banyan and whatever holds its roots and its private keys.
//!
//! Two axes, because a certificate authority and a key store are different things: a [`RootAuthority`] owns a root and
//! signs our issuers; a [`KeyBackend`] holds private keys and signs bytes. The trait documentation is the
//! specification: order, durability, idempotence, who checks what and who retries. `plugins-conformance` is the same
//! specification as a test suite.
//!
//! A plugin may be down, never wrong: the caller sends every answer through [`checks`] before it believes it.
//!
//! What is not here: plugins themselves (one crate each), the phases of a rotation, files and clocks.
//!
//! Start at [`authority`] to write an authority, at [`keys`] to write a key backend; [`Registry`] is where both are
//! listed by name, [`ca_certificate`] builds roots and issuers, and [`memory`] and [`state`] hold the fakes.

pub mod answers;
pub mod authority;
pub mod ca_certificate;
pub mod call;
pub mod checks;
pub mod config;
pub mod error;
pub mod keys;
pub mod memory;
pub mod registry;
pub mod ring_keys;
pub mod state;

pub use answers::AnswerBook;
pub use authority::{
    CrossSign, CrossSignRequest, Description, IssuerChain, IssuerRequest, RetireRoots, RootAuthority,
    RootDer, RootSet, StageRequest, StageRoots, TierReport, UpperState, UpperTier, WatchRoots,
};
pub use call::{CallContext, Health, HealthState, Outcome, RequestId, Ticket};
pub use checks::Unsafe;
pub use config::{ConfigProblem, ConfigTable};
pub use error::{KeyError, PluginError};
pub use keys::{KeyBackend, KeyBackendDescription, KeyHandle, KeyId, KeySpec};
pub use registry::{AuthorityDeps, AuthorityPlugin, KeyBackendPlugin, Registry, RegistryError};
pub use state::{AuthorityState, StateError, StateName};
