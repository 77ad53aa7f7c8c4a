//! Kinds of requests: how each is named, and what it is and may become.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use trust::{Timestamp, TrustDomain};

use super::request::{Refused, Signed, Wanted, text};
use super::{csr, pod_certificate};

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CertificateSigningRequest.
    Csr,
    /// PodCertificateRequest.
    PodCertificate,
}

impl Kind {
    /// Name of the part on the board.
    pub(crate) const fn part(self) -> &'static str {
        match self {
            Self::Csr => "sign/csr",
            Self::PodCertificate => "sign/pod-certificates",
        }
    }

    /// The kind as Kubernetes names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Csr => "CertificateSigningRequest",
            Self::PodCertificate => "PodCertificateRequest",
        }
    }

    /// The resource, and its versions, the best first.
    pub(crate) const fn resource(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Csr => ("certificatesigningrequests", &["v1"]),
            Self::PodCertificate => ("podcertificaterequests", &["v1", "v1beta1", "v1alpha1"]),
        }
    }

    /// Its section of the configuration.
    pub(crate) const fn section(self) -> &'static str {
        match self {
            Self::Csr => "sign.csr",
            Self::PodCertificate => "sign.pod_certificates",
        }
    }

    /// Whether it is for one of these signers, may be signed, and is neither signed nor refused yet.
    pub(crate) fn is_open(self, object: &DynamicObject, signers: &BTreeSet<String>) -> bool {
        let ours = signers.contains(text(&object.data, "/spec/signerName"));
        ours && object.metadata.deletion_timestamp.is_none()
            && match self {
                Self::Csr => csr::is_open(&object.data),
                Self::PodCertificate => pod_certificate::is_open(&object.data),
            }
    }

    /// What it wants, or why it gets nothing.
    pub(crate) fn wanted(
        self,
        object: &DynamicObject,
        domain: &TrustDomain,
    ) -> Result<Wanted, Refused> {
        match self {
            Self::Csr => csr::wanted(&object.data, domain),
            Self::PodCertificate => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                pod_certificate::wanted(&object.data, namespace, domain)
            }
        }
    }

    /// The object with its certificate.
    pub(crate) fn with_certificate(
        self,
        mut object: DynamicObject,
        signed: &Signed,
        now: Timestamp,
    ) -> DynamicObject {
        match self {
            Self::Csr => edit(&mut object, |status| csr::put(status, signed)),
            Self::PodCertificate => {
                let issued = ["Issued", "Signed", "the CA signed it"];
                condition(self, &mut object, issued, now);
                edit(&mut object, |status| pod_certificate::put(status, signed));
            }
        }
        object
    }

    /// The object with the word that it gets none.
    pub(crate) fn with_refusal(
        self,
        mut object: DynamicObject,
        refused: &Refused,
        now: Timestamp,
    ) -> DynamicObject {
        let Refused { type_, reason, message } = refused;
        condition(self, &mut object, [type_, reason, message], now);
        object
    }
}

/// Changes the status, which is made if it is not there.
fn edit(object: &mut DynamicObject, change: impl FnOnce(&mut Map<String, Value>)) {
    let fields = |value: Option<Value>| match value {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let mut data = fields(Some(object.data.take()));
    let mut status = fields(data.remove("status"));
    change(&mut status);
    data.insert("status".to_owned(), Value::Object(status));
    object.data = Value::Object(data);
}

fn condition(
    kind: Kind,
    object: &mut DynamicObject,
    [type_, reason, message]: [&str; 3],
    now: Timestamp,
) {
    let now = now.to_string();
    let one = match kind {
        Kind::Csr => json!({ "type": type_, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": now, "lastUpdateTime": now }),
        Kind::PodCertificate => json!({ "type": type_, "status": "True", "reason": reason,
            "message": message, "lastTransitionTime": now }),
    };
    edit(object, |status| match status.get_mut("conditions") {
        Some(Value::Array(all)) => all.push(one),
        _ => drop(status.insert("conditions".to_owned(), json!([one]))),
    });
}
