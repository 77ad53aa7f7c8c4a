//! The rules of key backends.

use std::fmt;
use std::sync::Arc;

use plugins::{HealthState, KeyBackend, KeyError, KeyHandle, KeyId, KeySpec, RequestId};
use trust::SignatureAlgorithm;

use crate::report::{Broken, Gaps, Report, Verdict, demand, refused, skip, works};

/// A key backend to be tried.
pub struct Subject {
    open: Box<dyn Fn() -> Arc<dyn KeyBackend> + Send + Sync>,
    variant: Option<String>,
    gaps: Gaps,
}

impl Subject {
    /// Takes what opens the backend. Called again, it opens the same store again, as after a restart; a backend that
    /// does not claim to be durable may open an empty one.
    pub fn new(open: impl Fn() -> Arc<dyn KeyBackend> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), variant: None, gaps: Gaps::new() }
    }

    /// The same, tried in one of several ways of setting it up, which the report is named after.
    #[must_use]
    pub fn variant(self, variant: impl Into<String>) -> Self {
        Self { variant: Some(variant.into()), ..self }
    }

    /// The same, which is known to break a rule for a reason. The rule is tried all the same: a gap that is none is a
    /// failure.
    #[must_use]
    pub fn gap(mut self, rule: &str, reason: &str) -> Self {
        self.gaps.insert(rule.to_owned(), reason.to_owned());
        self
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

/// Tries every rule.
pub async fn run(subject: &Subject) -> Report {
    let keys = (subject.open)();
    let keys = keys.as_ref();
    let plugin = format!("key-{}", keys.describe().plugin);
    let mut report = Report::about(&plugin, subject.variant.as_deref(), &subject.gaps);
    report.rule("describe-is-constant", describe_is_constant(keys));
    report.rule("key-has-the-spec-asked-for", key_has_the_spec_asked_for(keys).await);
    report.rule("same-request-same-key", same_request_same_key(keys).await);
    report.rule("same-request-at-once-same-key", same_request_at_once_same_key(keys).await);
    report.rule("another-request-another-key", another_request_another_key(keys).await);
    report.rule("request-keeps-its-spec", request_keeps_its_spec(keys).await);
    report.rule("signature-verifies", signature_verifies(keys).await);
    report.rule("signatures-at-once-verify", signatures_at_once_verify(keys).await);
    report.rule("algorithm-must-fit-the-key", algorithm_must_fit_the_key(keys).await);
    report.rule("unknown-key-is-not-found", unknown_key_is_not_found(keys).await);
    report.rule("list-has-every-key-in-order", list_has_every_key_in_order(keys).await);
    report
        .rule("dropped-call-makes-at-most-one-key", dropped_call_makes_at_most_one_key(keys).await);
    report.rule("destroyed-key-is-gone", destroyed_key_is_gone(keys).await);
    report.rule(
        "destroyed-request-makes-no-second-key",
        destroyed_request_makes_no_second_key(keys).await,
    );
    report.rule("destroy-is-idempotent", destroy_is_idempotent(keys).await);
    report.rule("check-is-well", check_is_well(keys).await);
    report.rule("keys-survive-a-restart", keys_survive_a_restart(subject).await);
    report.rule("destroyed-stays-destroyed", destroyed_stays_destroyed(subject).await);
    report.ended()
}

fn describe_is_constant(keys: &dyn KeyBackend) -> Verdict {
    let description = keys.describe();
    demand(description == keys.describe(), "describe gave two answers")?;
    demand(
        !description.plugin.is_empty() && !description.version.is_empty(),
        "name or version is empty",
    )?;
    demand(!description.specs.is_empty(), "no kind of key can be made")
}

async fn key_has_the_spec_asked_for(keys: &dyn KeyBackend) -> Verdict {
    for spec in keys.describe().specs {
        let key = made(keys, &format!("spec-{spec}"), *spec).await?;
        demand(
            KeySpec::of(&key.public) == Some(*spec),
            format!("asked for {spec}, got {:?}", key.public),
        )?;
        let public = works("public", keys.public(&key.id).await)?;
        demand(public == key.public, "public and generate tell different keys")?;
    }
    Ok(())
}

async fn same_request_same_key(keys: &dyn KeyBackend) -> Verdict {
    let spec = first_spec(keys)?;
    let (first, second) = (made(keys, "same", spec).await?, made(keys, "same", spec).await?);
    demand(first == second, format!("one request id made {} and {}", first.id, second.id))
}

async fn same_request_at_once_same_key(keys: &dyn KeyBackend) -> Verdict {
    let spec = first_spec(keys)?;
    let (a, b, c) = tokio::join!(
        made(keys, "at-once", spec),
        made(keys, "at-once", spec),
        made(keys, "at-once", spec)
    );
    let (a, b, c) = (a?, b?, c?);
    demand(a == b && b == c, "calls at once with one request id made several keys")
}

async fn another_request_another_key(keys: &dyn KeyBackend) -> Verdict {
    let spec = first_spec(keys)?;
    let (one, other) = (made(keys, "one", spec).await?, made(keys, "other", spec).await?);
    demand(one.id != other.id && one.public != other.public, "two request ids share a key")
}

async fn request_keeps_its_spec(keys: &dyn KeyBackend) -> Verdict {
    let (Some(first), Some(second)) = (keys.describe().specs.first(), keys.describe().specs.get(1))
    else {
        return skip("it makes one kind of key only");
    };
    made(keys, "kept-spec", *first).await?;
    let other = keys.generate(&request("kept-spec")?, *second).await;
    refused("the same request with another spec", &other, "Denied", |e| {
        matches!(e, KeyError::Denied { .. })
    })
}

async fn signature_verifies(keys: &dyn KeyBackend) -> Verdict {
    for spec in keys.describe().specs {
        let key = made(keys, &format!("sign-{spec}"), *spec).await?;
        for message in [&b""[..], b"x", &[0x5a; 100_000]] {
            signed(keys, &key, *spec, message).await?;
        }
    }
    Ok(())
}

async fn signatures_at_once_verify(keys: &dyn KeyBackend) -> Verdict {
    let spec = first_spec(keys)?;
    let (one, other) = (made(keys, "one", spec).await?, made(keys, "other", spec).await?);
    let (a, b, c, d) = tokio::join!(
        signed(keys, &one, spec, b"a"),
        signed(keys, &other, spec, b"b"),
        signed(keys, &one, spec, b"c"),
        signed(keys, &other, spec, b"d"),
    );
    a.and(b).and(c).and(d)
}

async fn algorithm_must_fit_the_key(keys: &dyn KeyBackend) -> Verdict {
    for spec in keys.describe().specs {
        let key = made(keys, &format!("sign-{spec}"), *spec).await?;
        let wrong = SignatureAlgorithm::ALL
            .into_iter()
            .filter(|algorithm| !algorithm.fits(key.public.kind()));
        for algorithm in wrong {
            let signed = keys.sign(&key.id, b"message", algorithm).await;
            let call = format!("a {spec} key asked for {algorithm:?}");
            refused(&call, &signed, "Unsupported", |e| matches!(e, KeyError::Unsupported { .. }))?;
        }
    }
    Ok(())
}

async fn unknown_key_is_not_found(keys: &dyn KeyBackend) -> Verdict {
    let id = KeyId::parse("no-such-key").map_err(|error| Broken::Failed(error.to_string()))?;
    not_found(keys, &id, first_spec(keys)?).await
}

async fn list_has_every_key_in_order(keys: &dyn KeyBackend) -> Verdict {
    let key = made(keys, "listed", first_spec(keys)?).await?;
    let list = works("list", keys.list().await)?;
    demand(list.contains(&key), format!("{} is not in the list", key.id))?;
    demand(list.is_sorted_by(|a, b| a.id < b.id), "the list is not in the order of ids, each once")
}

async fn dropped_call_makes_at_most_one_key(keys: &dyn KeyBackend) -> Verdict {
    let before = works("list", keys.list().await)?.len();
    let (id, spec) = (request("dropped")?, first_spec(keys)?);
    // Polled once, then dropped.
    tokio::select! {
        biased;
        _ = keys.generate(&id, spec) => {}
        () = std::future::ready(()) => {}
    }
    let key = made(keys, "dropped", spec).await?;
    signed(keys, &key, spec, b"message").await?;
    let after = works("list", keys.list().await)?.len();
    demand(
        after == before + 1,
        format!("{} keys came of one request", after.saturating_sub(before)),
    )
}

async fn destroyed_key_is_gone(keys: &dyn KeyBackend) -> Verdict {
    let spec = first_spec(keys)?;
    let key = made(keys, "destroyed", spec).await?;
    works("destroy", keys.destroy(&key.id).await)?;
    not_found(keys, &key.id, spec).await?;
    let list = works("list", keys.list().await)?;
    demand(!list.iter().any(|other| other.id == key.id), "a destroyed key is listed")
}

async fn destroyed_request_makes_no_second_key(keys: &dyn KeyBackend) -> Verdict {
    let again = keys.generate(&request("destroyed")?, first_spec(keys)?).await;
    refused("the request of a destroyed key", &again, "Denied", |e| {
        matches!(e, KeyError::Denied { .. })
    })
}

async fn destroy_is_idempotent(keys: &dyn KeyBackend) -> Verdict {
    let key = made(keys, "destroyed-twice", first_spec(keys)?).await?;
    works("the first destroy", keys.destroy(&key.id).await)?;
    works("the second destroy", keys.destroy(&key.id).await)?;
    let unknown = KeyId::parse("never-was").map_err(|error| Broken::Failed(error.to_string()))?;
    works("destroy of a key that never was", keys.destroy(&unknown).await)
}

async fn check_is_well(keys: &dyn KeyBackend) -> Verdict {
    let health = keys.check().await;
    demand(health.state != HealthState::Down, format!("check says down: {}", health.detail))
}

async fn keys_survive_a_restart(subject: &Subject) -> Verdict {
    let keys = (subject.open)();
    durable(keys.as_ref())?;
    let specs = keys.describe().specs;
    let mut before = Vec::new();
    for spec in specs {
        before.push((made(keys.as_ref(), &format!("restart-{spec}"), *spec).await?, *spec));
    }
    drop(keys);
    let keys = (subject.open)();
    for (key, spec) in before {
        signed(keys.as_ref(), &key, spec, b"after").await?;
        let again = made(keys.as_ref(), &format!("restart-{spec}"), spec).await?;
        demand(again == key, "after a restart the same request made another key")?;
    }
    Ok(())
}

async fn destroyed_stays_destroyed(subject: &Subject) -> Verdict {
    let keys = (subject.open)();
    durable(keys.as_ref())?;
    let spec = first_spec(keys.as_ref())?;
    let key = made(keys.as_ref(), "destroyed-for-good", spec).await?;
    works("destroy", keys.destroy(&key.id).await)?;
    drop(keys);
    let keys = (subject.open)();
    not_found(keys.as_ref(), &key.id, spec).await?;
    let again = keys.generate(&request("destroyed-for-good")?, spec).await;
    refused("the request of a destroyed key", &again, "Denied", |e| {
        matches!(e, KeyError::Denied { .. })
    })
}

fn durable(keys: &dyn KeyBackend) -> Verdict {
    if keys.describe().durable { Ok(()) } else { skip("it does not claim to be durable") }
}

fn first_spec(keys: &dyn KeyBackend) -> Result<KeySpec, Broken> {
    let none = || Broken::Failed("no kind of key can be made".to_owned());
    keys.describe().specs.first().copied().ok_or_else(none)
}

fn request(name: &str) -> Result<RequestId, Broken> {
    works("the suite's request id", RequestId::parse(&format!("conformance-{name}")))
}

async fn made(keys: &dyn KeyBackend, name: &str, spec: KeySpec) -> Result<KeyHandle, Broken> {
    works("generate", keys.generate(&request(name)?, spec).await)
}

async fn signed(keys: &dyn KeyBackend, key: &KeyHandle, spec: KeySpec, message: &[u8]) -> Verdict {
    let signature = works("sign", keys.sign(&key.id, message, spec.algorithm()).await)?;
    works("the signature", key.public.verify(message, spec.algorithm(), &signature))
}

async fn not_found(keys: &dyn KeyBackend, id: &KeyId, spec: KeySpec) -> Verdict {
    let right = |error: &KeyError| matches!(error, KeyError::NotFound { .. });
    refused(
        "sign with a key that is not there",
        &keys.sign(id, b"x", spec.algorithm()).await,
        "NotFound",
        right,
    )?;
    refused("public of a key that is not there", &keys.public(id).await, "NotFound", right)
}
