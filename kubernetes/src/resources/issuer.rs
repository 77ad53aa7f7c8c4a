//! Issuers that cert-manager's certificates name: what may be asked for through each, with the schema that the API server holds
//! them to.

#![expect(clippy::duplicated_attributes, reason = "two columns may be of one type")]
#![expect(
    unreachable_pub,
    reason = "what KubeSchema derives has a copy of the struct in a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::Condition;

/// An issuer for the certificates of cert-manager in its own namespace.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "BanyanIssuer",
    plural = "banyanissuers",
    namespaced,
    category = "banyan",
    category = "cert-manager",
    status = "IssuerStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An issuer for the certificates of cert-manager in its own namespace: identities of service accounts of that namespace.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Accounts", type_ = "string", json_path = ".spec.accounts"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.accounts.size() == 1 || !self.accounts.exists(a, a == '*')").message("write \"*\" alone in accounts, or names without it"))]
#[serde(rename_all = "camelCase")]
pub struct BanyanIssuerSpec {
    /// Service accounts of this namespace whose identity may be asked for; "*" alone is each of them.
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$")
        )
    )]
    pub accounts: Vec<String>,
    /// Whether DNS names of Services of this namespace may be asked for beside the identity: NAME.NAMESPACE.svc, and the same
    /// within the cluster's domain.
    #[serde(default)]
    pub service_names: bool,
}

/// An issuer for the certificates of cert-manager in several namespaces.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "BanyanClusterIssuer",
    plural = "banyanclusterissuers",
    category = "banyan",
    category = "cert-manager",
    status = "IssuerStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "An issuer for the certificates of cert-manager in several namespaces: in each, identities of service accounts of that namespace.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces"),
    printcolumn(name = "Accounts", type_ = "string", json_path = ".spec.accounts"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.accounts.size() == 1 || !self.accounts.exists(a, a == '*')").message("write \"*\" alone in accounts, or names without it"))]
#[x_kube(validation = Rule::new("self.namespaces.size() == 1 || !self.namespaces.exists(a, a == '*')").message("write \"*\" alone in namespaces, or names without it"))]
#[serde(rename_all = "camelCase")]
pub struct BanyanClusterIssuerSpec {
    /// Namespaces whose requests are signed; "*" alone is each of them.
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))
    )]
    pub namespaces: Vec<String>,
    /// Service accounts of the request's namespace whose identity may be asked for; "*" alone is each of them.
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$")
        )
    )]
    pub accounts: Vec<String>,
    /// Whether DNS names of Services of the request's namespace may be asked for beside the identity: NAME.NAMESPACE.svc, and
    /// the same within the cluster's domain.
    #[serde(default)]
    pub service_names: bool,
}

/// Whether an issuer can sign.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// The trust domain of the identities.
    #[serde(default)]
    pub trust_domain: String,
    /// Ready.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
