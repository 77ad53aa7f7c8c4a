//! Rehearsals: handshakes in memory between leaves that nobody else gets, judged by verifiers that share no code.
//!
//! Before a root is published, each pair of peers that can meet in a coming phase shakes hands here: TLS as it is spoken, with the
//! chain and the bundle of that phase. Who judges the chains is exchangeable: rustls-webpki, which ignores the validity, the CA flag
//! and the path length of an anchor, and OpenSSL, which does not. Nothing here issues a leaf, knows a record or opens a socket.
//!
//! Start at [`shake`]; the verifiers are [`RustlsWebpki`] and [`OpenSsl`].
#![forbid(unsafe_code)]

mod handshake;
mod openssl;
mod scene;
mod verifier;
mod webpki_verifier;

pub use handshake::shake;
pub use openssl::{OpenSsl, program};
pub use scene::{Actor, Failure, Scene, Unshaken};
pub use verifier::{Presented, Verdict, Verifier};
pub use webpki_verifier::RustlsWebpki;

#[cfg(test)]
mod tests;
