//! Handshakes without pause between all members of a mesh.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::SystemClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trust::Clock as _;

use super::{CsrClient, Failed, Holding, Proxy, shake};

/// Pause between two handshakes of one lane: a mesh that talks all the time, on a machine that does other things too.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the called side may take to join a handshake; some do at once.
const LAG_MILLIS: [u64; 4] = [0, 0, 40, 200];
/// Handshakes in flight at a time.
const LANES: usize = 4;

/// Who talks.
#[derive(Clone, Debug)]
pub enum Member {
    /// A proxy behind an agent.
    Proxy(Arc<Proxy>),
    /// A client that only sends CSRs.
    Csr(Arc<CsrClient>),
    /// A member whose leaves are not of this CA.
    Guest(Arc<Guest>),
}

/// A member whose leaves are not of this CA: it holds what a test gives it.
#[derive(Debug)]
pub struct Guest {
    name: String,
    holding: Mutex<Holding>,
}

impl Guest {
    /// One that holds this.
    pub fn new(name: &str, holding: Holding) -> Self {
        Self { name: name.to_owned(), holding: Mutex::new(holding) }
    }

    /// Its name in failures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it presents and trusts now.
    pub fn holding(&self) -> Holding {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it holds this.
    pub fn hold(&self, holding: Holding) {
        *self.holding.lock().unwrap_or_else(PoisonError::into_inner) = holding;
    }
}

/// What came of the traffic.
#[derive(Debug, Default)]
pub struct Talk {
    /// Handshakes of two sides whose leaves lived for as long as it took.
    pub handshakes: u64,
    /// Those of them that failed.
    pub failed: Vec<Failed>,
}

/// Traffic that runs until it is stopped.
#[derive(Debug)]
pub struct Traffic {
    stop: CancellationToken,
    lanes: Vec<JoinHandle<()>>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    handshakes: AtomicU64,
    failed: Mutex<Vec<Failed>>,
}

impl Member {
    fn name(&self) -> &str {
        match self {
            Self::Proxy(proxy) => proxy.name(),
            Self::Csr(client) => client.name(),
            Self::Guest(guest) => guest.name(),
        }
    }

    /// What it presents and trusts now.
    pub fn holding(&self) -> Holding {
        match self {
            Self::Proxy(proxy) => proxy.holding(),
            Self::Csr(client) => client.holding(),
            Self::Guest(guest) => guest.holding(),
        }
    }
}

impl Traffic {
    /// Lets every member shake hands with every other, in both directions.
    pub fn among(members: &[Member]) -> Self {
        Self::in_lanes(members, LANES)
    }

    /// The same with so many handshakes in flight at a time.
    pub fn in_lanes(members: &[Member], lanes: usize) -> Self {
        let (stop, tally) = (CancellationToken::new(), Arc::<Tally>::default());
        let lane = |first| {
            let (members, tally) = (members.to_vec(), Arc::clone(&tally));
            let stop = stop.clone();
            tokio::spawn(async move {
                // Cancelled or not, a lane only counts.
                let _ = stop.run_until_cancelled(talk(members, tally, first, lanes)).await;
            })
        };
        let lanes = (0..lanes).map(lane).collect();
        Self { stop, lanes, tally }
    }

    /// Handshakes so far.
    pub fn handshakes(&self) -> u64 {
        self.tally.handshakes.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a lane broke off.
    pub async fn stop(self) -> anyhow::Result<Talk> {
        self.stop.cancel();
        for lane in self.lanes {
            lane.await?;
        }
        let failed = self.tally.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Talk { handshakes: self.tally.handshakes.load(Ordering::Relaxed), failed })
    }
}

async fn talk(members: Vec<Member>, tally: Arc<Tally>, first: usize, lanes: usize) {
    let clock = SystemClock;
    let pairs = members.len() * members.len().saturating_sub(1);
    if pairs == 0 || lanes == 0 {
        return;
    }
    for turn in (first..).step_by(lanes) {
        let turn_in_round = turn % pairs;
        let (near, other) =
            (turn_in_round / (members.len() - 1), turn_in_round % (members.len() - 1));
        let far = if other < near { other } else { other + 1 };
        let (Some(near), Some(far)) = (members.get(near), members.get(far)) else { return };
        let opened = near.holding();
        // A round has another rhythm than the lags, so every pair meets each of them.
        let lag =
            LAG_MILLIS.get((turn / pairs + turn) % LAG_MILLIS.len()).copied().unwrap_or_default();
        tokio::time::sleep(PAUSE + Duration::from_millis(lag)).await;
        let accepted = far.holding();
        let now = clock.now();
        if !opened.is_live(now) || !accepted.is_live(now) {
            continue;
        }
        let shaken = shake((near.name(), &opened), (far.name(), &accepted));
        let now = clock.now();
        if shaken.is_err() && !(opened.is_live(now) && accepted.is_live(now)) {
            // A leaf ended while they shook hands.
            continue;
        }
        tally.handshakes.fetch_add(1, Ordering::Relaxed);
        if let Err(failed) = shaken {
            tally.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        }
    }
}
