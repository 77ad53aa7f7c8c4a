//! What was answered before a restart is answered after it.

use super::subject::{Trial, ready};
use crate::report::{Verdict, demand, works};

pub(super) async fn answers_survive(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let request = trial.issuer_request(root, &trial.issuer_key("issuer-restart").await?).await?;
    let issuer = ready(works("sign_issuer", trial.sign("issuer-restart", &request).await?)?)?;
    let roots = trial.roots().await?;

    let reopened = trial.reopened();
    let roots_again = works("roots after a restart", reopened.roots(&trial.context("roots")?).await)?;
    demand(roots == roots_again, "the roots changed over a restart")?;
    let again = reopened.sign_issuer(&trial.context("issuer-restart")?, &request).await;
    demand(issuer == ready(works("sign_issuer after a restart", again)?)?, "a restart made a second issuer")?;
    if let Some(staging) = reopened.staging() {
        let staged = trial.stage("root-a").await?;
        let again = staging.stage(&trial.context("root-a")?, &trial.stage_request()).await;
        demand(staged == ready(works("stage after a restart", again)?)?, "a restart made a second root")?;
    }
    Ok(())
}
