//! The key backend that keeps private keys on a PKCS#11 token, such as a hardware security module.
//!
//! Keys are made on the token, sensitive and not extractable, and never leave it; this process has their handles. Calls
//! into a vendor's module block, so they run on a few threads of the backend's own ([`Pkcs11Keys`] waits for them with a
//! deadline), behind a bounded queue: what is too much is refused as busy, and the async side never waits on a token.
//!
//! A module runs inside of this process. Panics stay with their call; a module that crashes takes the process along.
//!
//! Start at [`Pkcs11Plugin`], which lists the backend in a registry as `pkcs11`. Then `worker` is the one way to call
//! the token and says what happens when a session is lost, `objects` what a key is on the token, `token` finds it and
//! logs in, `module` is what a process shares, `pool` the threads, `trouble` sorts what the module answers.

mod backend;
mod config;
mod encoding;
mod found;
mod module;
mod objects;
mod pin;
mod pool;
mod token;
mod trouble;
mod worker;

pub use backend::{Pkcs11Keys, Pkcs11Options};
pub use config::Pkcs11Plugin;
pub use pin::PinSource;
pub use token::TokenName;
