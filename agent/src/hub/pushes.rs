//! From the plan to the holder: what is in order is made durable where it must be, and pushed.

use std::collections::BTreeMap;
use std::sync::Arc;

use trust::SpiffeId;

use super::command::Peer;
use super::state::Hub;
use super::subscription::{Delivery, DeliveryId, Material, Pushed, Refusal, TrustVersion, Why};
use super::workload::Workload;
use crate::bundle_store;
use crate::install::{HeldLeaf, Push, SubscriptionId, Target, TrustView, plan};
use crate::process::ProcessId;
use crate::secret_name::{SecretKind, SecretName};

/// One push on its way: to which stream, of which holder.
struct Dispatch {
    process: ProcessId,
    stream: u64,
    push: Push,
    /// The leaf was not in the holder's account before.
    noted: bool,
}

impl Hub {
    /// Pushes everything that is in order. A leaf goes only after its holder's entry is on the disk.
    pub(super) async fn push(&mut self) {
        let mut dispatches = self.planned();
        let mut account_grew = false;
        for dispatch in &mut dispatches {
            if let Push::Leaf(id, leaf) = dispatch.push {
                dispatch.noted = self.note(dispatch.process, id, leaf);
                account_grew |= dispatch.noted;
            }
        }
        let durable = !account_grew || self.persist_holders().await;
        for dispatch in dispatches {
            match &dispatch.push {
                // What is noted and not written is taken back: nobody was handed that leaf.
                Push::Leaf(id, leaf) if dispatch.noted && !durable => {
                    self.take_back(dispatch.process, *id, *leaf);
                }
                _ => self.dispatch(&dispatch),
            }
        }
    }

    /// At most one push for each stream: each waits for the answer to the one before.
    fn planned(&self) -> Vec<Dispatch> {
        let Some(bundle) = self.parts.store.current().map(bundle_store::view) else {
            return Vec::new();
        };
        let (known, leaves) = (self.parts.store.known_roots(), self.newest_leaves());
        let target =
            Target { bundle: &bundle, known: &known, leaves: &leaves, now: self.parts.clock.now() };
        let mut by_stream: BTreeMap<u64, Dispatch> = BTreeMap::new();
        for (process, holder) in &self.holders {
            for push in plan(&holder.installed, &target) {
                let subscription = holder.subscriptions.get(&push.subscription());
                let Some(stream) = subscription.and_then(|subscription| subscription.stream) else {
                    continue;
                };
                let dispatch = Dispatch { process: *process, stream, push, noted: false };
                by_stream.entry(stream).or_insert(dispatch);
            }
        }
        by_stream.into_values().collect()
    }

    pub(super) fn newest_leaves(&self) -> BTreeMap<SpiffeId, HeldLeaf> {
        let leaf = |(identity, workload): (&SpiffeId, &Workload)| {
            Some((identity.clone(), workload.leaf.as_ref()?.held()))
        };
        self.workloads.iter().filter_map(leaf).collect()
    }

    fn note(&mut self, process: ProcessId, id: SubscriptionId, leaf: HeldLeaf) -> bool {
        let holder = self.holders.get_mut(&process);
        let Some(secret) = holder.and_then(|holder| holder.installed.leaves.get_mut(&id)) else {
            return false;
        };
        let new = !secret.may_hold.contains(&leaf);
        secret.note(leaf);
        new
    }

    fn take_back(&mut self, process: ProcessId, id: SubscriptionId, leaf: HeldLeaf) {
        let holder = self.holders.get_mut(&process);
        if let Some(secret) = holder.and_then(|holder| holder.installed.leaves.get_mut(&id)) {
            secret.may_hold.retain(|held| *held != leaf);
        }
    }

    fn dispatch(&mut self, dispatch: &Dispatch) {
        let id = dispatch.push.subscription();
        let Some((name, material)) = self.rendered(dispatch) else { return };
        let Some(stream) = self.streams.get_mut(&dispatch.stream) else { return };
        stream.deliveries += 1;
        stream.outstanding = Some(id);
        let id = DeliveryId { stream: dispatch.stream, number: stream.deliveries };
        let sent = stream.to.try_send(Ok(Delivery { id: Some(id), name, material }));
        let all: Vec<SubscriptionId> = stream.secrets.values().copied().collect();
        if let Some(holder) = self.holders.get_mut(&dispatch.process) {
            all.iter().for_each(|id| holder.set_ready(*id, false));
            match &dispatch.push {
                Push::Trust(id, view) => {
                    if let Some(secret) = holder.installed.trust.get_mut(id) {
                        secret.in_flight = Some(view.clone());
                    }
                }
                Push::Leaf(id, leaf) => {
                    if let Some(secret) = holder.installed.leaves.get_mut(id) {
                        secret.in_flight = Some(*leaf);
                    }
                }
            }
        }
        if let Push::Leaf(_, leaf) = &dispatch.push {
            self.handed_over(leaf.serial);
        }
        // One delivery waits at most, so a queue that is full belongs to a reader that does not speak the protocol.
        if sent.is_err() {
            self.close(dispatch.stream);
        }
    }

    fn rendered(&self, dispatch: &Dispatch) -> Option<(String, Material)> {
        let holder = self.holders.get(&dispatch.process)?;
        let name = &holder.subscriptions.get(&dispatch.push.subscription())?.name;
        let material = match &dispatch.push {
            Push::Trust(_, view) => self.trust(name, view),
            Push::Leaf(_, leaf) => self.leaf(name, leaf)?,
        };
        Some((name.text.clone(), material))
    }

    fn trust(&self, name: &SecretName, view: &TrustView) -> Material {
        let (version, pem) = (TrustVersion::of(view), self.parts.store.pem(&view.roots));
        match name.kind {
            SecretKind::All => {
                let trust_domain = self.parts.config.trust_domain.clone();
                Material::RootsOf { trust_domain, version, pem }
            }
            SecretKind::Roots | SecretKind::Leaf(_) => Material::Roots { version, pem },
        }
    }

    fn leaf(&self, name: &SecretName, held: &HeldLeaf) -> Option<Material> {
        let SecretKind::Leaf(identity) = &name.kind else { return None };
        let leaf = self.workloads.get(identity)?.leaf.as_ref()?;
        (leaf.held() == *held).then(|| Material::Leaf(Arc::clone(leaf)))
    }

    /// Answers once, without a stream. Nothing tells what became of the secret, so its holder proves nothing any more.
    pub(super) async fn fetch(&mut self, peer: Peer, text: &str) -> Pushed {
        let process = self.admit(peer)?;
        let name = self.name(text, peer.uid)?;
        let bundle = self.parts.store.current().map(bundle_store::view);
        let Some(bundle) = bundle else {
            return Err(Refusal::not_now("no bundle yet: the agent has not reached its CA"));
        };
        if let Some(holder) = self.holders.get_mut(&process) {
            holder.installed.unproven = true;
        }
        let SecretKind::Leaf(identity) = &name.kind else {
            let material = self.trust(&name, &bundle);
            return Ok(Delivery { id: None, name: name.text, material });
        };
        self.want(identity);
        let leaf = self.newest_leaves().get(identity).copied();
        let now = self.parts.clock.now();
        let leaf = leaf.filter(|leaf| leaf.not_after > now && bundle.roots.contains(&leaf.root));
        let leaf =
            leaf.ok_or_else(|| Refusal::not_now("no live leaf yet: try again in a second"))?;
        // What was promised to holders that acknowledge is not for one that cannot: another leaf is asked for.
        if leaf.promised {
            return Err(Refusal::not_now(
                "a leaf for callers without a stream is on its way: try again in a second",
            ));
        }
        let held_back = self.holders.get(&process).is_some_and(|holder| {
            !holder.installed.trust.is_empty() && !holder.installed.may_have(&leaf, &bundle)
        });
        if held_back {
            return Err(Refusal::not_now(
                "this process must first apply the newest bundle: try again in a second",
            ));
        }
        self.record_fetched(process, &name, leaf).await?;
        let material = self.leaf(&name, &leaf);
        let material =
            material.ok_or_else(|| Refusal::not_now("the leaf has just changed: try again"))?;
        self.handed_over(leaf.serial);
        Ok(Delivery { id: None, name: name.text, material })
    }

    async fn record_fetched(
        &mut self,
        process: ProcessId,
        name: &SecretName,
        leaf: HeldLeaf,
    ) -> Result<(), Refusal> {
        let fresh = self.next_subscription();
        let uptime = self.parts.clock.uptime();
        let Some(holder) = self.holders.get_mut(&process) else {
            return Err(Refusal::new(Why::CallerGone, "the calling process has ended"));
        };
        let absent = holder
            .subscriptions
            .iter()
            .find(|(_, known)| known.name == *name && known.stream.is_none());
        let id = absent.map_or(fresh, |(id, _)| *id);
        if id == fresh {
            holder.subscribe(id, name.clone(), uptime);
        }
        let noted = self.note(process, id, leaf);
        if self.persist_holders().await {
            return Ok(());
        }
        if noted {
            self.take_back(process, id, leaf);
        }
        Err(Refusal::not_now("the agent's disk takes no writes, so no leaf is handed over"))
    }
}

impl Push {
    fn subscription(&self) -> SubscriptionId {
        match self {
            Self::Trust(id, _) | Self::Leaf(id, _) => *id,
        }
    }
}
