//! A map that forgets: bounded memory for results that can be computed again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// A cache of at most `capacity` entries, in two generations: when the young one is full, the old one is dropped and
/// the young one grows old. What is used stays, at constant cost.
#[derive(Debug)]
pub struct BoundedCache<K, V> {
    half: usize,
    /// Young and old entries. Locked only for map work, never across an await.
    entries: Mutex<(HashMap<K, V>, HashMap<K, V>)>,
}

impl<K: Eq + Hash, V: Clone> BoundedCache<K, V> {
    /// An empty cache.
    pub fn new(capacity: usize) -> Self {
        Self { half: (capacity / 2).max(1), entries: Mutex::default() }
    }

    /// What is remembered of a key.
    pub fn find(&self, key: K) -> Option<V> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = entries.0.get(&key) {
            return Some(value.clone());
        }
        let value = entries.1.remove(&key)?;
        self.put(&mut entries, key, value.clone());
        Some(value)
    }

    /// Remembers this of a key.
    pub fn insert(&self, key: K, value: V) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&mut entries, key, value);
    }

    fn put(&self, entries: &mut (HashMap<K, V>, HashMap<K, V>), key: K, value: V) {
        if entries.0.len() >= self.half {
            entries.1 = std::mem::take(&mut entries.0);
        }
        entries.0.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let cache = BoundedCache::new(100);
        cache.insert(0, "used");
        for key in 1..10_000 {
            cache.insert(key, "other");
            assert_eq!(cache.find(0), Some("used"), "{key}");
        }
        let entries = cache.entries.lock().unwrap();
        assert!(entries.0.len() + entries.1.len() <= 100);
    }

    #[test]
    fn what_is_not_used_is_forgotten() {
        let cache = BoundedCache::new(10);
        cache.insert(0, ());
        (1..20).for_each(|key| cache.insert(key, ()));
        assert_eq!(cache.find(0), None);
    }
}
