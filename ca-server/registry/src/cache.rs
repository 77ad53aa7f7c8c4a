//! What is known of the shared store: rows, the writing that each comes from, and rows that cannot be read.
//!
//! Versions cannot be compared, so nobody can tell which of two answers of the store is newer. Whoever reads or writes a key
//! therefore says so before it asks, and takes its answer over only if nobody took over another one of that key meanwhile;
//! otherwise it looks again.

use std::collections::{BTreeMap, HashMap, HashSet};

use stores::{Entry, Key, Version, Versioned};
use trust::Timestamp;

use crate::ban_row::Ban;
use crate::error::RegistryError;
use crate::row::{Kind, Row};
use crate::rows::{BanRow, RelyingPartyRow};
use crate::tables::Tables;

/// Rows that cannot be read which are named; of more only the number is told.
const NAMED_MAX: usize = 5;

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) tables: Tables,
    kinds: BTreeMap<Kind, Known>,
    last_reading: u64,
}

/// What is known of the keys of one space.
#[derive(Debug, Default)]
struct Known {
    versions: HashMap<String, Version>,
    /// What is wrong with the rows that cannot be read.
    unreadable: BTreeMap<String, String>,
    /// Calls to the store that are under way, each with the keys that others took over since it began.
    readings: HashMap<u64, HashSet<String>>,
    /// Why the last look failed.
    behind: Option<String>,
}

/// A write of one row.
#[derive(Debug)]
pub(crate) struct Write {
    row: Row,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It must be done, if it changes anything.
    Must,
    /// It must be done also if it changes nothing: what was read of this row decides.
    Confirm,
    /// What fails of it is done another time.
    Spare,
}

/// A write with the version that it was decided on.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) row: Row,
    pub(crate) key: Key,
    pub(crate) expected: Option<Version>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) is_spare: bool,
}

/// A call to the store that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    number: u64,
}

impl Write {
    pub(crate) const fn of(row: Row) -> Self {
        Self { row, how: How::Must }
    }

    /// Also if the row stays as it is: so whoever decides on what is in it learns whether it is still so.
    pub(crate) const fn confirming(row: Row) -> Self {
        Self { row, how: How::Confirm }
    }

    /// That may fail.
    pub(crate) const fn spare(row: Row) -> Self {
        Self { row, how: How::Spare }
    }
}

impl Cache {
    /// The writes that are needed, in their order, each with what it replaces.
    pub(crate) fn planned(&self, writes: Vec<Write>) -> Result<Vec<Planned>, RegistryError> {
        let mut planned = Vec::new();
        for Write { row, how } in writes {
            let (kind, id) = (row.kind(), row.id());
            let key = kind.key(&id)?;
            let value = row.value(&key)?;
            let expected = self.version(kind, &id).cloned();
            let known = self.tables.has(&row) && !self.is_unreadable(kind, &id);
            let needed = how == How::Confirm || !known;
            if needed && (value.is_some() || expected.is_some()) {
                let is_spare = how == How::Spare;
                planned.push(Planned { row, key, expected, value, is_spare });
            }
        }
        Ok(planned)
    }

    /// Notes that the store is about to be asked.
    pub(crate) fn begin(&mut self, kind: Kind) -> Reading {
        self.last_reading += 1;
        let number = self.last_reading;
        self.known(kind).readings.insert(number, HashSet::new());
        Reading { kind, number }
    }

    /// Notes that the call is over, however it ended.
    pub(crate) fn end(&mut self, reading: Reading) {
        self.known(reading.kind).readings.remove(&reading.number);
    }

    /// Takes over that a row was written, unless another answer was taken over meanwhile. The agents to be judged again.
    pub(crate) fn written(
        &mut self,
        reading: Reading,
        row: Row,
        version: Option<Version>,
    ) -> Option<Vec<String>> {
        let id = row.id();
        if self.is_overtaken(reading, &id) {
            return None;
        }
        Some(self.put(reading, Found { id, row: Ok(row), version }))
    }

    /// Takes over what was read at a key, unless another answer was meanwhile.
    pub(crate) fn read(
        &mut self,
        reading: Reading,
        id: &str,
        found: Option<&Versioned>,
    ) -> Option<Vec<String>> {
        if self.is_overtaken(reading, id) {
            return None;
        }
        let version = found.map(|found| found.version.clone());
        if version.is_some() && self.version(reading.kind, id) == version.as_ref() {
            return Some(Vec::new());
        }
        let row = match found {
            Some(found) => reading.kind.decode(id, &found.value),
            None => reading.kind.gone(id),
        };
        Some(self.put(reading, Found { id: id.to_owned(), row, version }))
    }

    /// Those entries of a page that are new here.
    pub(crate) fn unknown<'e>(&self, kind: Kind, entries: &'e [Entry]) -> Vec<&'e Entry> {
        let new = |entry: &&Entry| self.version(kind, &entry.id) != Some(&entry.version);
        entries.iter().filter(new).collect()
    }

    /// Takes over entries that were listed and decoded.
    pub(crate) fn listed(&mut self, reading: Reading, rows: Vec<Found>) -> Vec<String> {
        let mut judged = Vec::new();
        for found in rows {
            if !self.is_overtaken(reading, &found.id) {
                judged.extend(self.put(reading, found));
            }
        }
        judged
    }

    /// Takes over that no other keys than these are in a space that was listed to its end. The keys of which another answer was
    /// taken over meanwhile are added.
    pub(crate) fn only(
        &mut self,
        reading: Reading,
        seen: &HashSet<String>,
    ) -> (Vec<String>, HashSet<String>) {
        let known = self.known(reading.kind);
        let gone: Vec<_> =
            known.versions.keys().filter(|id| !seen.contains(*id)).cloned().collect();
        let overtaken = known.readings.get(&reading.number).cloned().unwrap_or_default();
        let rows = gone.into_iter().map(|id| {
            let row = reading.kind.gone(&id);
            Found { id, row, version: None }
        });
        (self.listed(reading, rows.collect()), overtaken)
    }

    /// How the last look at a space ended.
    pub(crate) fn looked(&mut self, kind: Kind, failed: Option<String>) {
        self.known(kind).behind = failed;
    }

    /// Why what is known may be old.
    pub(crate) fn behind(&self) -> Option<String> {
        self.kinds.values().find_map(|known| known.behind.clone())
    }

    /// Whether what is stored under a key cannot be read.
    pub(crate) fn is_unreadable(&self, kind: Kind, id: &str) -> bool {
        self.kinds.get(&kind).is_some_and(|known| known.unreadable.contains_key(id))
    }

    /// The first row of a kind that cannot be read.
    pub(crate) fn first_unreadable(&self, kind: Kind) -> Option<String> {
        let (id, reason) = self.kinds.get(&kind)?.unreadable.first_key_value()?;
        Some(format!("{}/{id}: {reason}", kind.space().name()))
    }

    /// What is said of rows that cannot be read: what follows from it, and what to do.
    pub(crate) fn unreadable(&self) -> Vec<String> {
        let all: Vec<_> = self
            .kinds
            .iter()
            .flat_map(|(kind, known)| known.unreadable.iter().map(move |row| (*kind, row)))
            .collect();
        let said = |(kind, (id, reason)): &(Kind, (&String, &String))| {
            let (space, meanwhile) = (kind.space().name(), meanwhile(*kind));
            format!(
                "the row {space}/{id} of the shared store cannot be read ({reason}); {meanwhile}"
            )
        };
        let mut said: Vec<_> = all.iter().take(NAMED_MAX).map(said).collect();
        if let more @ 1.. = all.len().saturating_sub(NAMED_MAX) {
            said.push(format!("{more} further rows of the shared store cannot be read"));
        }
        said
    }

    fn put(&mut self, reading: Reading, Found { id, row, version }: Found) -> Vec<String> {
        let known = self.known(reading.kind);
        for (number, touched) in &mut known.readings {
            if *number != reading.number {
                touched.insert(id.clone());
            }
        }
        match version {
            Some(version) => drop(known.versions.insert(id.clone(), version)),
            None => drop(known.versions.remove(&id)),
        }
        let row = match row {
            Ok(row) => {
                known.unreadable.remove(&id);
                Some(row)
            }
            Err(reason) => {
                known.unreadable.insert(id.clone(), reason);
                instead(reading.kind, &id)
            }
        };
        row.map(|row| self.tables.put(row)).unwrap_or_default()
    }

    fn is_overtaken(&self, reading: Reading, id: &str) -> bool {
        let readings = self.kinds.get(&reading.kind).map(|known| &known.readings);
        let touched = readings.and_then(|readings| readings.get(&reading.number));
        touched.is_none_or(|touched| touched.contains(id))
    }

    fn version(&self, kind: Kind, id: &str) -> Option<&Version> {
        self.kinds.get(&kind)?.versions.get(id)
    }

    fn known(&mut self, kind: Kind) -> &mut Known {
        self.kinds.entry(kind).or_default()
    }
}

/// What was found under a key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) row: Result<Row, String>,
    pub(crate) version: Option<Version>,
}

/// What counts in the place of a row that cannot be read: whoever it is about is refused or waited for, and not let in.
fn instead(kind: Kind, id: &str) -> Option<Row> {
    match kind {
        // Who is banned its key says.
        Kind::Bans => {
            let reason = "the row of the ban cannot be read".to_owned();
            let word = BanRow { by: String::new(), reason, at: Timestamp::default() };
            Some(Row::Ban(id.to_owned(), Some(Ban::for_good(word))))
        }
        Kind::RelyingParties => {
            let row = RelyingPartyRow {
                staleness: None,
                added: Timestamp::default(),
                confirmed: None,
                covers: Default::default(),
            };
            Some(Row::RelyingParty(id.to_owned(), Some(row)))
        }
        // Gates go on with the row that was there; a start without one is refused.
        Kind::Downstreams => None,
        // Its last good bundle is served on; a start without one tells nobody of any (`federations.rs`).
        Kind::Federations => None,
        Kind::Attested
        | Kind::Waivers
        | Kind::Tokens
        | Kind::Agents
        | Kind::Acts
        | Kind::Served => kind.gone(id).ok(),
    }
}

const fn meanwhile(kind: Kind) -> &'static str {
    match kind {
        Kind::Bans => {
            "whom its key names counts as banned meanwhile; `banyan ban add` or `banyan ban remove` writes it anew"
        }
        Kind::Downstreams => {
            "the row that was there before counts meanwhile, and the next start is refused; `banyan downstream remove` removes it"
        }
        Kind::RelyingParties => {
            "gates wait for it meanwhile; `banyan relying-party add` writes it anew"
        }
        Kind::Attested => "gates wait as if nobody had said anything; repeat `banyan root attest`",
        Kind::Waivers => "gates wait as if it were not there; `banyan waiver add` writes it anew",
        Kind::Federations => {
            "the bundles of other trust domains stay as they were; `banyan federation add` writes it anew"
        }
        Kind::Tokens => "nobody can join with it; make a new one with `banyan token create`",
        Kind::Agents => "this agent is refused; one that joined with a join token needs a new one",
        Kind::Acts => "`banyan agent list --acts` omits it",
        Kind::Served => "it is written anew within minutes",
    }
}

impl std::ops::Deref for Cache {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}
