//! The root authority of another Banyan: this CA is downstream of it, issues under its roots, and follows its rotations.
//!
//! The CA above is called over `banyan.downstream.v1` on its TLS port. What it says of its roots is checked, kept durably, and from
//! then on is what its server certificate must chain to: a rotation above needs no new file here.
//!
//! No root is made here, so nothing is staged: a new root comes by a rotation above ([`UpstreamCa`](plugins::UpstreamCa)).
//!
//! Start at [`BanyanPlugin`], which lists it in a registry as `banyan`.

mod accepted;
mod channel;
mod client;
mod config;

use std::sync::Arc;

use plugins::{AuthorityDeps, AuthorityPlugin, ConfigProblem, RootAuthority};

pub use client::BanyanAuthority;

/// Lists [`BanyanAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct BanyanPlugin;

impl AuthorityPlugin for BanyanPlugin {
    fn name(&self) -> &'static str {
        "banyan"
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
        Ok(Arc::new(BanyanAuthority::new(settings, deps)))
    }
}
