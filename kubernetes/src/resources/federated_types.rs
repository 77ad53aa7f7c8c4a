//! The kind FederatedTrustDomain, with the schema that the API server holds it to.

#![expect(clippy::duplicated_attributes, reason = "two columns may be of one type")]
#![expect(
    unreachable_pub,
    reason = "what KubeSchema derives has a copy of the struct in a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::Condition;

/// A trust domain whose members are believed by its own bundle, which the CA reads at its endpoint. To delete the object is to
/// believe them no more.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "FederatedTrustDomain",
    plural = "federatedtrustdomains",
    namespaced,
    category = "banyan",
    status = "FederatedTrustDomainStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A trust domain whose members are believed by its own bundle, which the CA reads at its endpoint. To delete the object is to believe them no more.",
    printcolumn(name = "Trust Domain", type_ = "string", json_path = ".spec.trustDomain"),
    printcolumn(name = "Trusted", type_ = "boolean", json_path = ".status.trusted"),
    printcolumn(
        name = "Current",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Current\")].status"
    ),
    printcolumn(name = "Bundle", type_ = "integer", json_path = ".status.sequence"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".spec.endpointURL",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.trustDomain == oldSelf.trustDomain").message("trustDomain cannot be changed: create another FederatedTrustDomain"))]
#[x_kube(validation = Rule::new("(self.profile == 'https_spiffe') == has(self.endpointSPIFFEID)").message("endpointSPIFFEID is required with profile https_spiffe, and is for that profile alone"))]
#[x_kube(validation = Rule::new("self.profile == 'https_web' || !has(self.caBundle)").message("caBundle is for profile https_web: an endpoint with a SPIFFE id is believed by the bundle of its trust domain"))]
#[serde(rename_all = "camelCase")]
pub struct FederatedTrustDomainSpec {
    /// The trust domain, such as other.example. It cannot be changed.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[a-z0-9._-]+$"))]
    pub trust_domain: String,
    /// Where its bundle is.
    #[serde(rename = "endpointURL")]
    #[schemars(length(min = 9, max = 2048))]
    #[x_kube(validation = Rule::new("self.startsWith('https://')").message("endpointURL is an address such as https://ca.other.example/bundle.json"))]
    pub endpoint_url: String,
    /// Who is believed there.
    #[serde(default)]
    pub profile: EndpointProfile,
    /// The SPIFFE id that the endpoint shows, in the same trust domain; with `/*` behind it, all below.
    #[serde(rename = "endpointSPIFFEID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub endpoint_spiffe_id: Option<String>,
    /// CAs in PEM that the endpoint's certificate is below; those of the CA's machine unless it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub ca_bundle: Option<String>,
    /// A bundle, as a SPIFFE bundle document or as certificates in PEM. It is taken once, in the place of the one that is there.
    /// With profile https_spiffe the first one must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 524_288))]
    pub bundle: Option<String>,
    /// Whether that domain reads our bundle: rotations then wait until it had the time to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads_ours: bool,
    /// Why: for the CA's journal.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

/// Who is believed at an endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum EndpointProfile {
    /// Whoever has a certificate for the host's name.
    #[default]
    HttpsWeb,
    /// Whoever has the SPIFFE id, by the bundle of that trust domain itself.
    HttpsSpiffe,
}

/// What became of a federation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FederatedTrustDomainStatus {
    /// Whether its members are believed: the CA has a bundle of it.
    #[serde(default)]
    pub trusted: bool,
    /// Sequence of that bundle, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// SHA-256 of each of its roots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// When that bundle was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// All of it in one sentence.
    #[serde(default)]
    pub message: String,
    /// Generation of this object that the CA was told last.
    #[serde(default)]
    pub observed_generation: i64,
    /// Accepted, Trusted and Current.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
