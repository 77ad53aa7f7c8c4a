//! Who calls, and what they may have: the credentials of every call, what each caller is entitled to, how fast, and every way
//! to say no.
//!
//! | module | what |
//! |---|---|
//! | [`authn`] | from the credentials of a call to a [`Caller`](authn::Caller), which is made nowhere else |
//! | [`authz`] | from a caller and a verified CSR to a request that may be issued |
//! | [`pace`] | how fast one identity gets leaves |
//! | [`refusal`] | the table of refusals: reason, gRPC code, wait |
//!
//! It knows no store: live rows ([`authn::mtls::LiveRows`]), join tokens ([`authn::join_token::JoinTokens`]), agents
//! ([`authz::Agents`]) and keys of the CA ([`authz::KeyPolicy`]) are ports, which the registry, the ledger and the server
//! implement. A new way to authenticate is a module of [`authn`]. It reads no configuration: each part takes settings of its
//! own.
#![forbid(unsafe_code)]

pub mod authn;
pub mod authz;
pub mod bans;
pub mod bounded_cache;
#[cfg(test)]
#[path = "../../issuance/src/fixture.rs"]
mod fixture;
pub mod pace;
pub mod refusal;
