//! Between the hub's deliveries and Envoy's messages: secrets, versions and nonces.

use prost::Message as _;
use prost_types::Any;
use proto::sds::{
    CertificateValidationContext, DataSource, DiscoveryRequest, DiscoveryResponse, Secret,
    Specifier, SpiffeCertValidatorConfig, TlsCertificate, TrustDomain as SpiffeDomain,
    TypedExtensionConfig, secret::Type,
};
use trust::{Sequence, TrustDomain};
use zeroize::Zeroizing;

use crate::hub::{Answer, Delivery, DeliveryId, Heard, Material, Refusal, TrustVersion};

/// The only type that is served.
const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// The version of what is pushed in the place of a leaf that was revoked.
const REVOKED: &str = "revoked";
const SPIFFE_VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const SPIFFE_VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// What a request says.
///
/// # Errors
/// The refusal of another type than the one that is served.
pub(crate) fn heard(request: DiscoveryRequest) -> Result<Heard, Refusal> {
    let DiscoveryRequest {
        version_info,
        resource_names,
        type_url,
        response_nonce,
        error_detail,
        ..
    } = request;
    if !type_url.is_empty() && type_url != TYPE_URL {
        return Err(Refusal::malformed(format!("only {TYPE_URL} is served here")));
    }
    let refused = error_detail.map(|error| error.message);
    let answer = || Answer { to: delivery_of(&response_nonce), refused };
    let answer = (!response_nonce.is_empty()).then(answer);
    Ok(Heard { wants: resource_names, has: trust_version_of(&version_info), answer })
}

/// One answer with one secret.
pub(crate) fn response(delivery: &Delivery) -> DiscoveryResponse {
    let name = &delivery.name;
    let (secret, version_info) = match &delivery.material {
        Material::Leaf(held) => {
            (certificate(name, held.chain_pem(), held.key_pem()), held.held().serial.to_string())
        }
        Material::Nobody(nobody) => {
            (certificate(name, nobody.chain_pem.clone(), nobody.key.pem()), REVOKED.to_owned())
        }
        Material::Roots { version, pem, lists } => {
            let lists = lists.as_ref().map(|lists| lists.pem.clone());
            (roots(name, pem.clone(), lists), trust_version(*version))
        }
        Material::RootsOf { version, domains } => {
            (all_domains(name, domains), trust_version(*version))
        }
    };
    DiscoveryResponse {
        version_info,
        resources: vec![Any { type_url: TYPE_URL.to_owned(), value: secret.encode_to_vec() }],
        type_url: TYPE_URL.to_owned(),
        nonce: delivery.id.map(nonce).unwrap_or_default(),
        control_plane: None,
    }
}

fn nonce(id: DeliveryId) -> String {
    format!("{}-{}", id.stream, id.number)
}

fn delivery_of(nonce: &str) -> Option<DeliveryId> {
    let (stream, number) = nonce.split_once('-')?;
    Some(DeliveryId { stream: stream.parse().ok()?, number: number.parse().ok()? })
}

/// Chain and key, inline.
fn certificate(name: &str, chain: String, key: Zeroizing<String>) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key.to_string())),
    };
    Secret { name: name.to_owned(), r#type: Some(Type::TlsCertificate(certificate)) }
}

/// Roots for Envoy's default validator, and revocation lists. With lists it asks for one of each CA of a chain, or as here of the leaf's
/// issuer alone: a root authority publishes none.
fn roots(name: &str, pem: String, lists: Option<String>) -> Secret {
    validation(
        name,
        CertificateValidationContext {
            trusted_ca: Some(inline(pem)),
            custom_validator_config: None,
            only_verify_leaf_cert_crl: lists.is_some(),
            crl: lists.map(inline),
        },
    )
}

/// Roots by trust domain, for Envoy's SPIFFE validator.
fn all_domains(name: &str, domains: &[(TrustDomain, String)]) -> Secret {
    let domain = |(domain, pem): &(TrustDomain, String)| SpiffeDomain {
        name: domain.as_str().to_owned(),
        trust_bundle: Some(inline(pem.clone())),
    };
    let config = SpiffeCertValidatorConfig { trust_domains: domains.iter().map(domain).collect() };
    let typed = Any { type_url: SPIFFE_VALIDATOR_TYPE.to_owned(), value: config.encode_to_vec() };
    let validator =
        TypedExtensionConfig { name: SPIFFE_VALIDATOR.to_owned(), typed_config: Some(typed) };
    validation(
        name,
        // Envoy's SPIFFE validator looks at no list.
        CertificateValidationContext {
            custom_validator_config: Some(validator),
            ..CertificateValidationContext::default()
        },
    )
}

fn trust_version(version: TrustVersion) -> String {
    match version.lists {
        0 => format!("{}-{}", version.proves, version.fingerprint),
        lists => format!("{}-{}-{lists}", version.proves, version.fingerprint),
    }
}

fn trust_version_of(text: &str) -> Option<TrustVersion> {
    let (proves, rest) = text.split_once('-')?;
    let (fingerprint, lists) = rest.split_once('-').unwrap_or((rest, "0"));
    Some(TrustVersion {
        proves: Sequence(proves.parse().ok()?),
        fingerprint: fingerprint.parse().ok()?,
        lists: lists.parse().ok()?,
    })
}

fn validation(name: &str, context: CertificateValidationContext) -> Secret {
    Secret { name: name.to_owned(), r#type: Some(Type::ValidationContext(context)) }
}

fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())) }
}

#[cfg(test)]
mod tests {
    use trust::RootId;

    use super::*;

    #[test]
    fn versions_and_nonces_come_back_as_what_they_were_and_others_are_nothing() {
        let version =
            TrustVersion { proves: Sequence(7), fingerprint: RootId::of(b"roots"), lists: 0 };
        let listing = TrustVersion { lists: 12, ..version };
        assert_eq!(trust_version_of(&trust_version(listing)), Some(listing));
        let id = DeliveryId { stream: 3, number: 12 };
        let back = |nonce: &str, version_info: &str| {
            let (response_nonce, version_info) = (nonce.to_owned(), version_info.to_owned());
            heard(DiscoveryRequest { response_nonce, version_info, ..DiscoveryRequest::default() })
        };
        let said = back(&nonce(id), &trust_version(version)).expect("our type");
        assert_eq!(said.has, Some(version));
        assert_eq!(said.answer, Some(Answer { to: Some(id), refused: None }));
        for foreign in ["x", "3", "3-", "-3", "3-x", "7-00"] {
            let said = back(foreign, foreign).expect("our type");
            let to = said.answer.expect("it answers something").to;
            assert!(said.has.is_none() && to != Some(id), "{foreign}");
        }
        assert_eq!(back("", "").expect("our type").answer, None);
    }

    #[test]
    fn another_type_is_refused_and_an_error_is_the_refusal_of_a_delivery() {
        let other =
            DiscoveryRequest { type_url: "cluster".to_owned(), ..DiscoveryRequest::default() };
        assert!(heard(other).is_err_and(|refusal| refusal.text.contains(TYPE_URL)));
        let error = proto::sds::Status { message: "no".to_owned(), ..Default::default() };
        let nack = DiscoveryRequest {
            response_nonce: "1-1".to_owned(),
            error_detail: Some(error),
            ..DiscoveryRequest::default()
        };
        let answer = heard(nack).expect("our type").answer.expect("an answer");
        assert_eq!(answer.refused.as_deref(), Some("no"));
    }
}
