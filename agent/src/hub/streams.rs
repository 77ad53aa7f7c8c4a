//! Streams of holders: who opens them, what they subscribe to, and what their acknowledgements mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use trust::{RootId, SpiffeId};

use super::command::Peer;
use super::state::{Hub, Stream, cut};
use super::subscription::{DeliveryId, Heard, Pushed, Refusal, TrustVersion, Why};
use crate::bundle_store;
use crate::holders::{Holder, Subscription};
use crate::install::{SubscriptionId, TrustView};
use crate::process::ProcessId;
use crate::secret_name::{NameRefused, SecretKind, SecretName};
use crate::shares::{Owner, Shares, counted};
use crate::status::Condition;

/// Secrets that one stream may subscribe to.
const NAMES_MAX: usize = 16;
/// A secret whose stream ended is reckoned with for this long, while its holder has other streams up: several times the
/// longest wait of a holder before it reconnects (30 s).
const ABSENT_MAX: Duration = Duration::from_secs(120);
/// A leaf waits this long for the first validation secret of a new holder: a busy one opens its streams one by one.
pub(super) const TRUST_WAIT: Duration = Duration::from_secs(3);

fn owner_of(peer: &Peer) -> Owner {
    match &peer.pod {
        Some(pod) => Owner::Pod(pod.uid.clone()),
        None => Owner::User(peer.uid),
    }
}

fn pod_is_gone(pod: &str) -> Refusal {
    let text = format!("Pod {pod} is gone from this node: nothing is served to what is left of it");
    Refusal::new(Why::NotPermitted, text)
}

impl Hub {
    pub(super) fn open(&mut self, peer: Peer, to: mpsc::Sender<Pushed>) -> Result<u64, Refusal> {
        let (entitled, owner) = (self.entitled(&peer)?, owner_of(&peer));
        self.share("streams", self.parts.config.limits.streams, &owner, |hub| {
            counted(hub.streams.values().map(|stream| stream.owner.clone()))
        })?;
        let holder = self.admit(&peer)?;
        let number = self.next_id();
        let stream = Stream {
            holder,
            owner,
            entitled,
            to,
            secrets: BTreeMap::new(),
            outstanding: None,
            deliveries: 0,
        };
        self.streams.insert(number, stream);
        Ok(number)
    }

    /// Finds the process behind a connection, and takes it into the holders. Its user id decides, or its Pod, and nothing else.
    pub(super) fn admit(&mut self, peer: &Peer) -> Result<ProcessId, Refusal> {
        self.entitled(peer)?;
        let found =
            peer.pid.filter(|pid| *pid > 0).map(|pid| self.parts.processes.find(pid)).transpose();
        let process = found.map_err(|error| {
            tracing::warn!(%error, "a calling process cannot be looked at");
            Refusal::not_now(format!(
                "the agent cannot look at the calling process: {error}; try again"
            ))
        })?;
        let process = process.flatten().ok_or_else(|| {
            Refusal::new(
                Why::NotPossible,
                "the calling process cannot be seen: run the agent in the same PID namespace, or one above it",
            )
        })?;
        // It was held when it was looked at, and may have ended since.
        if peer.process.is_some_and(|held| held != process) {
            return Err(Refusal::new(Why::CallerGone, "the calling process has ended"));
        }
        if !self.holders.contains_key(&process) {
            self.share("processes", self.parts.config.limits.processes, &owner_of(peer), |hub| {
                counted(hub.holders.values().map(Holder::owner))
            })?;
            let holder = Holder::new(peer.uid, self.parts.clock.uptime());
            let pod = peer.pod.as_ref().map(|pod| pod.uid.clone());
            self.holders.insert(process, Holder { pod, ..holder });
            self.watch(process);
        }
        Ok(process)
    }

    /// What a caller may have, the default one first.
    pub(super) fn entitled(&self, peer: &Peer) -> Result<Vec<SpiffeId>, Refusal> {
        let entitled = match (&self.parts.pods, &peer.pod) {
            (None, _) => self.entitlements.of(peer.uid).to_vec(),
            (Some(_), None) => Vec::new(),
            (Some(pods), Some(pod)) if pods.borrow().pods.contains_key(&pod.uid) => {
                vec![pod.identity.clone()]
            }
            (Some(_), Some(pod)) => return Err(pod_is_gone(&pod.to_string())),
        };
        match entitled.is_empty() {
            true => Err(Refusal::new(Why::NotPermitted, NameRefused::Nobody.to_string())),
            false => Ok(entitled),
        }
    }

    /// Ends the streams of Pods that are gone. What their processes hold stays in the account until they have ended too.
    pub(super) fn end_streams_of_gone_pods(&mut self) {
        let Some(pods) = &self.parts.pods else { return };
        let view = Arc::clone(&pods.borrow());
        let gone = |stream: &Stream| match &stream.owner {
            Owner::Pod(uid) => (!view.pods.contains_key(uid)).then(|| uid.to_string()),
            Owner::User(_) => None,
        };
        let gone: Vec<(u64, String)> = self
            .streams
            .iter()
            .filter_map(|(number, stream)| Some((*number, gone(stream)?)))
            .collect();
        for (number, pod) in gone {
            tracing::info!(pod, stream = number, "the Pod of a stream is gone");
            self.end_with(number, pod_is_gone(&pod));
        }
        self.condition(Condition::PodsUnknown, view.trouble.clone());
    }

    fn shares(&self, most: usize) -> Shares {
        match &self.parts.pods {
            Some(pods) => {
                let known: Vec<Owner> =
                    pods.borrow().pods.keys().cloned().map(Owner::Pod).collect();
                Shares::new(most, known.into_iter())
            }
            None => self.entitlements.shares(most),
        }
    }

    /// Whether somebody may take one more of a bound.
    fn share(
        &self,
        what: &str,
        most: usize,
        owner: &Owner,
        taken: impl FnOnce(&Self) -> BTreeMap<Owner, usize>,
    ) -> Result<(), Refusal> {
        let (shares, taken) = (self.shares(most), taken(self));
        if shares.admit(owner, &taken) {
            return Ok(());
        }
        let own = taken.get(owner).copied().unwrap_or_default();
        let text = format!(
            "{owner} has {own} {what} at this agent and {} of limits.{what} = {most} are its share: end some, or raise \
             limits.{what}",
            shares.sure()
        );
        Err(Refusal::new(Why::ShareTaken, text))
    }

    /// Looks no more after processes that hold nothing and want nothing: each costs a file.
    pub(super) fn drop_idle(&mut self) {
        let streams = self.streams.values().map(|stream| stream.holder);
        let active: BTreeSet<ProcessId> = streams.collect();
        let uptime = self.parts.clock.uptime();
        let long_gone = |subscription: &Subscription| {
            subscription
                .absent_since
                .is_some_and(|since| uptime.saturating_sub(since) >= ABSENT_MAX)
        };
        // What trust a process has counts only together with a leaf that it may present.
        let idle = |(process, holder): &(&ProcessId, &Holder)| {
            let holds = holder.installed.unproven || holder.may_hold().next().is_some();
            !holds && !active.contains(process) && holder.subscriptions.values().all(long_gone)
        };
        let idle: Vec<ProcessId> =
            self.holders.iter().filter(idle).map(|(process, _)| *process).collect();
        for process in idle {
            self.holders.remove(&process);
            self.unwatch(process);
            self.holders_dirty = true;
        }
    }

    pub(super) fn close(&mut self, number: u64) {
        let Some(stream) = self.streams.remove(&number) else { return };
        let uptime = self.parts.clock.uptime();
        if let Some(holder) = self.holders.get_mut(&stream.holder) {
            stream.secrets.values().for_each(|id| holder.detach(*id, uptime));
        }
    }

    /// Handles what came: an acknowledgement, a refusal, a subscription, or something stale.
    pub(super) fn heard(&mut self, number: u64, heard: &Heard) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        // Before the first delivery an answer can only be to one of a former stream, perhaps of a former agent: some holders
        // open a new stream with it, and wait for a delivery.
        let answer = heard.answer.as_ref().filter(|_| stream.deliveries > 0);
        let last = DeliveryId { stream: number, number: stream.deliveries };
        if answer.is_some_and(|answer| answer.to != Some(last)) {
            tracing::debug!(stream = number, "stale answer");
            return;
        }
        if let Some(answer) = answer
            && let Some(id) = stream.outstanding.take()
        {
            self.answered(number, id, answer.refused.as_deref());
        }
        if let Err(refusal) = self.subscribe(number, heard) {
            self.end_with(number, refusal);
        }
    }

    /// Ends a stream, and says why.
    pub(super) fn end_with(&mut self, number: u64, refusal: Refusal) {
        if let Some(stream) = self.streams.get(&number) {
            // If the reader is so slow that even this does not fit, the stream ends without it.
            let _ = stream.to.try_send(Err(refusal));
        }
        self.close(number);
    }

    fn answered(&mut self, number: u64, id: SubscriptionId, refused: Option<&str>) {
        let Some(process) = self.streams.get(&number).map(|stream| stream.holder) else { return };
        let Some(holder) = self.holders.get_mut(&process) else { return };
        let mut about = holder.may_hold().next().map(|leaf| leaf.serial);
        let mut sequence =
            self.parts.store.current().map(trust::Bundle::sequence).unwrap_or_default();
        if let Some(secret) = holder.installed.trust.get_mut(&id) {
            sequence = secret.in_flight.as_ref().map_or(sequence, |view| view.proves);
            if refused.is_some() {
                secret.refuse()
            } else {
                secret.acknowledge()
            }
            secret.ready = true;
        }
        if let Some(secret) = holder.installed.leaves.get_mut(&id) {
            about = secret.in_flight.map(|leaf| leaf.serial).or(about);
            if refused.is_some() {
                secret.refuse()
            } else {
                secret.acknowledge()
            }
            secret.ready = true;
            self.holders_dirty = true;
        }
        if let Some(secret) = holder.foreign.get_mut(&id) {
            secret.answer(refused.is_some());
        }
        self.mark_ready(number);
        if let (Some(error), Some(holder)) = (refused, self.holders.get_mut(&process))
            && let Some(subscription) = holder.subscriptions.get_mut(&id)
        {
            subscription.refusal = cut(error);
        }
        if let Some(error) = refused {
            tracing::warn!(pid = process.pid, error = %error.escape_debug(), "a holder refused a secret");
            self.nack(about, sequence, error);
        }
    }

    /// After an answer everything on the stream can be pushed to again.
    fn mark_ready(&mut self, number: u64) {
        let Some(stream) = self.streams.get(&number) else { return };
        let Some(holder) = self.holders.get_mut(&stream.holder) else { return };
        for id in stream.secrets.values() {
            holder.set_ready(*id, stream.outstanding.is_none());
        }
    }

    fn subscribe(&mut self, number: u64, heard: &Heard) -> Result<(), Refusal> {
        let Some(stream) = self.streams.get(&number) else { return Ok(()) };
        let (process, entitled) = (stream.holder, stream.entitled.clone());
        let wanted: BTreeSet<&String> = heard.wants.iter().collect();
        if wanted.len() > NAMES_MAX {
            return Err(Refusal::malformed(format!(
                "at most {NAMES_MAX} secrets fit on one stream"
            )));
        }
        let present: BTreeSet<&String> = stream.secrets.keys().collect();
        if wanted == present {
            return Ok(());
        }
        let added: Vec<SecretName> = wanted
            .difference(&present)
            .map(|text| self.name(text, &entitled))
            .collect::<Result<_, _>>()?;
        let removed: Vec<String> =
            present.difference(&wanted).map(|name| (*name).clone()).collect();
        let has = heard.has.filter(|_| wanted.len() == 1);
        for name in removed {
            self.unsubscribe(number, &name);
        }
        for name in added {
            self.attach(number, process, name, has);
        }
        self.holders_dirty = true;
        Ok(())
    }

    pub(super) fn name(&self, text: &str, entitled: &[SpiffeId]) -> Result<SecretName, Refusal> {
        SecretName::parse(text, &self.parts.config.trust_domain, entitled).map_err(|refused| {
            let why = match refused {
                NameRefused::Nobody | NameRefused::NotEntitled(_) => Why::NotPermitted,
                NameRefused::Unknown(..) => Why::Malformed,
            };
            Refusal::new(why, refused.to_string())
        })
    }

    fn unsubscribe(&mut self, number: u64, name: &str) {
        let uptime = self.parts.clock.uptime();
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let Some(id) = stream.secrets.remove(name) else { return };
        if stream.outstanding == Some(id) {
            stream.outstanding = None;
        }
        if let Some(holder) = self.holders.get_mut(&stream.holder) {
            holder.detach(id, uptime);
            // Roots that the holder asks for no more hold no leaf back; a leaf it was given may still be in its hands.
            if holder.installed.trust.contains_key(&id) || holder.foreign.contains_key(&id) {
                holder.forget(id);
            }
        }
        self.mark_ready(number);
    }

    /// Puts a secret on a stream: one that was served before on a stream that ended, or a new one.
    fn attach(
        &mut self,
        number: u64,
        process: ProcessId,
        name: SecretName,
        has: Option<TrustVersion>,
    ) {
        let fresh = self.next_subscription();
        let uptime = self.parts.clock.uptime();
        let others = match name.kind {
            SecretKind::All => self.parts.foreign.fingerprint_of_all(),
            _ => None,
        };
        let applied = has.and_then(|version| self.applied_by_version(version, others));
        if let SecretKind::Leaf(identity) = &name.kind {
            self.workloads.entry(identity.clone()).or_default();
        }
        let Some(holder) = self.holders.get_mut(&process) else { return };
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let absent = holder
            .subscriptions
            .iter()
            .find(|(_, known)| known.name == name && known.stream.is_none());
        let id = absent.map_or(fresh, |(id, _)| *id);
        if id == fresh {
            holder.subscribe(id, name.clone(), uptime);
            holder.installed.lost.remove(&name.text);
        }
        if let Some(subscription) = holder.subscriptions.get_mut(&id) {
            subscription.stream = Some(number);
            subscription.absent_since = None;
        }
        if let Some(secret) = holder.installed.trust.get_mut(&id) {
            // On a new stream only what the holder says of itself counts; without a word it gets the newest again.
            secret.others = others.filter(|_| applied.is_some());
            secret.lists = has.filter(|_| applied.is_some()).map_or(0, |version| version.lists);
            secret.lists_refused = None;
            secret.applied = applied;
            secret.refused = None;
        }
        if let Some(secret) = holder.foreign.get_mut(&id) {
            secret.applied = has.map(|version| version.fingerprint);
            secret.had |= has.is_some();
        }
        if let Some(secret) = holder.installed.leaves.get_mut(&id) {
            secret.refused = None;
        }
        stream.secrets.insert(name.text, id);
        self.mark_ready(number);
    }

    /// The bundle whose version a reconnecting holder says it has; unions are not recognised, and are pushed again.
    fn applied_by_version(
        &self,
        version: TrustVersion,
        others: Option<RootId>,
    ) -> Option<TrustView> {
        let view = bundle_store::view(self.parts.store.at(version.proves)?);
        let known = TrustVersion { lists: version.lists, ..TrustVersion::of(&view).with(others) };
        (known == version).then_some(view)
    }

    /// Lets time do what time does: leaves expire, and secrets that nobody came back for are forgotten.
    pub(super) fn expire(&mut self) {
        let (now, uptime) = (self.parts.clock.now(), self.parts.clock.uptime());
        for holder in self.holders.values_mut() {
            let connected = holder.connected();
            if uptime.saturating_sub(holder.seen_at) >= TRUST_WAIT {
                holder.installed.trust_expected = false;
            }
            for secret in holder.installed.leaves.values_mut() {
                let before = secret.may_hold.len();
                secret.may_hold.retain(|leaf| leaf.not_after > now);
                self.holders_dirty |= secret.may_hold.len() != before;
            }
            let long_absent = |since: Option<Duration>| {
                since.is_some_and(|since| uptime.saturating_sub(since) >= ABSENT_MAX)
            };
            let forgotten: Vec<SubscriptionId> = holder
                .subscriptions
                .iter()
                .filter(|(id, subscription)| {
                    let holds = holder
                        .installed
                        .leaves
                        .get(id)
                        .is_some_and(|secret| !secret.may_hold.is_empty());
                    let counts = match subscription.name.kind {
                        SecretKind::Leaf(_) => holds,
                        SecretKind::Roots | SecretKind::All | SecretKind::Foreign(_) => !connected,
                    };
                    !counts && long_absent(subscription.absent_since)
                })
                .map(|(id, _)| *id)
                .collect();
            self.holders_dirty |= !forgotten.is_empty();
            forgotten.into_iter().for_each(|id| holder.lose(id));
        }
    }
}
