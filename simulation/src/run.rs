//! What all parts of one run share: chance, time, the trace, and whether a rule was broken.

use std::fmt::Display;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::MachineClock;
use crate::dice::Dice;
use crate::trap::{Point, Trap};

/// A part that does something else than it should, to show that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Disks say that they synced, and did not.
    LyingDisk,
    /// The store takes a write whatever version it expects.
    LyingStore,
    /// Agents acknowledge a bundle before its holders have it.
    EarlyAck,
    /// Agents hand over a leaf before the bundle that it needs.
    LeafFirst,
    /// Gates rest on rows of the reporting server alone, as if it had read all segments.
    UnreadSegments,
    /// Gates rest on no rows at all.
    NoRows,
    /// Gates take bounds for passed that have not passed.
    EarlyBounds,
    /// A server answers without a lease.
    NoLease,
    /// A server that lost its disk says that it read every former segment.
    LostCountsAsRead,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::LyingDisk,
        Self::LyingStore,
        Self::EarlyAck,
        Self::LeafFirst,
        Self::UnreadSegments,
        Self::NoRows,
        Self::EarlyBounds,
        Self::NoLease,
        Self::LostCountsAsRead,
    ];
}

/// How a run is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// Whether what happens is printed.
    pub trace: bool,
    /// A run in which nothing goes wrong by chance.
    pub quiet: Option<Quiet>,
}

/// A run in which nothing goes wrong, but for one durable operation.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// How many servers there are.
    pub servers: usize,
    /// The operation that fails.
    pub point: Option<Point>,
}

/// What happened in a run, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps: accesses to the store, calls of agents, faults.
    pub steps: u64,
    /// Processes that were killed, and machines that lost power.
    pub crashes: u64,
    /// Lines that were cut.
    pub partitions: u64,
    /// Rotations that ended.
    pub rotations: u64,
    /// Pairs that shook hands.
    pub handshakes: u64,
    /// Leaves that were released.
    pub leaves: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        let Self { steps, crashes, partitions, rotations, handshakes, leaves } = other;
        self.steps += steps;
        self.crashes += crashes;
        self.partitions += partitions;
        self.rotations += rotations;
        self.handshakes += handshakes;
        self.leaves += leaves;
    }
}

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) options: Options,
    /// How much more often than usual small things go wrong.
    trouble: u64,
    pub(crate) began: Instant,
    pub(crate) true_clock: MachineClock,
    pub(crate) trap: Trap,
    dice: Mutex<Dice>,
    hash: Mutex<std::hash::DefaultHasher>,
    counts: Mutex<Counts>,
    /// Faults are over: everything must come to rest.
    calm: AtomicBool,
    serial: AtomicU64,
    violation: Mutex<Option<String>>,
}

impl Run {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let (began, mut dice) = (Instant::now(), Dice::of(seed));
        let trouble = [1, 1, 2, 5].get(dice.index(4)).copied().unwrap_or(1);
        Self {
            options,
            trouble,
            began,
            true_clock: MachineClock::new(began, 0),
            trap: Trap::at(options.quiet.and_then(|quiet| quiet.point)),
            dice: Mutex::new(dice),
            hash: Mutex::default(),
            counts: Mutex::default(),
            calm: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            violation: Mutex::default(),
        }
    }

    pub(crate) fn is_broken(&self, broken: Broken) -> bool {
        self.options.broken == Some(broken)
    }

    /// Asks the dice.
    pub(crate) fn roll<T>(&self, ask: impl FnOnce(&mut Dice) -> T) -> T {
        ask(&mut locked(&self.dice))
    }

    /// Something of this chance in a thousand goes wrong, as long as things go wrong; in some seeds much more often.
    pub(crate) fn goes_wrong(&self, per_mille: u64) -> bool {
        self.roll(|dice| dice.happens(per_mille * self.trouble)) && self.may_fail()
    }

    pub(crate) fn may_fail(&self) -> bool {
        !self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }

    /// A number that nobody else has.
    pub(crate) fn unique(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes what happened: in the trace's digest, and on the terminal if somebody looks.
    pub(crate) fn note(&self, who: &dyn Display, what: &dyn Display) {
        let line = format!("{:>9.3} {who} {what}", self.elapsed().as_secs_f64());
        let mut hash = locked(&self.hash);
        hash.write(line.as_bytes());
        drop(hash);
        self.count(|counts| counts.steps += 1);
        if self.options.trace {
            println!("{line}");
        }
    }

    /// The digest of everything that was noted.
    pub(crate) fn digest(&self) -> u64 {
        locked(&self.hash).finish()
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut locked(&self.counts));
    }

    pub(crate) fn counts(&self) -> Counts {
        *locked(&self.counts)
    }

    /// A rule is broken.
    pub(crate) fn violated(&self, what: String) {
        self.note(&"observer", &format_args!("VIOLATION {what}"));
        locked(&self.violation).get_or_insert(what);
    }

    /// The first rule that was broken.
    pub(crate) fn violation(&self) -> Option<String> {
        locked(&self.violation).clone()
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
