//! `banyan journal show|verify`: what happened to the roots, and the proof that it went by the rules.

use proto::banyan::admin::v1::ReadJournalRequest;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use rotation::{Event, State};
use rotation_driver::{JournalEntry, Outcome, Replayed, is_routine, replay};
use serde_json::json;
use tonic::transport::Channel;

use crate::args::{JournalAction, JournalOptions};
use crate::exit::{Failure, from_status};
use crate::{admin_client, output};

/// How often a journal that grew while it was read is read again.
const READS_MAX: usize = 5;

/// A journal with the record that it should lead to.
#[derive(Debug)]
pub struct Journal {
    /// Entries with their indexes, oldest first.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// The record.
    pub record: State,
}

/// Runs the verb.
///
/// # Errors
/// [`Failure::Failed`] if the journal does not hold, with the entry; others if the server is away or refuses.
pub async fn run(options: &JournalOptions) -> Result<(), Failure> {
    let mut client = admin_client::rotations(&options.target).await?;
    match options.action {
        JournalAction::Show { from, all } => {
            let journal = read(&mut client, from).await?;
            show(&journal, all, options.json)
        }
        JournalAction::Verify => {
            let replayed = verified(&mut client).await?;
            let Replayed { transitions, refusals, unchanged, rotations, .. } = &replayed;
            match options.json {
                true => output::json(&json!({
                    "verified": true,
                    "transitions": transitions,
                    "refusals": refusals,
                    "unchanged": unchanged,
                    "rotations": rotations,
                })),
                false => output::line(&format!(
                    "{transitions} transitions, {refusals} refusals, {unchanged} repetitions, {rotations} rotations\nthe \
                     journal leads to the record, generation {}: verified",
                    replayed.state.generation
                )),
            }
        }
    }
}

/// Reads the whole journal and replays it.
///
/// # Errors
/// [`Failure::Failed`] names the entry that does not hold.
pub async fn verified(client: &mut RotationServiceClient<Channel>) -> Result<Replayed, Failure> {
    for _ in 0..READS_MAX {
        let Journal { entries, record } = read(client, 0).await?;
        let replayed = replay(record.trust_domain.clone(), &entries)
            .map_err(|error| Failure::Failed(anyhow::anyhow!("the journal is not verified: {error}")))?;
        if replayed.state == record {
            return Ok(replayed);
        }
        // Entries that came while it was read lead beyond the record that came with them.
        if replayed.state.generation <= record.generation {
            let (found, stored) = (replayed.state.generation, record.generation);
            return Err(Failure::Failed(anyhow::anyhow!(
                "the journal is not verified: it leads to generation {found}, and the record of generation {stored} is \
                 another: stop the server, keep the data directory, and restore the latest backup"
            )));
        }
    }
    Err(Failure::Failed(anyhow::anyhow!("the record changes faster than it can be read: try again")))
}

/// Reads the journal from an entry on.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn read(client: &mut RotationServiceClient<Channel>, from: u64) -> Result<Journal, Failure> {
    let mut entries = Vec::new();
    let mut next = from;
    loop {
        let request = ReadJournalRequest { from: next, limit: 0 };
        let page = client.read_journal(request).await.map_err(|status| from_status(&status))?.into_inner();
        entries.extend(page.entries.into_iter().map(|entry| (entry.index, entry.entry)));
        if !page.more {
            let record = serde_json::from_slice(&page.record).map_err(anyhow::Error::from)?;
            return Ok(Journal { entries, record });
        }
        next = entries.last().map_or(next, |(index, _)| index.saturating_add(1));
    }
}

fn show(journal: &Journal, all: bool, json: bool) -> Result<(), Failure> {
    let mut table = output::table(&["ENTRY", "AT", "GENERATION", "EVENT", "BY", "OUTCOME"]);
    for (index, bytes) in &journal.entries {
        let entry = JournalEntry::decode(bytes).map_err(anyhow::Error::from)?;
        if !all && is_routine(&entry.event) {
            continue;
        }
        if json {
            output::json(&json!({ "index": index, "entry": entry }))?;
            continue;
        }
        table.add_row([
            index.to_string(),
            output::time(entry.at_secs),
            entry.generation.to_string(),
            entry.event.name().to_owned(),
            if entry.by.is_empty() { "the server".to_owned() } else { entry.by.clone() },
            in_words(&entry),
        ]);
    }
    if json { Ok(()) } else { output::line(&table.to_string()) }
}

fn in_words(entry: &JournalEntry) -> String {
    if let Event::ClockAccepted { by, reason, wall, expected } = &entry.event {
        return format!("the wall clock is right at {wall}, and not {expected}, says {by}: {reason}");
    }
    match &entry.outcome {
        Outcome::Changed { effects } if effects.is_empty() => "taken".to_owned(),
        Outcome::Changed { effects } => {
            let effects: Vec<_> = effects.iter().map(|effect| effect.name()).collect();
            format!("taken: {}", effects.join(", "))
        }
        Outcome::Unchanged => "done before".to_owned(),
        Outcome::Refused(refusal) => format!("refused: {}; {}", refusal.cause, refusal.legal()),
    }
}
