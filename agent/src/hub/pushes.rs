//! From the plan to the holder: what is in order is made durable where it must be, and pushed.

use std::collections::BTreeMap;
use std::sync::Arc;

use trust::{RootId, Sequence, SpiffeId};

use super::command::Peer;
use super::state::Hub;
use super::subscription::{Delivery, DeliveryId, Material, Pushed, Refusal, TrustVersion, Why};
use super::workload::Workload;
use crate::bundle_store;
use crate::holders::Holder;
use crate::install::{HeldLeaf, Push, SubscriptionId, Taking, Target, TrustView, plan};
use crate::lists::Lists;
use crate::process::ProcessId;
use crate::secret_name::{SecretKind, SecretName};

/// One push on its way: to which stream, of which holder.
struct Dispatch {
    process: ProcessId,
    stream: u64,
    order: Order,
    /// The leaf was not in the holder's account before.
    noted: bool,
}

/// What is pushed.
enum Order {
    /// What the plan says of our own trust domain.
    Own(Push),
    /// What another trust domain has now, by its fingerprint.
    Other(SubscriptionId, RootId),
    /// What nobody believes, in the place of a leaf that was revoked.
    Nobody(SubscriptionId),
}

impl Hub {
    /// Pushes everything that is in order. A leaf goes only after its holder's entry is on the disk.
    pub(super) async fn push(&mut self) {
        self.make_nobody();
        let mut dispatches = self.planned();
        let mut account_grew = false;
        for dispatch in &mut dispatches {
            if let Order::Own(Push::Leaf(id, leaf)) = dispatch.order {
                dispatch.noted = self.note(dispatch.process, id, leaf);
                account_grew |= dispatch.noted;
            }
        }
        let durable = !account_grew || self.persist_holders().await;
        for dispatch in dispatches {
            match &dispatch.order {
                // What is noted and not written is taken back: nobody was handed that leaf.
                Order::Own(Push::Leaf(id, leaf)) if dispatch.noted && !durable => {
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
            let others = self.other_domains(holder, &bundle);
            let own = plan(&holder.installed, &target).into_iter().map(Order::Own);
            let taken = self.to_take_away(holder).into_iter().map(Order::Nobody);
            let lists = self.new_lists(holder, &known).into_iter().map(Order::Own);
            for order in own.chain(others).chain(taken).chain(lists) {
                let subscription = holder.subscriptions.get(&order.subscription());
                let Some(stream) = subscription.and_then(|subscription| subscription.stream) else {
                    continue;
                };
                let dispatch = Dispatch { process: *process, stream, order, noted: false };
                by_stream.entry(stream).or_insert(dispatch);
            }
        }
        by_stream.into_values().collect()
    }

    /// What is new of other trust domains: in their own secrets, and in those that have all domains.
    fn other_domains(&self, holder: &Holder, newest: &TrustView) -> Vec<Order> {
        let foreign = &self.parts.foreign;
        let kind = |id| holder.subscriptions.get(id).map(|known| &known.name.kind);
        let own = holder.foreign.iter().filter_map(|(id, secret)| {
            let Some(SecretKind::Foreign(domain)) = kind(id) else { return None };
            let (fingerprint, known) =
                (foreign.fingerprint(domain), foreign.bundles().contains_key(domain));
            secret.wants(fingerprint, known).then_some(Order::Other(*id, fingerprint))
        });
        let others = foreign.fingerprint_of_all();
        let all = holder.installed.trust.iter().filter(|(id, secret)| {
            let is_free = secret.ready && secret.in_flight.is_none() && secret.others != others;
            kind(id) == Some(&SecretKind::All) && is_free && secret.applied.as_ref() == Some(newest)
        });
        own.chain(all.map(|(id, _)| Order::Own(Push::Trust(*id, newest.clone())))).collect()
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
        let id = dispatch.order.subscription();
        let Some((name, material)) = self.rendered(dispatch) else { return };
        let lists = match &material {
            Material::Roots { version, .. } => version.lists,
            _ => 0,
        };
        let Some(stream) = self.streams.get_mut(&dispatch.stream) else { return };
        stream.deliveries += 1;
        stream.outstanding = Some(id);
        let id = DeliveryId { stream: dispatch.stream, number: stream.deliveries };
        let sent = stream.to.try_send(Ok(Delivery { id: Some(id), name, material }));
        let others = self.parts.foreign.fingerprint_of_all();
        let all: Vec<SubscriptionId> = stream.secrets.values().copied().collect();
        if let Some(holder) = self.holders.get_mut(&dispatch.process) {
            all.iter().for_each(|id| holder.set_ready(*id, false));
            match &dispatch.order {
                Order::Own(Push::Trust(id, view)) => {
                    if let Some(secret) = holder.installed.trust.get_mut(id) {
                        secret.in_flight = Some(view.clone());
                        secret.others = others;
                        secret.lists_in_flight = lists;
                    }
                }
                Order::Other(id, fingerprint) => {
                    if let Some(secret) = holder.foreign.get_mut(id) {
                        (secret.in_flight, secret.had) = (Some(*fingerprint), true);
                    }
                }
                Order::Own(Push::Leaf(id, leaf)) => {
                    if let Some(secret) = holder.installed.leaves.get_mut(id) {
                        (secret.in_flight, secret.taking) = (Some(*leaf), Taking::No);
                    }
                }
                Order::Nobody(id) => {
                    if let Some(secret) = holder.installed.leaves.get_mut(id) {
                        secret.taking = Taking::InFlight;
                    }
                }
            }
        }
        if let Order::Own(Push::Leaf(_, leaf)) = &dispatch.order {
            self.handed_over(leaf.serial);
        }
        // One delivery waits at most, so a queue that is full belongs to a reader that does not speak the protocol.
        if sent.is_err() {
            self.close(dispatch.stream);
        }
    }

    fn rendered(&self, dispatch: &Dispatch) -> Option<(String, Material)> {
        let holder = self.holders.get(&dispatch.process)?;
        let name = &holder.subscriptions.get(&dispatch.order.subscription())?.name;
        let material = match &dispatch.order {
            Order::Own(Push::Trust(id, view)) => {
                let lists = self.lists_for(holder.installed.trust.get(id), &view.roots);
                self.trust(name, view, lists)
            }
            Order::Own(Push::Leaf(_, leaf)) => self.leaf(name, leaf)?,
            Order::Other(_, fingerprint) => self.foreign(name, *fingerprint)?,
            Order::Nobody(_) => Material::Nobody(Arc::clone(self.nobody.as_ref()?)),
        };
        Some((name.text.clone(), material))
    }

    fn trust(&self, name: &SecretName, view: &TrustView, lists: Option<Arc<Lists>>) -> Material {
        let (version, pem) = (TrustVersion::of(view), self.parts.store.pem(&view.roots));
        match name.kind {
            SecretKind::All => {
                let foreign = &self.parts.foreign;
                let others = foreign.bundles().iter();
                let others = others.map(|(domain, one)| (domain.clone(), one.pem().to_string()));
                let own = (self.parts.config.trust_domain.clone(), pem);
                Material::RootsOf {
                    version: version.with(foreign.fingerprint_of_all()),
                    domains: std::iter::once(own).chain(others).collect(),
                }
            }
            SecretKind::Roots | SecretKind::Leaf(_) | SecretKind::Foreign(_) => {
                Material::Roots { version: version.listing(lists.as_ref()), pem, lists }
            }
        }
    }

    fn foreign(&self, name: &SecretName, fingerprint: RootId) -> Option<Material> {
        let SecretKind::Foreign(domain) = &name.kind else { return None };
        let version = TrustVersion { proves: Sequence(0), fingerprint, lists: 0 };
        Some(Material::Roots { version, pem: self.parts.foreign.pem(domain), lists: None })
    }

    fn leaf(&self, name: &SecretName, held: &HeldLeaf) -> Option<Material> {
        let SecretKind::Leaf(identity) = &name.kind else { return None };
        let leaf = self.workloads.get(identity)?.leaf.as_ref()?;
        (leaf.held() == *held).then(|| Material::Leaf(Arc::clone(leaf)))
    }

    /// Answers once, without a stream. Nothing tells what became of the secret, so its holder proves nothing any more.
    pub(super) async fn fetch(&mut self, peer: Peer, text: &str) -> Pushed {
        let (entitled, process) = (self.entitled(&peer)?, self.admit(&peer)?);
        let name = self.name(text, &entitled)?;
        if let SecretKind::Foreign(domain) = &name.kind {
            let known = self.parts.foreign.bundles().contains_key(domain);
            let fingerprint = self.parts.foreign.fingerprint(domain);
            let material = self.foreign(&name, fingerprint).filter(|_| known);
            return match material {
                Some(material) => Ok(Delivery { id: None, name: name.text, material }),
                None => Err(Refusal::not_now(format!("the CA is not federated with {domain}"))),
            };
        }
        let bundle = self.parts.store.current().map(bundle_store::view);
        let Some(bundle) = bundle else {
            return Err(Refusal::not_now("no bundle yet: the agent has not reached its CA"));
        };
        if let Some(holder) = self.holders.get_mut(&process) {
            holder.installed.unproven = true;
        }
        let SecretKind::Leaf(identity) = &name.kind else {
            // Nobody would tell it when its lists are over.
            let material = self.trust(&name, &bundle, None);
            return Ok(Delivery { id: None, name: name.text, material });
        };
        self.workloads.entry(identity.clone()).or_default();
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

impl Order {
    fn subscription(&self) -> SubscriptionId {
        match self {
            Self::Own(Push::Trust(id, _) | Push::Leaf(id, _))
            | Self::Other(id, _)
            | Self::Nobody(id) => *id,
        }
    }
}
