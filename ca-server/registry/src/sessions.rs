//! The agents that are, or were, connected: what `status` and the metrics say of them, and the way to ask them to renew
//! leaves. Nothing here is evidence.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use trust::{Sequence, Serial, SpiffeId, Timestamp};

/// Most agents that are remembered; one of those that are gone makes room for the next.
const SESSIONS_MAX: usize = 100_000;
/// Requests to renew that wait for one stream at most; more are not sent, and are due again later.
const HINTS_MAX: usize = 16;

/// The table of sessions. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<String, Session>,
    /// The streams that are open, oldest first.
    lines: HashMap<String, Vec<Line>>,
    last_line: u64,
}

#[derive(Debug)]
struct Line {
    number: u64,
    hints: mpsc::Sender<Vec<Serial>>,
}

/// What is refused, and by whom: the holder of a leaf, or without one the agent itself.
pub type Refusing = Vec<(Option<Serial>, String)>;

/// What is known of one agent since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Open streams; usually one, two while the agent changes over.
    pub streams: u32,
    /// When it last said anything.
    pub last_seen: Timestamp,
    /// The newest bundle that it said it has.
    pub sequence: Sequence,
    /// Refusals of its holders that it reported.
    pub nacks: u64,
    /// The last of them.
    pub last_nack: String,
    /// What its holders refuse now, by a leaf that each may present; without one it is the agent itself.
    pub refusing: Refusing,
    /// What it says of listeners of its holders that do not take a probe, by a leaf of each.
    pub probing: BTreeMap<Serial, String>,
    /// Where the holders of its workloads listen, as it says.
    pub listeners: Vec<Listener>,
    /// Its build, as it says.
    pub build: String,
}

/// Where a process listens, as its agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose leaf it holds.
    pub identity: SpiffeId,
    /// `host:port`; empty where none can be probed.
    pub address: String,
    /// The admin endpoint of the Envoy that says so; empty where the agent's configuration does.
    pub learnt_from: String,
    /// Why there is no address.
    pub why_none: String,
}

/// An open stream; the session counts one less when it is dropped.
#[derive(Debug)]
pub struct OpenSession {
    sessions: Sessions,
    agent: String,
    line: u64,
}

impl Sessions {
    /// Counts a stream of an agent. Serials of leaves that the agent shall renew come through the receiver.
    pub fn open(&self, agent: &str, now: Timestamp) -> (OpenSession, mpsc::Receiver<Vec<Serial>>) {
        let (hints, receiver) = mpsc::channel(HINTS_MAX);
        let mut table = self.lock();
        table.make_room(agent);
        let session = table.sessions.entry(agent.to_owned()).or_default();
        session.streams += 1;
        session.last_seen = now;
        table.last_line += 1;
        let line = table.last_line;
        table.lines.entry(agent.to_owned()).or_default().push(Line { number: line, hints });
        (OpenSession { sessions: self.clone(), agent: agent.to_owned(), line }, receiver)
    }

    /// Asks an agent to renew leaves, on its newest stream; says whether the stream takes it.
    pub fn ask_to_renew(&self, agent: &str, serials: Vec<Serial>) -> bool {
        let table = self.lock();
        let line = table.lines.get(agent).and_then(|lines| lines.last());
        line.is_some_and(|line| line.hints.try_send(serials).is_ok())
    }

    /// Has an agent judged again on every stream that it has open, now.
    pub fn judge_again(&self, agent: &str) {
        let table = self.lock();
        let lines = table.lines.get(agent).into_iter().flatten();
        // A stream whose queue is full is judged with what waits in it.
        lines.for_each(|line| drop(line.hints.try_send(Vec::new())));
    }

    /// Whether an agent has an open stream.
    pub fn is_connected(&self, agent: &str) -> bool {
        self.lock().lines.contains_key(agent)
    }

    /// Forgets an agent that is registered no more, unless it is connected.
    pub fn forget(&self, agent: &str) {
        let mut table = self.lock();
        if table.sessions.get(agent).is_some_and(|session| session.streams == 0) {
            table.sessions.remove(agent);
        }
    }

    /// For each of these agents whether it is connected, and whether it has this bundle.
    pub fn standing(&self, agents: &[String], newest: Sequence) -> Vec<(bool, bool)> {
        let table = self.lock();
        let standing = |session: &Session| (session.streams > 0, session.sequence >= newest);
        agents
            .iter()
            .map(|agent| table.sessions.get(agent).map(standing).unwrap_or_default())
            .collect()
    }

    /// What is known of an agent.
    pub fn find(&self, agent: &str) -> Option<Session> {
        self.lock().sessions.get(agent).cloned()
    }

    /// Agents that are connected and refuse something now, with what each refuses; at most `limit`, by name.
    pub fn refusing(&self, limit: usize) -> Vec<(String, Refusing)> {
        let table = self.lock();
        let refuse = |(_, session): &(&String, &Session)| {
            session.streams > 0 && !session.refusing.is_empty()
        };
        let mut refusing: Vec<_> = table
            .sessions
            .iter()
            .filter(refuse)
            .map(|(name, session)| (name.clone(), session.refusing.clone()))
            .collect();
        drop(table);
        refusing.sort();
        refusing.truncate(limit);
        refusing
    }

    /// How many agents are connected, and for each of them that lacks sequences of `newest`, how many.
    pub fn connected(&self, newest: Sequence) -> (usize, Vec<u64>) {
        let table = self.lock();
        let connected = || table.sessions.values().filter(|session| session.streams > 0);
        let lacking = connected().map(|session| newest.0.saturating_sub(session.sequence.0));
        (connected().count(), lacking.filter(|lacking| *lacking > 0).collect())
    }

    /// Whether any agent has connected since the start.
    pub fn any_since_start(&self) -> bool {
        self.lock().last_line > 0
    }

    /// How many agents are connected.
    pub fn connected_agents(&self) -> usize {
        self.lock().lines.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn make_room(&mut self, agent: &str) {
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(agent) {
            let is_gone = |(_, session): &(&String, &Session)| session.streams == 0;
            let gone = self.sessions.iter().find(is_gone).map(|(name, _)| name.clone());
            gone.map(|name| self.sessions.remove(&name));
        }
    }
}

impl OpenSession {
    /// Notes what the agent said.
    pub fn note(&self, now: Timestamp, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.lock().sessions.get_mut(&self.agent) {
            session.last_seen = session.last_seen.max(now);
            change(session);
        }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        if let Some(session) = table.sessions.get_mut(&self.agent) {
            session.streams = session.streams.saturating_sub(1);
        }
        if let Some(lines) = table.lines.get_mut(&self.agent) {
            lines.retain(|line| line.number != self.line);
            if lines.is_empty() {
                table.lines.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_outlives_its_streams_and_counts_them() {
        let sessions = Sessions::default();
        let now = Timestamp::from_secs(5);
        let ((one, _), (two, mut hints)) = (sessions.open("a", now), sessions.open("a", now));
        one.note(Timestamp::from_secs(7), |session| session.sequence = Sequence(2));
        assert_eq!(sessions.connected(Sequence(3)), (1, vec![1]));
        drop(one);
        assert_eq!(sessions.find("a").map(|session| session.streams), Some(1));
        let serial = Serial::from_bytes(&[0x47; 16]).unwrap();
        assert!(sessions.ask_to_renew("a", vec![serial]), "the newest stream takes it");
        assert_eq!(hints.try_recv(), Ok(vec![serial]));
        drop(two);
        assert!(!sessions.ask_to_renew("a", vec![serial]), "nobody is there to hear it");
        assert!(sessions.any_since_start() && !Sessions::default().any_since_start());
        assert_eq!(sessions.connected(Sequence(3)), (0, vec![]));
        assert_eq!(
            sessions.find("a").map(|session| session.last_seen),
            Some(Timestamp::from_secs(7))
        );
    }
}
