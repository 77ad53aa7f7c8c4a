//! A crash point: one durable operation of a run, by its number, and how it fails.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc::UnboundedSender;

/// What ends a process from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// It stops in order.
    Stop,
    /// It is killed; what it wrote stays.
    Kill,
    /// The machine loses its power; what was not synced is lost.
    PowerCut,
    /// The machine is lost with its disk and its keys; another takes its place.
    NewDisk,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is done, and the process is killed before it hears of it.
    Killed,
    /// It is done, and the machine loses its power: what was not synced is lost, sector by sector.
    PowerCut,
    /// The machine loses its power in the middle: half of what was appended is there, a file that is replaced and a value of
    /// the store are what they were.
    Torn,
    /// There is no room: half of what was appended is there, everything else is what it was, and the process goes on.
    Full,
    /// The device or the store fails: nothing is done, and the process goes on. A writer of the store is told that the outcome is not known.
    Faulty,
    /// It is done, and the process, which goes on, is told that it failed; of the store, that the outcome is not known.
    SaidToFail,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Killed, Self::PowerCut, Self::Torn, Self::Full, Self::Faulty, Self::SaidToFail];

    /// Its name on the command line and in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::PowerCut => "power-cut",
            Self::Torn => "torn",
            Self::Full => "full",
            Self::Faulty => "faulty",
            Self::SaidToFail => "said-to-fail",
        }
    }
}

/// One durable operation, and how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its number, from 0, in the order in which processes begin them.
    pub at: u64,
    /// How.
    pub failure: Failure,
}

/// Counts durable operations, and springs at one of them.
#[derive(Debug, Default)]
pub(crate) struct Trap {
    point: Option<Point>,
    operations: AtomicU64,
    sprung: AtomicBool,
    blows: OnceLock<Vec<UnboundedSender<Blow>>>,
}

impl Trap {
    pub(crate) fn at(point: Option<Point>) -> Self {
        Self { point, ..Self::default() }
    }

    /// Where processes are hit, by the numbers of their machines.
    pub(crate) fn hits_by(&self, blows: Vec<UnboundedSender<Blow>>) {
        let _ = self.blows.set(blows);
    }

    pub(crate) fn hit(&self, machine: usize, blow: Blow) {
        if let Some(blows) = self.blows.get().and_then(|blows| blows.get(machine)) {
            let _ = blows.send(blow);
        }
    }

    /// Counts an operation; how it fails, if it is the one.
    pub(crate) fn operation(&self, note: impl FnOnce(&dyn Display)) -> Option<Failure> {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        let Point { failure, .. } = self.point.filter(|point| point.at == number)?;
        self.sprung.store(true, Ordering::Relaxed);
        note(&format_args!("operation {number} fails: {}", failure.name()));
        Some(failure)
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Whether there is a point that was not come to.
    pub(crate) fn is_set(&self) -> bool {
        self.point.is_some() && !self.sprung.load(Ordering::Relaxed)
    }
}
