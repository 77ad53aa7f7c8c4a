//! A client that asks one server for leaves without pause, so that answers are in flight whenever that server fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::task::AbortOnDropHandle;
use tonic_types::StatusExt as _;

use crate::faults::{Door, Member, reason};
use crate::mesh::Received;
use crate::support::eventually;

/// Callers at a time.
const LANES: usize = 3;
/// It joins anew after so many requests, or when it can.
const REQUESTS: usize = 20;
/// What a request came to that was given a leaf.
pub const GIVEN: &str = "given";
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Hammer {
    outcomes: Arc<Mutex<BTreeMap<String, u64>>>,
    _lanes: Vec<AbortOnDropHandle<()>>,
}

impl Hammer {
    /// Asks the server at these addresses, by the tokens of its admin socket.
    #[must_use]
    pub fn on(grpc: SocketAddr, plain: SocketAddr, socket: PathBuf, received: &Received) -> Self {
        let door = Door::at(grpc, plain, socket);
        let outcomes = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let lane = |number| {
            let (door, received) = (door.clone(), received.clone());
            let outcomes = Arc::clone(&outcomes);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let mut caller = Caller { door, received, number, member: None, asked: 0 };
                loop {
                    let outcome = caller.ask().await;
                    *outcomes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(outcome)
                        .or_default() += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }))
        };
        let lanes = (0..LANES).map(lane).collect();
        Self { outcomes, _lanes: lanes }
    }

    /// Waits until a request came to this.
    ///
    /// # Errors
    /// If none does in time; the error shows what they came to.
    pub async fn until(&self, outcome: &str) -> anyhow::Result<()> {
        let holds = || async { self.outcomes().contains_key(outcome) };
        eventually(outcome, holds).await.with_context(|| format!("{:?}", self.outcomes()))
    }

    /// Forgets what requests came to so far.
    pub fn forget(&self) {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What its requests came to: codes and reasons of refusals, and how often.
    pub fn outcomes(&self) -> BTreeMap<String, u64> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Code and reason, and whether it says when to try again.
fn said(status: &tonic::Status) -> String {
    let again = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let again = if again.is_some() { ", with a time to retry" } else { "" };
    format!("{:?} {}{again}", status.code(), reason(status))
}

/// One of its lanes.
struct Caller {
    door: Door,
    received: Received,
    number: usize,
    member: Option<Member>,
    asked: usize,
}

impl Caller {
    /// Asks for a leaf, as a member that joins anew now and then; one that cannot goes on as it is.
    async fn ask(&mut self) -> String {
        if self.member.is_none() || self.asked >= REQUESTS {
            match self.join().await {
                Ok(member) => (self.member, self.asked) = (Some(member), 0),
                Err(status) if self.member.is_none() => {
                    return format!("no join: {}", said(&status));
                }
                Err(_) => {}
            }
        }
        self.asked += 1;
        let Some(member) = &mut self.member else { return "no member".to_owned() };
        match member.issue_chain().await {
            Ok(chain) => {
                self.received.note(&chain);
                GIVEN.to_owned()
            }
            Err(status) => said(&status),
        }
    }

    async fn join(&self) -> Result<Member, tonic::Status> {
        let trusted = self.door.trust_listed().await;
        trusted.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let member = Member::join(&self.door, &format!("hammer-{}", self.number)).await?;
        self.received.note(member.own_chain());
        Ok(member)
    }
}
