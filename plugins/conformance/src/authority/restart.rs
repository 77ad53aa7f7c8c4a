//! What was answered before a restart is answered after it.

use plugins::Outcome;

use super::subject::{Trial, ready, same};
use crate::report::{Verdict, demand, works};

pub(super) async fn answers_survive(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let request = trial.issuer_request(root, &trial.issuer_key("issuer-restart").await?).await?;
    let issuer = ready(works("sign_issuer", trial.sign("issuer-restart", &request).await?)?)?;
    let roots = trial.roots().await?;

    let reopened = trial.reopened();
    let roots_again =
        works("roots after a restart", reopened.roots(&trial.context("roots")?).await)?;
    demand(same(roots, roots_again), "the roots changed over a restart")?;
    let again = reopened.sign_issuer(&trial.context("issuer-restart")?, &request).await;
    demand(
        issuer == ready(works("sign_issuer after a restart", again)?)?,
        "a restart made a second issuer",
    )?;
    if let Some(staging) = reopened.staging() {
        let staged = trial.stage("root-a").await?;
        let again = staging.stage(&trial.context("root-a")?, &trial.stage_request()).await;
        demand(
            staged == ready(works("stage after a restart", again)?)?,
            "a restart made a second root",
        )?;
    }
    Ok(())
}

/// A ticket is good for whoever comes after a restart, and leads to one issuer. Where the answer comes at once there is no
/// ticket, and the answer is the same after a restart.
pub(super) async fn pending_survives(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let request = trial.issuer_request(root, &trial.issuer_key("issuer-pending").await?).await?;
    let ticket = match trial.ask(trial.authority(), "issuer-pending", &request).await? {
        Outcome::Pending { ticket, .. } => ticket,
        at_once => {
            let again = trial.ask(trial.reopened().as_ref(), "issuer-pending", &request).await?;
            return demand(at_once == again, "a restart made a second issuer");
        }
    };
    let reopened = trial.reopened();
    // By now the answer may be there, which is as good.
    if let Outcome::Pending { ticket: again, .. } =
        trial.ask(reopened.as_ref(), "issuer-pending", &request).await?
    {
        demand(again == ticket, "after a restart the same request has another ticket")?;
    }
    let polled = reopened.poll(&trial.context("issuer-pending")?, &ticket).await;
    works("poll after a restart", polled)?;
    let issuer = ready(works("sign_issuer", trial.sign("issuer-pending", &request).await?)?)?;
    let again = trial.reopened().poll(&trial.context("issuer-pending")?, &ticket).await;
    let again = ready(works("poll of what was answered", again)?)?;
    demand(issuer == again, "the ticket leads to another issuer than the request")
}
