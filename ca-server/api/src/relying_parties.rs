//! Relying parties as operators write and read them, and the words that gates rest on. Each word is in the journal before it
//! counts.

use std::collections::BTreeSet;
use std::time::Duration;

use auth::refusal::Refusal;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, AttestRootRequest, ConfirmRelyingPartyRequest, RelyingParty,
    RemoveRelyingPartyRequest, Root,
};
use registry::{
    AttestedRow, Confirmation, FEDERATED_PARTY, NEIGHBOR_PARTY, RegistryError, RelyingPartyRow,
};
use trust::plain::span;
use trust::{Cover, Sequence, Timestamp};

use crate::words::{self, invalid};
use crate::{covers, wire};
use control::ca::Ca;
use control::roots::RootView;

/// Longest name of a relying party, in bytes.
const NAME_MAX: usize = 128;
/// Longest staleness bound.
const STALENESS_MAX: Duration = Duration::from_secs(31_536_000);

/// Adds one, or changes one that is there.
pub(crate) async fn add(
    ca: &Ca,
    message: AddRelyingPartyRequest,
    caller: &str,
) -> Result<RelyingParty, Refusal> {
    let word = words::word(&message.by, &message.reason, caller)?;
    let covers = whom(ca, &message)?;
    let name = name(message.name)?;
    let staleness = u64::try_from(message.staleness_seconds).map(Duration::from_secs);
    let staleness = staleness.ok().filter(|staleness| *staleness <= STALENESS_MAX);
    let staleness = staleness
        .ok_or_else(|| invalid(format!("a staleness bound is at most {}", span(STALENESS_MAX))))?;
    let staleness = (!staleness.is_zero()).then_some(staleness);
    let bound = staleness
        .map_or("until it confirms".to_owned(), |bound| format!("staleness {}", span(bound)));
    let whom: Vec<_> = covers.iter().flatten().map(ToString::to_string).collect();
    let detail = match covers {
        None => bound,
        Some(_) if whom.is_empty() => format!("{bound}, covers nobody"),
        Some(_) => format!("{bound}, covers {}", whom.join(", ")),
    };
    words::journal(ca, &word, "subscriber add", &name, detail).await?;
    let row =
        ca.registry.add_relying_party(name.clone(), staleness, covers, ca.clock.now()).await?;
    tracing::info!(
        relying_party = name,
        ?staleness,
        covers = row.covers.len(),
        "relying party added"
    );
    Ok(shown((name, row)))
}

/// Takes somebody's word that one has a bundle.
pub(crate) async fn confirm(
    ca: &Ca,
    message: ConfirmRelyingPartyRequest,
    caller: &str,
) -> Result<RelyingParty, Refusal> {
    let name = name(message.name)?;
    let word = words::word(&message.by, &message.reason, caller)?;
    let present = ca.driver.state().sequence;
    let sequence = if message.sequence == 0 { present } else { Sequence(message.sequence) };
    known(ca, &name)?;
    if sequence > present {
        return Err(RegistryError::BundleOfTheFuture(sequence).into());
    }
    words::journal(ca, &word, "subscriber confirm", &name, format!("bundle {sequence}")).await?;
    let by = word.by.clone();
    let word = Confirmation { sequence, by: word.by, at: ca.clock.now() };
    let confirmed = ca.registry.confirm_relying_party(name.clone(), word, present).await?;
    tracing::info!(relying_party = name, %sequence, by, "relying party confirmed");
    Ok(shown((name, confirmed)))
}

/// No gate waits for it any more.
pub(crate) async fn remove(
    ca: &Ca,
    message: RemoveRelyingPartyRequest,
    caller: &str,
) -> Result<(), Refusal> {
    let name = name(message.name)?;
    let word = words::word(&message.by, &message.reason, caller)?;
    known(ca, &name)?;
    if let Some(neighbor) = name.strip_prefix(NEIGHBOR_PARTY)
        && ca.registry.downstream_named(neighbor, true).is_ok()
    {
        return Err(invalid(format!(
            "{name} is the neighbor {neighbor}, whose token is still good: `banyan downstream remove {neighbor}` ends both"
        )));
    }
    if let Some(domain) = name.strip_prefix(FEDERATED_PARTY)
        && ca
            .registry
            .federations()
            .iter()
            .any(|(known, row)| known == domain && row.reads_within.is_some())
    {
        return Err(invalid(format!(
            "{name} is the trust domain {domain}, which reads our bundle: `banyan federation add {domain}` without --reads-ours \
             waits for it no longer, `banyan federation remove {domain}` ends the federation"
        )));
    }
    words::journal(ca, &word, "subscriber remove", &name, "").await?;
    ca.registry.remove_relying_party(name.clone()).await?;
    tracing::info!(relying_party = name, by = word.by, "relying party removed");
    Ok(())
}

/// What is not there is not written down either.
fn known(ca: &Ca, name: &str) -> Result<(), Refusal> {
    let known = ca.registry.relying_parties().iter().any(|(known, _)| known == name);
    if known { Ok(()) } else { Err(RegistryError::RelyingPartyUnknown(name.to_owned()).into()) }
}

/// Takes somebody's word that nobody else issues under a root any more.
pub(crate) async fn attest(
    ca: &Ca,
    message: AttestRootRequest,
    caller: &str,
) -> Result<Root, Refusal> {
    let (state, now) = (ca.driver.state(), ca.believed_now()?);
    let found = state.roots.iter().find(|(id, _)| id.as_bytes().as_slice() == message.root);
    let (id, entry) = found.ok_or_else(|| invalid("the record knows no such root".to_owned()))?;
    if entry.exclusive {
        let text = format!("root {} is this CA's alone: nobody's word is asked for", id.short());
        return Err(invalid(text));
    }
    if entry.state.is_retired() {
        let text = format!(
            "root {} is withdrawn already: no gate waits for it, and nobody's word is asked for",
            id.short()
        );
        return Err(invalid(text));
    }
    let authority = entry.authority.as_str();
    if ca.evidence.foreign_leaf_max(authority).is_none() {
        let text = format!(
            "the longest life of leaves that others issue is not known: write foreign_leaf_max into section \
             [authority.{authority}], restart this server, and say it again"
        );
        return Err(invalid(text));
    }
    let quiet = u64::try_from(message.quiet_seconds).map(Duration::from_secs);
    let quiet =
        quiet.map_err(|_| invalid("nobody can have been quiet since the future".to_owned()))?;
    let word = words::word(&message.by, &message.reason, caller)?;
    let since = now.minus(quiet);
    words::journal(
        ca,
        &word,
        "root vouch",
        id.to_string(),
        format!("nobody else issues since {since}"),
    )
    .await?;
    let attested = ca.registry.attest(*id, AttestedRow { since, by: word.by, at: now }).await?;
    tracing::info!(root = %id, since = %attested.since, by = attested.by, "nobody else issues under a shared root any more");
    Ok(wire::root(RootView::of(ca, id, entry)))
}

/// Takes a name of the right form.
pub(crate) fn name(name: String) -> Result<String, Refusal> {
    let fits = |char: char| char.is_ascii_alphanumeric() || "._-/".contains(char);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
        let text =
            "a relying party's name has 1 to 128 characters of letters, digits, '.', '_', '-', '/'";
        return Err(invalid(text.to_owned()));
    }
    Ok(name)
}

/// As a message.
pub(crate) fn shown((name, row): (String, RelyingPartyRow)) -> RelyingParty {
    let (confirmed, confirmed_by, confirmed_at) =
        row.confirmed.map_or((0, String::new(), 0), |word| {
            (word.sequence.0, word.by, Timestamp::as_secs(word.at))
        });
    RelyingParty {
        name,
        staleness_seconds: row
            .staleness
            .map_or(0, |bound| i64::try_from(bound.as_secs()).unwrap_or(i64::MAX)),
        confirmed,
        confirmed_by,
        confirmed_at,
        added_at: row.added.as_secs(),
        covers: row.covers.iter().map(ToString::to_string).collect(),
    }
}

/// Whom it shall cover; `None` if that is to stay.
fn whom(ca: &Ca, message: &AddRelyingPartyRequest) -> Result<Option<BTreeSet<Cover>>, Refusal> {
    match (message.covers.is_empty(), message.covers_nobody) {
        (true, nobody) => Ok(nobody.then(BTreeSet::new)),
        (false, false) => covers::read(ca, &message.covers).map(Some),
        (false, true) => {
            let text = "it covers somebody or nobody, not both: leave out one of the two";
            Err(invalid(text.to_owned()))
        }
    }
}
