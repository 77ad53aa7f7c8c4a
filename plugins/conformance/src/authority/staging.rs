//! Roots that are announced before they sign.

use std::time::Duration;

use trust::RootId;

use super::subject::{ROOT_LIFETIME, Trial, denied, same};
use crate::report::{Verdict, demand, works};

pub(super) async fn same_request_same_root(trial: &Trial<'_>) -> Verdict {
    let (first, second) = (trial.stage("root-a").await?, trial.stage("root-a").await?);
    demand(first == second, "one request id made two roots")?;
    let other = trial.stage("root-b").await?;
    demand(first != other, "two request ids made one root")
}

pub(super) async fn at_once_same_root(trial: &Trial<'_>) -> Verdict {
    let (a, b) = tokio::join!(trial.stage("root-at-once"), trial.stage("root-at-once"));
    demand(a? == b?, "calls at once with one request id made two roots")
}

pub(super) async fn other_contents_is_denied(trial: &Trial<'_>) -> Verdict {
    trial.stage("root-a").await?;
    let mut other = trial.stage_request();
    other.lifetime = ROOT_LIFETIME + Duration::from_secs(1);
    let staged = trial.staging()?.stage(&trial.context("root-a")?, &other).await;
    denied("the same request with another lifetime", &staged)
}

pub(super) async fn root_is_announced_and_safe(trial: &Trial<'_>) -> Verdict {
    let before = trial.check_roots(&trial.roots().await?, None)?;
    let der = trial.stage("root-new").await?;
    let after = trial.check_roots(&trial.roots().await?, Some(&before))?;
    demand(after.root(&RootId::of(&der)).is_some(), "a staged root is not announced")?;
    demand(
        after.roots().len() == before.roots().len() + 1,
        "staging one root announced another number",
    )
}

pub(super) async fn activates_nothing(trial: &Trial<'_>) -> Verdict {
    let before = trial.roots().await?.signing;
    trial.stage("root-passive").await?;
    demand(trial.roots().await?.signing == before, "staging changed the signing root")
}

pub(super) async fn activated_root_signs(trial: &Trial<'_>) -> Verdict {
    let root = RootId::of(&trial.stage("root-a").await?);
    let activate = trial.staging()?;
    works("activate", activate.activate(&trial.context("activate")?, &root).await)?;
    let first = trial.roots().await?;
    demand(first.signing == Some(root), "the activated root is not the signing one")?;
    works("activate again", activate.activate(&trial.context("activate-again")?, &root).await)?;
    demand(same(trial.roots().await?, first), "activating the signing root changed something")
}

pub(super) async fn activate_unknown_is_denied(trial: &Trial<'_>) -> Verdict {
    let unknown = RootId::of(b"no such root");
    let result = trial.staging()?.activate(&trial.context("activate-unknown")?, &unknown).await;
    denied("activating an unknown root", &result)
}
