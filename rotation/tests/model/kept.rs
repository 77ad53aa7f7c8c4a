//! Values that many worlds share. Each is kept once, so that a world is small, and is compared by where it lies.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::ptr;

use rotation::State;

use crate::install::Installed;

/// A value that lives as long as the walks.
#[derive(Debug)]
pub(crate) struct Kept<T: 'static>(&'static T);

thread_local! {
    static RECORDS: RefCell<HashSet<&'static State>> = RefCell::default();
    static HOLDERS: RefCell<BTreeSet<&'static Installed>> = RefCell::default();
}

impl Kept<State> {
    pub(crate) fn record(state: State) -> Self {
        RECORDS.with_borrow_mut(|known| {
            let found = known.get(&state).copied();
            Self(found.unwrap_or_else(|| {
                let state: &'static State = Box::leak(Box::new(state));
                known.insert(state);
                state
            }))
        })
    }
}

impl Kept<Installed> {
    pub(crate) fn holder(holder: Installed) -> Self {
        HOLDERS.with_borrow_mut(|known| {
            let found = known.get(&holder).copied();
            Self(found.unwrap_or_else(|| {
                let holder: &'static Installed = Box::leak(Box::new(holder));
                known.insert(holder);
                holder
            }))
        })
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kept<T> {}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl<T> Eq for Kept<T> {}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        ptr::hash(self.0, hasher);
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}
