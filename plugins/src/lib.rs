//! The contract between Banyan and whatever holds its roots and its private keys.
//!
//! Two axes, because a certificate authority and a key store are different things: a [`RootAuthority`] owns a root and
//! signs our issuers; a [`KeyBackend`] holds private keys and signs bytes. The trait documentation is the
//! specification: order, durability, idempotence, who checks what and who retries. `plugins-conformance` is the same
//! specification as a test suite.
//!
//! A plugin may be down, never wrong: the caller sends every answer through [`checks`] before it believes it.
//!
//! # Versions
//! A plugin that compiles against one version and passes the suite does so against the next ones of the same major
//! version:
//! - Traits get new methods only with a default that says "cannot"; a capability is a trait of its own, shown by such a
//!   method.
//! - Structs and the enums of errors and faults are `non_exhaustive`: they grow, and are made by their `new`.
//! - What a variant of an error asks of the caller never changes.
//! - The suite may get new rules; the notes of a release name them.
//!
//! There is no call to revoke an issuer: peers do not ask anybody whether one is revoked, so a root whose issuer is not to be
//! trusted is rotated away from. Work that people do is no capability either: every call that makes something may answer
//! [`Outcome::Pending`].
//!
//! What is not here: plugins themselves (one crate each), the phases of a rotation, files and clocks.
//!
//! Start at [`authority`] to write an authority, at [`keys`] to write a key backend; [`Registry`] is where both are
//! listed by name, [`ca_certificate`] builds roots and issuers, and [`memory`] and [`state`] hold the ones that keep all in memory.

pub mod answering;
pub mod answers;
pub mod authority;
pub mod ca_certificate;
pub mod call;
pub mod checks;
pub mod config;
pub mod cross;
pub mod document;
pub mod error;
mod key_id;
pub mod keys;
pub mod memory;
pub mod registry;
pub mod ring_keys;
pub mod state;

pub use answering::{Answering, LookEvery, watch_by_looking};
pub use answers::{Announcement, AnswerBook, JudgedIssuer};
pub use authority::{
    CrossSign, CrossSignRequest, Description, DownstreamReport, IssuerChain, IssuerRequest,
    RetireRoots, RootAuthority, RootDer, RootSet, StageRequest, StageRoots, UpstreamCa,
    UpstreamState, WatchRoots, WithdrawRequests,
};
pub use call::{CallContext, Health, HealthState, Outcome, RequestId, Ticket};
pub use checks::Unsafe;
pub use config::{ConfigProblem, ConfigTable};
pub use cross::{CrossAnswers, CrossSigner, JudgedCross};
pub use document::Document;
pub use error::{KeyError, PluginError};
pub use keys::{KeyBackend, KeyBackendDescription, KeyHandle, KeyId, KeySpec};
pub use registry::{
    AuthorityDeps, AuthorityPlugin, KeyBackendPlugin, Registry, RegistryError, says_exclusive,
};
pub use state::{AuthorityState, StateError, StateName};
