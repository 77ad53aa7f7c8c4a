//! What agents said here of leaves that this server did not issue: kept while they are connected, so that it can be said again to
//! a server that starts anew. Nobody knows of a serial number alone whose it is, so every server hears all of it once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::EvidenceClass;
use tokio::sync::watch;
use trust::{Clock, Serial};

use super::calls::{Statement, Word};
use super::counters::PeerCounters;

/// Statements of all agents that are kept. More are not: an agent says everything again when it connects the next time.
const KEPT_MAX: usize = 256 * 1024;
/// Statements of one agent that are kept; its oldest make room.
const KEPT_OF_AGENT_MAX: usize = 4 * 1024;

/// The statements that are kept.
#[derive(Debug)]
pub struct Outbox {
    table: Mutex<Table>,
    newest: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    counters: PeerCounters,
}

/// What is said in one place: an agent's stream, while it is open.
#[derive(Debug)]
pub struct Voice {
    outbox: Arc<Outbox>,
    agent: Arc<str>,
    number: u64,
}

#[derive(Debug, Default)]
struct Table {
    /// By the order in which they came: a server was told up to some number.
    kept: BTreeMap<u64, Kept>,
    agents: HashMap<Arc<str>, OfAgent>,
    last: u64,
    last_voice: u64,
}

#[derive(Debug, Default)]
struct OfAgent {
    numbers: BTreeSet<u64>,
    places: HashMap<(Serial, About), u64>,
}

/// What is said anew in the place of what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum About {
    Applied(EvidenceClass),
    Released,
}

#[derive(Debug)]
struct Kept {
    agent: Arc<str>,
    serial: Serial,
    word: Word,
    voice: u64,
    at: Duration,
}

impl Outbox {
    pub(super) fn new(clock: Arc<dyn Clock>, counters: PeerCounters) -> Self {
        Self { table: Mutex::default(), newest: watch::channel(0).0, clock, counters }
    }

    /// What an agent says on one stream, from now on.
    pub(super) fn voice(self: &Arc<Self>, agent: &str) -> Voice {
        let number = {
            let mut table = self.table();
            table.last_voice += 1;
            table.last_voice
        };
        Voice { outbox: Arc::clone(self), agent: agent.into(), number }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when something was said.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// What was said after this number, oldest first, each with its number.
    pub(super) fn after(&self, told: u64, limit: usize) -> Vec<(u64, Statement)> {
        let table = self.table();
        let later = table.kept.range(told.saturating_add(1)..).take(limit);
        let statement = |kept: &Kept| Statement {
            agent: kept.agent.as_ref().to_owned(),
            serial: kept.serial,
            word: kept.word,
        };
        later.map(|(number, kept)| (*number, statement(kept))).collect()
    }

    /// Drops releases of these leaves: their server has heard of them, and no agent speaks of them again.
    pub(super) fn settled(&self, statements: &[Statement], ours: &BTreeSet<Serial>) {
        let mut table = self.table();
        for told in statements.iter().filter(|told| ours.contains(&told.serial)) {
            if told.word == Word::Released {
                table.drop_place(&told.agent, (told.serial, About::Released));
            }
        }
    }

    /// Drops releases that are older than any leaf they can be about.
    pub(super) fn expire(&self, uptime: Duration, longest: Duration) {
        let mut table = self.table();
        let old =
            |kept: &Kept| kept.word == Word::Released && uptime.saturating_sub(kept.at) > longest;
        let over: Vec<_> =
            table.kept.iter().filter(|(_, kept)| old(kept)).map(|(number, _)| *number).collect();
        over.into_iter().for_each(|number| table.drop_number(number));
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.table().kept.len()
    }

    fn say(&self, kept: Kept) {
        let said = self.table().say(kept);
        match said {
            Said::Anew(number) => _ = self.newest.send_replace(number),
            Said::Again => {}
            Said::Instead(number) => {
                self.counters.forgot();
                self.newest.send_replace(number);
            }
            Said::TooMany => self.counters.forgot(),
        }
    }
}

impl Voice {
    /// The agent says this of a leaf of another server.
    pub fn say(&self, serial: Serial, word: Word) {
        let kept = Kept {
            agent: Arc::clone(&self.agent),
            serial,
            word,
            voice: self.number,
            at: self.outbox.clock.uptime(),
        };
        self.outbox.say(kept);
    }
}

impl Drop for Voice {
    /// The agent says again what it holds, wherever it connects next. That it gave something up it may never say again.
    fn drop(&mut self) {
        let mut table = self.outbox.table();
        let Some(of_agent) = table.agents.get(&self.agent) else { return };
        let numbers: Vec<_> = of_agent.numbers.iter().copied().collect();
        for number in numbers {
            let goes = table
                .kept
                .get(&number)
                .is_some_and(|kept| kept.voice == self.number && kept.word != Word::Released);
            if goes {
                table.drop_number(number);
            }
        }
    }
}

/// What became of a statement.
enum Said {
    /// It is news.
    Anew(u64),
    /// It was said before.
    Again,
    /// It is news, and an older one of the same agent made room.
    Instead(u64),
    /// There is no room.
    TooMany,
}

impl Table {
    fn say(&mut self, kept: Kept) -> Said {
        let place = (kept.serial, about(kept.word));
        let of_agent = self.agents.get(&kept.agent);
        let known = of_agent.and_then(|of_agent| of_agent.places.get(&place)).copied();
        if let Some(former) = known {
            match self.kept.get_mut(&former) {
                Some(former) if !is_news(former.word, kept.word) => {
                    former.voice = kept.voice;
                    return Said::Again;
                }
                _ => self.drop_number(former),
            }
        }
        let oldest = self
            .agents
            .get(&kept.agent)
            .filter(|of_agent| of_agent.numbers.len() >= KEPT_OF_AGENT_MAX)
            .and_then(|of_agent| of_agent.numbers.first().copied());
        if let Some(oldest) = oldest {
            self.drop_number(oldest);
        } else if self.kept.len() >= KEPT_MAX {
            return Said::TooMany;
        }
        self.last += 1;
        let of_agent = self.agents.entry(Arc::clone(&kept.agent)).or_default();
        of_agent.numbers.insert(self.last);
        of_agent.places.insert(place, self.last);
        self.kept.insert(self.last, kept);
        if oldest.is_some() { Said::Instead(self.last) } else { Said::Anew(self.last) }
    }

    fn drop_place(&mut self, agent: &str, place: (Serial, About)) {
        let number = self.agents.get(agent).and_then(|agent| agent.places.get(&place)).copied();
        if let Some(number) = number {
            self.drop_number(number);
        }
    }

    fn drop_number(&mut self, number: u64) {
        let Some(kept) = self.kept.remove(&number) else { return };
        let Some(of_agent) = self.agents.get_mut(&kept.agent) else { return };
        of_agent.numbers.remove(&number);
        of_agent.places.remove(&(kept.serial, about(kept.word)));
        if of_agent.numbers.is_empty() {
            self.agents.remove(&kept.agent);
        }
    }
}

const fn about(word: Word) -> About {
    match word {
        Word::Applied(_, class) => About::Applied(class),
        Word::Released => About::Released,
    }
}

/// Whether a word about the same says more than the former.
fn is_news(former: Word, word: Word) -> bool {
    match (former, word) {
        (Word::Applied(former, _), Word::Applied(applied, _)) => applied > former,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
