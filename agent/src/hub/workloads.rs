//! Leaves of the configured identities: asked for when somebody wants one, renewed in time, wiped when nobody does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use trust::randomness::random_bytes;
use trust::{Bundle, Chain, Sequence, Serial, SpiffeId, Timestamp};

use super::state::Hub;
use super::workload::{Asked, IssueError, Issued, Workload};
use crate::backoff::spread;
use crate::bundle_store;
use crate::ca_client::CaClient;
use crate::config::AgentConfig;
use crate::first_contact::{self, FirstContactError};
use crate::key::PrivateKey;
use crate::leaf::{Expected, Jitter, Judgement, Leaf};
use crate::status::Condition;

/// When the stream to the CA is up again, leaves that could not be got meanwhile are asked for within this time.
const RETRY_WITHIN: Duration = Duration::from_secs(2);
/// A one-shot caller that found no leaf is expected back within this time.
const WANTED: Duration = Duration::from_secs(30);

impl Hub {
    /// A one-shot caller wants this leaf.
    pub(super) fn want(&mut self, identity: &SpiffeId) {
        let until = self.parts.clock.uptime() + WANTED;
        if let Some(workload) = self.workloads.get_mut(identity) {
            workload.wanted_until = until;
        }
    }

    /// Somebody was handed the leaf with this serial.
    pub(super) fn handed_over(&mut self, serial: Serial) {
        let with = |workload: &&mut Workload| {
            workload.leaf.as_ref().is_some_and(|leaf| leaf.held().serial == serial)
        };
        if let Some(workload) = self.workloads.values_mut().find(with) {
            workload.handed_over = true;
        }
    }

    /// Drops leaves that must not be handed out any more, or that nobody has and nobody wants.
    ///
    /// A leaf older than the bundle that nobody holds goes too: the CA would wait for a proof that nobody can give.
    pub(super) fn shed(&mut self) {
        let (now, sequence) = (self.parts.clock.now(), self.sequence());
        self.expire_revoked(now);
        let bundle = self.parts.store.current();
        let view = self.parts.pods.as_ref().map(|pods| Arc::clone(&pods.borrow()));
        for (identity, workload) in &mut self.workloads {
            let Some(leaf) = workload.leaf.as_ref().map(|leaf| leaf.held()) else { continue };
            let mut holders = self.holders.values();
            let held =
                holders.any(|holder| holder.may_hold().any(|other| other.serial == leaf.serial));
            let wanted = wanted(&self.holders, identity)
                || workload.wanted_until > self.parts.clock.uptime();
            let usable =
                leaf.not_after > now && bundle.is_some_and(|bundle| bundle.contains(&leaf.root));
            let has_left = view.as_ref().is_some_and(|view| !view.has(identity));
            let idle =
                !held && !wanted && (workload.handed_over || leaf.born < sequence || has_left);
            if !usable || idle {
                workload.drop_leaf();
            }
        }
        if view.is_some() {
            self.forget_idle_workloads();
        }
        self.account_serials(now);
    }

    /// Identities of Pods come and go with them.
    fn forget_idle_workloads(&mut self) {
        let (uptime, holders) = (self.parts.clock.uptime(), &self.holders);
        let subscribed = |identity: &SpiffeId| {
            let leaves = holders.values().flat_map(|holder| holder.installed.leaves.values());
            leaves.into_iter().any(|secret| secret.identity == *identity)
        };
        self.workloads.retain(|identity, workload| {
            workload.leaf.is_some()
                || workload.issuing
                || workload.wanted_until > uptime
                || subscribed(identity)
        });
    }

    /// A serial that neither a holder nor this agent has any more is released.
    fn account_serials(&mut self, now: Timestamp) {
        let own = self.parts.credential.borrow().as_ref().map(|leaf| leaf.held());
        if own.is_some() {
            self.parts.former = None;
        }
        let own = own.map(|leaf| (leaf.serial, leaf.not_after)).or(self.parts.former);
        let waiting = self
            .workloads
            .values()
            .filter_map(|workload| workload.leaf.as_ref().map(|leaf| leaf.held()));
        let held = self.holders.values().flat_map(|holder| holder.may_hold().copied());
        let present: BTreeMap<Serial, Timestamp> =
            held.chain(waiting).map(|leaf| (leaf.serial, leaf.not_after)).chain(own).collect();
        let former = std::mem::replace(&mut self.serials.live, present);
        for (serial, not_after) in former {
            if !self.serials.live.contains_key(&serial) {
                self.serials.released.insert(serial, not_after);
            }
        }
        let live = &self.serials.live;
        self.serials
            .released
            .retain(|serial, not_after| *not_after > now && !live.contains_key(serial));
    }

    /// Asks the CA for every leaf that is due, a few at a time.
    ///
    /// While a holder that takes its trust from elsewhere wants the leaf, it is asked for without a promise, and one leaf
    /// serves everybody.
    pub(super) fn request_leaves(&mut self) {
        let (now_millis, uptime) = (self.parts.clock.now_millis(), self.parts.clock.uptime());
        let stored = self
            .parts
            .store
            .current()
            .filter(|_| self.parts.credential.borrow().is_some())
            .cloned();
        let Some(stored) = stored.filter(|_| !self.leaving) else { return };
        // The CA would refuse all of them.
        let refused = [Condition::Banned, Condition::NotMember];
        if refused.iter().any(|condition| self.conditions.contains_key(condition)) {
            return;
        }
        for (identity, workload) in &mut self.workloads {
            if self.issuing.len() >= self.parts.config.limits.issuing {
                return;
            }
            let once = workload.wanted_until > uptime;
            let promised = !once && !is_own_trust(&self.holders, identity);
            let wanted = workload.prewarm || once || wanted(&self.holders, identity);
            if !wanted || !workload.due(promised, now_millis, uptime) {
                continue;
            }
            workload.issuing = true;
            let listening = self.listening.contains_key(identity).then(|| {
                let seen = self.seen.get(identity).cloned().unwrap_or_default();
                wire::Listening { sequence: seen.sequence.0, outcome: seen.outcome.wire().into() }
            });
            let (identity, stored) = (identity.clone(), stored.clone());
            let asked = Asked { identity, promised, stored, listening };
            let under_way = self.parts.in_flight.begin();
            let (client, config) = (Arc::clone(&self.parts.client), Arc::clone(&self.parts.config));
            let clock = Arc::clone(&self.parts.clock);
            self.issuing.spawn(async move {
                let result = ask(&client, &config, &asked, &clock).await;
                Issued { result, asked, _under_way: under_way }
            });
        }
    }

    /// The CA takes this agent's calls again: no leaf waits for the end of a long pause.
    pub(super) fn retry_soon(&mut self) {
        let (uptime, randomness) = (self.parts.clock.uptime(), Arc::clone(&self.parts.randomness));
        for workload in
            self.workloads.values_mut().filter(|one| one.not_before > uptime + RETRY_WITHIN)
        {
            workload.not_before = uptime + spread(RETRY_WITHIN, randomness.as_ref());
        }
    }

    /// Takes what came back: the bundle first, then the leaf under the newest bundle.
    pub(super) async fn issued(&mut self, issued: Issued) {
        let Issued { asked, result, _under_way } = issued;
        let outcome = match result {
            Ok((key, response)) => self.received(&asked, key, response).await,
            Err(IssueError::Behind(found)) => match self.caught_up(&asked, found).await {
                // It is stored now: asked again at once.
                Ok(()) => {
                    if let Some(workload) = self.workloads.get_mut(&asked.identity) {
                        workload.issuing = false;
                    }
                    return;
                }
                Err(error) => Err(error),
            },
            Err(error) => {
                if matches!(&error, IssueError::Call(error) if error.disagrees()) {
                    let own =
                        self.parts.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
                    self.parts.publish.misnamed.send_replace(own);
                }
                Err(error.to_string())
            }
        };
        let (uptime, randomness) = (self.parts.clock.uptime(), Arc::clone(&self.parts.randomness));
        let Some(workload) = self.workloads.get_mut(&asked.identity) else { return };
        workload.issuing = false;
        match outcome {
            Ok(leaf) => {
                workload.renew_at_millis = leaf
                    .renew_at_millis(Jitter(u32::from_be_bytes(random_bytes(randomness.as_ref()))));
                workload.leaf = Some(Arc::new(leaf));
                workload.handed_over = false;
                workload.came_at = uptime;
                workload.received += 1;
                workload.last_error = None;
                workload.backoff.reset();
            }
            Err(error) => {
                workload.tell(&asked.identity, &error);
                let wait = match &workload.leaf {
                    Some(leaf) => {
                        let left = leaf.held().not_after.since(self.parts.clock.now());
                        workload.backoff.wait_before_end(left, randomness.as_ref())
                    }
                    None => workload.backoff.wait(randomness.as_ref()),
                };
                workload.not_before = uptime + wait;
                workload.last_error = Some(error);
            }
        }
    }

    /// Puts the bundle in force that the CA wants stored, unless the stream has brought it meanwhile.
    async fn caught_up(
        &mut self,
        asked: &Asked,
        found: Result<Bundle, FirstContactError>,
    ) -> Result<(), String> {
        if self.sequence() <= asked.stored.sequence() {
            let found = found.map_err(|error| IssueError::Behind(Err(error)).to_string())?;
            self.offer(Ok(found)).await.map_err(|error| error.to_string())?;
        }
        match self.sequence() > asked.stored.sequence() {
            true => Ok(()),
            false => Err("the CA wants a newer bundle stored first, and gives none".to_owned()),
        }
    }

    async fn received(
        &mut self,
        asked: &Asked,
        key: Arc<PrivateKey>,
        response: wire::IssueResponse,
    ) -> Result<Leaf, String> {
        let offered = response.bundle.unwrap_or_default();
        let offered = bundle_store::from_wire(&self.parts.config.trust_domain, &offered);
        let born = offered.as_ref().map(Bundle::sequence).unwrap_or_default();
        self.offer(offered).await.map_err(|error| error.to_string())?;
        let Some(bundle) = self.parts.store.current().cloned() else {
            return Err("no bundle".to_owned());
        };
        let now_millis = self.parts.clock.now_millis();
        let judgement = Judgement { bundle: &bundle, born, promised: asked.promised, now_millis };
        let leaf =
            Leaf::accept(&response.chain, key, Expected::Workload(&asked.identity), &judgement);
        let leaf = leaf.map_err(|refused| {
            self.refuse_leaf(&response.chain, born, &refused.to_string());
            refused.to_string()
        })?;
        match self.is_revoked(&leaf.held().serial) {
            true => Err("the leaf was revoked while it was on its way".to_owned()),
            false => Ok(leaf),
        }
    }

    fn refuse_leaf(&mut self, chain: &[Vec<u8>], born: Sequence, why: &str) {
        let serial = Chain::parse(chain).ok().and_then(|chain| chain.leaf().serial());
        self.nack(serial, born, why);
    }

    /// The CA wants these leaves renewed: each at a random moment of the window.
    pub(super) fn reissue(&mut self, serials: &[Serial], window: Duration) {
        let now = self.parts.clock.now_millis();
        for workload in self.workloads.values_mut() {
            let named =
                workload.leaf.as_ref().is_some_and(|leaf| serials.contains(&leaf.held().serial));
            if named {
                let wait = spread(window, self.parts.randomness.as_ref()).as_millis();
                let at = now.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
                workload.renew_at_millis = workload.renew_at_millis.min(at);
            }
        }
        let own = self.parts.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
        if let Some(own) = own.filter(|own| serials.contains(own)) {
            self.parts.publish.renewal.send_replace(Some((own, window)));
        }
    }
}

/// Asks the CA once; where it has a newer bundle, also for the way to that.
async fn ask(
    client: &CaClient,
    config: &AgentConfig,
    asked: &Asked,
    clock: &Arc<dyn trust::Clock>,
) -> Result<(Arc<PrivateKey>, wire::IssueResponse), IssueError> {
    let key = Arc::new(PrivateKey::generate()?);
    let csr = key.request(Some(&asked.identity))?;
    let seconds = config.leaf_ttl.map_or(0, |ttl| ttl.as_secs());
    let request = wire::IssueWorkloadRequest {
        csr,
        spiffe_id: asked.identity.to_string(),
        validity_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        stored_sequence: asked.stored.sequence().0,
        stored_digest: asked.stored.digest().as_bytes().to_vec(),
        only_to_trusting: asked.promised,
        listening: asked.listening,
    };
    loop {
        let place = client.place().await?;
        // What proves the node is read anew each time: a kubelet replaces it.
        let beside = match &config.node {
            Some(_) => Some(first_contact::proof(config).map_err(IssueError::Proof)?.bearer()),
            None => None,
        };
        let error = match client.issue(&place, request.clone(), beside).await {
            Ok(response) => return Ok((key, response)),
            Err(error) => error,
        };
        if error.is_behind() {
            tracing::debug!(stored = %asked.stored.sequence(), "the CA has a newer bundle");
            let (stored, domain) = (&asked.stored, &config.trust_domain);
            let found = first_contact::forward(stored, domain, &place, clock).await;
            return Err(IssueError::Behind(found));
        }
        client.judge(&place, &error);
        // Ends: each place that fails is no first choice for a while.
        if !error.leaves() || !client.addresses().has_fresh().await {
            return Err(error.into());
        }
    }
}

/// Whether a holder that takes its trust from elsewhere subscribes to this identity's leaf, or may have one.
fn is_own_trust(holders: &crate::holders::Holders, identity: &SpiffeId) -> bool {
    holders.values().filter(|holder| holder.installed.has_trust_of_its_own()).any(|holder| {
        holder.installed.leaves.iter().any(|(id, secret)| {
            let up = holder
                .subscriptions
                .get(id)
                .is_some_and(|subscription| subscription.stream.is_some());
            (up || !secret.may_hold.is_empty()) && secret.identity == *identity
        })
    })
}

/// Whether any stream that is up subscribes to this identity's leaf.
fn wanted(holders: &crate::holders::Holders, identity: &SpiffeId) -> bool {
    holders.values().any(|holder| {
        holder.installed.leaves.iter().any(|(id, secret)| {
            let up = holder
                .subscriptions
                .get(id)
                .is_some_and(|subscription| subscription.stream.is_some());
            up && secret.identity == *identity
        })
    })
}
