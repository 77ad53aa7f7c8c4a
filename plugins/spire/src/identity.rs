//! Who this CA is to the SPIRE server, and by which roots it knows the server.

use std::path::Path;
use std::time::Duration;

use plugins::{AuthorityDeps, PluginError};
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::workload::{X509svid, X509svidRequest};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use trust::certificate::Certificate;
use trust::der::Reader;
use trust::{Bundle, Sequence, SpiffeId, Timestamp, TrustDomain};

use crate::config::Identity;
use crate::workload_api;

/// Largest message of an agent that is read.
const MESSAGE_MAX: usize = 1024 * 1024;

/// An X509-SVID with its key, and the roots of its trust domain. No `Debug`: it holds the key.
pub(crate) struct Credential {
    pub(crate) id: SpiffeId,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) bundle: Bundle,
}

/// What was read, and from where: for what is said about it.
struct Found {
    place: String,
    /// The setting that names the place.
    field: &'static str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Vec<CertificateDer<'static>>,
}

impl Credential {
    /// Reads the SVID as it is now.
    ///
    /// # Errors
    /// `AuthorityDown` if there is none, or none that is valid now: whoever renews it may come back. `Denied` if the agent
    /// knows no entry for this process, `Misconfigured` if the SVID is one of another trust domain.
    pub(crate) async fn read(
        identity: &Identity,
        deps: &AuthorityDeps,
        within: Duration,
    ) -> Result<Self, PluginError> {
        let found = match identity {
            Identity::WorkloadApi { socket, spiffe_id } => {
                let asked = fetch(socket, spiffe_id.as_ref());
                tokio::time::timeout(within, asked).await.map_err(|_| {
                    down(format!("the agent at {} did not answer in time", socket.display()))
                })??
            }
            Identity::Files { svid, key, bundle } => {
                let (svid, key, bundle) = (svid.clone(), key.clone(), bundle.clone());
                let read =
                    tokio::task::spawn_blocking(move || from_files(&svid, &key, &bundle)).await;
                read.map_err(|error| PluginError::Transient { detail: error.to_string() })?
                    .map_err(down)?
            }
        };
        found.checked(&deps.trust_domain, deps.clock.now())
    }
}

impl Found {
    fn checked(
        self,
        trust_domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Credential, PluginError> {
        let Self { place, field, chain, key, roots } = self;
        let leaf = chain.first().ok_or_else(|| down(format!("{place} holds no certificate")))?;
        let leaf = Certificate::parse(leaf).map_err(|error| down(format!("{place}: {error}")))?;
        let id =
            leaf.spiffe_id().map_err(|error| down(format!("{place} holds no SVID: {error}")))?;
        if id.trust_domain() != trust_domain {
            let detail =
                format!("{place} holds {id}, and this CA's trust domain is {trust_domain}");
            return Err(PluginError::Misconfigured { field: field.to_owned(), detail });
        }
        let validity = leaf.validity();
        if !validity.contains(now) {
            return Err(down(format!(
                "the SVID in {place} is valid from {} to {}, and now is {now}; look at what renews it",
                validity.not_before(),
                validity.not_after()
            )));
        }
        let bundle = Bundle::from_ders(trust_domain.clone(), Sequence(0), &roots)
            .map_err(|error| down(format!("the bundle that belongs to {place}: {error}")))?;
        Ok(Credential { id, chain, key, bundle })
    }
}

fn from_files(svid: &Path, key: &Path, bundle: &Path) -> Result<Found, String> {
    let certificates = |path: &Path| -> Result<Vec<_>, String> {
        let read: Result<_, _> = CertificateDer::pem_slice_iter(&file(path)?).collect();
        read.map_err(|error| format!("{}: {error}", path.display()))
    };
    Ok(Found {
        place: svid.display().to_string(),
        field: "svid_file",
        chain: certificates(svid)?,
        key: PrivateKeyDer::from_pem_slice(&file(key)?)
            .map_err(|error| format!("{}: {error}", key.display()))?,
        roots: certificates(bundle)?,
    })
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("{}: {error}; look at what writes it", path.display()))
}

async fn fetch(socket: &Path, wanted: Option<&SpiffeId>) -> Result<Found, PluginError> {
    let place = format!("the agent at {}", socket.display());
    let agent = workload_api::connect(socket).await.map_err(down)?;
    let mut client = SpiffeWorkloadApiClient::new(agent).max_decoding_message_size(MESSAGE_MAX);
    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    let refused = |status: tonic::Status| match status.code() {
        Code::PermissionDenied => PluginError::Denied {
            reason: format!(
                "{place} knows no identity for this process ({}); create an entry for it on the server: spire-server \
                 entry create -downstream -spiffeID ID -parentID ID_OF_THE_AGENT -selector SELECTOR",
                status.message()
            ),
        },
        _ => down(format!("{place}: {}", status.message())),
    };
    let mut answers = client.fetch_x509svid(request).await.map_err(refused)?.into_inner();
    let answer = answers.message().await.map_err(refused)?;
    let svids = answer.map(|answer| answer.svids).unwrap_or_default();
    let fits = |svid: &X509svid| wanted.is_none_or(|id| svid.spiffe_id == id.as_str());
    let svid = svids.into_iter().find(fits).ok_or_else(|| match wanted {
        Some(id) => down(format!("{place} gives this process no SVID of {id}")),
        None => down(format!("{place} gives this process no SVID")),
    })?;
    let wrong = |detail| down(format!("{place}: {detail}"));
    Ok(Found {
        chain: split(&svid.x509_svid).map_err(wrong)?,
        key: PrivatePkcs8KeyDer::from(svid.x509_svid_key).into(),
        roots: split(&svid.bundle).map_err(wrong)?,
        field: "workload_api",
        place,
    })
}

/// Certificates that stand one behind the other.
fn split(ders: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut reader = Reader::new(ders);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let element =
            reader.element().map_err(|error| format!("what it gives is not DER: {error}"))?;
        found.push(CertificateDer::from(element.raw.to_vec()));
    }
    Ok(found)
}

fn down(detail: String) -> PluginError {
    PluginError::AuthorityDown { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_one_behind_the_other_are_split() {
        let found = split(&[0x30, 1, 7, 0x30, 0, 0x30, 2, 8, 9]).expect("three elements");
        assert_eq!(
            found,
            [&[0x30, 1, 7][..], &[0x30, 0], &[0x30, 2, 8, 9]].map(CertificateDer::from)
        );
        assert_eq!(split(&[]), Ok(Vec::new()));
        assert!(split(&[0x30, 5, 1]).is_err(), "cut off");
    }
}
