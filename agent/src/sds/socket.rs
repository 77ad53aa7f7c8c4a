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
use tonic::transport::server::Connected;

use crate::admin::{administers, own_uid};
use crate::hub::Peer;
use crate::shares::Shares;

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

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    pub(crate) peer: Option<Peer>,
    /// No workload is configured for its user id, so nothing is served to it.
    pub(crate) untrusted: bool,
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
    peer: Option<Peer>,
    seats: Arc<Seats>,
}

/// Connections of each user id: nobody can take the seats of others.
#[derive(Debug)]
struct Seats {
    shares: Shares,
    own_uid: u32,
    taken: Mutex<Taken>,
}

/// Whose share a connection takes a seat of.
#[derive(Clone, Copy, Debug)]
enum Share {
    /// Of a user id with a workload.
    Own(u32),
    /// Of root and the agent's own user, where they have no workload.
    Administrators,
    /// Of everybody else.
    Untrusted,
}

#[derive(Debug, Default)]
struct Taken {
    by_uid: BTreeMap<u32, usize>,
    by_untrusted: usize,
    by_administrators: usize,
    refused: u64,
}

impl Incoming {
    /// Listens at a path, and takes the place of a socket that nobody listens at any more.
    pub(crate) fn bind(path: &Path, mode: u32, connections: Shares) -> Result<Self, SocketError> {
        let listener =
            listen(path, mode).map_err(|source| SocketError { path: path.to_owned(), source })?;
        let seats = Seats { shares: connections, own_uid: own_uid(), taken: Mutex::default() };
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
            let peer = io.peer_cred().ok().map(|peer| Peer { pid: peer.pid(), uid: peer.uid() });
            if self.seats.take(peer.map(|peer| peer.uid)) {
                return Poll::Ready(Some(Ok(Connection {
                    io,
                    peer,
                    seats: Arc::clone(&self.seats),
                })));
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
    fn take(&self, uid: Option<u32>) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let share = self.share_of(uid);
        let admitted = match share {
            Share::Own(uid) => self.shares.admit(uid, &taken.by_uid),
            Share::Administrators => taken.by_administrators < ADMINISTRATORS_MAX,
            Share::Untrusted => taken.by_untrusted < UNTRUSTED_MAX,
        };
        if !admitted {
            taken.refused += 1;
            // Whoever knocks without end does not fill the log.
            if taken.refused.is_power_of_two() {
                let refused = taken.refused;
                tracing::warn!(
                    uid,
                    refused,
                    "a user id has all connections of its share: one more is closed"
                );
            }
            return false;
        }
        match share {
            Share::Own(uid) => *taken.by_uid.entry(uid).or_default() += 1,
            Share::Administrators => taken.by_administrators += 1,
            Share::Untrusted => taken.by_untrusted += 1,
        }
        true
    }

    fn give_back(&self, uid: Option<u32>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match self.share_of(uid) {
            Share::Own(uid) => {
                if let Some(own) = taken.by_uid.get_mut(&uid) {
                    *own = own.saturating_sub(1);
                }
            }
            Share::Administrators => {
                taken.by_administrators = taken.by_administrators.saturating_sub(1)
            }
            Share::Untrusted => taken.by_untrusted = taken.by_untrusted.saturating_sub(1),
        }
    }

    fn share_of(&self, uid: Option<u32>) -> Share {
        match uid {
            Some(uid) if self.shares.is_entitled(uid) => Share::Own(uid),
            Some(uid) if administers(uid, self.own_uid) => Share::Administrators,
            Some(_) | None => Share::Untrusted,
        }
    }

    fn is_untrusted(&self, uid: Option<u32>) -> bool {
        !uid.is_some_and(|uid| self.shares.is_entitled(uid))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.seats.give_back(self.peer.map(|peer| peer.uid));
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo {
            peer: self.peer,
            untrusted: self.seats.is_untrusted(self.peer.map(|peer| peer.uid)),
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

    fn shares(most: usize) -> Shares {
        Shares::new(most, [1, 2].into_iter())
    }

    #[test]
    fn nobody_takes_the_seats_of_others_and_who_has_no_workload_takes_none_of_them() {
        let seats = Seats { shares: shares(8), own_uid: 77, taken: Mutex::default() };
        assert_eq!((0..100).filter(|_| seats.take(Some(1))).count(), 6);
        assert_eq!((100..200).filter(|uid| seats.take(Some(*uid))).count(), UNTRUSTED_MAX);
        assert_eq!(
            (0..10).filter(|_| seats.take(Some(0)) || seats.take(Some(77))).count(),
            ADMINISTRATORS_MAX
        );
        assert_eq!((0..100).filter(|_| seats.take(Some(2))).count(), 2);
        seats.give_back(Some(1));
        assert!(seats.take(Some(1)));
        seats.give_back(None);
        assert!(seats.take(None) && !seats.take(None));
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
