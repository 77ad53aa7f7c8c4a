//! Where to look: what a watch says.
//!
//! A watch of an engine may lose, repeat and reorder, so it never says what is there. It names ids to read, and when it may
//! have missed some it says to read all. Between an engine and a reader that is slow lies a bounded set, not a queue.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Ids that wait for a reader; beyond, it is told to look everywhere.
const IDS_MAX: usize = 1_024;

/// Where a reader should look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// At these ids.
    At(BTreeSet<String>),
    /// At the whole space.
    Everywhere,
}

/// The reader's end of a watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Hints(Arc<Shared>);

/// The engine's end of a watch.
#[derive(Debug, Clone)]
pub struct HintSender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    look: Option<Look>,
    reader_is_gone: bool,
}

/// A watch with nothing to look at yet.
#[must_use]
pub fn hints() -> (HintSender, Hints) {
    let shared = Arc::new(Shared {
        pending: Mutex::default(),
        changed: Notify::new(),
        ended: Notify::new(),
    });
    (HintSender(Arc::clone(&shared)), Hints(shared))
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hints {
    /// Waits until there is something to look at. What is said while nobody waits is told at once by the next call.
    pub async fn next(&mut self) -> Look {
        loop {
            let changed = self.0.changed.notified();
            if let Some(look) = self.0.pending().look.take() {
                return look;
            }
            changed.await;
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.0.pending().reader_is_gone = true;
        self.0.ended.notify_one();
    }
}

impl HintSender {
    /// Says that a key may have changed.
    pub fn at(&self, id: &str) {
        let mut pending = self.0.pending();
        match &mut pending.look {
            Some(Look::Everywhere) => return,
            Some(Look::At(ids)) => {
                if !ids.contains(id) {
                    ids.insert(id.to_owned());
                }
                if ids.len() > IDS_MAX {
                    pending.look = Some(Look::Everywhere);
                }
            }
            look @ None => *look = Some(Look::At(BTreeSet::from([id.to_owned()]))),
        }
        drop(pending);
        self.0.changed.notify_one();
    }

    /// Says that anything may have changed.
    pub fn everywhere(&self) {
        self.0.pending().look = Some(Look::Everywhere);
        self.0.changed.notify_one();
    }

    /// Whether nobody reads any more.
    pub fn is_unread(&self) -> bool {
        self.0.pending().reader_is_gone
    }

    /// Waits until nobody reads any more. One task alone may wait.
    pub async fn unread(&self) {
        while !self.is_unread() {
            self.0.ended.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<const N: usize>(ids: [&str; N]) -> Look {
        Look::At(ids.map(str::to_owned).into())
    }

    #[tokio::test]
    async fn what_was_said_while_nobody_waited_is_told_once_and_together() {
        let (sender, mut hints) = hints();
        sender.at("b");
        sender.at("a");
        sender.at("b");
        assert_eq!(hints.next().await, at(["a", "b"]));
        let (look, ()) = tokio::join!(hints.next(), async { sender.at("c") });
        assert_eq!(look, at(["c"]));
        sender.at("d");
        sender.everywhere();
        sender.at("e");
        assert_eq!(hints.next().await, Look::Everywhere);
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_is_told_to_look_everywhere() {
        let (sender, mut hints) = hints();
        (0..IDS_MAX).for_each(|n| sender.at(&n.to_string()));
        assert!(matches!(hints.next().await, Look::At(ids) if ids.len() == IDS_MAX));
        (0..=IDS_MAX).for_each(|n| sender.at(&n.to_string()));
        assert_eq!(hints.next().await, Look::Everywhere);
    }

    #[tokio::test]
    async fn an_engine_learns_that_nobody_reads_any_more() {
        let (sender, hints) = hints();
        assert!(!sender.is_unread());
        let ((), ()) = tokio::join!(sender.unread(), async move { drop(hints) });
        assert!(sender.is_unread());
    }
}
