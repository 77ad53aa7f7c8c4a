//! Roots of others that everybody shall trust. Of an authority that names none both rules hold.

use trust::RootId;

use super::subject::{Trial, denied, same};
use crate::report::{Verdict, demand};

/// Each is a CA certificate that is valid now, named once, none of the authority's own nor a renewed one of those; and there
/// are not too many. Two looks tell the same, in whatever order.
pub(super) async fn are_real_and_apart(trial: &Trial<'_>) -> Verdict {
    let set = trial.roots().await?;
    let (_, faults) = trial.check_further(&set)?;
    demand(
        faults.is_empty(),
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    )?;
    demand(same(trial.roots().await?, set), "two looks told other roots under one generation")
}

/// They are others' roots: nothing is signed under them here.
pub(super) async fn sign_nothing(trial: &Trial<'_>) -> Verdict {
    let set = trial.roots().await?;
    let Some(further) = set.further.first().map(|der| RootId::of(der)) else { return Ok(()) };
    let key = trial.issuer_key("issuer-further").await?;
    let request = trial.issuer_request(further, &key).await?;
    denied("an issuer under a further root", &trial.sign("issuer-further", &request).await?)
}
