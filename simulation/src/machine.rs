//! One simulated machine: its clocks, its disk, its keys, its lines, and the process that runs on it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rotation::ReplicaName;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::MachineClock;
use crate::dice::Dice;
use crate::disk::Medium;
use crate::keys::SeededKeys;
use crate::process::Process;
use crate::run::locked;

/// One machine of a server.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) number: usize,
    pub(crate) clock: Arc<MachineClock>,
    pub(crate) medium: Arc<Medium>,
    pub(crate) keys: Arc<SeededKeys>,
    /// Whether its line to the store is cut.
    cut_off: AtomicBool,
    /// Whether its process is held up.
    frozen: watch::Sender<bool>,
    /// What runs on it, once it serves.
    process: Mutex<Option<Arc<Process>>>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ca-{}", self.number)
    }
}

impl Machine {
    pub(crate) fn new(number: usize, seed: u64, began: Instant, dice: &mut Dice) -> Self {
        // Two wall clocks are never further apart than the skew of two seconds.
        let ahead = i64::try_from(dice.below(1_800)).unwrap_or(0) - 900;
        let of_its_own = seed.wrapping_mul(31).wrapping_add(number as u64 + 1);
        Self {
            number,
            clock: Arc::new(MachineClock::new(began, ahead)),
            medium: Arc::default(),
            keys: Arc::new(SeededKeys::of(of_its_own)),
            cut_off: AtomicBool::new(false),
            frozen: watch::Sender::new(false),
            process: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> Option<ReplicaName> {
        ReplicaName::parse(&self.to_string()).ok()
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    pub(crate) fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::Relaxed);
    }

    /// Its process does nothing that anybody could notice, until it is let go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    pub(crate) fn is_frozen(&self) -> bool {
        *self.frozen.borrow()
    }

    /// Waits until it is not held up.
    pub(crate) async fn awake(&self) {
        if self.is_frozen() {
            let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        }
    }

    /// What serves on it.
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        locked(&self.process).clone()
    }

    pub(crate) fn runs(&self, process: Option<Arc<Process>>) {
        *locked(&self.process) = process;
    }
}
