//! The stream to the CA: bundles down, evidence up.
//!
//! By level: what was said is remembered only for the life of one stream, so after a reconnect everything is said again, to
//! whichever server answers then. A slow stream loses nothing but old states, since each round says what is true then.
//!
//! It follows the place that calls use ([`crate::ca_client::Addresses`]). Where it moves without need, because its server sends
//! agents elsewhere or because calls left that place, the next stream is up before the former one ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::server_message::Message as Down;
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use trust::{Bundle, Clock, Randomness, Serial};

use crate::backoff::{Backoff, spread};
use crate::bundle_store;
use crate::ca_client::{CALL_TIMEOUT, CaClient, CallError, Place, refused};
use crate::config::AgentConfig;
use crate::evidence::Evidence;
use crate::first_contact::{self, FirstContactError};
use crate::foreign;
use crate::hub::{Command, HubHandle};
use crate::leaf::Leaf;
use crate::lists;
use crate::probed::{self, Wanted};
use crate::status::Condition;
use line::{Line, UP_MAX, hello};

mod line;
mod said;

/// How often the CA hears how the agent is.
const HEALTH: Duration = Duration::from_secs(30);
/// After a change of trust or of the own certificate, agents reconnect within this time, not all at once.
const REBUILD_SPREAD: Duration = Duration::from_secs(2);
/// A banned agent asks again within this time, and not sooner than after half of it.
const BANNED_WAIT: Duration = Duration::from_secs(10);
/// The longest time that a CA may send an agent away for.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// An agent that was sent elsewhere and found nothing looks again after this time, and up to twice of it.
const ELSEWHERE_AGAIN: Duration = Duration::from_secs(5);
/// Time for the server of a stream that was left in order to hear the last of it.
const GOODBYE: Duration = Duration::from_secs(2);

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
    /// Over how long the server of the present stream spreads the agents that it sends away.
    pub(crate) away: Duration,
    /// Whether it was said that there is no connection, so that its return is said too.
    pub(crate) missed: bool,
    /// Where the certificate is told with which the CA does not know this agent: joining again is the membership's task.
    pub(crate) turned_away: watch::Sender<Option<Serial>>,
    /// Where it is told what the CA wants probed.
    pub(crate) probes: watch::Sender<Option<Wanted>>,
}

/// Why a stream ended.
enum End {
    /// A new bundle or certificate is in force: the next stream rests on it.
    Rebuild,
    /// Another stream is up, at another place.
    Moved(Box<Line>),
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

/// What a message of the CA makes of the stream.
enum Order {
    GoOn,
    End(End),
    /// Go elsewhere within this time; the stream goes on until then.
    Elsewhere(Duration),
}

/// A stream that did not come up, and where.
struct Unopened {
    place: Option<Place>,
    error: CallError,
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
        let mut opened = None;
        loop {
            let member = self.credential.wait_for(Option::is_some).await.is_ok();
            let trust = self.trust.wait_for(Option::is_some).await.is_ok();
            if !member || !trust {
                return;
            }
            let ended = match self.one_stream(opened.take(), &mut backoff).await {
                Ok(End::Moved(line)) => {
                    opened = Some(line);
                    continue;
                }
                ended => ended,
            };
            if self.hub.send(Command::Uplink(false)).await.is_err() {
                return;
            }
            let wait = match ended {
                Ok(End::Left) => return,
                Ok(End::Rebuild | End::Moved(_)) => Duration::ZERO,
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
                    self.come_back_later().await;
                    match error.leaves() && self.client.addresses().has_fresh().await {
                        true => Duration::ZERO,
                        false => backoff.wait(self.randomness.as_ref()),
                    }
                }
                Err(unopened) => self.no_stream(&unopened, &mut backoff).await,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // With another certificate the CA may decide otherwise.
                Ok(()) = self.credential.changed() => {}
            }
        }
    }

    /// Waits as long as the CA wants its agents spread. It is said anew on the next stream; until then, failures are spread by
    /// the back-off.
    async fn come_back_later(&mut self) {
        let within = std::mem::take(&mut self.comeback);
        tokio::time::sleep(spread(within, self.randomness.as_ref())).await;
    }

    /// Says what is wrong when no stream came up, and how long to wait.
    async fn no_stream(&mut self, unopened: &Unopened, backoff: &mut Backoff) -> Duration {
        let error = &unopened.error;
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
        self.come_back_later().await;
        match error.is_unreachable() && self.go_on(unopened).await {
            true => Duration::ZERO,
            false => backoff.wait(self.randomness.as_ref()),
        }
    }

    /// Whether something may be tried at once: the same place with the bundle that was found there, or another place.
    async fn go_on(&self, unopened: &Unopened) -> bool {
        let error = &unopened.error;
        let Some(place) = &unopened.place else {
            self.trouble(Condition::CaAway, error.to_string()).await;
            return false;
        };
        // Whoever answers there may have a bundle that this agent does not know yet.
        if error.is_distrust() && self.find_way(place, error).await {
            return true;
        }
        self.client.judge(place, error);
        if error.leaves() && self.client.addresses().has_fresh().await {
            return true;
        }
        !error.is_distrust() && self.find_way(place, error).await
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

    /// Opens a stream at a place, with the bundle and the certificate of this moment.
    async fn open(&mut self, place: &Place) -> Result<Line, CallError> {
        self.trust.mark_unchanged();
        self.credential.mark_unchanged();
        let own = self.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
        let mut client = self.client.authenticated(place)?;
        let (up, outbound) = mpsc::channel(UP_MAX);
        let hello = hello(&self.evidence.borrow_and_update().clone());
        // The queue is new and empty.
        let _ = up.try_send(wire::AgentMessage { message: Some(hello) });
        let opening = client.connect(Request::new(ReceiverStream::new(outbound)));
        let late = || tonic::Status::deadline_exceeded("no stream began in time");
        let answer =
            tokio::time::timeout(CALL_TIMEOUT, opening).await.unwrap_or_else(|_| Err(late()));
        let down = answer.map_err(|status| refused(place, status))?.into_inner();
        self.client.addresses().answers(place);
        Ok(Line::new(place.clone(), own, up, down))
    }

    async fn open_in_use(&mut self) -> Result<Line, Unopened> {
        let place = self.client.place().await;
        let place = place.map_err(|error| Unopened { place: None, error })?;
        let opened = self.open(&place).await;
        opened.map_err(|error| Unopened { place: Some(place), error })
    }

    async fn one_stream(
        &mut self,
        opened: Option<Box<Line>>,
        backoff: &mut Backoff,
    ) -> Result<End, Unopened> {
        let mut line = match opened {
            Some(line) => *line,
            None => self.open_in_use().await?,
        };
        self.up_and_running(&line.place).await;
        backoff.reset();
        let mut health = tokio::time::interval(HEALTH);
        // Neither is polled before there is reason to.
        let mut rebuild = Box::pin(tokio::time::sleep(Duration::MAX));
        let mut elsewhere = Box::pin(tokio::time::sleep(Duration::MAX));
        let mut in_use = self.client.addresses().watch();
        in_use.mark_changed();
        self.evidence.mark_changed();
        loop {
            tokio::select! {
                message = line.next() => match message {
                    Ok(Some(message)) => match self.obey(message).await {
                        Order::GoOn => {}
                        Order::End(end) => return Ok(end),
                        Order::Elsewhere(within) => {
                            self.away = within;
                            elsewhere = self.within(within);
                        }
                    },
                    Ok(None) => return Ok(End::Closed),
                    Err(error) => {
                        self.client.judge(&line.place, &error);
                        return Ok(End::Broken(error));
                    }
                },
                Ok(()) = self.evidence.changed() => {
                    let evidence = Arc::clone(&self.evidence.borrow_and_update());
                    if !line.say_news(&evidence).await {
                        return Ok(End::Wait(backoff.wait(self.randomness.as_ref())));
                    }
                }
                _ = health.tick() => {
                    let report = self.evidence.borrow().health;
                    line.say(vec![Up::Health(report)]).await;
                }
                Ok(()) = self.trust.changed() => rebuild = self.soon(),
                Ok(()) = self.credential.changed() => rebuild = self.soon(),
                () = &mut rebuild => return Ok(End::Rebuild),
                Ok(()) = in_use.changed() => {
                    if in_use.borrow_and_update().as_ref() != Some(&line.place) {
                        return self.follow(line).await;
                    }
                }
                () = &mut elsewhere => match self.elsewhere(&line.place).await {
                    Some(next) => return Ok(self.moved(line, next)),
                    None => elsewhere = self.later(),
                },
                () = self.leave.asked.cancelled() => {
                    let evidence = Arc::clone(&self.evidence.borrow_and_update());
                    line.say_news(&evidence).await;
                    line.end().await;
                    return Ok(End::Left);
                }
            }
        }
    }

    /// A call has left the place of this stream: goes to the one that calls use now.
    async fn follow(&mut self, line: Line) -> Result<End, Unopened> {
        self.missed = true;
        let next = self.open_in_use().await?;
        Ok(self.moved(line, next))
    }

    /// The former stream ends when the next one is up.
    fn moved(&self, former: Line, next: Line) -> End {
        tracing::info!(
            from = former.place.label(),
            to = next.place.label(),
            "going to another address of the CA"
        );
        // Nobody waits for it: what it says is said again on the next one.
        tokio::spawn(tokio::time::timeout(GOODBYE, former.end()));
        End::Moved(Box::new(next))
    }

    /// Opens a stream at another place, if there is one that has not failed lately.
    async fn elsewhere(&mut self, from: &Place) -> Option<Line> {
        let client = Arc::clone(&self.client);
        let other = client.addresses().another(from).await?;
        let pending = (self.trust.has_changed(), self.credential.has_changed());
        match self.open(&other).await {
            Ok(line) => {
                client.addresses().sent_away(from, self.away.saturating_mul(2));
                client.addresses().move_to(&other);
                Some(line)
            }
            Err(error) => {
                tracing::info!(%error, "sent elsewhere by the CA, and another address does not take this agent");
                client.addresses().note(&other, &error.to_string());
                // The present stream still has to rest on what changed.
                if pending.0.unwrap_or(false) {
                    self.trust.mark_changed();
                }
                if pending.1.unwrap_or(false) {
                    self.credential.mark_changed();
                }
                None
            }
        }
    }

    /// Perhaps the bundle changed while nobody listened: looks for the way from the one that is held to the present one.
    /// Says whether it led on; if not, what is wrong is a condition.
    async fn find_way(&self, place: &Place, trouble: &CallError) -> bool {
        let Some(held) = self.trust.borrow().clone() else { return false };
        let found = first_contact::present(&held, &self.config, place, &self.clock).await;
        let what = match found {
            Ok(found) if found.sequence() > held.sequence() => {
                tracing::info!(from = %held.sequence(), to = %found.sequence(), "the bundle changed meanwhile");
                return self.hub.offer(Ok(found)).await.is_ok();
            }
            // Nothing is to be added to what the call said.
            Ok(_) | Err(FirstContactError::Call(_)) => trouble.to_string(),
            Err(error) => format!("{trouble}; {error}"),
        };
        let others = self.client.others();
        let what = match self.config.ca_addresses.len() {
            1 => what,
            _ => format!("{what}; no address of the CA can be used: {others}"),
        };
        self.trouble(Condition::CaAway, what).await;
        false
    }

    async fn up_and_running(&mut self, place: &Place) {
        if std::mem::take(&mut self.missed) {
            tracing::info!(address = place.label(), "connected again");
        }
        self.turned_away.send_replace(None);
        self.no_trouble().await;
        // At shutdown nobody reads it any more.
        let _ = self.hub.send(Command::Uplink(true)).await;
    }

    fn soon(&self) -> Pin<Box<Sleep>> {
        self.within(REBUILD_SPREAD.max(self.comeback))
    }

    fn within(&self, bound: Duration) -> Pin<Box<Sleep>> {
        Box::pin(tokio::time::sleep(spread(bound, self.randomness.as_ref())))
    }

    /// When an agent that found nothing elsewhere looks again.
    fn later(&self) -> Pin<Box<Sleep>> {
        let more = spread(ELSEWHERE_AGAIN, self.randomness.as_ref());
        Box::pin(tokio::time::sleep(ELSEWHERE_AGAIN + more))
    }

    async fn obey(&mut self, message: wire::ServerMessage) -> Order {
        if message.reconnect_spread_ms > 0 {
            self.comeback = Duration::from_millis(message.reconnect_spread_ms).min(DRAIN_MAX);
        }
        let Some(message) = message.message else { return Order::GoOn };
        match message {
            Down::Bundle(bundle) => {
                // A refusal is noted by the hub, and reaches the CA as a Nack.
                let offered = bundle_store::from_wire(&self.config.trust_domain, &bundle);
                let _ = self.hub.offer(offered).await;
                Order::GoOn
            }
            Down::Foreign(said) => {
                let offered = foreign::from_wire(&self.config.trust_domain, &said);
                self.tell(Command::Foreign(offered)).await
            }
            Down::Reissue(hint) => {
                let serials =
                    hint.serials.iter().filter_map(|serial| Serial::from_bytes(serial)).collect();
                let spread = Duration::from_millis(hint.spread_ms);
                self.tell(Command::Reissue { serials, spread }).await
            }
            Down::Doubt(doubt) => {
                let rows = said::rows(&doubt.rows);
                self.tell(Command::Doubt { rows, last: doubt.last }).await
            }
            Down::Probe(said) => {
                probed::heard(&said, &self.probes);
                Order::GoOn
            }
            Down::Revoke(revoked) => self.tell(Command::Revoke(said::rows(&revoked.rows))).await,
            Down::Lists(said) => self.tell(Command::Lists(lists::from_wire(said))).await,
            Down::Drain(drain) => self.drained(&drain),
            Down::Ban(ban) => {
                let reason: String = ban.reason.chars().take(256).collect();
                self.trouble(Condition::Banned, reason.escape_debug().to_string()).await;
                Order::End(End::Wait(self.banned_wait()))
            }
        }
    }

    async fn tell(&self, command: Command) -> Order {
        // At shutdown nobody hears it any more.
        let _ = self.hub.send(command).await;
        Order::GoOn
    }

    fn drained(&self, drain: &wire::Drain) -> Order {
        let (after_ms, spread_ms) = (drain.reconnect_after_ms, drain.spread_ms);
        let within = Duration::from_millis(spread_ms).min(DRAIN_MAX);
        if drain.elsewhere {
            tracing::info!(spread_ms, "the CA's server sends its agents elsewhere");
            return Order::Elsewhere(within);
        }
        let wait = Duration::from_millis(after_ms).min(DRAIN_MAX);
        tracing::info!(after_ms, spread_ms, "the CA drains");
        Order::End(End::Wait(wait + spread(within.max(wait / 4), self.randomness.as_ref())))
    }
}
