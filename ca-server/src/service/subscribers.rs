//! Subscribers as operators write and read them.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::banyan::admin::v1::{AddSubscriberRequest, Subscriber};
use trust::{SpiffeId, Timestamp};

use super::rotation::invalid;
use crate::ca::Ca;
use crate::refusal::{Refusal, echoed};
use crate::registry::SubscriberRow;

/// Longest name of a subscriber, in bytes.
const NAME_MAX: usize = 128;
/// Longest staleness bound.
const STALENESS_MAX: Duration = Duration::from_secs(31_536_000);
/// Identities that one subscriber covers at most.
const COVERS_MAX: usize = 256;

/// Adds one, or changes one that is there.
pub(super) async fn add(ca: &Ca, message: AddSubscriberRequest) -> Result<Subscriber, Refusal> {
    let name = name(message.name)?;
    let staleness = u64::try_from(message.staleness_seconds).map(Duration::from_secs);
    let staleness = staleness.ok().filter(|staleness| *staleness <= STALENESS_MAX);
    let staleness =
        staleness.ok_or_else(|| invalid("a staleness bound has 0 to 31536000 seconds".to_owned()))?;
    let staleness = (!staleness.is_zero()).then_some(staleness);
    let covers = covers(ca, &message.covers)?;
    let row = ca.registry.add_subscriber(name.clone(), staleness, covers, ca.clock.now()).await?;
    tracing::info!(subscriber = name, ?staleness, covers = row.covers.len(), "subscriber added");
    Ok(shown((name, row)))
}

/// Takes a name of the right form.
pub(super) fn name(name: String) -> Result<String, Refusal> {
    let fits = |char: char| char.is_ascii_alphanumeric() || "._-/".contains(char);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
        let text = "a subscriber's name has 1 to 128 characters of letters, digits, '.', '_', '-', '/'";
        return Err(invalid(text.to_owned()));
    }
    Ok(name)
}

/// As a message.
pub(super) fn shown((name, row): (String, SubscriberRow)) -> Subscriber {
    let (confirmed, confirmed_by, confirmed_at) = row
        .confirmed
        .map_or((0, String::new(), 0), |word| (word.sequence.0, word.by, Timestamp::as_secs(word.at)));
    Subscriber {
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

fn covers(ca: &Ca, texts: &[String]) -> Result<BTreeSet<SpiffeId>, Refusal> {
    if texts.len() > COVERS_MAX {
        return Err(invalid(format!(
            "a subscriber covers at most {COVERS_MAX} identities: add a second one"
        )));
    }
    let one = |text: &String| {
        let id = SpiffeId::parse(text)
            .map_err(|error| invalid(format!("\"{}\" is no SPIFFE id: {error}", echoed(text))))?;
        match id.trust_domain() == ca.id.trust_domain() {
            true => Ok(id),
            false => {
                Err(invalid(format!("{id} is of another trust domain than this CA: it covers nobody here")))
            }
        }
    };
    texts.iter().map(one).collect()
}
