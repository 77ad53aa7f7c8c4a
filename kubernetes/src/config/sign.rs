//! Section `[sign]`: whose requests are signed.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::problems::{Problems, is_signer_name, is_subdomain};

/// Most names of signers of one kind.
const SIGNERS_MAX: usize = 16;
/// Domain of the signers that are Kubernetes' own.
const RESERVED: &str = "kubernetes.io";

/// The domain of a cluster's names unless it is set.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Names of signers, by the kind of request; a kind without a name is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignConfig {
    /// Of CertificateSigningRequests.
    pub csr: BTreeSet<String>,
    /// Of PodCertificateRequests.
    pub pod_certificates: BTreeSet<String>,
    /// cert-manager's CertificateRequests for issuers of our kinds.
    pub cert_manager: Option<CertManagerConfig>,
}

/// Section `[sign.cert_manager]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertManagerConfig {
    /// What names of Services may end in beyond `.svc`.
    pub cluster_domain: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSign {
    csr: Option<RawSigner>,
    pod_certificates: Option<RawSigner>,
    cert_manager: Option<RawCertManager>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertManager {
    cluster_domain: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSigner {
    signer_names: Vec<String>,
}

impl RawSign {
    pub(super) fn checked(self, problems: &mut Problems) -> SignConfig {
        let mut names = |key: &str, raw: Option<RawSigner>| match raw {
            Some(raw) => checked(&format!("sign.{key}.signer_names"), raw.signer_names, problems),
            None => BTreeSet::new(),
        };
        let csr = names("csr", self.csr);
        let pod_certificates = names("pod_certificates", self.pod_certificates);
        let cert_manager = self.cert_manager.map(|raw| raw.checked(problems));
        SignConfig { csr, pod_certificates, cert_manager }
    }
}

impl RawCertManager {
    fn checked(self, problems: &mut Problems) -> CertManagerConfig {
        let cluster_domain = self.cluster_domain.unwrap_or_else(|| CLUSTER_DOMAIN.to_owned());
        if !is_subdomain(&cluster_domain) {
            problems.add(
                "sign.cert_manager.cluster_domain",
                format_args!(
                    "{cluster_domain:?} is no domain: write one such as {CLUSTER_DOMAIN:?}"
                ),
            );
        }
        CertManagerConfig { cluster_domain }
    }
}

fn checked(key: &str, names: Vec<String>, problems: &mut Problems) -> BTreeSet<String> {
    if names.is_empty() || names.len() > SIGNERS_MAX {
        problems.add(key, format_args!("write 1 to {SIGNERS_MAX} names, or remove the section"));
    }
    for name in &names {
        let domain = name.split('/').next().unwrap_or_default();
        if !is_signer_name(name) {
            problems.add(
                key,
                format_args!(
                    "{name:?} is no name of a signer: write one such as \"example.org/mesh\""
                ),
            );
        } else if domain == RESERVED || domain.ends_with(&format!(".{RESERVED}")) {
            problems.add(
                key,
                format_args!(
                    "{name:?} is a signer of Kubernetes itself: take a name in a domain of your own"
                ),
            );
        }
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Config;

    fn read(lines: &str) -> Result<Config, String> {
        let text = format!("admin_socket = \"admin.sock\"\n{lines}");
        Config::parse(Path::new("/k.toml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_kind_of_request_is_signed_only_by_word_and_only_for_names_of_our_own() {
        let config = read("[sign.csr]\nsigner_names = [\"example.org/mesh\"]").unwrap();
        assert!(config.sign.csr.contains("example.org/mesh"));
        assert!(config.sign.pod_certificates.is_empty() && config.sign.cert_manager.is_none());
        let config = read("[sign.cert_manager]").unwrap();
        assert_eq!(config.sign.cert_manager.unwrap().cluster_domain, "cluster.local");
        for (lines, told) in [
            ("[sign.csr]\nsigner_names = []", "sign.csr.signer_names: write 1 to 16"),
            ("[sign.csr]\nsigner_names = [\"mesh\"]", "is no name of a signer"),
            (
                "[sign.pod_certificates]\nsigner_names = [\"kubernetes.io/kube-apiserver-client\"]",
                "sign.pod_certificates.signer_names: \"kubernetes.io/kube-apiserver-client\" is a signer of Kubernetes itself",
            ),
            ("[sign.csr]\nsigner_names = [\"a.kubernetes.io/b\"]", "of Kubernetes itself"),
            ("[sign.cert_manager]\nsigner_names = [\"a.b/c\"]", "unknown field `signer_names`"),
            ("[sign.cert_manager]\ncluster_domain = \"a_b\"", "sign.cert_manager.cluster_domain"),
            ("[sign.certs]\nsigner_names = [\"a.b/c\"]", "unknown field `certs`"),
        ] {
            let error = read(lines).unwrap_err();
            assert!(error.contains(told), "{lines}: {error}");
        }
    }
}
