//! The Unix socket: who is at the other end, and how many of them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::transport::server::Connected;

use crate::admin::{administers, own_uid};
use crate::pods::{Caught, Layout, Place, View, caught};
use crate::shares::{Owner, Shares};

/// A socket that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {}: {source}", path.display())]
pub struct SocketError {
    /// The socket.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Connections of user ids without a workload, all together: enough to tell them so.
const UNTRUSTED_MAX: usize = 16;
/// Connections of root and of the agent's own user beyond those: nobody keeps them from asking how the agent is.
const ADMINISTRATORS_MAX: usize = 4;

/// Who is at the other end of a connection, as it was when it was accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pid: Option<i32>,
    pub(crate) uid: u32,
    /// Where it runs, if that was looked at and could be seen.
    pub(crate) caught: Option<Caught>,
    /// Why it could not be.
    pub(crate) trouble: Option<String>,
}

/// Who is at the other end of a connection, and what it is to this agent.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    pub(crate) peer: Option<Seen>,
    /// No workload is configured for its user id, so nothing is served to it.
    pub(crate) untrusted: bool,
    /// It may ask how the agent is.
    pub(crate) administers: bool,
}

/// How callers are told apart.
#[derive(Debug)]
pub(crate) enum Callers {
    /// By the user id; bounds are shared among those that have a workload.
    Users(Shares),
    /// By the Pod that they run in.
    Pods(PodCallers),
}

/// Callers that are told apart by their Pod.
#[derive(Debug)]
pub(crate) struct PodCallers {
    /// Connections, all together.
    pub(crate) connections: usize,
    pub(crate) layout: Layout,
    /// Where the agent itself runs.
    pub(crate) own: Place,
    pub(crate) pods: watch::Receiver<Arc<View>>,
}

/// Accepts connections, as many as the bounds allow; one too many is closed at once.
#[derive(Debug)]
pub(crate) struct Incoming {
    listener: UnixListener,
    seats: Arc<Seats>,
    path: PathBuf,
}

/// One accepted connection; it gives its seat back when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    io: UnixStream,
    peer: Option<Seen>,
    share: Share,
    seats: Arc<Seats>,
}

/// Connections of each caller: nobody can take the seats of others.
#[derive(Debug)]
struct Seats {
    callers: Callers,
    own_uid: u32,
    taken: Mutex<Taken>,
}

/// Whose share a connection takes a seat of.
#[derive(Clone, Debug)]
enum Share {
    /// Of a user id with a workload, or of a Pod.
    Own(Owner),
    /// Of root and the agent's own user, where they have no workload.
    Administrators,
    /// Of everybody else.
    Untrusted,
}

#[derive(Debug, Default)]
struct Taken {
    by_owner: BTreeMap<Owner, usize>,
    by_untrusted: usize,
    by_administrators: usize,
    refused: u64,
}

impl Seen {
    /// Why nothing is known of where it runs.
    pub(crate) fn told(&self) -> String {
        self.trouble.clone().unwrap_or_else(|| {
            "the calling process cannot be seen: run the agent in the same PID namespace, or one above it; in a Pod, set hostPID"
                .to_owned()
        })
    }
}

impl Callers {
    fn looked_at(&self, io: &UnixStream) -> Option<Seen> {
        let peer = io.peer_cred().ok()?;
        let seen = Seen { pid: peer.pid(), uid: peer.uid(), ..Seen::default() };
        let (Self::Pods(callers), Some(pid)) = (self, seen.pid.filter(|pid| *pid > 0)) else {
            return Some(seen);
        };
        Some(match caught(io, pid, &callers.layout) {
            Ok(Some(caught)) => Seen { caught: Some(caught), ..seen },
            Ok(None) => Seen { trouble: Some("the calling process has ended".to_owned()), ..seen },
            Err(error) => {
                tracing::warn!(%error, pid, "a calling process cannot be looked at");
                let text = format!("the agent cannot look at the calling process: {error}");
                Seen { trouble: Some(text), ..seen }
            }
        })
    }

    /// Whether somebody has a right to ask how the agent is. A user id counts where the agent itself is and nowhere else: in a Pod
    /// root is whoever made that Pod.
    fn administered_by(&self, seen: &Seen, own_uid: u32) -> bool {
        let is_here = match self {
            Self::Users(_) => true,
            Self::Pods(callers) => {
                seen.caught.as_ref().is_some_and(|caught| caught.place == callers.own)
            }
        };
        is_here && administers(seen.uid, own_uid)
    }

    fn owner(&self, seen: &Seen) -> Option<Owner> {
        match (self, seen.caught.as_ref().map(|caught| &caught.place)) {
            (Self::Users(shares), _) => {
                Some(Owner::User(seen.uid)).filter(|owner| shares.is_entitled(owner))
            }
            // One that is not known yet has its share too: the kubelet had its cgroup made.
            (Self::Pods(_), Some(Place::Pod(uid))) => Some(Owner::Pod(uid.clone())),
            (Self::Pods(_), _) => None,
        }
    }

    fn admit(&self, owner: &Owner, taken: &BTreeMap<Owner, usize>) -> bool {
        match self {
            Self::Users(shares) => shares.admit(owner, taken),
            Self::Pods(PodCallers { connections, pods, .. }) => {
                let known: Vec<Owner> =
                    pods.borrow().pods.keys().cloned().map(Owner::Pod).collect();
                let shares = Shares::new(*connections, known.into_iter()).with(owner.clone());
                shares.admit(owner, taken)
            }
        }
    }
}

impl Incoming {
    /// Listens at a path, and takes the place of a socket that nobody listens at any more.
    pub(crate) fn bind(path: &Path, mode: u32, callers: Callers) -> Result<Self, SocketError> {
        let listener =
            listen(path, mode).map_err(|source| SocketError { path: path.to_owned(), source })?;
        let seats = Seats { callers, own_uid: own_uid(), taken: Mutex::default() };
        Ok(Self { listener, seats: Arc::new(seats), path: path.to_owned() })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Poll::Ready(accepted) = self.listener.poll_accept(context) else {
                return Poll::Pending;
            };
            let io = match accepted {
                Ok((io, _)) => io,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let peer = self.seats.callers.looked_at(&io);
            if let Some(share) = self.seats.take(peer.as_ref()) {
                let seats = Arc::clone(&self.seats);
                return Poll::Ready(Some(Ok(Connection { io, peer, share, seats })));
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // A socket file that stays behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Seats {
    fn take(&self, seen: Option<&Seen>) -> Option<Share> {
        let share = self.share_of(seen);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = match &share {
            Share::Own(owner) => self.callers.admit(owner, &taken.by_owner),
            Share::Administrators => taken.by_administrators < ADMINISTRATORS_MAX,
            Share::Untrusted => taken.by_untrusted < UNTRUSTED_MAX,
        };
        if !admitted {
            taken.refused += 1;
            // Whoever knocks without end does not fill the log.
            if taken.refused.is_power_of_two() {
                let refused = taken.refused;
                let uid = seen.map(|seen| seen.uid);
                tracing::warn!(
                    uid,
                    ?share,
                    refused,
                    "a caller has all connections of its share: one more is closed"
                );
            }
            return None;
        }
        match &share {
            Share::Own(owner) => *taken.by_owner.entry(owner.clone()).or_default() += 1,
            Share::Administrators => taken.by_administrators += 1,
            Share::Untrusted => taken.by_untrusted += 1,
        }
        Some(share)
    }

    fn give_back(&self, share: &Share) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match share {
            Share::Own(owner) => {
                if let Some(own) = taken.by_owner.get_mut(owner) {
                    *own = own.saturating_sub(1);
                }
                // Pods come and go.
                taken.by_owner.retain(|_, count| *count > 0);
            }
            Share::Administrators => {
                taken.by_administrators = taken.by_administrators.saturating_sub(1)
            }
            Share::Untrusted => taken.by_untrusted = taken.by_untrusted.saturating_sub(1),
        }
    }

    fn share_of(&self, seen: Option<&Seen>) -> Share {
        let administers = |seen: &&Seen| self.callers.administered_by(seen, self.own_uid);
        match seen.and_then(|seen| self.callers.owner(seen)) {
            Some(Owner::Pod(_)) if seen.as_ref().is_some_and(administers) => Share::Administrators,
            Some(owner) => Share::Own(owner),
            None if seen.as_ref().is_some_and(administers) => Share::Administrators,
            None => Share::Untrusted,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.seats.give_back(&self.share);
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        let (peer, callers) = (self.peer.as_ref(), &self.seats.callers);
        PeerInfo {
            peer: self.peer.clone(),
            untrusted: peer.is_none_or(|seen| callers.owner(seen).is_none()),
            administers: peer.is_some_and(|seen| callers.administered_by(seen, self.seats.own_uid)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other(
                "there is a file that is no socket: remove it, or set another path",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::other(
                "another process serves there: stop it, or set another path",
            ));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::pods::PodUid;
    use crate::process::ProcessId;

    fn shares(most: usize) -> Callers {
        Callers::Users(Shares::new(most, [1, 2].into_iter().map(Owner::User)))
    }

    fn user(uid: u32) -> Seen {
        Seen { uid, ..Seen::default() }
    }

    #[test]
    fn nobody_takes_the_seats_of_others_and_who_has_no_workload_takes_none_of_them() {
        let seats = Seats { callers: shares(8), own_uid: 77, taken: Mutex::default() };
        let take = |uid| seats.take(Some(&user(uid)));
        assert_eq!((0..100).filter_map(|_| take(1)).count(), 6);
        assert_eq!((100..200).filter_map(take).count(), UNTRUSTED_MAX);
        assert_eq!(
            (0..10).filter_map(|_| take(0).or_else(|| take(77))).count(),
            ADMINISTRATORS_MAX
        );
        assert_eq!((0..100).filter_map(|_| take(2)).count(), 2);
        seats.give_back(&Share::Own(Owner::User(1)));
        assert!(take(1).is_some());
        seats.give_back(&Share::Untrusted);
        assert!(seats.take(None).is_some() && seats.take(None).is_none());
    }

    fn at(place: Place, uid: u32) -> Seen {
        let caught = Caught { process: ProcessId { pid: 7, start: 1 }, place };
        Seen { uid, caught: Some(caught), ..Seen::default() }
    }

    #[test]
    fn a_pod_takes_no_seats_of_others_and_root_of_a_pod_does_not_administer() {
        let uid = |name: &str| PodUid::parse(name).unwrap();
        let pod = |name: &str| at(Place::Pod(uid(name)), 0);
        let known = View { listed: true, ..View::default() };
        let (_to, pods) = watch::channel(Arc::new(known));
        let callers =
            PodCallers { connections: 8, layout: Layout::default(), own: Place::Own, pods };
        let seats = Seats { callers: Callers::Pods(callers), own_uid: 0, taken: Mutex::default() };
        assert!(matches!(seats.take(Some(&pod("a"))), Some(Share::Own(Owner::Pod(_)))));
        // Alone it may have all, whoever is root in it.
        assert_eq!((0..100).filter_map(|_| seats.take(Some(&pod("a")))).count(), 7);
        assert_eq!(
            (0..100).filter_map(|_| seats.take(Some(&at(Place::Outside, 0)))).count(),
            UNTRUSTED_MAX
        );
        assert!(matches!(seats.take(Some(&at(Place::Own, 0))), Some(Share::Administrators)));
        assert!(seats.take(Some(&at(Place::Own, 5))).is_none(), "another user there is nobody");
        for place in [Place::Outside, Place::Unclear(String::new()), Place::Pod(uid("a"))] {
            assert!(!seats.callers.administered_by(&at(place, 0), 0));
        }
        assert!(!seats.callers.administered_by(&user(0), 0), "nothing is known of where it is");
    }

    #[tokio::test]
    async fn a_socket_in_use_and_a_file_that_is_none_are_left_alone_and_a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, b"precious").unwrap();
        assert!(
            Incoming::bind(&path, 0o666, shares(8)).unwrap_err().to_string().contains("no socket")
        );
        std::fs::remove_file(&path).unwrap();
        let first = Incoming::bind(&path, 0o660, shares(8)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(
            Incoming::bind(&path, 0o666, shares(8))
                .unwrap_err()
                .to_string()
                .contains("another process")
        );
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Incoming::bind(&path, 0o666, shares(8)).unwrap();
    }
}
