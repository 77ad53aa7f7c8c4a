//! Root authorities in other processes and languages: the protocol `banyan.plugin.v1` over a Unix socket or mTLS.
//!
//! [`RemoteAuthority`] calls a plugin and keeps the contract of [`RootAuthority`] towards the core: deadlines,
//! bounds on every message, errors by what comes next. [`PluginService`] is the other side, for plugins in Rust: it
//! serves any `RootAuthority`. The specification is `proto/protos/banyan/plugin/v1/plugin.proto`.
//!
//! What a plugin can do is written in its settings, since the core asks for it before anything is connected; a plugin whose
//! handshake says something else is not used. A plugin's process can be started and kept up from here (`command`), by a
//! pinned checksum, with no environment but the one that is configured.
//!
//! Start at [`RemotePlugin`], which lists it in a registry as `remote`.

mod channel;
mod client;
mod config;
mod serve;
mod supervise;
mod version;
mod wire;

use std::sync::Arc;

use plugins::{AuthorityDeps, AuthorityPlugin, ConfigProblem, RootAuthority};

pub use client::{RemoteAuthority, handshake};
pub use config::{Endpoint, InvalidEndpoint};
pub use serve::PluginService;
pub use version::PROTOCOL_VERSION;

/// Lists [`RemoteAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemotePlugin;

impl AuthorityPlugin for RemotePlugin {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        config::Settings::read(settings, std::path::Path::new("")).map(drop)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let settings = config::Settings::read(settings, &deps.base)?;
        Ok(Arc::new(RemoteAuthority::configured(settings, &deps)))
    }
}
