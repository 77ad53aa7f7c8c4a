//! Roots whose keys are destroyed.

use plugins::RetireRoots;
use trust::RootId;

use super::subject::{Trial, denied};
use crate::report::{Broken, Verdict, demand, skip, works};

pub(super) async fn of_signing_root_is_denied(trial: &Trial<'_>) -> Verdict {
    let retire = retiring(trial)?;
    let Some(signing) = trial.roots().await?.signing else { return skip("no root signs") };
    denied(
        "retiring the signing root",
        &retire.retire(&trial.context("retire-signing")?, &signing).await,
    )
}

pub(super) async fn root_is_gone(trial: &Trial<'_>) -> Verdict {
    let retire = retiring(trial)?;
    let root = RootId::of(&trial.stage("root-retired").await?);
    let before = trial.check_roots(&trial.roots().await?, None)?;
    let key = trial.issuer_key("issuer").await?;
    works("retire", retire.retire(&trial.context("retire")?, &root).await)?;
    let after = trial.check_roots(&trial.roots().await?, Some(&before))?;
    demand(after.root(&root).is_none(), "a retired root is announced")?;
    let request = trial.issuer_request(root, &key).await?;
    denied("an issuer under a retired root", &trial.sign("issuer-retired", &request).await?)?;
    works("retire again", retire.retire(&trial.context("retire-again")?, &root).await)
}

pub(super) async fn request_makes_no_second_root(trial: &Trial<'_>) -> Verdict {
    retiring(trial)?;
    let context = trial.context("root-retired")?;
    denied(
        "the request of a retired root",
        &trial.staging()?.stage(&context, &trial.stage_request()).await,
    )
}

fn retiring<'a>(trial: &'a Trial<'_>) -> Result<&'a dyn RetireRoots, Broken> {
    trial.authority().retiring().map_or_else(|| skip("it cannot retire roots"), Ok)
}
