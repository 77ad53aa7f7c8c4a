//! The stream of one agent: bundles down, evidence up.
//!
//! An agent that was restarted is asked about leaves that its `Hello` did not name: it releases those whose keys are gone.
//!
//! It is driven by its reader: while the agent does not read, nothing is taken from it either, and when it reads again it
//! gets the newest bundle only. The agent is judged again before every message in either direction. Its evidence goes to
//! the ledger, which takes it for the agent's own rows and no others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal, echoed};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use ledger::{EvidenceError, Probed, Proof, Reported, Witness};
use proto::banyan::agent::v1 as wire_v1;
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::server_message::Message as Answer;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, Ban, Doubt, DoubtedRow, Drain, Hello, ReissueHint, Release, ServerMessage,
};
use registry::sessions::OpenSession;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use transport::Resident;
use trust::{Bundle, Sequence, Serial, Timestamp};

use crate::call::Call;
use crate::intake::Intake;
use crate::revocations::Revocations;
use crate::wire;
use control::ca::Ca;
use control::peers::calls::Word;
use control::peers::outbox::Voice;
use control::probing::{Allowed, Wanted};
use control::seen::{Judgement, Stored};

/// How long an agent waits before it connects again after a goodbye, in milliseconds: long enough for a restart to
/// begin, short enough not to matter.
const RECONNECT_AFTER_MS: u64 = 500;
/// The longest time over which agents that have to reconnect are spread.
const SPREAD_MAX_MS: u64 = 240_000;

/// Over how long an agent spreads the renewals of one request, in milliseconds. Requests are paced by the second.
const REISSUE_SPREAD_MS: u64 = 1_000;

/// Leaves that an agent is asked about in one message.
const DOUBTED_MAX: usize = 1_024;

mod handshakes;
mod listeners;
mod lists;
mod said;

struct Uplink {
    ca: Arc<Ca>,
    call: Call,
    agent: String,
    session: OpenSession,
    hints: mpsc::Receiver<Vec<Serial>>,
    messages: Streaming<AgentMessage>,
    intake: Intake,
    bundles: watch::Receiver<Bundle>,
    /// Those of other trust domains.
    foreign: watch::Receiver<Option<Arc<Vec<Bundle>>>>,
    /// Revocation lists.
    lists: lists::Lists,
    /// Whether agents are asked to probe their holders' listeners.
    probing: watch::Receiver<Option<Arc<Allowed>>>,
    ending: CancellationToken,
    /// Over how long agents are spread when they are sent elsewhere.
    departure: watch::Receiver<Option<Duration>>,
    /// The agent is told here when it is to leave, and not by the end of its connection.
    _resident: Option<Resident>,
    /// What it says of leaves of other servers.
    voice: Voice,
    /// What is still to be asked.
    doubts: Option<Doubts>,
    /// What it was told of revoked leaves.
    revocations: Revocations,
    /// The bundle under whose sequence the agent has other roots: up to it the numbers of both sides mean different things.
    differs: Option<Sequence>,
    ended: bool,
}

/// Leaves that the agent did not name, as far as it was not asked about them yet.
struct Doubts {
    known: BTreeSet<Serial>,
    after: Option<Serial>,
}

/// Judges the caller and opens the stream.
pub(crate) fn open(
    mut call: Call,
    messages: Streaming<AgentMessage>,
    mut departure: watch::Receiver<Option<Duration>>,
) -> Result<BoxStream<'static, Result<ServerMessage, Status>>, Status> {
    let agent = judge(&mut call).map_err(|refusal| call.refuse(refusal))?;
    let ca = Arc::clone(&call.ca);
    let mut bundles = ca.bundles.clone();
    bundles.mark_changed();
    let mut foreign = ca.federated.bundles.clone();
    foreign.mark_changed();
    let mut probing = ca.probing.watch();
    // Who was asked on a former stream hears whether that still stands.
    probing.mark_changed();
    departure.mark_changed();
    let (session, hints) = ca.sessions.open(&agent, ca.clock.now());
    let uplink = Uplink {
        lists: lists::Lists::of(&ca),
        voice: ca.peers.voice(&agent),
        session,
        hints,
        ending: call.peer.as_ref().map(|peer| peer.ending.clone()).unwrap_or_default(),
        _resident: call.peer.as_ref().map(|peer| Resident::on(&peer.conduct)),
        departure,
        ca,
        call,
        agent,
        messages,
        intake: Intake::new(),
        bundles,
        foreign,
        probing,
        doubts: None,
        revocations: Revocations::default(),
        differs: None,
        ended: false,
    };
    Ok(stream::unfold(uplink, Uplink::next).boxed())
}

/// The agent that calls, if it may at this moment.
fn judge(call: &mut Call) -> Result<String, Refusal> {
    call.ca.replication.may_release()?;
    let snapshot = call.ca.cell.load();
    let caller = call.authenticate(&snapshot)?;
    let (agent, _) = call.ca.authorizer.agent(&caller)?;
    Ok(agent.to_owned())
}

/// The next message up, not faster than they are taken.
async fn heard(
    intake: &mut Intake,
    messages: &mut Streaming<AgentMessage>,
) -> Result<Option<AgentMessage>, Status> {
    intake.ready().await;
    let said = messages.message().await;
    intake.took();
    said
}

impl Uplink {
    /// The next message down; takes messages up until there is one.
    async fn next(mut self) -> Option<(Result<ServerMessage, Status>, Self)> {
        while !self.ended {
            if let Some(doubt) = self.doubt() {
                return Some((Ok(self.message(doubt)), self));
            }
            if let Some(revoke) = self.revocations.news(&self.ca, &self.agent) {
                return Some((Ok(self.message(Answer::Revoke(revoke))), self));
            }
            let answer = tokio::select! {
                // The bundle goes first, whatever the agent has said by then.
                biased;
                () = self.ending.cancelled() => Some(self.goodbye()),
                changed = self.bundles.changed() => match changed {
                    Ok(()) => {
                        let bundle = self.bundles.borrow_and_update().clone();
                        Some(Answer::Bundle(wire::bundle(&bundle)))
                    }
                    // Whoever sends bundles has stopped, and so will the server.
                    Err(_) => Some(self.goodbye()),
                },
                Ok(()) = self.foreign.changed() => {
                    let foreign = self.foreign.borrow_and_update().clone();
                    // While they are not known, the agent stays with those that it has.
                    foreign.map(|bundles| Answer::Foreign(wire::foreign(&bundles)))
                }
                lists = self.lists.next() => Some(Answer::Lists(lists)),
                Ok(()) = self.probing.changed() => {
                    Some(probe(self.probing.borrow_and_update().as_ref().map(|one| one.wanted)))
                }
                Ok(()) = self.departure.changed() => {
                    let spread = *self.departure.borrow_and_update();
                    spread.map(elsewhere)
                }
                Some(serials) = self.hints.recv() => {
                    self.revocations.look();
                    match serials.is_empty() {
                        // Only to be judged again.
                        true => match self.judged().await {
                            Ok(()) => None,
                            Err(refusal) => return Some(self.dismiss(refusal)),
                        },
                        false => Some(renew(&serials)),
                    }
                },
                said = heard(&mut self.intake, &mut self.messages) => match said {
                    Ok(Some(message)) => {
                        match self.judged().await {
                            Ok(()) => self.hear(message).await,
                            Err(refusal) => return Some(self.dismiss(refusal)),
                        }
                        None
                    }
                    // The agent is gone, or its connection is: it comes again and says everything again.
                    Ok(None) | Err(_) => return None,
                },
            };
            let Some(answer) = answer else { continue };
            return Some(match self.judged().await {
                Ok(()) => (Ok(self.message(answer)), self),
                Err(refusal) => self.dismiss(refusal),
            });
        }
        None
    }

    fn goodbye(&mut self) -> Answer {
        self.ended = true;
        Answer::Drain(Drain {
            reconnect_after_ms: RECONNECT_AFTER_MS,
            spread_ms: self.spread_ms(),
            elsewhere: false,
        })
    }

    /// Over how long the agents that are connected come back, if all have to.
    fn spread_ms(&self) -> u64 {
        spread_of(self.ca.sessions.connected_agents(), self.ca.reconnects_per_second)
    }

    fn message(&self, answer: Answer) -> ServerMessage {
        ServerMessage { message: Some(answer), reconnect_spread_ms: self.spread_ms() }
    }

    async fn judged(&mut self) -> Result<(), Refusal> {
        self.call.meet().await;
        judge(&mut self.call).map(drop)
    }

    /// Ends the stream, and says why.
    fn dismiss(mut self, refusal: Refusal) -> (Result<ServerMessage, Status>, Self) {
        self.ended = true;
        let banned = refusal.reason() == Reason::AgentBanned;
        let reason = refusal.message();
        let status = self.call.refuse(refusal);
        let last = match banned {
            true => Ok(self.message(Answer::Ban(Ban { reason }))),
            false => Err(status),
        };
        (last, self)
    }

    async fn hear(&mut self, message: AgentMessage) {
        let now = self.ca.clock.now();
        match message.message {
            Some(Said::Hello(hello)) => self.hello(&hello),
            Some(Said::Refusals(refusals)) => self.refusals(refusals),
            Some(Said::Ack(ack)) => self.ack(&ack).await,
            Some(Said::Nack(nack)) => self.nack(&nack),
            Some(Said::Release(release)) => self.release(&release).await,
            Some(Said::Probed(probed)) => self.probed(&probed).await,
            Some(Said::Handshakes(counts)) => self.handshakes(&counts),
            Some(Said::Listeners(listeners)) => self.listeners(&listeners),
            Some(Said::Lists(lists)) => self.lists_applied(&lists),
            Some(Said::Health(_)) => self.session.note(now, |_| {}),
            // Of a newer agent.
            None => {}
        }
    }

    fn hello(&mut self, hello: &Hello) {
        let (now, build) = (self.ca.clock.now(), echoed(&hello.build));
        let highest = Sequence(hello.highest_sequence);
        let present = self.bundles.borrow().sequence();
        let stored = Stored::new(hello.highest_sequence, &hello.highest_digest);
        let differs = matches!(self.ca.hear(&self.agent, stored), Judgement::Other(_));
        self.differs = differs.then_some(highest);
        if let Some(left_out) = self.may_say("hello") {
            let held = hello.held_serials.len();
            tracing::info!(agent = self.agent, build, held, left_out, "agent connected");
        }
        self.session.note(now, |session| {
            session.build = build;
            session.sequence = highest.min(present);
        });
        let known =
            hello.held_serials.iter().filter_map(|serial| Serial::from_bytes(serial)).collect();
        self.held_after_all(&known);
        self.doubts = Some(Doubts { known, after: None });
        self.revocations.look();
    }

    /// An agent is believed before an operator who took a leaf of it for gone.
    fn held_after_all(&self, known: &BTreeSet<Serial>) {
        let rows = self.ca.ledger.forgotten().into_iter().map(|live| live.row.serial);
        for serial in rows.filter(|serial| known.contains(serial)) {
            let held = self.ca.ledger.held(Witness::Agent(&self.agent), serial);
            if held == Ok(Reported::New) {
                tracing::warn!(agent = self.agent, %serial, "a leaf that was forgotten by an operator's word is held");
            }
        }
    }

    /// The next leaves to ask about; the last page says that it is.
    fn doubt(&mut self) -> Option<Answer> {
        let mut doubts = self.doubts.take()?;
        let rows =
            self.ca.ledger.rows_beyond(&self.agent, &doubts.known, doubts.after, DOUBTED_MAX);
        let last = rows.len() < DOUBTED_MAX;
        if !last {
            doubts.after = rows.last().map(|(serial, _)| *serial);
            self.doubts = Some(doubts);
        }
        let row = |(serial, not_after): &(Serial, Timestamp)| DoubtedRow {
            serial: serial.as_bytes().to_vec(),
            not_after: not_after.as_secs(),
        };
        Some(Answer::Doubt(Doubt { rows: rows.iter().map(row).collect(), last }))
    }

    async fn ack(&self, ack: &Ack) {
        let now = self.ca.clock.now();
        let present = self.bundles.borrow().sequence();
        let mut newest = Sequence(0);
        for row in &ack.rows {
            let applied = Sequence(row.sequence);
            let (Some(serial), Some(class)) =
                (Serial::from_bytes(&row.serial), wire::class(row.evidence))
            else {
                continue;
            };
            if applied > present {
                self.ca.hear(&self.agent, Stored::new(row.sequence, &[]));
                continue;
            }
            if self.differs.is_some_and(|differs| applied <= differs) {
                tracing::debug!(agent = self.agent, %serial, %applied, "an acknowledgement of other roots counts for nothing");
                continue;
            }
            newest = newest.max(applied);
            let proof = Proof { applied, class, at: now };
            let taken = self.ca.ledger.ack(Witness::Agent(&self.agent), serial, proof).await;
            self.note_evidence(Word::Applied(applied, class), serial, taken.map(drop));
        }
        self.session.note(now, |session| session.sequence = session.sequence.max(newest));
    }

    async fn release(&self, release: &Release) {
        for serial in release.serials.iter().filter_map(|bytes| Serial::from_bytes(bytes)) {
            let taken = self.ca.ledger.release(Witness::Agent(&self.agent), serial).await;
            self.note_evidence(Word::Released, serial, taken.map(drop));
        }
        self.session.note(self.ca.clock.now(), |_| {});
    }

    /// Whether a line that this agent causes is written, and how many of its kind were not.
    fn may_say(&self, kind: &'static str) -> Option<u64> {
        self.ca.hush.may_say(kind, &self.agent, self.ca.clock.uptime())
    }

    /// Evidence that is not taken moves nothing; level-triggered agents repeat themselves, so it is no alarm. What is said of
    /// a leaf that is not known here is passed on.
    fn note_evidence(&self, word: Word, serial: Serial, taken: Result<(), EvidenceError>) {
        match taken {
            Ok(()) => {}
            Err(EvidenceError::UnknownRow(_)) if !self.ca.replication.is_alone() => {
                self.voice.say(serial, word);
            }
            Err(error) => {
                tracing::debug!(agent = self.agent, %serial, ?word, %error, "evidence not taken");
            }
        }
    }
}

fn spread_of(agents: usize, per_second: u64) -> u64 {
    let agents = u64::try_from(agents).unwrap_or(u64::MAX);
    (agents.saturating_mul(1_000) / per_second.max(1)).min(SPREAD_MAX_MS)
}

/// Asks to leave for another server within this time.
fn elsewhere(spread: Duration) -> Answer {
    let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
    Answer::Drain(Drain { reconnect_after_ms: RECONNECT_AFTER_MS, spread_ms, elsewhere: true })
}

fn probe(wanted: Option<Wanted>) -> Answer {
    Answer::Probe(wanted.map_or_else(wire_v1::Probe::default, |wanted| wire_v1::Probe {
        sequence: wanted.sequence.0,
        root: wanted.root.as_bytes().to_vec(),
    }))
}

/// What an agent says that it saw. It cannot have seen anything of a bundle that was never published.
pub(crate) fn probed(outcome: i32, sequence: Sequence, present: Sequence) -> Probed {
    use wire_v1::ProbeOutcome as Outcome;
    match Outcome::try_from(outcome) {
        _ if sequence > present || sequence == Sequence(0) => Probed::Nothing,
        Ok(Outcome::NotProbeable) => Probed::NotProbeable(sequence),
        Ok(Outcome::Unable) => Probed::Unable(sequence),
        Ok(Outcome::Observed) => Probed::Observed(sequence),
        Ok(Outcome::Unspecified) | Err(_) => Probed::Nothing,
    }
}

fn renew(serials: &[Serial]) -> Answer {
    let serials = serials.iter().map(|serial| serial.as_bytes().to_vec()).collect();
    Answer::Reissue(ReissueHint { serials, spread_ms: REISSUE_SPREAD_MS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_spread_by_how_many_are_connected_and_never_for_longer_than_they_wait() {
        assert_eq!([0, 1, 200, 10_000].map(|agents| spread_of(agents, 200)), [0, 5, 1_000, 50_000]);
        assert_eq!((spread_of(200, 20), spread_of(usize::MAX, 200)), (10_000, SPREAD_MAX_MS));
    }
}
