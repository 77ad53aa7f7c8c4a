//! The root authority of a cluster's cert-manager: issuers by CertificateRequests at one of its Issuers or ClusterIssuers.
//!
//! | asked of it | by |
//! |---|---|
//! | roots, and which of them signs | a short certificate, asked for every so often: what is above it, and `status.ca` or a file of roots |
//! | an issuer | a CertificateRequest with `isCA`, which somebody may have to approve |
//! | health | the last of those short certificates |
//!
//! Every answer is checked here as the caller will check it. An issuer of cert-manager certifies others too, so the authority is
//! not exclusive unless its settings say so.
//!
//! Start at [`CertManagerAuthority`]; [`CertManagerPlugin`] lists it in a registry as `cert-manager`.

mod authority;
mod cluster;
mod config;
mod look;
mod object;
mod ticket;

use std::path::Path;
use std::sync::Arc;

use plugins::{AuthorityDeps, AuthorityPlugin, ConfigProblem, RootAuthority};

pub use authority::CertManagerAuthority;
use config::Settings;

/// Lists [`CertManagerAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertManagerPlugin;

impl AuthorityPlugin for CertManagerPlugin {
    fn name(&self) -> &'static str {
        "cert-manager"
    }

    fn is_exclusive(&self, settings: &toml::Table) -> bool {
        plugins::says_exclusive(settings).unwrap_or(false)
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Settings::read(settings, Path::new("")).map(drop)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let settings = Settings::read(settings, &deps.base)?;
        Ok(Arc::new(CertManagerAuthority::new(settings, deps)))
    }
}
