//! The stream to the CA: bundles down, evidence up.
//!
//! By level: what was said is remembered only for the life of one stream, so after a reconnect everything is said again.
//! A slow stream loses nothing but old states, since each round says what is true then.

use std::sync::Arc;
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::server_message::Message as Down;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};
use trust::{Bundle, Clock, Randomness, Serial, Timestamp};

use crate::backoff::{Backoff, spread};
use crate::bundle_store;
use crate::ca_client::{CaClient, CallError};
use crate::config::AgentConfig;
use crate::evidence::Evidence;
use crate::first_contact::{self, FirstContactError};
use crate::hub::{Command, HubHandle};
use crate::leaf::Leaf;
use crate::member::BUILD;
use crate::status::Condition;
use said::{ROWS_MAX, Said};

mod said;

/// Messages that wait for the wire; then the next round of evidence waits.
const UP_MAX: usize = 16;
/// How often the CA hears how the agent is.
const HEALTH: Duration = Duration::from_secs(30);
/// After a change of trust or of the own certificate, agents reconnect within this time, not all at once.
const REBUILD_SPREAD: Duration = Duration::from_secs(2);
/// A banned agent asks again within this time, and not sooner than after half of it.
const BANNED_WAIT: Duration = Duration::from_secs(10);
/// The longest time that a CA may send an agent away for.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// What can be wrong with the stream.
const OF_THE_STREAM: [Condition; 3] = [Condition::CaAway, Condition::CaRefuses, Condition::Banned];

/// How the stream to the CA is asked to say its last, and says that it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leave {
    pub(crate) asked: CancellationToken,
    pub(crate) done: CancellationToken,
}

/// The task that keeps the stream up.
#[derive(Debug)]
pub(crate) struct Uplink {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) client: Arc<CaClient>,
    pub(crate) hub: HubHandle,
    pub(crate) evidence: watch::Receiver<Arc<Evidence>>,
    pub(crate) trust: watch::Receiver<Option<Bundle>>,
    pub(crate) credential: watch::Receiver<Option<Arc<Leaf>>>,
    pub(crate) leave: Leave,
    /// Over how long the CA wants its agents to come back, as it said last.
    pub(crate) comeback: Duration,
    /// Whether it was said that there is no connection, so that its return is said too.
    pub(crate) missed: bool,
    /// Where the certificate is told with which the CA does not know this agent: joining again is the membership's task.
    pub(crate) turned_away: watch::Sender<Option<Serial>>,
}

/// Why a stream ended.
enum End {
    /// A new bundle or certificate is in force: the next stream rests on it.
    Rebuild,
    /// The CA sends us away for a while.
    Wait(Duration),
    /// The CA closed the stream in order.
    Closed,
    /// The connection ended, as it does from time to time: by its age, by a CA that restarts, by a network. Whether the CA is
    /// away shows when it is asked again.
    Broken(CallError),
    /// The agent ends, and the CA has heard its last.
    Left,
}

impl Uplink {
    /// Runs until cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_up() => {}
        }
        self.leave.done.cancel();
    }

    async fn keep_up(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let member = self.credential.wait_for(Option::is_some).await.is_ok();
            let trust = self.trust.wait_for(Option::is_some).await.is_ok();
            if !member || !trust {
                return;
            }
            let ended = self.one_stream(&mut backoff).await;
            if self.hub.send(Command::Uplink(false)).await.is_err() {
                return;
            }
            let wait = match ended {
                Ok(End::Left) => return,
                Ok(End::Rebuild) => Duration::ZERO,
                Ok(End::Wait(wait)) => {
                    self.missed = true;
                    wait
                }
                Ok(End::Closed) => {
                    tracing::info!("the CA ended the stream; connecting again");
                    self.missed = true;
                    backoff.wait(self.randomness.as_ref())
                }
                // Also a refusal: what was judged is the certificate that the stream began with, and there may be a newer one.
                Ok(End::Broken(error)) => {
                    tracing::info!(%error, "the connection to the CA ended; connecting again");
                    self.missed = true;
                    tokio::time::sleep(spread(self.comeback, self.randomness.as_ref())).await;
                    self.comeback = Duration::ZERO;
                    backoff.wait(self.randomness.as_ref())
                }
                Err(error) => self.no_stream(&error, &mut backoff).await,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // With another certificate the CA may decide otherwise.
                Ok(()) = self.credential.changed() => {}
            }
        }
    }

    /// Says what is wrong when no stream came up, and how long to wait.
    async fn no_stream(&mut self, error: &CallError, backoff: &mut Backoff) -> Duration {
        // Its condition is told in the log when it is news.
        tracing::debug!(%error, "no stream to the CA");
        self.missed = true;
        if error.is_ban() {
            self.trouble(Condition::Banned, error.words()).await;
            return self.banned_wait();
        }
        if error.turns_away() {
            let shown = self.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
            self.turned_away.send_replace(shown);
            self.no_trouble().await;
        } else if !error.is_unreachable() {
            self.trouble(Condition::CaRefuses, error.to_string()).await;
        }
        tokio::time::sleep(spread(self.comeback, self.randomness.as_ref())).await;
        // It is said anew on the next stream; until then, failures are spread by the back-off.
        self.comeback = Duration::ZERO;
        match error.is_unreachable() && self.find_way(error).await {
            true => Duration::ZERO,
            false => backoff.wait(self.randomness.as_ref()),
        }
    }

    /// One thing is wrong with the stream at a time.
    async fn trouble(&self, is: Condition, what: String) {
        self.hub.condition(is, Some(what)).await;
        for other in OF_THE_STREAM.into_iter().filter(|other| *other != is) {
            self.hub.condition(other, None).await;
        }
    }

    async fn no_trouble(&self) {
        for condition in OF_THE_STREAM {
            self.hub.condition(condition, None).await;
        }
    }

    fn banned_wait(&self) -> Duration {
        BANNED_WAIT / 2 + spread(BANNED_WAIT / 2, self.randomness.as_ref())
    }

    async fn one_stream(&mut self, backoff: &mut Backoff) -> Result<End, CallError> {
        self.trust.mark_unchanged();
        self.credential.mark_unchanged();
        let own = self.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
        let mut client = self.client.authenticated()?;
        let (up, outbound) = mpsc::channel(UP_MAX);
        let hello = hello(&self.evidence.borrow_and_update().clone());
        // The queue is new and empty.
        let _ = up.try_send(wire::AgentMessage { message: Some(hello) });
        let answer = client.connect(Request::new(ReceiverStream::new(outbound))).await;
        let mut down = answer.map_err(|status| self.client.refused(status))?.into_inner();
        self.up_and_running().await;
        backoff.reset();
        let mut said = Said::beginning_with(own);
        let mut health = tokio::time::interval(HEALTH);
        // Not polled before the first change.
        let mut rebuild = Box::pin(tokio::time::sleep(Duration::MAX));
        self.evidence.mark_changed();
        loop {
            tokio::select! {
                message = next(&mut down) => match message {
                    Ok(Some(message)) => if let Some(end) = self.obey(message).await { return Ok(end) },
                    Ok(None) => return Ok(End::Closed),
                    Err(status) => return Ok(End::Broken(self.client.refused(*status))),
                },
                Ok(()) = self.evidence.changed() => {
                    let evidence = Arc::clone(&self.evidence.borrow_and_update());
                    if !say(&up, said.news(&evidence)).await {
                        return Ok(End::Wait(backoff.wait(self.randomness.as_ref())));
                    }
                }
                _ = health.tick() => {
                    let report = self.evidence.borrow().health;
                    say(&up, vec![Up::Health(report)]).await;
                }
                Ok(()) = self.trust.changed() => rebuild = self.soon(),
                Ok(()) = self.credential.changed() => rebuild = self.soon(),
                () = &mut rebuild => return Ok(End::Rebuild),
                () = self.leave.asked.cancelled() => {
                    let evidence = Arc::clone(&self.evidence.borrow_and_update());
                    say(&up, said.news(&evidence)).await;
                    // The CA ends its side when it has heard all of ours.
                    drop(up);
                    while let Ok(Some(_)) = next(&mut down).await {}
                    return Ok(End::Left);
                }
            }
        }
    }

    /// Perhaps the bundle changed while nobody listened: looks for the way from the one that is held to the present one.
    /// Says whether it led on; if not, what is wrong is a condition.
    async fn find_way(&self, trouble: &CallError) -> bool {
        let Some(held) = self.trust.borrow().clone() else { return false };
        let found =
            first_contact::present(&held, &self.config, self.client.address(), &self.clock).await;
        let what = match found {
            Ok(found) if found.sequence() > held.sequence() => {
                tracing::info!(from = %held.sequence(), to = %found.sequence(), "the bundle changed meanwhile");
                return self.hub.offer(Ok(found)).await.is_ok();
            }
            // Nothing is to be added to what the call said.
            Ok(_) | Err(FirstContactError::Call(_)) => trouble.to_string(),
            Err(error) => format!("{trouble}; {error}"),
        };
        self.trouble(Condition::CaAway, what).await;
        false
    }

    async fn up_and_running(&mut self) {
        if std::mem::take(&mut self.missed) {
            tracing::info!(address = self.client.address().address, "connected again");
        }
        self.turned_away.send_replace(None);
        self.no_trouble().await;
        // At shutdown nobody reads it any more.
        let _ = self.hub.send(Command::Uplink(true)).await;
    }

    fn soon(&self) -> std::pin::Pin<Box<tokio::time::Sleep>> {
        let within = REBUILD_SPREAD.max(self.comeback);
        Box::pin(tokio::time::sleep(spread(within, self.randomness.as_ref())))
    }

    async fn obey(&mut self, message: wire::ServerMessage) -> Option<End> {
        if message.reconnect_spread_ms > 0 {
            self.comeback = Duration::from_millis(message.reconnect_spread_ms).min(DRAIN_MAX);
        }
        match message.message? {
            Down::Bundle(bundle) => {
                // A refusal is noted by the hub, and reaches the CA as a Nack.
                let offered = bundle_store::from_wire(&self.config.trust_domain, &bundle);
                let _ = self.hub.offer(offered).await;
                None
            }
            Down::Reissue(hint) => {
                let serials =
                    hint.serials.iter().filter_map(|serial| Serial::from_bytes(serial)).collect();
                let spread = Duration::from_millis(hint.spread_ms);
                let _ = self.hub.send(Command::Reissue { serials, spread }).await;
                None
            }
            Down::Doubt(doubt) => {
                let row = |row: &wire::DoubtedRow| {
                    Some((Serial::from_bytes(&row.serial)?, Timestamp::from_secs(row.not_after)))
                };
                let rows = doubt.rows.iter().filter_map(row).collect();
                let _ = self.hub.send(Command::Doubt { rows, last: doubt.last }).await;
                None
            }
            Down::Drain(drain) => {
                tracing::info!(
                    after_ms = drain.reconnect_after_ms,
                    spread_ms = drain.spread_ms,
                    "the CA drains"
                );
                let wait = Duration::from_millis(drain.reconnect_after_ms).min(DRAIN_MAX);
                let within = Duration::from_millis(drain.spread_ms).min(DRAIN_MAX).max(wait / 4);
                Some(End::Wait(wait + spread(within, self.randomness.as_ref())))
            }
            Down::Ban(ban) => {
                let reason: String = ban.reason.chars().take(256).collect();
                self.trouble(Condition::Banned, reason.escape_debug().to_string()).await;
                Some(End::Wait(self.banned_wait()))
            }
        }
    }
}

async fn next(
    down: &mut Streaming<wire::ServerMessage>,
) -> Result<Option<wire::ServerMessage>, Box<tonic::Status>> {
    down.message().await.map_err(Box::new)
}

/// Queues messages; says whether the stream still takes them.
async fn say(up: &mpsc::Sender<wire::AgentMessage>, messages: Vec<Up>) -> bool {
    for message in messages {
        if up.send(wire::AgentMessage { message: Some(message) }).await.is_err() {
            return false;
        }
    }
    true
}

fn hello(evidence: &Evidence) -> Up {
    let (sequence, digest) = evidence.bundle.clone().unwrap_or_default();
    Up::Hello(wire::Hello {
        build: BUILD.to_owned(),
        highest_sequence: sequence.0,
        highest_digest: if sequence.0 == 0 { Vec::new() } else { digest },
        held_serials: evidence
            .held
            .iter()
            .take(ROWS_MAX)
            .map(|serial| serial.as_bytes().to_vec())
            .collect(),
    })
}
