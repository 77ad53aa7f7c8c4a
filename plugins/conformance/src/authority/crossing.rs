//! Other roots that are signed with an own one.

use std::time::Duration;

use plugins::checks::{CrossExpectation, check_cross_answer};
use plugins::{CrossSign, CrossSignRequest, Outcome, PluginError, RootAuthority};
use trust::{Root, RootId};

use super::subject::{Trial, denied, ready};
use crate::report::{Broken, Verdict, demand, skip, works};

/// How long cross certificates are asked for.
const TTL: Duration = Duration::from_secs(86_400);
/// How far the authority's clock may be from the suite's, while it answers too.
const MEANWHILE: Duration = Duration::from_secs(60);
/// The issuer of the other root stands below it.
const PATH_LEN: u8 = 1;

pub(super) async fn certificate_is_safe(trial: &Trial<'_>) -> Verdict {
    let (request, other) = asked(trial).await?;
    let der = ready(works("cross_sign", ask(trial, trial.authority(), &request).await?)?)?;
    let announced = trial.check_roots(&trial.roots().await?, None)?;
    let Some(signer) = announced.root(&request.signer) else {
        return demand(false, "the root to sign under is not announced");
    };
    let now = trial.now();
    let expected = CrossExpectation {
        other: &other,
        signer,
        trust_domain: trial.trust_domain(),
        path_len: PATH_LEN,
        now,
        least: now.plus(TTL).minus(MEANWHILE),
        most: now.plus(TTL).plus(MEANWHILE),
    };
    let checked = check_cross_answer(&der, &expected);
    works("the check of the cross certificate", checked).map(drop)
}

pub(super) async fn same_request(trial: &Trial<'_>) -> Verdict {
    let (request, _) = asked(trial).await?;
    let first = ready(works("cross_sign", ask(trial, trial.authority(), &request).await?)?)?;
    let again = ready(works("cross_sign", ask(trial, trial.authority(), &request).await?)?)?;
    demand(first == again, "the same request gave two certificates")?;
    let reopened = trial.reopened();
    let after = ready(works("cross_sign", ask(trial, reopened.as_ref(), &request).await?)?)?;
    demand(first == after, "the same request gave another certificate after a restart")
}

pub(super) async fn other_contents(trial: &Trial<'_>) -> Verdict {
    let (request, _) = asked(trial).await?;
    ready(works("cross_sign", ask(trial, trial.authority(), &request).await?)?)?;
    let other = CrossSignRequest::new(request.signer, request.other_root, TTL / 2);
    denied("another request under the same id", &ask(trial, trial.authority(), &other).await?)
}

pub(super) async fn unknown_root(trial: &Trial<'_>) -> Verdict {
    let (request, other) = asked(trial).await?;
    let request = CrossSignRequest::new(RootId::of(b"unknown"), request.other_root, TTL);
    let context = trial.context("cross-unknown")?;
    denied(
        "a signature of a root that it has not",
        &crossing(trial)?.cross_sign(&context, &request).await,
    )?;
    let request = CrossSignRequest::new(other.id(), request.other_root, TTL);
    let context = trial.context("cross-other")?;
    denied(
        "a signature of a root of others",
        &crossing(trial)?.cross_sign(&context, &request).await,
    )
}

pub(super) async fn outliving(trial: &Trial<'_>) -> Verdict {
    let (request, _) = asked(trial).await?;
    let ttl = Duration::from_secs(200 * 365 * 86_400);
    let request = CrossSignRequest::new(request.signer, request.other_root, ttl);
    let context = trial.context("cross-outlives")?;
    let answered = crossing(trial)?.cross_sign(&context, &request).await;
    let right = matches!(answered, Err(PluginError::Denied { .. } | PluginError::Outlives { .. }));
    demand(
        right,
        format!("a cross certificate of 200 years must be refused, and gave {answered:?}"),
    )
}

/// A request for the suite's own root, the same at each call. An authority whose root or key cannot do it says so.
async fn asked(trial: &Trial<'_>) -> Result<(CrossSignRequest, Root), Broken> {
    crossing(trial)?;
    let Some(signer) = trial.roots().await?.signing else { return skip("no root signs") };
    let other = trial.other_root().await?.clone();
    let request = CrossSignRequest::new(signer, other.der().to_vec(), TTL);
    match ask(trial, trial.authority(), &request).await? {
        Err(PluginError::Denied { reason }) => {
            skip(&format!("it can cross-sign, but not with this root: {reason}"))
        }
        _ => Ok((request, other)),
    }
}

async fn ask(
    trial: &Trial<'_>,
    authority: &dyn RootAuthority,
    request: &CrossSignRequest,
) -> Result<Result<Outcome<Vec<u8>>, PluginError>, Broken> {
    let context = trial.context("cross-sign")?;
    let Some(signs) = authority.cross_signing() else {
        return skip("it cannot cross-sign any more");
    };
    Ok(signs.cross_sign(&context, request).await)
}

fn crossing<'a>(trial: &'a Trial<'_>) -> Result<&'a dyn CrossSign, Broken> {
    trial.authority().cross_signing().map_or_else(|| skip("it cannot cross-sign"), Ok)
}
