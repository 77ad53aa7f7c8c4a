//! Secrets in Envoy's form, and their versions.

use prost::Message as _;
use prost_types::Any;
use proto::sds::{
    CertificateValidationContext, DataSource, DiscoveryResponse, Secret, Specifier,
    SpiffeCertValidatorConfig, TlsCertificate, TrustDomain as SpiffeDomain, TypedExtensionConfig,
    secret::Type,
};
use trust::{RootId, Sequence, TrustDomain};

use crate::install::TrustView;
use crate::leaf::Leaf;

/// The only type that is served.
pub(crate) const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const SPIFFE_VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const SPIFFE_VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// One answer with one secret.
pub(crate) fn response(version: String, nonce: String, secret: &Secret) -> DiscoveryResponse {
    let resources = vec![Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec() }];
    DiscoveryResponse {
        version_info: version,
        resources,
        type_url: TYPE_URL.to_owned(),
        nonce,
        control_plane: None,
    }
}

/// Chain and key, inline.
pub(crate) fn leaf(name: &str, leaf: &Leaf) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(leaf.chain_pem())),
        private_key: Some(inline(leaf.key_pem().to_string())),
    };
    Secret { name: name.to_owned(), r#type: Some(Type::TlsCertificate(certificate)) }
}

/// Roots for Envoy's default validator.
pub(crate) fn roots(name: &str, pem: String) -> Secret {
    validation(
        name,
        CertificateValidationContext { trusted_ca: Some(inline(pem)), custom_validator_config: None },
    )
}

/// Roots by trust domain, for Envoy's SPIFFE validator.
pub(crate) fn all_domains(name: &str, trust_domain: &TrustDomain, pem: String) -> Secret {
    let domain = SpiffeDomain { name: trust_domain.as_str().to_owned(), trust_bundle: Some(inline(pem)) };
    let config = SpiffeCertValidatorConfig { trust_domains: vec![domain] };
    let typed = Any { type_url: SPIFFE_VALIDATOR_TYPE.to_owned(), value: config.encode_to_vec() };
    let validator = TypedExtensionConfig { name: SPIFFE_VALIDATOR.to_owned(), typed_config: Some(typed) };
    validation(
        name,
        CertificateValidationContext { trusted_ca: None, custom_validator_config: Some(validator) },
    )
}

/// Version of a validation secret: the sequence that it proves, and a fingerprint of its roots.
pub(crate) fn trust_version(view: &TrustView) -> String {
    let ids: Vec<u8> = view.roots.iter().flat_map(|id| *id.as_bytes()).collect();
    format!("{}-{}", view.proves, RootId::of(&ids))
}

/// The sequence in a version of a validation secret.
pub(crate) fn sequence_of(version: &str) -> Option<Sequence> {
    version.split_once('-')?.0.parse().ok().map(Sequence)
}

fn validation(name: &str, context: CertificateValidationContext) -> Secret {
    Secret { name: name.to_owned(), r#type: Some(Type::ValidationContext(context)) }
}

fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())) }
}
