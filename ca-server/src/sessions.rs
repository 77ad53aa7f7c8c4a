//! The agents that are, or were, connected: what `status` and the metrics say of them. Nothing here is evidence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trust::{Sequence, Timestamp};

/// Most agents that are remembered; one of those that are gone makes room for the next.
const SESSIONS_MAX: usize = 100_000;

/// The table of sessions. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<String, Session>>>);

/// What is known of one agent since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// Open streams; usually one, two while the agent changes over.
    pub(crate) streams: u32,
    /// When it last said anything.
    pub(crate) last_seen: Timestamp,
    /// The newest bundle that it said it has.
    pub(crate) sequence: Sequence,
    /// Refusals of its holders that it reported.
    pub(crate) nacks: u64,
    /// The last of them.
    pub(crate) last_nack: String,
    /// Its build, as it says.
    pub(crate) build: String,
}

/// An open stream; the session counts one less when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenSession {
    sessions: Sessions,
    agent: String,
}

impl Sessions {
    /// Counts a stream of an agent.
    pub(crate) fn open(&self, agent: &str, now: Timestamp) -> OpenSession {
        let mut table = self.lock();
        if table.len() >= SESSIONS_MAX && !table.contains_key(agent) {
            let gone = table.iter().find(|(_, session)| session.streams == 0).map(|(name, _)| name.clone());
            gone.map(|name| table.remove(&name));
        }
        let session = table.entry(agent.to_owned()).or_default();
        session.streams += 1;
        session.last_seen = now;
        OpenSession { sessions: self.clone(), agent: agent.to_owned() }
    }

    /// What is known of an agent.
    pub(crate) fn find(&self, agent: &str) -> Option<Session> {
        self.lock().get(agent).cloned()
    }

    /// How many agents are connected, and for each of them that lacks sequences of `newest`, how many.
    pub(crate) fn connected(&self, newest: Sequence) -> (usize, Vec<u64>) {
        let table = self.lock();
        let connected = || table.values().filter(|session| session.streams > 0);
        let lacking = connected().map(|session| newest.0.saturating_sub(session.sequence.0));
        (connected().count(), lacking.filter(|lacking| *lacking > 0).collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenSession {
    /// Notes what the agent said.
    pub(crate) fn note(&self, now: Timestamp, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.lock().get_mut(&self.agent) {
            session.last_seen = session.last_seen.max(now);
            change(session);
        }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.lock().get_mut(&self.agent) {
            session.streams = session.streams.saturating_sub(1);
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
        let (one, two) = (sessions.open("a", now), sessions.open("a", now));
        one.note(Timestamp::from_secs(7), |session| session.sequence = Sequence(2));
        assert_eq!(sessions.connected(Sequence(3)), (1, vec![1]));
        drop(one);
        assert_eq!(sessions.find("a").map(|session| session.streams), Some(1));
        drop(two);
        assert_eq!(sessions.connected(Sequence(3)), (0, vec![]));
        assert_eq!(sessions.find("a").map(|session| session.last_seen), Some(Timestamp::from_secs(7)));
    }
}
