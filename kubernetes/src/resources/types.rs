//! The kinds, with the schema that the API server holds them to.

#![expect(clippy::duplicated_attributes, reason = "two columns may be of one type")]
#![expect(
    unreachable_pub,
    reason = "what KubeSchema derives has a copy of the struct in a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A replacement of the root. To create one is to start one; to delete one does not end it: set `spec.action` to `abort` for that.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "RootRotation",
    plural = "rootrotations",
    namespaced,
    category = "banyan",
    status = "RootRotationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A replacement of the root. To create one is to start one. To delete one does not end the rotation: set spec.action to abort for that.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Trust",
        type_ = "string",
        json_path = ".status.trust",
        description = "live certificates whose holders trust the bundle"
    ),
    printcolumn(
        name = "Leaves",
        type_ = "string",
        json_path = ".status.leaves",
        description = "live certificates under the root that stays"
    ),
    printcolumn(name = "Gate", type_ = "string", json_path = ".status.gate.name"),
    printcolumn(name = "Open", type_ = "boolean", json_path = ".status.gate.open"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.fromRoot", priority = 1),
    printcolumn(name = "To", type_ = "string", json_path = ".status.toRoot", priority = 1),
    printcolumn(name = "Bundle", type_ = "integer", json_path = ".status.sequence", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("has(self.authority) == has(oldSelf.authority) && (!has(self.authority) || self.authority == oldSelf.authority)").message("authority cannot be changed once the rotation was asked for: create another RootRotation"))]
#[x_kube(validation = Rule::new("has(self.mode) == has(oldSelf.mode) && (!has(self.mode) || self.mode == oldSelf.mode)").message("mode cannot be changed once the rotation was asked for: create another RootRotation"))]
#[serde(rename_all = "camelCase")]
pub struct RootRotationSpec {
    /// Name of the authority that makes the new root; that of the CA's configuration unless it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub authority: Option<String>,
    /// Whether the new root signs by itself once everybody trusts it, or when `action` is `activate`; as the CA's configuration
    /// says unless it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// For whom the new root signs first: a share of all workloads such as "5%", SPIFFE ids that may end in "/*", or several with a
    /// comma between them; "none" for everybody at once; as the CA's configuration says unless it is set. With `action: widen` for
    /// whom it signs from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub canary: Option<String>,
    /// What shall be done about the rotation now. Each change is one word to the CA; a word that it refuses is told in
    /// the condition ActionTaken and is not repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<RotationAction>,
    /// Why: for the CA's journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
}

/// When a new root signs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Once everybody trusts it.
    Auto,
    /// When somebody says so, too.
    Manual,
}

/// What can be done about a rotation that is under way.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RotationAction {
    /// No phase ends by itself any more.
    Hold,
    /// Ends a hold.
    Resume,
    /// Gives the rotation up before the new root has signed.
    Abort,
    /// Lets the former root sign again.
    Rollback,
    /// Lets the new root sign if the trust gate is open, and in a canary for everybody; after a rollback, goes forward again.
    Activate,
    /// Lets the new root sign for those in `canary`, the present cohort of a canary among them.
    Widen,
}

/// Where a rotation stands.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RootRotationStatus {
    /// Pending, Staging, Distributing, Canary, Draining, Withdrawing, Completed, Aborted, RolledBack, Refused or Unknown.
    #[serde(default)]
    pub phase: String,
    /// The phases that it went through and when each began, also those in which nobody wrote this status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PassedPhase>,
    /// All of it in one sentence.
    #[serde(default)]
    pub message: String,
    /// Request id of the rotation at the CA: the UID of this object.
    #[serde(default, rename = "requestID")]
    pub request_id: String,
    /// Generation of this object that the CA was told last.
    #[serde(default)]
    pub observed_generation: i64,
    /// The action that was told last, taken or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<RotationAction>,
    /// Root that signed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_root: Option<String>,
    /// Root that signs, or shall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_root: Option<String>,
    /// Sequence of the bundle.
    #[serde(default)]
    pub sequence: i64,
    /// Live certificates whose holders trust the bundle, of all.
    #[serde(default)]
    pub trust: String,
    /// Live certificates under the root that stays, of all.
    #[serde(default)]
    pub leaves: String,
    /// The gate that the phase ends at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStatus>,
    /// Work that fails and is tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// The actions that are legal now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legal: Vec<String>,
    /// Accepted, Progressing, Complete and ActionTaken.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A phase that a rotation went through.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PassedPhase {
    /// Which.
    pub phase: String,
    /// When it began.
    pub since: String,
}

/// A gate of a rotation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// trust, canary, leaf or converged.
    pub name: String,
    /// Whether it is open.
    pub open: bool,
    /// What keeps it closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
    /// When it opens by itself, whatever else happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at_latest: Option<String>,
    /// The word that it waits for: activate, confirm, resume or state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What can be done to open a gate that no time opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<String>,
}

/// One thing that is so, or not, or is not known.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Since when.
    pub last_transition_time: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in words.
    #[serde(default)]
    pub message: String,
    /// Generation of the object that it is about.
    #[serde(default)]
    pub observed_generation: i64,
}

/// The CA at a glance. It is written by `banyan kubernetes run`, and nothing that is written to it changes the CA.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "TrustDomain",
    plural = "trustdomains",
    namespaced,
    category = "banyan",
    status = "TrustDomainStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The CA at a glance. It is written by banyan kubernetes run, and nothing that is written to it changes the CA.",
    printcolumn(name = "Healthy", type_ = "boolean", json_path = ".status.healthy"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Bundle", type_ = "integer", json_path = ".status.sequence"),
    printcolumn(name = "Roots", type_ = "integer", json_path = ".status.bundleRoots"),
    printcolumn(name = "Issuer ends", type_ = "string", json_path = ".status.issuerNotAfter"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TrustDomainSpec {}

/// The CA at a glance.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TrustDomainStatus {
    /// The trust domain as it is written in SPIFFE ids.
    #[serde(default)]
    pub trust_domain: String,
    /// Which CA it is, for good.
    #[serde(default, rename = "caID")]
    pub ca_id: String,
    /// Whether nothing is wrong.
    #[serde(default)]
    pub healthy: bool,
    /// What is wrong and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What waits for a person and is not wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// Phase of the rotation.
    #[serde(default)]
    pub phase: String,
    /// Sequence of the bundle.
    #[serde(default)]
    pub sequence: i64,
    /// How many roots are in the bundle.
    #[serde(default)]
    pub bundle_roots: i64,
    /// When the certificate that signs leaves ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_not_after: Option<String>,
    /// Every root that the CA knows.
    #[serde(default)]
    pub roots: Vec<ShownRoot>,
    /// Available and Healthy.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A root.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ShownRoot {
    /// SHA-256 of its DER.
    pub id: String,
    /// staged, published, active, draining or retired.
    pub state: String,
    /// The authority that it is of.
    #[serde(default)]
    pub authority: String,
    /// Its name.
    #[serde(default)]
    pub subject: String,
    /// Its end.
    pub not_after: String,
    /// Whether it is in the bundle.
    pub trusted: bool,
}

/// A root authority as the CA sees it. It is written by `banyan kubernetes run`, and nothing that is written to it changes the CA.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "RootAuthority",
    plural = "rootauthorities",
    namespaced,
    category = "banyan",
    status = "RootAuthorityStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A root authority as the CA sees it. It is written by banyan kubernetes run, and nothing that is written to it changes the CA.",
    printcolumn(name = "Plugin", type_ = "string", json_path = ".status.plugin"),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health"),
    printcolumn(name = "Signs", type_ = "boolean", json_path = ".status.signs"),
    printcolumn(name = "Preferred", type_ = "boolean", json_path = ".status.preferred"),
    printcolumn(
        name = "Exclusive",
        type_ = "boolean",
        json_path = ".status.exclusive",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RootAuthoritySpec {}

/// How an authority is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RootAuthorityStatus {
    /// Its name in the CA's configuration.
    #[serde(default)]
    pub name: String,
    /// Plugin and its version.
    #[serde(default)]
    pub plugin: String,
    /// ok, degraded or down.
    #[serde(default)]
    pub health: String,
    /// What an operator should read.
    #[serde(default)]
    pub detail: String,
    /// Whether its root signs leaves now.
    #[serde(default)]
    pub signs: bool,
    /// Whether new roots are asked of it unless a rotation names another.
    #[serde(default)]
    pub preferred: bool,
    /// Whether nobody else issues under its roots.
    #[serde(default)]
    pub exclusive: bool,
    /// What it can do beyond signing issuers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What it would give now that is not what signs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drift: String,
    /// Healthy.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Somebody's word that no gate of a rotation waits until some holders trust the bundle. It stands until its time or until the
/// object is deleted.
#[derive(
    CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq,
)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "Waiver",
    plural = "waivers",
    namespaced,
    category = "banyan",
    status = "WaiverStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Somebody's word that no gate of a rotation waits until some holders trust the bundle: they break when the new root signs unless they do. It stands until its time or until the object is deleted.",
    printcolumn(name = "Stands", type_ = "boolean", json_path = ".status.stands"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.until"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WaiverSpec {
    /// Whose trust is not waited for: SPIFFE ids, or such with `/*` behind them for all below.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 2048)))]
    #[x_kube(validation = Rule::new("self.all(id, id.startsWith('spiffe://'))").message("each entry is a SPIFFE id such as spiffe://example.org/ns/shop/sa/web, or one with /* behind it"))]
    pub covers: Vec<String>,
    /// When it is over; at most 90 days ahead.
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
    /// Why: for the CA's journal.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// Also if agents are connected that hold certificates of theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// What became of a waiver.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WaiverStatus {
    /// Whether the CA has it and its time is not over.
    #[serde(default)]
    pub stands: bool,
    /// All of it in one sentence.
    #[serde(default)]
    pub message: String,
    /// Generation of this object that the CA was told last.
    #[serde(default)]
    pub observed_generation: i64,
    /// Accepted and Stands.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
