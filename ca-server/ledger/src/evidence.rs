//! What happens to a row after it is durable.
//!
//! None of these waits for the disk: what is lost in a crash is lost evidence, which only makes gates open later. Each
//! waits for room when the queue is full.

use trust::{CertificateId, Serial, Timestamp};

use crate::error::{EvidenceError, LedgerError};
use crate::index::Index;
use crate::intent::Job;
use crate::ledger::Ledger;
use crate::record::Record;
use crate::row::{Change, Ended, EvidenceClass, LiveRow, Probed, Proof};

/// Who speaks about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness<'a> {
    /// An agent, by its name. It is heard about its own rows only.
    Agent(&'a str),
    /// This server, about what it saw itself.
    Server,
}

/// Whether a report said anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It did, and will be written.
    New,
    /// All of it was known.
    Known,
}

impl Ledger {
    /// The leaf of a durable intent was signed and verified. For a row of the kind
    /// [`CsrOnly`](crate::RowKind::CsrOnly) this is also the evidence that the bundle it was born under is delivered with it.
    ///
    /// # Errors
    /// [`LedgerError`]: the row is durable and counts, but the audit cannot be continued.
    pub async fn issued(
        &self,
        serial: Serial,
        certificate: CertificateId,
    ) -> Result<(), LedgerError> {
        let decide = |index: &Index| {
            index.not_after(&serial).ok_or(EvidenceError::UnknownRow(serial))?;
            Ok(Change { certificate: Some(certificate), ..Change::default() })
        };
        match self.change(serial, Record::Issued { serial, certificate }, decide).await {
            Err(EvidenceError::Ledger(error)) => Err(error),
            // A row that expired meanwhile needs no certificate.
            _ => Ok(()),
        }
    }

    /// The holder of a leaf is known to trust the bundle of a sequence. Never takes anything back: an older sequence
    /// is `Known`.
    ///
    /// # Errors
    /// [`EvidenceError`] for rows that are not there, not this agent's, or have ended; nothing changes then.
    pub async fn ack(
        &self,
        by: Witness<'_>,
        serial: Serial,
        proof: Proof,
    ) -> Result<Reported, EvidenceError> {
        match self.acked(by, serial, proof).await {
            // Whoever speaks of a leaf that nobody was to hold shows that it is held.
            Err(EvidenceError::Forgotten(_)) => {
                self.held(by, serial)?;
                self.acked(by, serial, proof).await
            }
            other => other,
        }
    }

    async fn acked(
        &self,
        by: Witness<'_>,
        serial: Serial,
        proof: Proof,
    ) -> Result<Reported, EvidenceError> {
        let decide = |index: &Index| {
            let live = by.about(index, serial)?;
            let known = live.evidence.applied.by(proof.class) >= proof.applied;
            Ok(if known { Change::default() } else { Change::proven(proof) })
        };
        self.change(serial, Record::Acked { serial, proof }, decide).await
    }

    /// What an agent saw at the listeners of a leaf's holders. That they verify the next root is evidence, and is kept as such; the
    /// rest the agent says again at its next connect, so it is in memory alone.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn probed(
        &self,
        by: Witness<'_>,
        serial: Serial,
        seen: Probed,
        at: Timestamp,
    ) -> Result<Reported, EvidenceError> {
        if let Probed::Observed(applied) = seen {
            let proof = Proof { applied, class: EvidenceClass::HandshakeObserved, at };
            return self.ack(by, serial, proof).await;
        }
        let mut index = self.shared.index();
        by.about(&index, serial)?;
        let news = index.join(&serial, Change::probed(seen, at));
        Ok(if news { Reported::New } else { Reported::Known })
    }

    /// The holder gave its leaf up, or was seen to exit: the row holds no gate any more.
    ///
    /// # Errors
    /// As [`ack`](Self::ack); a row that was released before is `Known`.
    pub async fn release(
        &self,
        by: Witness<'_>,
        serial: Serial,
    ) -> Result<Reported, EvidenceError> {
        let decide = |index: &Index| match by.about(index, serial) {
            Err(EvidenceError::Ended(_)) => Ok(Change::default()),
            // So it is gone in fact.
            Err(EvidenceError::Forgotten(_)) => Ok(Change::ended(Ended::Released)),
            Err(error) => Err(error),
            Ok(_) => Ok(Change::ended(Ended::Released)),
        };
        self.change(serial, Record::Released { serial }, decide).await
    }

    /// Applies what `decide` finds, then queues the record. The index leads and the file follows, so that a compaction
    /// that reads the index misses nothing that is in a file.
    async fn change(
        &self,
        serial: Serial,
        record: Record,
        decide: impl FnOnce(&Index) -> Result<Change, EvidenceError>,
    ) -> Result<Reported, EvidenceError> {
        let permit = self.reserve().await?;
        let not_after = {
            let mut index = self.shared.index();
            let change = decide(&index)?;
            if !index.join(&serial, change) {
                return Ok(Reported::Known);
            }
            index.not_after(&serial)
        };
        permit.send(Job::Later { entry: self.shared.entry(record), not_after });
        Ok(Reported::New)
    }
}

impl Witness<'_> {
    /// The row, if this witness is heard about it and it has not ended.
    pub(crate) fn about(self, index: &Index, serial: Serial) -> Result<LiveRow, EvidenceError> {
        let live = self.heard_about(index, serial)?;
        match live.forgotten.stands() {
            true => Err(EvidenceError::Forgotten(serial)),
            false => Ok(live),
        }
    }

    /// As [`about`](Self::about), of a row that may be forgotten.
    pub(crate) fn heard_about(
        self,
        index: &Index,
        serial: Serial,
    ) -> Result<LiveRow, EvidenceError> {
        let live = index.get(&serial).ok_or(EvidenceError::UnknownRow(serial))?;
        if let Self::Agent(agent) = self
            && live.row.agent.as_deref() != Some(agent)
        {
            return Err(EvidenceError::NotYours { serial, agent: agent.to_owned() });
        }
        if live.ended.is_none() { Ok(live) } else { Err(EvidenceError::Ended(serial)) }
    }
}
