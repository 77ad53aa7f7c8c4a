//! The task that asks Envoys where they listen, and says what it found.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trust::SpiffeId;

use super::dump::{BOUND, CONFIGURED, bound, configured};
use super::get::get;
use super::listened::{Whose, find};
use crate::config::{AdminAddress, AgentConfig, EnvoyOf, Process};
use crate::hub::{Command, HubHandle};
use crate::probed::{Found, Listens, Wanted};
use crate::status::Condition;

/// How often an Envoy is asked while probes are wanted, or while nothing was found there.
const SOON: Duration = Duration::from_secs(5);
/// How often else.
const LOOK: Duration = Duration::from_secs(30);
/// Longest answer about listeners: their filters are in it.
const ANSWER_MAX: usize = 32 * 1024 * 1024;
/// Envoys that are asked at the same time.
const AT_ONCE: usize = 8;
/// Envoys that are named at most.
const NAMED_MAX: usize = 3;

/// The task.
#[derive(Debug)]
pub(super) struct Finder {
    pub(super) config: Arc<AgentConfig>,
    pub(super) hub: HubHandle,
    pub(super) wanted: watch::Receiver<Option<Wanted>>,
    pub(super) found: watch::Sender<Found>,
}

/// One Envoy, from round to round.
struct Envoy {
    identity: SpiffeId,
    of: EnvoyOf,
    /// What is known of it; nothing before it was asked.
    listens: Option<Listens>,
}

impl Finder {
    /// Runs until cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let of = |(identity, processes): (SpiffeId, Vec<Process>)| {
            let one = move |process| match process {
                Process::Envoy(of) => Some(Envoy { identity: identity.clone(), of, listens: None }),
                Process::Listener(_) => None,
            };
            processes.into_iter().filter_map(one)
        };
        let envoys: Vec<_> = self.config.processes().into_iter().flat_map(of).collect();
        if envoys.is_empty() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.look(envoys) => {}
        }
    }

    async fn look(&mut self, mut envoys: Vec<Envoy>) {
        loop {
            let asking = envoys.into_iter().map(Envoy::asked);
            envoys = stream::iter(asking).buffered(AT_ONCE).collect().await;
            let found: Found = envoys.iter().filter_map(Envoy::found).collect();
            let all_found = found.values().all(|listens| !listens.targets.is_empty());
            if self.hub.send(Command::Found(found.clone())).await.is_err() {
                return;
            }
            self.hub.condition(Condition::ListenersNotFound, missing(&found)).await;
            self.found.send_if_modified(|present| {
                let news = *present != found;
                if news {
                    *present = found;
                }
                news
            });
            let soon = !all_found || self.wanted.borrow_and_update().is_some();
            let pause = tokio::time::sleep(if soon { SOON } else { LOOK });
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = pause => {}
            }
        }
    }
}

impl Envoy {
    async fn asked(mut self) -> Self {
        match ask(&self.identity, &self.of).await {
            Ok(listens) => self.listens = Some(listens),
            // What it said before may be true still, and a handshake shows it.
            Err(_) if self.listens.as_ref().is_some_and(|known| !known.targets.is_empty()) => {}
            Err(why) => self.listens = Some(Listens::unanswered(why)),
        }
        self
    }

    fn found(&self) -> Option<((SpiffeId, AdminAddress), Listens)> {
        let at = (self.identity.clone(), self.of.admin.clone());
        Some((at, self.listens.clone()?))
    }
}

/// Where an Envoy listens with the certificate of an identity.
async fn ask(identity: &SpiffeId, envoy: &EnvoyOf) -> Result<Listens, String> {
    let EnvoyOf { admin, by_default } = envoy;
    let mut all = Vec::new();
    for path in CONFIGURED {
        all.extend(configured(&get(admin, path, ANSWER_MAX).await?)?);
    }
    // After them: what is bound anew is not looked for under an address of before.
    let bound = bound(&get(admin, BOUND, ANSWER_MAX).await?)?;
    let whose = Whose { identity, by_default: *by_default, admin, is_here: &is_here };
    Ok(find(&all, &bound, &whose))
}

/// Whether an address is one of this machine: nobody can bind another.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Which Envoys answer and have no listener that can be probed.
fn missing(found: &Found) -> Option<String> {
    let silent = |listens: &Listens| listens.targets.is_empty() && listens.is_told;
    let mut by_admin = BTreeMap::new();
    for ((identity, admin), listens) in found.iter().filter(|(_, listens)| silent(listens)) {
        by_admin.entry(admin).or_insert((identity, &listens.why_none));
    }
    let one = |(admin, (identity, why)): (_, (&SpiffeId, &String))| {
        format!("the Envoy at {admin} has none for {identity} that can be probed: {why}")
    };
    let further = by_admin.len().saturating_sub(NAMED_MAX);
    let all: Vec<String> = by_admin.into_iter().take(NAMED_MAX).map(one).collect();
    if all.is_empty() {
        return None;
    }
    let mut said = all.join("; ");
    if further > 0 {
        said.push_str(&format!("; and {further} more"));
    }
    Some(format!("{said}. If it takes no connections of peers, write `listeners = []` for it"))
}
