//! Retired roots that the record forgets by an operator's word.

use std::collections::BTreeSet;

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::{PruneRootsRequest, PruneRootsResponse, Root as RootMessage};
use rotation::{Event, RequestId, RootEntry};
use rotation_driver::Word;
use trust::RootId;

use crate::wire;
use crate::words::{not_submitted, refused, word};
use control::ca::Ca;
use control::roots::RootView;

/// Forgets what was named, or all that may be forgotten; with `dry_run` only says what that would be.
pub(crate) async fn prune(
    ca: &Ca,
    message: PruneRootsRequest,
    caller: &str,
) -> Result<PruneRootsResponse, Refusal> {
    let request_id = RequestId::parse(&message.request_id)
        .map_err(|error| invalid(&format!("the request id: {error}")))?;
    let word = word(&message.by, &message.reason, caller)?;
    // What cannot be taken back rests on no clock that jumped.
    let (state, now) = (ca.driver.state(), ca.believed_now()?);
    let may_go =
        |entry: &RootEntry| entry.forgettable_from(&ca.policy).is_some_and(|from| from <= now);
    let (roots, kept) = match message.roots.is_empty() {
        true => {
            let retired = || state.roots.iter().filter(|(_, entry)| entry.state.is_retired());
            let roots = retired().filter(|(_, entry)| may_go(entry)).map(|(id, _)| *id).collect();
            (roots, shown(ca, retired().filter(|(_, entry)| !may_go(entry))))
        }
        false => (named(&message.roots)?, Vec::new()),
    };
    let forgotten = shown(ca, state.roots.iter().filter(|(id, _)| roots.contains(id)));
    if message.roots.is_empty() && roots.is_empty() {
        // Nothing is asked of the record, so nothing stands in the journal.
        return Ok(PruneRootsResponse { forgotten, kept });
    }
    let event = Event::PruneRequested { request_id, roots };
    match message.dry_run {
        true => rotation::step(&state, &event, now, &ca.policy)
            .map(drop)
            .map_err(|refusal| refused(&refusal))?,
        false => submit(ca, event, word).await?,
    }
    Ok(PruneRootsResponse { forgotten, kept })
}

async fn submit(ca: &Ca, event: Event, word: Word) -> Result<(), Refusal> {
    ca.driver.submit_as(event, word).await.map(drop).map_err(|error| not_submitted(&error))
}

fn shown<'a>(
    ca: &Ca,
    roots: impl Iterator<Item = (&'a RootId, &'a RootEntry)>,
) -> Vec<RootMessage> {
    roots.map(|(id, entry)| wire::root(RootView::of(ca, id, entry))).collect()
}

fn named(ids: &[Vec<u8>]) -> Result<BTreeSet<RootId>, Refusal> {
    let ids: Option<_> = ids.iter().map(|bytes| RootId::from_bytes(bytes)).collect();
    ids.ok_or_else(|| invalid("a root is named by the 32 bytes of its SHA-256 fingerprint"))
}

fn invalid(text: &str) -> Refusal {
    Refusal::new(Reason::RequestInvalid, text)
}
