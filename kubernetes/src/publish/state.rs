//! What a channel knows of its objects, and what is left to do: no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::content::{Content, Shape};
use super::judge::{Judgement, Ours, judge};
use super::objects::News;
use super::seen::{Key, Seen};
use crate::config::{ChannelKind, Namespaces};

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
    /// Namespaces that were made since the plan is there: nobody in them can hold what was published before.
    newborn: BTreeSet<String>,
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
            newborn: BTreeSet::new(),
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
        self.newborn.clear();
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
        for name in namespaces.difference(&self.namespaces).cloned().collect::<Vec<_>>() {
            self.born(name);
        }
        self.namespaces = namespaces;
        self.objects = objects;
        self.judge_all();
    }

    /// A namespace that was not known is new where each one that there was is known; where labels select them it may be an old one
    /// that got a label.
    fn born(&mut self, name: String) {
        let is_each_known = matches!(
            &self.shape.config().kind,
            ChannelKind::PerNamespace { namespaces: Namespaces::Selected(None), .. }
        );
        if is_each_known && self.namespaces_complete && self.plan.is_some() {
            self.newborn.insert(name);
        }
    }

    /// Whether this object's namespace was made since the plan is there.
    pub(crate) fn is_newborn(&self, key: &Key) -> bool {
        self.newborn.contains(&key.namespace)
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
            if open {
                self.born(name.clone());
            }
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
        self.count_of(|_| true)
    }

    fn count_of(&self, is_meant: impl Fn(&Key) -> bool) -> (usize, usize) {
        let Some(plan) = &self.plan else { return (0, 0) };
        let mut all = self.wanted();
        all.extend(self.objects.keys().cloned());
        let judged = all.iter().filter(|key| is_meant(key)).map(|key| self.judged(key, plan));
        let counted: Vec<_> = judged.filter(|judged| *judged != Judgement::Leave).collect();
        (counted.len(), counted.iter().filter(|judged| **judged == Judgement::Right).count())
    }

    /// Whether nothing is left to do, and everything is as it should be.
    pub(crate) fn is_right(&self) -> bool {
        let (all, right) = self.count();
        self.dirty.is_empty() && self.faults.is_empty() && all == right
    }

    /// The same, but for what is in namespaces that were made since the plan is there.
    pub(crate) fn is_right_but_for_newborns(&self) -> bool {
        let (all, right) = self.count_of(|key| !self.is_newborn(key));
        let mut open = self.dirty.iter().chain(self.faults.keys());
        open.all(|key| self.is_newborn(key)) && all == right
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
#[path = "state_tests.rs"]
mod tests;
