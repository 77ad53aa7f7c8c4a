//! An operator's word that nobody holds a leaf: the row holds no gate from then on. It is an override by name, and the
//! ledger does not forget the truth over it: whoever shows that the leaf is held after all makes the row count again.

use trust::Serial;

use tokio::sync::oneshot;

use crate::error::{EvidenceError, LedgerError};
use crate::evidence::{Reported, Witness};
use crate::intent::Job;
use crate::ledger::Ledger;
use crate::record::Record;
use crate::row::{Change, Forgotten, LiveRow};

/// Rows in one write at most.
const FORGET_MAX: usize = 512;

impl Ledger {
    /// Lets rows count no more, because somebody said by name that nobody holds their leaves. It is durable when this
    /// returns; answers with those that counted before. Who said so and why is for the caller to keep.
    ///
    /// # Errors
    /// [`LedgerError`]: rows that are not durable as forgotten count again.
    pub async fn forget_leaves(&self, serials: &[Serial]) -> Result<Vec<Serial>, LedgerError> {
        let mut forgotten = Vec::new();
        for chunk in serials.chunks(FORGET_MAX) {
            let permit = self.reserve().await?;
            // The index leads and the file follows, as for all that is said of rows.
            let turned = self.turn(chunk, LiveRow::counts);
            if turned.is_empty() {
                continue;
            }
            let record = |(serial, forgotten): &(Serial, Forgotten)| {
                self.shared.entry(Record::Turned { serial: *serial, forgotten: *forgotten })
            };
            let (done, durable) = oneshot::channel();
            permit.send(Job::Carried { entries: turned.iter().map(record).collect(), done });
            let serials: Vec<_> = turned.into_iter().map(|(serial, _)| serial).collect();
            if let Err(error) = durable.await.unwrap_or(Err(LedgerError::Closed)) {
                self.turn(&serials, |live| live.forgotten.stands());
                return Err(error);
            }
            forgotten.extend(serials);
        }
        Ok(forgotten)
    }

    /// Its holder showed that it has a leaf that nobody was to hold any more: the row counts again. Does not wait for the
    /// disk: what is lost in a crash is shown again, for holders repeat themselves.
    ///
    /// # Errors
    /// [`EvidenceError`] for rows that are not there, not this agent's, or have ended.
    pub fn held(&self, by: Witness<'_>, serial: Serial) -> Result<Reported, EvidenceError> {
        by.heard_about(&self.shared.index(), serial)?;
        let turned = self.turn(&[serial], |live| live.forgotten.stands());
        let Some((_, forgotten)) = turned.first().copied() else { return Ok(Reported::Known) };
        if !self.try_write(Record::Turned { serial, forgotten }).unwrap_or(false) {
            self.shared.counters.lost(1);
        }
        Ok(Reported::New)
    }

    /// The rows that an operator called gone, whether they count again or not; none that has ended otherwise. Few: each was
    /// named by a person.
    #[must_use]
    pub fn forgotten(&self) -> Vec<LiveRow> {
        self.shared.index().forgotten().filter(|live| live.ended.is_none()).collect()
    }

    /// Takes those rows to their next turn that are as wanted.
    fn turn(
        &self,
        serials: &[Serial],
        wanted: impl Fn(&LiveRow) -> bool,
    ) -> Vec<(Serial, Forgotten)> {
        let mut index = self.shared.index();
        let mut turned = Vec::new();
        for serial in serials {
            let live = index.get(serial).filter(|live| wanted(live));
            let Some(next) = live.and_then(|live| live.forgotten.next()) else { continue };
            index.join(serial, Change::turned(next));
            turned.push((*serial, next));
        }
        turned
    }
}
