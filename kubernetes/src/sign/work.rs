//! One request: read, judged, signed, written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use kube::core::{ApiResource, DynamicObject};
use proto::banyan::admin::v1::signer_service_client::SignerServiceClient;
use proto::banyan::admin::v1::{SignRequest, SignedObject};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use trust::TrustDomain;

use super::cert_manager::{self, IssuerKind, Rules};
use super::kind::Kind;
use super::request::{Refused, Signed, Wanted};
use super::{csr, issuer, pod_certificate};
use crate::api::{ApiError, asked};
use crate::ca;
use crate::world::World;

/// How often one attempt begins anew because the object changed meanwhile.
const READS_MAX: usize = 5;
/// How long a leaf is kept that could not be written: the API server takes none that began 5 minutes ago.
const KEPT_FOR: Duration = Duration::from_secs(180);
/// Longest wait for a leaf.
const SIGN_WITHIN: Duration = Duration::from_secs(30);
/// How the API server says that the right to sign is missing, with a code that is else for malformed objects.
const MAY_NOT_SIGN: &str = "is not permitted to \"sign\"";

/// Where one request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) uid: String,
}

/// What an attempt came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has its certificate, and from us.
    Signed,
    /// It has the word that it gets none.
    Refused(String),
    /// There is nothing to do: it is gone, or not to be signed.
    Nothing,
    /// Not now. What was signed is kept for the next attempt.
    Later { why: String, passing: bool, kept: Option<Signed> },
}

/// Whose requests are signed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Names of signers, for kinds that have them.
    pub(crate) signers: BTreeSet<String>,
    /// What names of Services may end in beyond `.svc`, for kinds that may ask for them.
    pub(crate) cluster_domain: String,
}

/// What works on requests of one kind.
pub(super) struct Desk {
    pub(super) world: World,
    pub(super) kind: Kind,
    pub(super) scope: Arc<Scope>,
    pub(super) resource: ApiResource,
}

/// Why the CA gave no leaf.
enum NotSigned {
    /// The request is wrong, and stays so.
    Wrong(Refused),
    /// Not now; whether that passes by itself.
    Later(String, bool),
}

/// Why an attempt ends early.
struct Trouble {
    why: String,
    passing: bool,
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self { passing: error.is_passing(), why: error.to_string() }
    }
}

impl Desk {
    /// One attempt.
    pub(super) async fn attempt(&self, place: &Place, mut kept: Option<Signed>) -> Outcome {
        match self.work(place, &mut kept).await {
            Ok(outcome) => outcome,
            Err(Trouble { why, passing }) => {
                self.say_that_it_waits(place, &why).await;
                Outcome::Later { why, passing, kept }
            }
        }
    }

    /// Where its kind has a word for that.
    async fn say_that_it_waits(&self, place: &Place, why: &str) {
        if self.kind != Kind::CertManager {
            return;
        }
        let Ok(Some(object)) = self.read(place).await else { return };
        if self.kind.is_open(&object, &self.scope.signers)
            && let Some(waits) = self.kind.with_wait(object, why, self.world.clock.now())
            && let Err(error) = self.write(place, &waits).await
        {
            tracing::debug!(%error, name = place.name, "it is not told that it waits");
        }
    }

    async fn work(&self, place: &Place, kept: &mut Option<Signed>) -> Result<Outcome, Trouble> {
        // What the API server said of a certificate that it did not take.
        let mut not_taken = None;
        for _ in 0..READS_MAX {
            // Whatever a watch said before: somebody may have denied it meanwhile.
            let Some(object) = self.read(place).await? else { return Ok(Outcome::Nothing) };
            if !self.kind.is_open(&object, &self.scope.signers) {
                return Ok(Outcome::Nothing);
            }
            let verdict = match not_taken.take() {
                Some(message) => Err(Refused::failed("NotTaken", message)),
                None if self.kind == Kind::CertManager && cert_manager::is_denied(&object.data) => {
                    Err(Refused::denied())
                }
                None => self.signed(place, &object, kept).await?,
            };
            let now = self.world.clock.now();
            let (changed, refused) = match verdict {
                Ok(signed) => (self.kind.with_certificate(object, &signed, now), None),
                Err(refused) => {
                    let changed = self.kind.with_refusal(object, &refused, now);
                    (changed, Some(format!("{}: {}", refused.reason, refused.message)))
                }
            };
            match (self.write(place, &changed).await, refused) {
                (Ok(()), None) => return Ok(Outcome::Signed),
                (Ok(()), Some(why)) => return Ok(Outcome::Refused(why)),
                (Err(ApiError::Gone(_)), _) => return Ok(Outcome::Nothing),
                // It is judged again as it is now.
                (Err(ApiError::Changed(_)), _) => {}
                (Err(ApiError::Invalid(said)), None) => {
                    not_taken =
                        Some(format!("the API server did not take the certificate: {said}"));
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        let why = format!("it changed {READS_MAX} times while it was written");
        Err(Trouble { why, passing: true })
    }

    /// The object as it is now; none if it is gone, or another one of the same name is there.
    async fn read(&self, place: &Place) -> Result<Option<DynamicObject>, ApiError> {
        match asked(self.objects(place).get(&place.name)).await {
            Ok(object) => {
                Ok(Some(object).filter(|object| object.uid().as_ref() == Some(&place.uid)))
            }
            Err(ApiError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Only over what was read: it names the version.
    async fn write(&self, place: &Place, object: &DynamicObject) -> Result<(), ApiError> {
        let objects = self.objects(place);
        let params = PostParams::default();
        let written = asked(objects.replace_status(&place.name, &params, object)).await;
        written.map(drop).map_err(|error| match error {
            ApiError::Invalid(said) if said.contains(MAY_NOT_SIGN) => ApiError::Forbidden(said),
            error => error,
        })
    }

    fn objects(&self, place: &Place) -> Api<DynamicObject> {
        let client = self.world.client.clone();
        match &place.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }

    /// A leaf for it: the one that was kept, or a new one.
    async fn signed(
        &self,
        place: &Place,
        object: &DynamicObject,
        kept: &mut Option<Signed>,
    ) -> Result<Result<Signed, Refused>, Trouble> {
        let Some(trust) = self.world.ca.trust() else {
            return Err(Trouble { why: "waits for the CA".to_owned(), passing: true });
        };
        let malformed = |error: &dyn std::fmt::Display| Trouble {
            why: format!("the CA's trust domain is malformed: {error}"),
            passing: true,
        };
        let domain = TrustDomain::parse(&trust.trust_domain).map_err(|error| malformed(&error))?;
        let wanted = match self.wanted(place, object, &domain).await? {
            Ok(wanted) => wanted,
            Err(refused) => return Ok(Err(refused)),
        };
        let now = self.world.clock.now();
        let sequence = trust.bundle.sequence().0;
        let usable =
            |signed: &Signed| signed.sequence == sequence && now < signed.at.plus(KEPT_FOR);
        if let Some(signed) = kept.clone().filter(usable) {
            return Ok(Ok(self.with_roots(signed)?));
        }
        match self.sign(place, &wanted).await {
            Ok(signed) => {
                *kept = Some(signed.clone());
                Ok(Ok(self.with_roots(signed)?))
            }
            Err(NotSigned::Wrong(refused)) => Ok(Err(refused)),
            Err(NotSigned::Later(why, passing)) => Err(Trouble { why, passing }),
        }
    }

    /// What it wants, or why it gets nothing.
    async fn wanted(
        &self,
        place: &Place,
        object: &DynamicObject,
        domain: &TrustDomain,
    ) -> Result<Result<Wanted, Refused>, Trouble> {
        let (object, namespace) = (&object.data, place.namespace.as_deref().unwrap_or_default());
        let (kind, name) = match self.kind {
            Kind::Csr => return Ok(csr::wanted(object, domain)),
            Kind::PodCertificate => return Ok(pod_certificate::wanted(object, namespace, domain)),
            Kind::CertManager => {
                cert_manager::issuer(object).map_err(|why| Trouble { why, passing: false })?
            }
        };
        let Some(allowed) = issuer::allowed(&self.world, kind, namespace, name).await? else {
            let why = match kind {
                IssuerKind::Namespaced => {
                    format!("there is no BanyanIssuer {name:?} in {namespace}: make it")
                }
                IssuerKind::Cluster => format!("there is no BanyanClusterIssuer {name:?}: make it"),
            };
            return Err(Trouble { why, passing: true });
        };
        let rules = Rules { allowed: &allowed, cluster_domain: &self.scope.cluster_domain };
        Ok(cert_manager::wanted(object, namespace, domain, &rules))
    }

    /// The roots beside the certificate, of the bundle that it was born under and no other.
    fn with_roots(&self, signed: Signed) -> Result<Signed, Trouble> {
        if self.kind != Kind::CertManager {
            return Ok(signed);
        }
        let trust = self.world.ca.trust();
        match trust.filter(|trust| trust.bundle.sequence().0 == signed.sequence) {
            Some(trust) => Ok(Signed { roots: trust.bundle.pem().to_string(), ..signed }),
            None => {
                let why = "waits for the bundle that its certificate was born under".to_owned();
                Err(Trouble { why, passing: true })
            }
        }
    }

    async fn sign(&self, place: &Place, wanted: &Wanted) -> Result<Signed, NotSigned> {
        let [life_seconds_min, life_seconds_max] = wanted.bounds;
        let request = SignRequest {
            csr: wanted.csr.clone(),
            identity: wanted.identity.to_string(),
            life_seconds: wanted.life,
            dns_names: wanted.dns.clone(),
            life_seconds_min,
            life_seconds_max,
            object: Some(SignedObject {
                kind: self.kind.name().to_owned(),
                namespace: place.namespace.clone().unwrap_or_default(),
                name: place.name.clone(),
                uid: place.uid.clone(),
            }),
        };
        let mut signer = SignerServiceClient::new(self.world.ca.channel());
        let answer = tokio::time::timeout(SIGN_WITHIN, signer.sign(request)).await;
        let Ok(answer) = answer else {
            let why = format!("the CA gives no answer within {} s", SIGN_WITHIN.as_secs());
            return Err(NotSigned::Later(why, true));
        };
        let signed = answer.map_err(|status| not_signed(&status))?.into_inner();
        let signed = Signed::of(&signed, self.world.clock.now());
        let life = signed.not_after.since(signed.not_before).as_secs();
        if life < life_seconds_min {
            let why = format!(
                "the CA can only give {life} s of life now, and {life_seconds_min} s are the least: its issuer ends soon"
            );
            return Err(NotSigned::Later(why, false));
        }
        Ok(signed)
    }
}

/// Whether the CA would say the same for ever.
fn not_signed(status: &Status) -> NotSigned {
    let info = status.get_details_error_info();
    let reason = info.as_ref().map(|info| info.reason.as_str()).unwrap_or_default();
    let denied = status.code() == Code::PermissionDenied && reason != "CALLER_NOT_ALLOWED";
    // Without a reason it is not the CA that says no.
    if !reason.is_empty() && (denied || status.code() == Code::InvalidArgument) {
        let message = format!("the CA refused it: {} ({reason})", status.message());
        return NotSigned::Wrong(Refused::failed("Refused", message));
    }
    let passing = matches!(status.code(), Code::ResourceExhausted | Code::Aborted);
    NotSigned::Later(ca::told(status), passing)
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn only_what_the_ca_will_always_refuse_fails_a_request() {
        for (code, reason, wrong) in [
            (Code::InvalidArgument, "CSR_KEY_WEAK", true),
            (Code::PermissionDenied, "KEY_OF_CA", true),
            (Code::PermissionDenied, "CSR_IDENTITY_MISMATCH", true),
            (Code::PermissionDenied, "CALLER_NOT_ALLOWED", false),
            (Code::Unavailable, "HORIZON_BEHIND", false),
            (Code::FailedPrecondition, "LEDGER_STOPPED", false),
            (Code::ResourceExhausted, "ROWS_EXHAUSTED", false),
        ] {
            let mut details = ErrorDetails::new();
            details.set_error_info(reason, "banyan", std::collections::HashMap::new());
            let status = Status::with_error_details(code, "no", details);
            let found = matches!(not_signed(&status), NotSigned::Wrong(_));
            assert_eq!(found, wrong, "{reason}");
        }
        let bare = Status::new(Code::InvalidArgument, "a proxy says so");
        assert!(matches!(not_signed(&bare), NotSigned::Later(..)));
    }
}
