//! How the rows come into memory, and stay what they are in the store when other servers change them.
//!
//! A watch says where to look, and never what is there. Bans and the rows that gates rest on are read again now and then although
//! no watch said so; and whoever wants to open a gate reads those again first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use stores::{Entry, Hints, Look, ReadError, SharedStore, hints};
use tokio::time::MissedTickBehavior;

use crate::cache::Found;
use crate::change::Under;
use crate::error::RegistryUnreadable;
use crate::registry::{AgentRegistry, Inner, Membership};
use crate::row::Kind;

/// Rows that are asked for at once.
const PAGE: usize = 5_000;
/// Keys that are read at once.
const AT_ONCE: usize = 16;
/// Bans, and the rows that gates rest on, are read again this often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Pauses after a look that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The watches of an open registry.
#[derive(Debug)]
pub struct Following {
    inner: Arc<Inner>,
    watches: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    kind: Kind,
    by_store: Hints,
    by_doubt: Hints,
}

impl AgentRegistry {
    /// Reads all rows of a store. What other servers change afterwards is seen as long as the second part [runs](Following::run).
    ///
    /// # Errors
    /// When the store does not answer, or holds a row that cannot be read and must not be left out.
    pub async fn open(
        store: Arc<dyn SharedStore>,
        membership: Membership,
    ) -> Result<(Self, Following), RegistryUnreadable> {
        let (mut watches, mut doubts) = (Vec::new(), Vec::new());
        for kind in Kind::ALL {
            let by_store = store.watch(kind.space()).await?;
            let (doubt, by_doubt) = hints();
            doubts.push((kind, doubt));
            watches.push(Watched { kind, by_store, by_doubt });
        }
        let inner = Arc::new(Inner::new(store, membership, doubts));
        for kind in Kind::ALL {
            inner.look_everywhere(kind).await?;
        }
        if let Some(row) = inner.read().first_unreadable(Kind::Downstreams) {
            return Err(RegistryUnreadable::Row { row });
        }
        inner.note_opened();
        Ok((Self(Arc::clone(&inner)), Following { inner, watches }))
    }

    /// Reads the rows again that gates rest on: what any server stored before this call is known when it returns.
    ///
    /// # Errors
    /// [`ReadError`]; then no gate may open.
    pub async fn read_evidence(&self) -> Result<(), ReadError> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_evidence());
        try_join_all(kinds.map(|kind| self.0.look_everywhere(kind))).await.map(drop)
    }
}

impl Following {
    /// Works until it is dropped.
    pub async fn run(self) {
        let inner = self.inner.as_ref();
        join_all(self.watches.into_iter().map(|watched| inner.follow(watched))).await;
    }
}

impl Inner {
    async fn follow(&self, watched: Watched) {
        let Watched { kind, mut by_store, mut by_doubt } = watched;
        let mut often = tokio::time::interval(LOOK_EVERY);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let look = tokio::select! {
                look = by_store.next() => look,
                look = by_doubt.next() => look,
                _ = often.tick(), if kind.is_evidence() || kind == Kind::Bans => Look::Everywhere,
            };
            let mut pause = FIRST_PAUSE;
            while let Err(error) = self.look(kind, &look).await {
                self.lock().looked(kind, Some(error.to_string()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            self.lock().looked(kind, None);
        }
    }

    async fn look(&self, kind: Kind, look: &Look) -> Result<(), ReadError> {
        match look {
            Look::Everywhere => self.look_everywhere(kind).await,
            Look::At(ids) => {
                let ids = stream::iter(ids.clone());
                let looks = ids.map(|id| async move { self.look_at(kind, &id).await });
                looks.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
            }
        }
    }

    async fn look_everywhere(&self, kind: Kind) -> Result<(), ReadError> {
        let reading = Under::begin(self, kind);
        let (mut seen, mut from) = (HashSet::new(), None::<String>);
        loop {
            let page = self.store.list(kind.space(), from.as_deref(), PAGE).await?;
            self.take_page(&reading, &page.entries);
            // An id behind the last, and before all others: no id has control characters.
            let last = page.entries.last().map(|last| format!("{}\u{1}", last.id));
            seen.extend(page.entries.into_iter().map(|entry| entry.id));
            match last {
                Some(last) if page.more => from = Some(last),
                _ => break,
            }
        }
        let (judged, overtaken) = self.lock().only(reading.reading, &seen);
        self.took(&judged);
        drop(reading);
        // What others took over may have been read before this look began.
        for id in overtaken {
            self.look_at(kind, &id).await?;
        }
        Ok(())
    }

    fn take_page(&self, reading: &Under<'_>, entries: &[Entry]) {
        let kind = reading.reading.kind;
        let found = |entry: &Entry| Found {
            row: kind.decode(&entry.id, &entry.value),
            id: entry.id.clone(),
            version: Some(entry.version.clone()),
        };
        let new = self.read().unknown(kind, entries);
        let rows = new.into_iter().map(found).collect();
        let judged = self.lock().listed(reading.reading, rows);
        self.took(&judged);
    }
}
