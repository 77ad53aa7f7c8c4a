//! What the hub publishes: evidence for the CA, status for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::banyan::agent::v1 as wire;
use trust::{Root, Serial, SpiffeId};

use super::state::{Hub, cut};
use crate::evidence::{Applied, Evidence, applied, applied_by};
use crate::pods::PodUid;
use crate::probed::{Listened, Outcome, Seen, listeners};
use crate::status::{
    Condition, HolderStatus, ListenerStatus, MemberStatus, Status, WorkloadStatus,
};

/// Refusals that the CA is told of at most.
const REFUSING_MAX: usize = 64;

impl Hub {
    pub(super) fn publish(&self) {
        let evidence = self.evidence();
        self.parts.publish.evidence.send_if_modified(|published| {
            let news = **published != evidence;
            if news {
                *published = Arc::new(evidence);
            }
            news
        });
        self.publish_listened();
        let status = self.status();
        self.parts.publish.status.send_if_modified(|published| {
            let news = **published != status;
            if news {
                *published = Arc::new(status);
            }
            news
        });
    }

    fn evidence(&self) -> Evidence {
        let bundle = self.parts.store.current();
        let waiting = self
            .workloads
            .values()
            .filter_map(|workload| workload.leaf.as_ref().map(|leaf| leaf.held()));
        let mut claims = applied(self.holders.values(), waiting, self.sequence());
        // The agent trusts the CA by its own bundle, which is in force as soon as it is durable.
        if let (Some(own), Some(bundle)) = (self.parts.credential.borrow().as_ref(), bundle) {
            claims.insert(own.held().serial, Applied::by_ack(bundle.sequence()));
        }
        Evidence {
            bundle: bundle.map(|bundle| (bundle.sequence(), bundle.digest().as_bytes().to_vec())),
            held: self.serials.live.keys().copied().collect(),
            probed: self.probed(&claims),
            counted: self.counted.clone(),
            listeners: self.listening.keys().flat_map(|identity| self.said_of(identity)).collect(),
            lists: self.lists_held(),
            applied: claims,
            released: self.serials.released.keys().copied().collect(),
            refusing: self.refusing(),
            nacks: self.nacks.recent.iter().cloned().collect(),
            health: wire::Health {
                holders: u32::try_from(self.holders.len()).unwrap_or(u32::MAX),
                workloads: u32::try_from(self.workloads.len()).unwrap_or(u32::MAX),
                nacks: self.nacks.total,
            },
        }
    }

    /// Where the holders of an identity listen.
    fn listeners(&self, identity: &SpiffeId) -> Vec<ListenerStatus> {
        let processes = self.listening.get(identity).map(Vec::as_slice).unwrap_or_default();
        listeners(identity, processes, &self.found)
    }

    /// The same, for the CA.
    fn said_of(&self, identity: &SpiffeId) -> impl Iterator<Item = wire::Listener> {
        let spiffe_id = identity.to_string();
        self.listeners(identity).into_iter().map(move |one| wire::Listener {
            spiffe_id: spiffe_id.clone(),
            address: one.address.unwrap_or_default(),
            learnt_from: one.learnt_from.unwrap_or_default(),
            why_none: cut(&one.why_none.unwrap_or_default()),
        })
    }

    /// The leaves that listeners are probed with, beside those of the root that shall sign.
    fn publish_listened(&self) {
        let leaf = |identity: &SpiffeId| {
            let workload = self.workloads.get(identity)?;
            Some((identity.clone(), Arc::clone(workload.leaf.as_ref()?)))
        };
        let present: Listened = self.listening.keys().filter_map(leaf).collect();
        self.parts.publish.listened.send_if_modified(|published| {
            let serials = |all: &Listened| -> Vec<Serial> {
                all.values().map(|leaf| leaf.held().serial).collect()
            };
            let news = serials(published) != serials(&present);
            if news {
                *published = present;
            }
            news
        });
    }

    /// What was seen at the listeners of the holders of each leaf. A listener that takes the new root, or does not, says something of
    /// holders only once they have acknowledged the bundle that brings it.
    fn probed(&self, claims: &BTreeMap<Serial, Applied>) -> BTreeMap<Serial, Seen> {
        let held = self.holders.values().flat_map(|holder| holder.installed.leaves.values());
        let held = held
            .flat_map(|secret| secret.may_hold.iter().map(|leaf| (leaf.serial, &secret.identity)));
        let waiting = self.workloads.iter().filter_map(|(identity, workload)| {
            Some((workload.leaf.as_ref()?.held().serial, identity))
        });
        let all = held.chain(waiting).filter_map(|(serial, identity)| {
            let seen = self.seen.get(identity)?;
            let has = claims.get(&serial).is_some_and(|claim| claim.sequence >= seen.sequence);
            let outcome = match seen.outcome {
                Outcome::Unable | Outcome::Observed if !has => Outcome::Nothing,
                outcome => outcome,
            };
            Some((serial, Seen { sequence: seen.sequence, outcome, detail: cut(&seen.detail) }))
        });
        all.collect()
    }

    /// What is refused now: the bundle by this agent, and roots by holders that may present a leaf.
    fn refusing(&self) -> Vec<(Option<Serial>, String)> {
        let own = self.conditions.get(&Condition::BundleRefused).map(|what| (None, cut(what)));
        let by_holders = self.holders.values().flat_map(|holder| {
            let refused = holder
                .installed
                .trust
                .iter()
                .find(|(_, secret)| secret.refused.is_some())
                .map(|(id, _)| id);
            let said =
                refused.and_then(|id| holder.subscriptions.get(id)).map(|known| &known.refusal);
            holder.may_hold().filter_map(move |leaf| Some((Some(leaf.serial), said?.clone())))
        });
        own.into_iter().chain(by_holders).take(REFUSING_MAX).collect()
    }

    fn status(&self) -> Status {
        let bundle = self.parts.store.current();
        let own = self.parts.credential.borrow();
        let member = own.as_ref().map(|leaf| MemberStatus {
            spiffe_id: leaf.identity().to_string(),
            serial: leaf.held().serial.to_string(),
            not_after: leaf.held().not_after,
        });
        let workloads = self.workloads.iter().map(|(identity, workload)| {
            let held = workload.leaf.as_ref().map(|leaf| leaf.held());
            WorkloadStatus {
                spiffe_id: identity.to_string(),
                serial: held.map(|leaf| leaf.serial.to_string()),
                not_after: held.map(|leaf| leaf.not_after),
                root: held.map(|leaf| leaf.root),
                renewals: workload.renewals(),
                last_error: workload.last_error.clone(),
                listeners: self.listeners(identity),
            }
        });
        let view = self.parts.pods.as_ref().map(|pods| Arc::clone(&pods.borrow()));
        let named = |uid: &PodUid| {
            let known = view.as_ref().and_then(|view| view.pods.get(uid));
            known.map_or_else(|| uid.to_string(), ToString::to_string)
        };
        let holders = self.holders.iter().map(|(process, holder)| HolderStatus {
            pid: process.pid,
            uid: holder.uid,
            pod: holder.pod.as_ref().map(named),
            connected: holder.connected(),
            serials: holder.may_hold().map(|leaf| leaf.serial.to_string()).collect(),
            applied: applied_by(holder, self.sequence()).map(|sequence| sequence.0),
        });
        let conditions =
            self.conditions.iter().map(|(kind, what)| format!("{}: {what}", kind.name()));
        Status {
            sequence: self.sequence().0,
            digest: bundle.map(|bundle| bundle.digest()),
            roots: bundle
                .map(|bundle| bundle.roots().iter().map(Root::id).collect())
                .unwrap_or_default(),
            member,
            ca_addresses: self.parts.client.addresses().report(),
            connected: self.connected,
            connection_since: self.connection_since,
            workloads: workloads.collect(),
            holders: holders.collect(),
            nacks: self.nacks.total,
            conditions: conditions.collect(),
        }
    }
}
