//! The task that asks, round after round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio_util::sync::CancellationToken;
use trust::{Clock, SpiffeId};

use super::get::get;
use super::statistics::{ANSWER_MAX, PATH, Statistics};
use crate::config::{AdminAddress, AgentConfig};
use crate::counted::{Counted, Sums};
use crate::hub::{Command, HubHandle};
use crate::status::Condition;

/// How often endpoints are asked.
const EVERY: Duration = Duration::from_secs(5);
/// Endpoints that are asked at the same time.
const AT_ONCE: usize = 8;
/// Endpoints without a good answer that are named at most.
const NAMED_MAX: usize = 3;

/// The task.
#[derive(Debug)]
pub(super) struct AdminReader {
    pub(super) config: Arc<AgentConfig>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hub: HubHandle,
}

/// One endpoint, from round to round.
struct Endpoint {
    identity: SpiffeId,
    address: AdminAddress,
    /// Its counters as they were last; nothing before its first good answer.
    before: Option<Statistics>,
    /// What it counted since then.
    sums: Sums,
    /// Why it gave no good answer last.
    silent: Option<String>,
}

impl AdminReader {
    /// Runs until cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        let of = |(identity, addresses): (SpiffeId, Vec<AdminAddress>)| {
            addresses.into_iter().map(move |address| Endpoint::new(identity.clone(), address))
        };
        let endpoints: Vec<_> = self.config.envoy_admins().into_iter().flat_map(of).collect();
        if endpoints.is_empty() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.read(endpoints) => {}
        }
    }

    async fn read(&self, mut endpoints: Vec<Endpoint>) {
        let since = self.clock.now();
        loop {
            let asking = endpoints.into_iter().map(Endpoint::asked);
            endpoints = stream::iter(asking).buffered(AT_ONCE).collect().await;
            let mut all: BTreeMap<SpiffeId, Counted> = BTreeMap::new();
            for endpoint in &endpoints {
                let one = all.entry(endpoint.identity.clone()).or_default();
                one.since = since;
                one.sums.add(endpoint.sums);
                one.endpoints += 1;
                one.silent += u32::from(endpoint.silent.is_some());
            }
            if self.hub.send(Command::Counted(all)).await.is_err() {
                return;
            }
            self.hub.condition(Condition::CountersUnread, unread(&endpoints)).await;
            tokio::time::sleep(EVERY).await;
        }
    }
}

impl Endpoint {
    const fn new(identity: SpiffeId, address: AdminAddress) -> Self {
        let sums = Sums { handshakes: 0, connection_errors: 0, refused_peers: 0 };
        Self { identity, address, before: None, sums, silent: None }
    }

    async fn asked(mut self) -> Self {
        let answer = get(&self.address, PATH, ANSWER_MAX).await;
        match answer.and_then(|text| Statistics::parse(&text)) {
            Ok(now) => {
                // What was there at first was counted before anybody looked.
                let counted = self.before.as_ref().map(|before| now.since(before));
                self.sums.add(counted.unwrap_or_default());
                (self.before, self.silent) = (Some(now), None);
            }
            Err(why) => self.silent = Some(why),
        }
        self
    }
}

/// Which endpoints give no good answer, and why.
fn unread(endpoints: &[Endpoint]) -> Option<String> {
    let silent = |endpoint: &Endpoint| {
        let Endpoint { address, silent, .. } = endpoint;
        silent.as_ref().map(|why| format!("{address}: {why}"))
    };
    let all: Vec<String> = endpoints.iter().filter_map(silent).collect();
    let further = all.len().saturating_sub(NAMED_MAX);
    let mut said = all.get(..NAMED_MAX).unwrap_or(&all).join("; ");
    if further > 0 {
        said.push_str(&format!("; and {further} more"));
    }
    (!said.is_empty()).then_some(said)
}
