//! Publishers: each channel writes the bundle to its objects, keeps them so, reads them back, and gives the CA its word.
//!
//! A channel is one task ([`channel`]). What an object should be is [`content`], what it is now is [`seen`], and what follows
//! from both is [`judge`], which is pure. [`gateways`] looks for readers that may take a part of it only. [`objects`] asks the API server, [`word`] the CA.
//!
//! Every write names what must be there, so that a process that was paused cannot put back an older bundle: an object that
//! shows a later one is left alone, and one that changed since it was looked at is looked at again.

mod channel;
mod content;
mod gateways;
mod judge;
mod objects;
mod seen;
mod state;
mod word;

pub(crate) use channel::Channel;
