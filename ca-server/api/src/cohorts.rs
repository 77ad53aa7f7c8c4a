//! Cohorts, as callers of the admin API name them.

use auth::refusal::{Reason, Refusal, echoed};
use control::ca::Ca;
use rotation::{AuthorityName, Event, Mode};
use trust::{Cohort, TrustDomain};

use crate::words::invalid;

/// What is said in the place of a cohort to have none.
const NO_CANARY: &str = "none";
/// A rotation, as far as it says whether there can be a canary.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) mode: Mode,
    pub(crate) authority: &'a AuthorityName,
    /// What the configuration asks for.
    pub(crate) usual: Option<&'a Cohort>,
}

/// For whom the root signs first. A standby root signs for nobody, and the root of an upstream CA as it does there.
pub(crate) fn asked(ca: &Ca, asked: &str, wanted: Wanted<'_>) -> Result<Option<Cohort>, Refusal> {
    let never = wanted.mode == Mode::Standby || ca.upstreams.has(wanted.authority.as_str());
    match asked {
        NO_CANARY => Ok(None),
        "" if never => Ok(None),
        "" => Ok(wanted.usual.cloned()),
        _ if never => {
            let text = "a standby root has no canary, nor has the root of an upstream CA";
            Err(Refusal::advised(Reason::RequestInvalid, text, "ask without --canary"))
        }
        asked => parsed(asked, ca.id.trust_domain()).map(Some),
    }
}

/// For whom it signs first, of what was asked for.
pub(crate) const fn of(event: &Event) -> Option<&Cohort> {
    match event {
        Event::RotationRequested { canary, .. } => canary.as_ref(),
        _ => None,
    }
}

/// A cohort of this trust domain.
pub(crate) fn parsed(text: &str, domain: &TrustDomain) -> Result<Cohort, Refusal> {
    let cohort: Cohort = text
        .parse()
        .map_err(|error| invalid(format!("the cohort \"{}\": {error}", echoed(text))))?;
    match cohort.covers().iter().find(|cover| cover.trust_domain() != domain) {
        Some(cover) => {
            let domain = domain.as_str();
            Err(invalid(format!("{cover} is of another trust domain: name workloads of {domain}")))
        }
        None => Ok(cohort),
    }
}
