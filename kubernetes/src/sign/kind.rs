//! Kinds of requests: how each is named, and what it is and may become.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use trust::Timestamp;

use super::request::{Refused, Signed, put_condition, text};
use super::{cert_manager, csr, pod_certificate};

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CertificateSigningRequest.
    Csr,
    /// PodCertificateRequest.
    PodCertificate,
    /// CertificateRequest of cert-manager.
    CertManager,
}

impl Kind {
    /// Name of the part on the board.
    pub(crate) const fn part(self) -> &'static str {
        match self {
            Self::Csr => "sign/csr",
            Self::PodCertificate => "sign/pod-certificates",
            Self::CertManager => "sign/cert-manager",
        }
    }

    /// The kind as Kubernetes names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Csr => "CertificateSigningRequest",
            Self::PodCertificate => "PodCertificateRequest",
            Self::CertManager => "CertificateRequest",
        }
    }

    /// Its group.
    pub(crate) const fn group(self) -> &'static str {
        match self {
            Self::Csr | Self::PodCertificate => "certificates.k8s.io",
            Self::CertManager => "cert-manager.io",
        }
    }

    /// How a cluster gets it that does not have it.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Csr | Self::PodCertificate => {
                "take Kubernetes 1.37 or later, or turn on its feature gate and API version"
            }
            Self::CertManager => "install cert-manager",
        }
    }

    /// The resource, and its versions, the best first.
    pub(crate) const fn resource(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Csr => ("certificatesigningrequests", &["v1"]),
            Self::PodCertificate => ("podcertificaterequests", &["v1", "v1beta1", "v1alpha1"]),
            Self::CertManager => ("certificaterequests", &["v1"]),
        }
    }

    /// Its section of the configuration.
    pub(crate) const fn section(self) -> &'static str {
        match self {
            Self::Csr => "sign.csr",
            Self::PodCertificate => "sign.pod_certificates",
            Self::CertManager => "sign.cert_manager",
        }
    }

    /// Whether it is for one of these signers, or an issuer of ours, may be signed, and is neither signed nor refused yet.
    pub(crate) fn is_open(self, object: &DynamicObject, signers: &BTreeSet<String>) -> bool {
        let ours = || signers.contains(text(&object.data, "/spec/signerName"));
        object.metadata.deletion_timestamp.is_none()
            && match self {
                Self::Csr => ours() && csr::is_open(&object.data),
                Self::PodCertificate => ours() && pod_certificate::is_open(&object.data),
                Self::CertManager => cert_manager::is_open(&object.data),
            }
    }

    /// The object with its certificate.
    pub(crate) fn with_certificate(
        self,
        mut object: DynamicObject,
        signed: &Signed,
        now: Timestamp,
    ) -> DynamicObject {
        edit(&mut object, |status| match self {
            Self::Csr => csr::put(status, signed),
            Self::PodCertificate => {
                condition(self, status, ["Issued", "Signed", "the CA signed it"], now);
                pod_certificate::put(status, signed);
            }
            Self::CertManager => cert_manager::put(status, signed, now),
        });
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
        edit(&mut object, |status| match self {
            Self::Csr | Self::PodCertificate => {
                condition(self, status, [type_, reason, message], now);
            }
            Self::CertManager => cert_manager::refuse(status, refused, now),
        });
        object
    }

    /// The object with the word that it waits, where its kind has one and it is not there yet.
    pub(crate) fn with_wait(
        self,
        mut object: DynamicObject,
        why: &str,
        now: Timestamp,
    ) -> Option<DynamicObject> {
        let mut is_new = false;
        if self == Self::CertManager {
            edit(&mut object, |status| is_new = cert_manager::wait(status, why, now));
        }
        is_new.then_some(object)
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
    status: &mut Map<String, Value>,
    [type_, reason, message]: [&str; 3],
    now: Timestamp,
) {
    let now = now.to_string();
    let mut one = json!({ "type": type_, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": &now });
    if let (Kind::Csr, Value::Object(fields)) = (kind, &mut one) {
        fields.insert("lastUpdateTime".to_owned(), json!(now));
    }
    put_condition(status, one);
}
