//! What a channel knows of its objects, and what is left to do: no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::content::{Content, Shape};
use super::judge::{Judgement, Ours, judge};
use super::objects::News;
use super::seen::{Key, Seen};

/// Longest pause before a write that failed is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What shall be in every object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) ours: Ours,
    pub(crate) contents: BTreeMap<String, Content>,
}

/// Why one object is not as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) text: String,
    /// When it is tried again, in uptime.
    pub(crate) again: Duration,
    /// Whether it may pass by itself.
    pub(crate) passing: bool,
    /// How often it failed before.
    pub(crate) tries: u32,
}

/// What is to be done to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Write what its name stands for in the plan, over what was seen.
    Write(Option<Seen>),
    /// Delete what was seen.
    Delete(Seen),
}

/// Everything that a channel knows.
#[derive(Debug)]
pub(crate) struct Known {
    shape: Arc<Shape>,
    scopes: Vec<Option<String>>,
    objects: BTreeMap<Key, Seen>,
    namespaces: BTreeSet<String>,
    /// Lists that are being told, and those that were told to the end.
    listing: BTreeMap<usize, BTreeSet<Key>>,
    listing_namespaces: Option<BTreeSet<String>>,
    complete: BTreeSet<usize>,
    namespaces_complete: bool,
    /// Objects that were not judged since something changed.
    dirty: BTreeSet<Key>,
    faults: BTreeMap<Key, Fault>,
    plan: Option<Arc<Plan>>,
}

impl Known {
    /// Nothing is known; `fixed` namespaces are never told of, and `scopes` are the namespaces that lists are about.
    pub(crate) fn new(
        shape: Arc<Shape>,
        fixed: Option<BTreeSet<String>>,
        scopes: Vec<Option<String>>,
    ) -> Self {
        Self {
            shape,
            scopes,
            objects: BTreeMap::new(),
            namespaces_complete: fixed.is_some(),
            namespaces: fixed.unwrap_or_default(),
            listing: BTreeMap::new(),
            listing_namespaces: None,
            complete: BTreeSet::new(),
            dirty: BTreeSet::new(),
            faults: BTreeMap::new(),
            plan: None,
        }
    }

    /// Whether all lists were told once: before, an object that is not known may be there all the same.
    pub(crate) fn is_complete(&self) -> bool {
        self.namespaces_complete && self.complete.len() == self.scopes.len()
    }

    /// Takes what is to be published.
    pub(crate) fn publish(&mut self, plan: Plan) {
        self.plan = Some(Arc::new(plan));
        self.faults.clear();
        self.judge_all();
    }

    pub(crate) fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// Takes what a watch says.
    pub(crate) fn hear(&mut self, news: News) {
        match news {
            News::Begins(scope) => {
                self.listing.insert(scope, BTreeSet::new());
            }
            News::Object(scope, key, seen) => {
                if let Some(listing) = self.listing.get_mut(&scope) {
                    listing.insert(key.clone());
                }
                self.saw(key, seen);
            }
            News::Complete(scope) => self.listed(scope),
            News::Gone(key, seen) => {
                if self.objects.get(&key).is_some_and(|known| seen.is_at_least(known)) {
                    self.objects.remove(&key);
                    self.touch(key);
                }
            }
            News::NamespacesBegin => self.listing_namespaces = Some(BTreeSet::new()),
            News::Namespace(name, open) => self.namespace(name, open),
            News::NamespacesComplete => {
                self.namespaces_complete = true;
                if let Some(listed) = self.listing_namespaces.take() {
                    self.namespaces = listed;
                    self.judge_all();
                }
            }
            News::NamespaceGone(name) => self.namespace(name, false),
            News::Lost(_) => {}
        }
    }

    /// Takes an object as it was seen or written.
    pub(crate) fn saw(&mut self, key: Key, seen: Seen) {
        let known = self.objects.get(&key);
        if known.is_none_or(|known| known != &seen && seen.is_at_least(known)) {
            self.objects.insert(key.clone(), seen);
            self.touch(key);
        }
    }

    /// Takes a list of everything, as it was read just now.
    pub(crate) fn looked(&mut self, namespaces: BTreeSet<String>, objects: BTreeMap<Key, Seen>) {
        self.namespaces = namespaces;
        self.objects = objects;
        self.judge_all();
    }

    /// It is gone, as a write or a delete found out.
    pub(crate) fn gone(&mut self, key: &Key) {
        self.objects.remove(key);
        self.touch(key.clone());
    }

    /// It could not be written.
    pub(crate) fn failed(&mut self, key: Key, text: String, passing: bool, now: Duration) {
        let tries = self.faults.get(&key).map_or(0, |fault| fault.tries.saturating_add(1));
        let pause = match passing {
            true => Duration::from_secs(1).saturating_mul(1 << tries.min(6)).min(PAUSE_MAX),
            false => PAUSE_MAX,
        };
        self.faults.insert(key, Fault { text, again: now + pause, passing, tries });
    }

    fn listed(&mut self, scope: usize) {
        self.complete.insert(scope);
        let Some(listed) = self.listing.remove(&scope) else { return };
        let about = self.scopes.get(scope).cloned().flatten();
        let missing = |key: &&Key| {
            about.as_ref().is_none_or(|namespace| *namespace == key.namespace)
                && !listed.contains(*key)
        };
        let missing: Vec<_> = self.objects.keys().filter(missing).cloned().collect();
        missing.iter().for_each(|key| self.gone(key));
    }

    fn namespace(&mut self, name: String, open: bool) {
        if let Some(listing) = self.listing_namespaces.as_mut().filter(|_| open) {
            listing.insert(name.clone());
        }
        let changed = match open {
            true => self.namespaces.insert(name.clone()),
            false => self.namespaces.remove(&name),
        };
        if changed {
            let names: Vec<_> = self.names();
            names.into_iter().for_each(|object| {
                self.touch(Key { namespace: name.clone(), name: object });
            });
        }
    }

    fn names(&self) -> Vec<String> {
        self.plan.iter().flat_map(|plan| plan.contents.keys().cloned()).collect()
    }

    fn touch(&mut self, key: Key) {
        self.faults.remove(&key);
        self.dirty.insert(key);
    }

    fn judge_all(&mut self) {
        self.dirty = self.objects.keys().cloned().collect();
        self.dirty.extend(self.wanted());
        let dirty = &self.dirty;
        self.faults.retain(|key, _| dirty.contains(key));
    }

    /// Every object that shall be there: one of each name in each namespace.
    fn wanted(&self) -> BTreeSet<Key> {
        let names = self.names();
        let of = |namespace: &String| {
            let namespace = namespace.clone();
            names.iter().map(move |name| Key { namespace: namespace.clone(), name: name.clone() })
        };
        self.namespaces.iter().flat_map(of).collect()
    }

    fn judged(&self, key: &Key, plan: &Plan) -> Judgement {
        let seen = self.objects.get(key);
        // One that was written once is kept up wherever it is, also where none is wanted any more.
        let ours =
            seen.and_then(|seen| seen.mark.as_ref()).is_some_and(|mark| mark.ca == plan.ours.ca);
        let is_wanted = self.namespaces.contains(&key.namespace) || ours;
        let content = plan.contents.get(&key.name).filter(|_| is_wanted);
        if let (Some(_), None, Some(why)) = (content, seen, self.shape.made_by_others()) {
            return Judgement::Stop(why);
        }
        judge(content, seen, self.shape.deletes(&key.name), &plan.ours)
    }

    /// The next thing to do, of those that nobody is about to do.
    pub(crate) fn next(&mut self, under_way: &BTreeSet<Key>, now: Duration) -> Option<(Key, Act)> {
        let plan = Arc::clone(self.plan.as_ref()?);
        let due = self
            .faults
            .iter()
            .filter(|(key, fault)| fault.again <= now && !under_way.contains(*key));
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        self.dirty.extend(due);
        let (mut later, mut deletes) = (Vec::new(), Vec::new());
        let mut found = None;
        while let Some(key) = self.dirty.pop_first() {
            if under_way.contains(&key) {
                later.push(key);
                continue;
            }
            match self.judged(&key, &plan) {
                Judgement::Right | Judgement::Leave => drop(self.faults.remove(&key)),
                Judgement::Stop(text) => self.failed(key, text, false, now),
                Judgement::Delete => deletes.push(key),
                Judgement::Write => {
                    let seen = self.objects.get(&key).cloned();
                    found = Some((key, Act::Write(seen)));
                    break;
                }
            }
        }
        // What was trusted before goes when everything that shall be trusted is there.
        if found.is_none() && under_way.is_empty() && self.faults.is_empty() {
            let delete =
                deletes.pop().and_then(|key| Some((self.objects.get(&key).cloned()?, key)));
            found = delete.map(|(seen, key)| (key, Act::Delete(seen)));
        }
        self.dirty.extend(later.into_iter().chain(deletes));
        found
    }

    /// How many objects the channel keeps up, and how many of them are right.
    pub(crate) fn count(&self) -> (usize, usize) {
        let Some(plan) = &self.plan else { return (0, 0) };
        let mut all = self.wanted();
        all.extend(self.objects.keys().cloned());
        let judged = all.iter().map(|key| self.judged(key, plan));
        let counted: Vec<_> = judged.filter(|judged| *judged != Judgement::Leave).collect();
        (counted.len(), counted.iter().filter(|judged| **judged == Judgement::Right).count())
    }

    /// Whether nothing is left to do, and everything is as it should be.
    pub(crate) fn is_right(&self) -> bool {
        let (all, right) = self.count();
        self.dirty.is_empty() && self.faults.is_empty() && all == right
    }

    /// The object that is told of when some are not right and that is no matter of a moment, and why it is not.
    pub(crate) fn worst(&self) -> Option<String> {
        let lasting = |fault: &Fault| !fault.passing || fault.tries >= 2;
        let (key, fault) = self.faults.iter().find(|(_, fault)| lasting(fault))?;
        Some(format!("{key}: {}", fault.text))
    }

    pub(crate) const fn faults(&self) -> &BTreeMap<Key, Fault> {
        &self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Print;
    use super::super::seen::Mark;
    use super::*;
    use crate::config::{ChannelConfig, ChannelKind};

    const CA: &str = "ca";

    fn shape(kind: ChannelKind) -> Arc<Shape> {
        let (name, labels, covers) = ("c".to_owned(), BTreeMap::new(), Vec::new());
        let staleness = Duration::from_secs(1);
        Arc::new(Shape::new(ChannelConfig {
            name,
            kind,
            labels,
            staleness,
            covers,
            gateways: None,
        }))
    }

    fn bundles() -> Arc<Shape> {
        let (signer, prefix) = ("a.b/c".to_owned(), "p-".to_owned());
        shape(ChannelKind::ClusterTrustBundle { signer, prefix })
    }

    fn plan(sequence: u64, names: &[&str]) -> Plan {
        let content = |name: &&str| {
            let print: Print = [u8::try_from(sequence).unwrap(); 32];
            let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
            let body = serde_json::Map::new();
            ((*name).to_owned(), Content { labels, annotations, body, print })
        };
        let ours = Ours { ca: CA.to_owned(), sequence };
        Plan { ours, contents: names.iter().map(content).collect() }
    }

    fn key(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn seen(version: u64, sequence: u64) -> Seen {
        let mark = Some(Mark { ca: CA.to_owned(), sequence });
        let print = [u8::try_from(sequence).unwrap(); 32];
        Seen { version: version.to_string(), uid: "u".to_owned(), print, mark }
    }

    fn nobody() -> BTreeSet<Key> {
        BTreeSet::new()
    }

    #[test]
    fn a_former_root_is_deleted_only_when_every_present_one_is_there() {
        let cluster = BTreeSet::from([String::new()]);
        let mut known = Known::new(bundles(), Some(cluster), vec![None]);
        let (old, new) = (key("", "a.b:c:p-old"), key("", "a.b:c:p-new"));
        known.hear(News::Begins(0));
        known.hear(News::Object(0, old.clone(), seen(5, 6)));
        known.hear(News::Complete(0));
        assert!(known.is_complete());
        known.publish(plan(7, &["a.b:c:p-new"]));
        let first = known.next(&nobody(), Duration::ZERO);
        assert_eq!(first, Some((new.clone(), Act::Write(None))));
        let under_way = BTreeSet::from([new.clone()]);
        assert_eq!(known.next(&under_way, Duration::ZERO), None, "the new one is not there yet");
        known.failed(new.clone(), "refused".to_owned(), false, Duration::ZERO);
        assert_eq!(known.next(&nobody(), Duration::ZERO), None, "and it may never be");
        known.saw(new, seen(9, 7));
        assert_eq!(
            known.next(&nobody(), Duration::ZERO),
            Some((old.clone(), Act::Delete(seen(5, 6))))
        );
        assert!(!known.is_right());
        known.gone(&old);
        assert_eq!(known.next(&nobody(), Duration::ZERO), None);
        assert!(known.is_right());
    }

    fn config_maps(selected: bool) -> Known {
        use crate::config::{Namespaces, ObjectKind};
        let (object, name) = (ObjectKind::ConfigMap, "bundle".to_owned());
        let namespaces = Namespaces::Selected(None);
        let keys = BTreeSet::from(["ca.crt".to_owned()]);
        let shape =
            shape(ChannelKind::PerNamespace { object, name, keys, namespaces, also: Vec::new() });
        let fixed = (!selected).then(|| BTreeSet::from(["one".to_owned()]));
        Known::new(shape, fixed, vec![None])
    }

    #[test]
    fn a_namespace_gets_its_object_when_it_comes_and_one_that_ends_holds_nobody_up() {
        let mut known = config_maps(true);
        known.publish(plan(7, &["bundle"]));
        known.hear(News::NamespacesBegin);
        known.hear(News::NamespacesComplete);
        assert!(known.is_right(), "there is no namespace");
        known.hear(News::Namespace("one".to_owned(), true));
        let there = key("one", "bundle");
        let next = known.next(&nobody(), Duration::ZERO);
        assert_eq!(next, Some((there.clone(), Act::Write(None))));
        known.failed(there, "it is being terminated".to_owned(), true, Duration::ZERO);
        assert!(!known.is_right());
        known.hear(News::Namespace("one".to_owned(), false));
        assert_eq!(known.next(&nobody(), Duration::ZERO), None);
        assert!(known.is_right());
    }

    #[test]
    fn what_a_watch_tells_late_does_not_undo_what_was_seen_since() {
        let mut known = config_maps(false);
        known.publish(plan(7, &["bundle"]));
        let there = key("one", "bundle");
        known.saw(there.clone(), seen(9, 7));
        known.hear(News::Object(0, there.clone(), seen(8, 6)));
        known.hear(News::Gone(there.clone(), seen(8, 6)));
        assert_eq!(known.next(&nobody(), Duration::ZERO), None);
        assert!(known.is_right());
        known.hear(News::Gone(there.clone(), seen(10, 7)));
        assert_eq!(known.next(&nobody(), Duration::ZERO), Some((there, Act::Write(None))));
    }

    #[test]
    fn an_object_that_a_new_list_lacks_is_gone() {
        let mut known = config_maps(false);
        known.publish(plan(7, &["bundle"]));
        let there = key("one", "bundle");
        known.saw(there.clone(), seen(9, 7));
        known.hear(News::Begins(0));
        known.hear(News::Complete(0));
        assert_eq!(known.next(&nobody(), Duration::ZERO), Some((there, Act::Write(None))));
    }

    #[test]
    fn one_that_has_a_later_bundle_stops_the_channel_until_the_ca_has_it_too() {
        let mut known = config_maps(false);
        known.saw(key("one", "bundle"), seen(9, 8));
        known.publish(plan(7, &["bundle"]));
        assert_eq!(known.next(&nobody(), Duration::ZERO), None);
        let fault = known.faults().values().next().unwrap();
        assert!(fault.text.contains("bundle 8") && !fault.passing && !known.is_right());
        known.publish(plan(8, &["bundle"]));
        assert_eq!(known.next(&nobody(), Duration::ZERO), None);
        assert!(known.is_right());
    }

    #[test]
    fn a_write_that_failed_is_tried_again_after_a_pause_that_grows() {
        let mut known = config_maps(false);
        known.publish(plan(7, &["bundle"]));
        let secs = Duration::from_secs;
        let (there, _) = known.next(&nobody(), secs(0)).unwrap();
        known.failed(there.clone(), "away".to_owned(), true, secs(0));
        assert_eq!(known.next(&nobody(), Duration::from_millis(900)), None);
        assert!(known.next(&nobody(), secs(1)).is_some());
        known.failed(there, "away".to_owned(), true, secs(1));
        assert_eq!(known.next(&nobody(), secs(2)), None);
        assert!(known.next(&nobody(), secs(3)).is_some());
    }
}
