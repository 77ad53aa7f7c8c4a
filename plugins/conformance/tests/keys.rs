//! The key suite passes the honest fake, and finds each lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use plugins::memory::MemoryKeys;
use plugins::{
    Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId,
};
use plugins_conformance::keys::{Subject, run};
use trust::{PublicKey, SignatureAlgorithm};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Misbehavior {
    ForgetsRequests,
    OneKeyForAll,
    SignsSomethingElse,
    SignsWithItsOwnAlgorithm,
    UnknownKeyIsTransient,
    ListsNothing,
    DestroysNothing,
    DestroyFailsTheSecondTime,
    ClaimsToBeDurable,
    IsDown,
    TakesAnySpec,
    ChangesItsMind,
    MakesOneSpecOnly,
}

#[derive(Debug)]
struct Liar {
    honest: MemoryKeys,
    misbehavior: Misbehavior,
    calls: AtomicU64,
}

impl Liar {
    fn nth(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

#[async_trait]
impl KeyBackend for Liar {
    fn describe(&self) -> KeyBackendDescription {
        let mut description = self.honest.describe();
        description.durable = self.misbehavior == Misbehavior::ClaimsToBeDurable;
        if self.misbehavior == Misbehavior::ChangesItsMind && self.nth() % 2 == 1 {
            description.version = "another";
        }
        description
    }

    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        let id = |text: &str| RequestId::parse(text).expect("id");
        match self.misbehavior {
            Misbehavior::ForgetsRequests => {
                self.honest.generate(&id(&format!("forgot-{}", self.nth())), spec).await
            }
            Misbehavior::OneKeyForAll => {
                self.honest.generate(&id(&format!("all-{spec}")), spec).await
            }
            Misbehavior::MakesOneSpecOnly => self.honest.generate(request_id, KeySpec::P256).await,
            Misbehavior::TakesAnySpec => match self.honest.generate(request_id, spec).await {
                Err(KeyError::Denied { .. }) => {
                    self.honest.generate(request_id, KeySpec::P256).await
                }
                made => made,
            },
            _ => self.honest.generate(request_id, spec).await,
        }
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        let found = self.honest.public(id).await;
        match self.misbehavior {
            Misbehavior::UnknownKeyIsTransient => {
                found.map_err(|error| KeyError::Transient { detail: error.to_string() })
            }
            _ => found,
        }
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        match self.misbehavior {
            Misbehavior::SignsSomethingElse => {
                self.honest.sign(id, b"something else", algorithm).await
            }
            Misbehavior::SignsWithItsOwnAlgorithm => {
                let spec = KeySpec::of(&self.honest.public(id).await?).expect("a spec");
                self.honest.sign(id, message, spec.algorithm()).await
            }
            _ => self.honest.sign(id, message, algorithm).await,
        }
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        if self.misbehavior == Misbehavior::ListsNothing {
            Ok(Vec::new())
        } else {
            self.honest.list().await
        }
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        match self.misbehavior {
            Misbehavior::DestroysNothing => Ok(()),
            Misbehavior::DestroyFailsTheSecondTime => {
                self.honest.public(id).await?;
                self.honest.destroy(id).await
            }
            _ => self.honest.destroy(id).await,
        }
    }

    async fn check(&self) -> Health {
        if self.misbehavior == Misbehavior::IsDown { Health::down("asleep") } else { Health::ok() }
    }
}

async fn failed(misbehavior: Misbehavior) -> Vec<&'static str> {
    let open = move || {
        Arc::new(Liar { honest: MemoryKeys::new(), misbehavior, calls: AtomicU64::new(0) })
            as Arc<dyn KeyBackend>
    };
    run(&Subject::new(open)).await.failed()
}

#[tokio::test]
async fn the_honest_fake_conforms_and_is_not_asked_for_durability() {
    let report = run(&Subject::new(|| Arc::new(MemoryKeys::new()))).await;
    report.assert_conforms();
    assert_eq!(report.skipped(), ["keys-survive-a-restart", "destroyed-stays-destroyed"]);
    assert_eq!(report.passed().len(), 16, "{report}");
}

const MISBEHAVIORS: &[(Misbehavior, &str)] = &[
    (Misbehavior::ForgetsRequests, "same-request-same-key"),
    (Misbehavior::ForgetsRequests, "same-request-at-once-same-key"),
    (Misbehavior::ForgetsRequests, "dropped-call-makes-at-most-one-key"),
    (Misbehavior::ForgetsRequests, "destroyed-request-makes-no-second-key"),
    (Misbehavior::OneKeyForAll, "another-request-another-key"),
    (Misbehavior::SignsSomethingElse, "signature-verifies"),
    (Misbehavior::SignsSomethingElse, "signatures-at-once-verify"),
    (Misbehavior::SignsWithItsOwnAlgorithm, "algorithm-must-fit-the-key"),
    (Misbehavior::UnknownKeyIsTransient, "unknown-key-is-not-found"),
    (Misbehavior::ListsNothing, "list-has-every-key-in-order"),
    (Misbehavior::DestroysNothing, "destroyed-key-is-gone"),
    (Misbehavior::DestroyFailsTheSecondTime, "destroy-is-idempotent"),
    (Misbehavior::ClaimsToBeDurable, "keys-survive-a-restart"),
    (Misbehavior::ClaimsToBeDurable, "destroyed-stays-destroyed"),
    (Misbehavior::IsDown, "check-is-well"),
    (Misbehavior::TakesAnySpec, "request-keeps-its-spec"),
    (Misbehavior::ChangesItsMind, "describe-is-constant"),
    (Misbehavior::MakesOneSpecOnly, "key-has-the-spec-asked-for"),
];

#[tokio::test]
async fn each_lie_is_found_by_the_rule_about_it() {
    for (misbehavior, rule) in MISBEHAVIORS.iter().copied() {
        let failed = failed(misbehavior).await;
        assert!(
            failed.contains(&rule),
            "{misbehavior:?} should fail {rule}, and failed {failed:?}"
        );
    }
}

#[tokio::test]
async fn every_rule_has_a_backend_that_breaks_it_and_is_explained() {
    let page = include_str!("../../../docs/plugins/conformance.md");
    for (rule, _) in run(&Subject::new(|| Arc::new(MemoryKeys::new()))).await.verdicts() {
        assert!(MISBEHAVIORS.iter().any(|(_, told)| *told == rule), "add a misbehavior for {rule}");
        assert!(
            page.contains(&format!("`{rule}`")),
            "docs/plugins/conformance.md does not tell of {rule}"
        );
    }
}
