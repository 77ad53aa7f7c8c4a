//! Streams that tell what changes with the record, for whoever may see it: one implementation for all of them.
//!
//! A stream is driven by its reader: who reads slowly sees the latest only. Its caller is judged again at each look, since a
//! stream outlives the moment it was opened at. A caller that may not look any more loses this stream, and nothing else:
//! whatever else it does on the same connection is judged by itself.

use std::sync::Arc;
use std::time::Duration;

use auth::refusal::Refusal;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use rotation::State;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// What is watched, and by whom.
pub(crate) trait Watched: Send + 'static {
    /// What the watcher is told.
    type Told: Send + 'static;

    /// Judges the caller, now.
    fn judge(&mut self) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Writes a refusal down and makes the answer of it.
    fn refuse(&self, refusal: Refusal) -> Status;

    /// What there is to tell, if it is another thing than before.
    fn look(&mut self, state: Arc<State>) -> impl Future<Output = Option<Self::Told>> + Send;
}

struct Watcher<W> {
    watched: W,
    changes: watch::Receiver<Arc<State>>,
    /// The connection is asked to end. It is not ours: it is read and never cancelled here.
    ending: CancellationToken,
    every: Duration,
    over: bool,
}

/// Looks now, at each change of the record, and at least this often.
pub(crate) fn watch<W: Watched>(
    watched: W,
    mut changes: watch::Receiver<Arc<State>>,
    ending: CancellationToken,
    every: Duration,
) -> BoxStream<'static, Result<W::Told, Status>> {
    changes.mark_changed();
    let watcher = Watcher { watched, changes, ending, every, over: false };
    stream::unfold(watcher, Watcher::next).boxed()
}

impl<W: Watched> Watcher<W> {
    async fn next(mut self) -> Option<(Result<W::Told, Status>, Self)> {
        while !self.over {
            tokio::select! {
                () = self.ending.cancelled() => return None,
                changed = self.changes.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep(self.every) => {}
            }
            if let Err(refusal) = self.watched.judge().await {
                self.over = true;
                return Some((Err(self.watched.refuse(refusal)), self));
            }
            let state = self.changes.borrow_and_update().clone();
            if let Some(told) = self.watched.look(state).await {
                return Some((Ok(told), self));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::refusal::Reason;
    use trust::TrustDomain;

    /// Tells the generation, until it may look no more.
    struct FakeWatched {
        allowed: watch::Receiver<bool>,
        last: Option<u64>,
    }

    impl Watched for FakeWatched {
        type Told = u64;

        async fn judge(&mut self) -> Result<(), Refusal> {
            let allowed = *self.allowed.borrow();
            allowed
                .then_some(())
                .ok_or_else(|| Refusal::new(Reason::CallerNotAllowed, "not any more"))
        }

        fn refuse(&self, refusal: Refusal) -> Status {
            refusal.into()
        }

        async fn look(&mut self, state: Arc<State>) -> Option<u64> {
            let generation = state.generation.0;
            (self.last.replace(generation) != Some(generation)).then_some(generation)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_loses_its_permission_loses_its_stream_and_not_its_connection() {
        let state = Arc::new(State::uninitialised(TrustDomain::parse("example.org").unwrap()));
        let ((_changes, changes), (permission, allowed)) =
            (watch::channel(state), watch::channel(true));
        let connection = CancellationToken::new();
        let watched = FakeWatched { allowed, last: None };
        let mut stream = watch(watched, changes, connection.clone(), Duration::from_secs(1));
        assert_eq!(stream.next().await.unwrap().unwrap(), 0);
        permission.send_replace(false);
        let refused = stream.next().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert!(stream.next().await.is_none(), "the stream is over");
        assert!(!connection.is_cancelled(), "other calls on the connection go on");
    }

    #[tokio::test]
    async fn a_connection_that_ends_ends_its_watchers() {
        let state = Arc::new(State::uninitialised(TrustDomain::parse("example.org").unwrap()));
        let ((_changes, changes), (_permission, allowed)) =
            (watch::channel(state), watch::channel(true));
        let connection = CancellationToken::new();
        let watched = FakeWatched { allowed, last: Some(0) };
        let mut stream = watch(watched, changes, connection.clone(), Duration::from_secs(600));
        connection.cancel();
        assert!(stream.next().await.is_none());
    }
}
