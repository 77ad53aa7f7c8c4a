//! What is known of one connection: whether a caller of it was ever believed, what it makes the server keep, and what it
//! costs. The connection's own tasks write it down; [`Crowd`](crate::crowd::Crowd) looks at all connections and judges.
//!
//! Everything is an atomic: a request costs a few of them. Time is the crowd's count of ticks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::common::Common;
use crate::cut::Cut;

/// What a stream costs beside its bytes: its task, its place in HTTP/2, its answer's header. Measured at about 9.6 KB for
/// a small answer, at 16.5 KB without optimisation, what the allocator keeps included.
const STREAM_BYTES: u64 = 16 * 1024;
/// Bytes of request headers that a connection without a credential may send at once, and per tick from then on.
const HEADER_BURST: i64 = 1024 * 1024;
const HEADER_BYTES_PER_TICK: i64 = 64 * 1024;
/// What a request counts for beside its metadata.
const REQUEST_HEADER_BYTES: i64 = 128;
/// Requests under way with which a connection without a credential ends when the budget is spent.
const UNTRUSTED_STREAMS_OVER_BUDGET: u32 = 16;
/// Ages of answers that wait, in halves of the deadline; what has the last one is late.
const AGES: usize = 4;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// It is shaking hands, and its client is waited for.
    Shaking = 0,
    /// It is shaking hands, and waits for the server.
    Computing = 1,
    /// It has shaken hands and asked for nothing.
    Silent = 2,
    /// It has asked for something.
    Open = 3,
    /// It was told to end.
    Leaving = 4,
}

/// A client's address as far as limits go: IPv4 as a whole, IPv6 by its first 64 bits, which one client has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(u64, bool);

/// One connection.
#[derive(Debug)]
pub struct Conduct {
    pub(crate) number: u64,
    pub(crate) network: Option<Network>,
    common: Arc<Common>,
    stage: AtomicU8,
    known: AtomicBool,
    /// Requests that are not yet answered, or whose answer is not yet sent.
    exchanges: AtomicU32,
    held: AtomicU64,
    /// Pieces of answers that wait to be sent, by the half deadline in which they began to.
    waiting: [AtomicU32; AGES],
    /// When it last came a stage further, or finished a request.
    last: AtomicU32,
    /// When a write first found the way full; 0 while it is free.
    full_since: AtomicU32,
    header_bytes: AtomicI64,
    header_tick: AtomicU32,
    /// Frames of control that answers have earned it since they were last taken.
    earned: AtomicU32,
    /// Ends it in order.
    pub(crate) ending: CancellationToken,
    /// Those whose client is told in words of its own when it is to leave.
    pub(crate) residents: watch::Sender<u32>,
    /// Ends it now.
    cut: Notify,
    cut_for: AtomicU8,
}

impl Network {
    /// The network of an address.
    pub(crate) fn of(addr: SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(ip.to_bits()), false),
            IpAddr::V6(ip) => Self(u64::try_from(ip.to_bits() >> 64).unwrap_or_default(), true),
        }
    }
}

impl Conduct {
    pub(crate) fn new(
        number: u64,
        network: Option<Network>,
        common: Arc<Common>,
        ending: CancellationToken,
    ) -> Self {
        let now = common.now();
        Self {
            number,
            network,
            known: AtomicBool::new(common.rules.all_known),
            common,
            stage: AtomicU8::new(Stage::Shaking as u8),
            exchanges: AtomicU32::new(0),
            held: AtomicU64::new(0),
            waiting: Default::default(),
            last: AtomicU32::new(now),
            full_since: AtomicU32::new(0),
            header_bytes: AtomicI64::new(HEADER_BURST),
            header_tick: AtomicU32::new(now),
            earned: AtomicU32::new(0),
            ending,
            residents: watch::channel(0).0,
            cut: Notify::new(),
            cut_for: AtomicU8::new(u8::MAX),
        }
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Shaking,
            1 => Stage::Computing,
            2 => Stage::Silent,
            3 => Stage::Open,
            _ => Stage::Leaving,
        }
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
        self.last.store(self.common.now(), Relaxed);
    }

    /// A caller on this connection proved who it is.
    pub fn believed(&self) {
        if !self.known.load(Relaxed) {
            self.known.store(true, Relaxed);
        }
    }

    /// Whether a caller of it was ever believed.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    /// Whether nothing is under way on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.exchanges.load(Relaxed) == 0
    }

    /// Ticks since it last came a stage further, or finished a request.
    pub(crate) fn rest(&self) -> u32 {
        self.common.now().saturating_sub(self.last.load(Relaxed))
    }

    pub(crate) fn last(&self) -> u32 {
        self.last.load(Relaxed)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Ends it now. The first reason counts.
    pub(crate) fn cut(&self, why: Cut) {
        if self.cut_for.compare_exchange(u8::MAX, why as u8, Relaxed, Relaxed).is_ok() {
            self.stage.store(Stage::Leaving as u8, Relaxed);
            self.common.note(why);
        }
        self.cut.notify_one();
    }

    /// Why it was cut, if it was.
    pub(crate) fn cut_for(&self) -> Option<Cut> {
        Cut::ALL.get(usize::from(self.cut_for.load(Relaxed))).copied()
    }

    /// Ends when the connection is to end now.
    pub(crate) async fn is_cut(&self) {
        self.cut.notified().await;
    }

    /// Ends when nobody resides on it.
    pub(crate) async fn is_without_residents(&self) {
        // The sender is this connection's own.
        let _ = self.residents.subscribe().wait_for(|residents| *residents == 0).await;
    }

    /// Begins a request.
    pub(crate) fn begin(self: &Arc<Self>, metadata_bytes: usize) -> Arc<Exchange> {
        if self.stage() == Stage::Silent {
            self.stage.store(Stage::Open as u8, Relaxed);
        }
        let before = self.exchanges.fetch_add(1, Relaxed);
        let bytes = STREAM_BYTES.saturating_add(u64::try_from(metadata_bytes).unwrap_or(u64::MAX));
        self.hold(bytes);
        let known = self.is_known();
        if !known {
            let bytes = i64::try_from(metadata_bytes)
                .unwrap_or(i64::MAX)
                .saturating_add(REQUEST_HEADER_BYTES);
            self.header_bytes.fetch_sub(bytes, Relaxed);
        }
        // The first one is always heard: who comes anew is nobody who made others wait.
        let budget_spent = before > 0 && self.common.is_over_budget();
        let too_many = !known && (before >= self.common.rules.untrusted_streams || budget_spent);
        if budget_spent && !known && before >= UNTRUSTED_STREAMS_OVER_BUDGET {
            // Even a refusal is something to keep, and those who look at the crowd may come late.
            self.cut(Cut::Budget);
        }
        Arc::new(Exchange { conduct: Arc::clone(self), bytes: AtomicU64::new(bytes), too_many })
    }

    /// Ticks until more may be read: headers come from a connection without a credential at a bounded rate.
    pub(crate) fn must_rest(&self) -> Option<u32> {
        if self.header_bytes.load(Relaxed) >= 0 || self.is_known() {
            return None;
        }
        let now = self.common.now();
        let passed = now.saturating_sub(self.header_tick.swap(now, Relaxed));
        let more = i64::from(passed).saturating_mul(HEADER_BYTES_PER_TICK);
        let left = self.header_bytes.fetch_add(more, Relaxed).saturating_add(more);
        if left > HEADER_BURST {
            self.header_bytes.store(HEADER_BURST, Relaxed);
        }
        let ticks = (-left).div_euclid(HEADER_BYTES_PER_TICK).saturating_add(1);
        (left < 0).then(|| u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Takes what answers have earned.
    pub(crate) fn take_earned(&self) -> u32 {
        if self.earned.load(Relaxed) == 0 { 0 } else { self.earned.swap(0, Relaxed) }
    }

    /// Notes whether the way to the client is full.
    pub(crate) fn way_is(&self, full: bool) {
        let since = self.full_since.load(Relaxed);
        match (full, since) {
            (true, 0) => self.full_since.store(self.common.now().max(1), Relaxed),
            (false, 1..) => self.full_since.store(0, Relaxed),
            _ => {}
        }
    }

    /// Whether an answer has been waiting longer than answers may.
    pub(crate) fn is_late(&self) -> bool {
        let rules = &self.common.rules;
        let full = self.full_since.load(Relaxed);
        if full != 0 && self.common.now().saturating_sub(full) > rules.answer {
            return true;
        }
        let oldest = self.waiting.get(slot(self.half_deadline() + 1));
        oldest.is_some_and(|waiting| waiting.load(Relaxed) > 0)
    }

    fn half_deadline(&self) -> u32 {
        self.common.now() / (self.common.rules.answer / 2).max(1)
    }

    fn hold(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
        self.common.hold(bytes);
    }

    fn let_go(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
        self.common.let_go(bytes);
    }
}

/// One request, from its header until the last byte of its answer is sent or given up. Requests, answers and pieces of
/// answers share it.
#[derive(Debug)]
pub(crate) struct Exchange {
    conduct: Arc<Conduct>,
    bytes: AtomicU64,
    too_many: bool,
}

impl Exchange {
    /// Whether it is one more than the connection may have, being nobody's that is known.
    pub(crate) const fn is_too_many(&self) -> bool {
        self.too_many
    }

    /// Whether a caller on its connection was ever believed.
    pub(crate) fn is_known(&self) -> bool {
        self.conduct.is_known()
    }

    /// Counts bytes of its message.
    pub(crate) fn hold(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Relaxed);
        self.conduct.hold(bytes);
    }

    /// Its answer begins. Of a caller who is known only what waits to be sent counts from now on: a stream may last.
    pub(crate) fn answered(&self) {
        if self.conduct.is_known() {
            self.conduct.let_go(self.bytes.swap(0, Relaxed));
        }
    }

    /// Counts a piece of its answer, which waits from now on. Answers the age under which it is counted.
    pub(crate) fn wait(&self, bytes: usize) -> usize {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.conduct.hold(bytes);
        let frames = u32::try_from(bytes / 4096).unwrap_or(u32::MAX).saturating_add(8);
        self.conduct.earned.fetch_add(frames, Relaxed);
        let slot = slot(self.conduct.half_deadline());
        if let Some(waiting) = self.conduct.waiting.get(slot) {
            waiting.fetch_add(1, Relaxed);
        }
        slot
    }

    /// A piece was sent, or will not be.
    pub(crate) fn waited(&self, bytes: usize, slot: usize) {
        self.conduct.let_go(u64::try_from(bytes).unwrap_or(u64::MAX));
        if let Some(waiting) = self.conduct.waiting.get(slot) {
            waiting.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.conduct.let_go(self.bytes.load(Relaxed));
        self.conduct.exchanges.fetch_sub(1, Relaxed);
        self.conduct.last.store(self.conduct.common.now(), Relaxed);
    }
}

fn slot(half_deadline: u32) -> usize {
    usize::try_from(half_deadline).unwrap_or_default() % AGES
}
