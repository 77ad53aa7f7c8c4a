//! One module a verb.

pub mod about;
pub mod agent;
pub mod authority;
mod backup;
pub mod ceremony;
pub mod clock;
pub mod config;
pub mod downstream;
pub mod federation;
pub mod issue;
pub mod issuer;
pub mod journal;
pub mod keys;
pub mod kubernetes;
pub mod leaf;
pub mod plugin;
pub mod relying_party;
pub mod replica;
mod request;
pub mod root;
pub mod rotate;
pub mod serve;
pub mod simulate;
pub mod state;
pub mod status;
pub mod token;
pub mod waiver;
