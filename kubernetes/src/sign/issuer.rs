//! What the issuer allows that a CertificateRequest of cert-manager names, read anew with each request.

use kube::Resource;
use kube::api::Api;
use serde::de::DeserializeOwned;

use super::cert_manager::{Allowed, IssuerKind};
use crate::api::{ApiError, asked};
use crate::resources::issuer::{BanyanClusterIssuer, BanyanIssuer};
use crate::world::World;

/// What it allows; none if it is not there.
pub(super) async fn allowed(
    world: &World,
    kind: IssuerKind,
    namespace: &str,
    name: &str,
) -> Result<Option<Allowed>, ApiError> {
    match kind {
        IssuerKind::Namespaced => {
            let issuers = Api::<BanyanIssuer>::namespaced(world.client.clone(), namespace);
            let found = read(issuers, name).await?.map(|issuer| issuer.spec);
            Ok(found.map(|spec| Allowed {
                namespaces: None,
                accounts: spec.accounts,
                service_names: spec.service_names,
            }))
        }
        IssuerKind::Cluster => {
            let issuers = Api::<BanyanClusterIssuer>::all(world.client.clone());
            let found = read(issuers, name).await?.map(|issuer| issuer.spec);
            Ok(found.map(|spec| Allowed {
                namespaces: Some(spec.namespaces),
                accounts: spec.accounts,
                service_names: spec.service_names,
            }))
        }
    }
}

async fn read<K>(issuers: Api<K>, name: &str) -> Result<Option<K>, ApiError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match asked(issuers.get(name)).await {
        Ok(issuer) => Ok(Some(issuer)),
        Err(ApiError::Gone(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
