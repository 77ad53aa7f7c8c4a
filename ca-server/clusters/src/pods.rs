//! The pods of a cluster that are scheduled and have not ended, as they were seen last.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::authn::cluster::PodSeen;

use kube_access::PodObject;

/// Pods, and whether they are what there is now.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    /// Held for map work only.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_uid: HashMap<String, Scheduled>,
    by_node: HashMap<String, HashSet<String>>,
    sync: Sync,
}

#[derive(Debug)]
struct Scheduled {
    node: String,
    seen: PodSeen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sync {
    /// No list was read yet.
    #[default]
    Never,
    /// The watch goes on.
    Live,
    /// The watch broke then, and no list was read since.
    Broken(Duration),
}

impl Pods {
    /// A list of all pods, after which the watch goes on.
    pub(crate) fn listed(&self, pods: &[PodObject]) {
        let mut fresh = Known { sync: Sync::Live, ..Known::default() };
        for pod in pods {
            fresh.put(pod);
        }
        *self.known() = fresh;
    }

    /// A pod is there, or changed.
    pub(crate) fn seen(&self, pod: &PodObject) {
        self.known().put(pod);
    }

    /// A pod is gone.
    pub(crate) fn gone(&self, pod: &PodObject) {
        self.known().remove(&pod.metadata.uid);
    }

    /// The watch broke: what is known ages from now on.
    pub(crate) fn broken(&self, uptime: Duration) {
        let mut known = self.known();
        if known.sync == Sync::Live {
            known.sync = Sync::Broken(uptime);
        }
    }

    /// Whether what is known may be used: the watch goes on, or broke less than `age_max` ago.
    pub(crate) fn is_fresh(&self, uptime: Duration, age_max: Duration) -> bool {
        match self.known().sync {
            Sync::Never => false,
            Sync::Live => true,
            Sync::Broken(since) => uptime.saturating_sub(since) < age_max,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.known().by_uid.len()
    }

    /// The pods on a node.
    pub(crate) fn on(&self, node: &str) -> Vec<PodSeen> {
        let known = self.known();
        let uids = known.by_node.get(node).into_iter().flatten();
        uids.filter_map(|uid| known.by_uid.get(uid)).map(|pod| pod.seen.clone()).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, pod: &PodObject) {
        let PodObject { metadata, spec, status } = pod;
        self.remove(&metadata.uid);
        // What has ended needs no certificate, and what is not scheduled has no node.
        if status.has_ended() || spec.node_name.is_empty() || spec.service_account_name.is_empty() {
            return;
        }
        let uid = metadata.uid.clone();
        self.by_node.entry(spec.node_name.clone()).or_default().insert(uid.clone());
        let seen = PodSeen {
            uid: uid.clone(),
            namespace: metadata.namespace.clone(),
            account: spec.service_account_name.clone(),
        };
        self.by_uid.insert(uid, Scheduled { node: spec.node_name.clone(), seen });
    }

    fn remove(&mut self, uid: &str) {
        let Some(former) = self.by_uid.remove(uid) else { return };
        let Some(on_node) = self.by_node.get_mut(&former.node) else { return };
        on_node.remove(uid);
        if on_node.is_empty() {
            self.by_node.remove(&former.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube_access::{PodMeta, PodSpec, PodStatus};

    fn pod(uid: &str, node: &str, account: &str, phase: &str) -> PodObject {
        let [uid, node, account, phase] = [uid, node, account, phase].map(str::to_owned);
        PodObject {
            metadata: PodMeta { namespace: "shop".to_owned(), uid, ..PodMeta::default() },
            spec: PodSpec { node_name: node, service_account_name: account },
            status: PodStatus { phase },
        }
    }

    fn accounts(pods: &Pods, node: &str) -> Vec<String> {
        let mut accounts: Vec<_> = pods.on(node).into_iter().map(|pod| pod.account).collect();
        accounts.sort();
        accounts
    }

    #[test]
    fn only_what_is_scheduled_and_has_not_ended_is_on_a_node() {
        let pods = Pods::default();
        pods.listed(&[
            pod("1", "a", "cart", "Running"),
            pod("2", "a", "web", "Pending"),
            pod("3", "", "waiting", "Pending"),
            pod("4", "a", "done", "Succeeded"),
            pod("5", "a", "broken", "Failed"),
            pod("6", "b", "cart", "Running"),
        ]);
        assert_eq!(accounts(&pods, "a"), ["cart", "web"]);
        pods.seen(&pod("3", "a", "waiting", "Pending"));
        pods.seen(&pod("1", "a", "cart", "Succeeded"));
        assert_eq!(accounts(&pods, "a"), ["waiting", "web"]);
        // Repeated and unknown words do no harm.
        pods.gone(&pod("2", "a", "web", "Running"));
        pods.gone(&pod("2", "a", "web", "Running"));
        pods.gone(&pod("9", "c", "x", "Running"));
        assert_eq!(accounts(&pods, "a"), ["waiting"]);
        assert_eq!(pods.count(), 2);
        // A list replaces everything: what was deleted while nobody watched is gone.
        pods.listed(&[pod("6", "b", "cart", "Running")]);
        assert_eq!((accounts(&pods, "a").len(), accounts(&pods, "b").len()), (0, 1));
    }

    #[test]
    fn what_is_known_ages_from_the_break_of_the_watch_and_nothing_is_known_before_the_first_list() {
        let (pods, age) = (Pods::default(), Duration::from_secs(30));
        let at = Duration::from_secs;
        assert!(!pods.is_fresh(at(0), age));
        pods.broken(at(1));
        assert!(!pods.is_fresh(at(1), age), "never listed");
        pods.listed(&[]);
        assert!(pods.is_fresh(at(1_000), age));
        pods.broken(at(1_000));
        pods.broken(at(1_020));
        assert!(pods.is_fresh(at(1_029), age));
        assert!(!pods.is_fresh(at(1_030), age), "from the first break on");
        pods.listed(&[]);
        assert!(pods.is_fresh(at(2_000), age));
    }
}
