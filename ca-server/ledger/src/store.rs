//! The rows in little room.
//!
//! A million rows are usual, so a row has a slot of fixed size in a slab, found by its serial through a table of slot numbers:
//! a table of whole rows would be half empty. What many rows have in common is kept once: identity, agent, root, issuer, birth and
//! kind as the first of them, and what is known of them in a pool. Rows come out as [`LiveRow`]s made on the spot.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use trust::{CertificateId, Serial, SpkiHash, Timestamp};

use crate::pool::Pool;
use crate::row::{Applied, Ended, Evidence, Forgotten, LiveRow, Probe, Row};

/// Slots are made so many at a time: growing moves none.
const CHUNK: usize = 1 << 12;

/// Where a row is. It stays there until it is removed; then the number is another's.
pub(crate) type Number = u32;

/// Rows by serial.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    slots: Vec<Vec<Option<Slot>>>,
    /// Slots that are free again.
    free: Vec<Number>,
    by_serial: HashTable<Number>,
    hasher: RandomState,
    /// What rows have in common.
    common: Pool<Common>,
    /// What is known of rows.
    known: Pool<Known>,
    /// The few rows that an operator said something of.
    said: BTreeSet<Number>,
    /// Slots that were looked at.
    #[cfg(test)]
    pub(crate) looked_at: std::cell::Cell<u64>,
}

/// What is a row's own.
#[derive(Debug)]
struct Slot {
    serial: Serial,
    spki: SpkiHash,
    not_after: Timestamp,
    /// The number in its pool of what it has in common with others.
    common: u32,
    /// Of the signed certificate, if it is known.
    certificate: [u8; 32],
    /// When the newest piece of evidence came.
    at: Timestamp,
    /// Its number in the pool.
    known: u32,
}

/// What is known of a row, but for what is its own. Few differ at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    applied: Applied,
    probe: Probe,
    ended: Option<Ended>,
    forgotten: Forgotten,
    is_issued: bool,
}

/// A row that stands for all that differ from it in serial, key and end only.
#[derive(Clone, Debug)]
struct Common(Arc<Row>);

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.by_serial.len()
    }

    pub(crate) fn contains(&self, serial: &Serial) -> bool {
        self.number_of(serial).is_some()
    }

    /// A row, and where it is.
    pub(crate) fn find(&self, serial: &Serial) -> Option<(Number, LiveRow)> {
        let number = self.number_of(serial)?;
        self.at(number).map(|live| (number, live))
    }

    /// The row that is there.
    pub(crate) fn at(&self, number: Number) -> Option<LiveRow> {
        self.slot(number).and_then(|slot| self.live(slot))
    }

    /// The rows that an operator said something of.
    pub(crate) fn forgotten(&self) -> impl Iterator<Item = LiveRow> {
        self.said.iter().filter_map(|number| self.at(*number))
    }

    /// Serial and end of the row that is there.
    pub(crate) fn end_of(&self, number: Number) -> Option<(Serial, Timestamp)> {
        self.slot(number).map(|slot| (slot.serial, slot.not_after))
    }

    /// When a row's leaf ends.
    pub(crate) fn not_after(&self, serial: &Serial) -> Option<Timestamp> {
        self.slot(self.number_of(serial)?).map(|slot| slot.not_after)
    }

    /// Puts a row in whose serial is not there yet; answers where.
    pub(crate) fn insert(&mut self, live: &LiveRow) -> Number {
        let slot = Slot {
            serial: live.row.serial,
            spki: live.row.spki,
            not_after: live.row.not_after,
            common: self.common.take(Common(Arc::clone(&live.row))),
            certificate: bytes(live.certificate),
            at: live.evidence.at,
            known: self.known.take(Known::of(live)),
        };
        let number = self.free.pop().unwrap_or_else(|| self.next_number());
        let (hash, Self { by_serial, slots, hasher, .. }) =
            (self.hasher.hash_one(slot.serial), self);
        if let Some(place) = place(slots, number) {
            *place = Some(slot);
        }
        by_serial.insert_unique(hash, number, |number| hash_of(slots, hasher, *number));
        number
    }

    /// Notes what is known of a row by now.
    pub(crate) fn update(&mut self, number: Number, live: &LiveRow) {
        let Some(Some(slot)) = place(&mut self.slots, number) else { return };
        let known = self.known.take(Known::of(live));
        self.known.give_back(slot.known);
        (slot.certificate, slot.at, slot.known) =
            (bytes(live.certificate), live.evidence.at, known);
        if live.forgotten != Forgotten::default() {
            self.said.insert(number);
        }
    }

    /// Takes a row out; answers where it was.
    pub(crate) fn remove(&mut self, serial: &Serial) -> Option<(Number, LiveRow)> {
        let (hash, slots) = (self.hasher.hash_one(serial), &self.slots);
        let is_it = |number: &u32| look(slots, *number).is_some_and(|slot| slot.serial == *serial);
        let (number, _) = self.by_serial.find_entry(hash, is_it).ok()?.remove();
        let slot = place(&mut self.slots, number)?.take()?;
        let live = self.live(&slot)?;
        self.free.push(number);
        self.said.remove(&number);
        self.known.give_back(slot.known);
        self.common.give_back(slot.common);
        Some((number, live))
    }

    /// All rows, each with where it is.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (Number, LiveRow)> {
        let slots = self.slots.iter().flatten().enumerate();
        slots
            .filter_map(|(at, slot)| Some((Number::try_from(at).ok()?, self.live(slot.as_ref()?)?)))
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = LiveRow> {
        self.slots.iter().flatten().flatten().filter_map(|slot| self.live(slot))
    }

    /// Where a row is.
    pub(crate) fn number_of(&self, serial: &Serial) -> Option<Number> {
        let is_it = |number: &u32| self.slot(*number).is_some_and(|slot| slot.serial == *serial);
        self.by_serial.find(self.hasher.hash_one(serial), is_it).copied()
    }

    /// `None` is never: a slot has its places in the pools for as long as it is taken.
    fn live(&self, slot: &Slot) -> Option<LiveRow> {
        let Slot { serial, spki, not_after, common, certificate, at, known } = slot;
        let (Common(row), known) = (self.common.get(*common)?, *self.known.get(*known)?);
        let row = Row { serial: *serial, spki: *spki, not_after: *not_after, ..Row::clone(row) };
        let certificate = CertificateId::from_bytes(certificate).filter(|_| known.is_issued);
        let evidence = Evidence { applied: known.applied, at: *at, probe: known.probe };
        let (row, Known { ended, forgotten, .. }) = (Arc::new(row), known);
        Some(LiveRow { row, certificate, evidence, ended, forgotten })
    }

    fn slot(&self, number: Number) -> Option<&Slot> {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
        look(&self.slots, number)
    }

    /// Makes a place for one more. Four thousand million rows would fill another machine first.
    fn next_number(&mut self) -> u32 {
        if self.slots.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.slots.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.slots.len() - 1) * CHUNK;
        let number = self.slots.last_mut().map_or(0, |chunk| {
            chunk.push(None);
            full + chunk.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

fn look(slots: &[Vec<Option<Slot>>], number: u32) -> Option<&Slot> {
    let number = usize::try_from(number).ok()?;
    slots.get(number / CHUNK)?.get(number % CHUNK)?.as_ref()
}

fn place(slots: &mut [Vec<Option<Slot>>], number: u32) -> Option<&mut Option<Slot>> {
    let number = usize::try_from(number).ok()?;
    slots.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
}

fn hash_of(slots: &[Vec<Option<Slot>>], hasher: &RandomState, number: u32) -> u64 {
    look(slots, number).map_or(0, |slot| hasher.hash_one(slot.serial))
}

fn bytes(certificate: Option<CertificateId>) -> [u8; 32] {
    certificate.map_or([0; 32], |certificate| *certificate.as_bytes())
}

impl Known {
    fn of(live: &LiveRow) -> Self {
        let LiveRow { row: _, certificate, evidence, ended, forgotten } = live;
        let Evidence { applied, at: _, probe } = *evidence;
        let is_issued = certificate.is_some();
        Self { applied, probe, ended: *ended, forgotten: *forgotten, is_issued }
    }
}

impl PartialEq for Common {
    fn eq(&self, other: &Self) -> bool {
        let Row {
            serial: _,
            spki: _,
            not_after: _,
            identity,
            agent,
            root,
            issuer,
            born,
            kind,
            word,
        } = &*self.0;
        let theirs = &*other.0;
        (identity, agent, root) == (&theirs.identity, &theirs.agent, &theirs.root)
            && (issuer, born, kind, word)
                == (&theirs.issuer, &theirs.born, &theirs.kind, &theirs.word)
    }
}

impl Eq for Common {}

impl Hash for Common {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.identity, &self.0.agent, &self.0.root, self.0.born).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Change;
    use crate::testing::{applied, certificate, row, serial};

    #[test]
    fn slots_are_used_again_and_what_is_common_goes_with_the_last_that_has_it() {
        let mut rows = Rows::default();
        let live = |number| LiveRow::new(Arc::new(row(number)));
        for number in 0..10_000 {
            rows.insert(&live(number));
        }
        assert_eq!((rows.common.len(), rows.slots.len()), (1, 3));
        for number in (0..10_000).step_by(2) {
            assert_eq!(rows.remove(&serial(number)).unwrap().1, live(number));
        }
        assert_eq!(rows.remove(&serial(0)), None);
        for number in 10_000..15_000 {
            rows.insert(&LiveRow::new(Arc::new(Row { agent: None, ..row(number) })));
        }
        assert_eq!((rows.len(), rows.common.len(), rows.slots.len()), (10_000, 2, 3));
        assert_eq!(rows.find(&serial(1)).unwrap().1, live(1));
        assert_eq!(rows.find(&serial(14_999)).unwrap().1.row.agent, None);
        assert_eq!(rows.iter().count(), 10_000);
        for number in (1..10_000).step_by(2) {
            rows.remove(&serial(number)).unwrap();
        }
        assert_eq!((rows.common.len(), rows.known.len()), (1, 1));
    }

    #[test]
    fn what_is_known_of_a_row_comes_out_as_it_went_in() {
        let mut rows = Rows::default();
        let mut live = LiveRow::new(Arc::new(row(1)));
        let number = rows.insert(&live);
        let changes = [
            Change { certificate: Some(certificate(7)), ..Change::default() },
            Change::proven(applied(4)),
            Change::ended(Ended::Superseded { by: serial(2) }),
        ];
        for change in changes {
            live.join(change);
            rows.update(number, &live);
            assert_eq!(rows.at(number).as_ref(), Some(&live));
        }
        assert_eq!(rows.known.len(), 1);
    }

    #[test]
    fn a_row_has_little_room() {
        assert!(size_of::<Option<Slot>>() <= 112, "{}", size_of::<Option<Slot>>());
    }
}
