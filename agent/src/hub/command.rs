//! What others want of the hub, and how they say it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use trust::{Bundle, Serial, SpiffeId, Timestamp};

use super::subscription::{Heard, Pushed, Refusal};
use crate::bundle_store::BundleRefused;
use crate::counted::Counted;
use crate::foreign::{Bundles, ForeignRefused};
use crate::lists::{ListsRefused, Word};
use crate::pods::KnownPod;
use crate::probed::{Found, Seen};
use crate::process::ProcessId;
use crate::status::Condition;

/// Commands that wait at most; senders then wait too.
const COMMANDS_MAX: usize = 1024;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) pid: Option<i32>,
    pub(crate) uid: u32,
    /// The process itself, if it was held while it was looked at; else it is looked for by its pid.
    pub(crate) process: Option<ProcessId>,
    /// The Pod that it runs in, of an agent of a node.
    pub(crate) pod: Option<Arc<KnownPod>>,
}

/// What others want of the hub.
#[derive(Debug)]
pub(crate) enum Command {
    /// A holder opens a stream; the reply is its number.
    Open { peer: Peer, to: mpsc::Sender<Pushed>, reply: oneshot::Sender<Result<u64, Refusal>> },
    /// Something came on a stream.
    Heard { stream: u64, heard: Heard },
    /// Something came on a stream that cannot be understood: it ends with this.
    Refuse { stream: u64, refusal: Refusal },
    /// A stream ended.
    Close { stream: u64 },
    /// One thing is asked for once, by name.
    Fetch { peer: Peer, name: String, reply: oneshot::Sender<Pushed> },
    /// A bundle came from the CA, or from where it is pinned.
    Offer { offered: Result<Bundle, BundleRefused>, reply: oneshot::Sender<Result<(), OfferError>> },
    /// What the CA says of other trust domains.
    Foreign(Result<Bundles, ForeignRefused>),
    /// The CA wants leaves renewed, spread over a time.
    Reissue { serials: Vec<Serial>, spread: Duration },
    /// Something began or ceased to be wrong.
    Condition(Condition, Option<String>),
    /// The stream to the CA is up or down.
    Uplink(bool),
    /// The CA counts these leaves as this agent's, and was not told of them.
    Doubt { rows: Vec<(Serial, Timestamp)>, last: bool },
    /// What was seen at the listeners of each identity, as it is now.
    Probed(BTreeMap<SpiffeId, Seen>),
    /// Where Envoys say that they listen, as it is now.
    Found(Found),
    /// What the Envoys of each identity count of handshakes, as it is now.
    Counted(BTreeMap<SpiffeId, Counted>),
    /// Leaves that no holder shall have any more, each until it is over.
    Revoke(Vec<(Serial, Timestamp)>),
    /// What the CA says of revocation lists.
    Lists(Result<Word, ListsRefused>),
    /// The agent ends in order.
    Farewell { reply: oneshot::Sender<()> },
}

/// A bundle that was not put in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    /// It is not to be believed.
    #[error(transparent)]
    Refused(#[from] BundleRefused),
    /// It could not be made durable, so nobody is told of it.
    #[error("the bundle cannot be stored: {0}")]
    NotDurable(std::io::Error),
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped,
}

/// Sends commands to the hub.
#[derive(Clone, Debug)]
pub(crate) struct HubHandle(mpsc::Sender<Command>);

impl HubHandle {
    /// A handle, and where its commands come.
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        (Self(sender), commands)
    }

    /// Sends a command; waits while the hub is busy. An error means that the agent is shutting down.
    pub(crate) async fn send(&self, command: Command) -> Result<(), OfferError> {
        self.0.send(command).await.map_err(|_| OfferError::Stopped)
    }

    /// Offers a bundle, and waits until it is durable and in force, or refused.
    pub(crate) async fn offer(
        &self,
        offered: Result<Bundle, BundleRefused>,
    ) -> Result<(), OfferError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Offer { offered, reply }).await?;
        answer.await.map_err(|_| OfferError::Stopped)?
    }

    /// Says that something is wrong, or no longer.
    pub(crate) async fn condition(&self, condition: Condition, what: Option<String>) {
        // At shutdown nobody reads conditions any more.
        let _ = self.send(Command::Condition(condition, what)).await;
    }
}
