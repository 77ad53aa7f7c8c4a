//! Values that many rows have in common: each is kept once, for as long as any row has it, and named by a small number.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

#[derive(Debug)]
pub(crate) struct Pool<T> {
    /// Each value, and how many have it. One that nobody has is gone, and its place is free for another.
    values: Vec<Option<(T, u32)>>,
    /// The numbers of the values, by the values.
    numbers: HashTable<u32>,
    hasher: RandomState,
    free: Vec<u32>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            numbers: HashTable::new(),
            hasher: RandomState::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Eq + Hash> Pool<T> {
    /// The number of a value that one more has.
    pub(crate) fn take(&mut self, value: T) -> u32 {
        let Self { values, numbers, hasher, free } = self;
        let hash = hasher.hash_one(&value);
        let same = |number: &u32| look(values, *number).is_some_and(|known| *known == value);
        if let Some(number) = numbers.find(hash, same).copied() {
            if let Some(Some((_, having))) = place(values, number) {
                *having += 1;
            }
            return number;
        }
        let number = free.pop().unwrap_or_else(|| {
            values.push(None);
            u32::try_from(values.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(free) = place(values, number) {
            *free = Some((value, 1));
        }
        let hash_of =
            |number: &u32| look(values, *number).map_or(0, |known| hasher.hash_one(known));
        numbers.insert_unique(hash, number, hash_of);
        number
    }

    /// One less has the value of this number.
    pub(crate) fn give_back(&mut self, number: u32) {
        let Some(taken) = place(&mut self.values, number) else { return };
        let Some((value, having)) = taken else { return };
        *having = having.saturating_sub(1);
        if *having > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&*value);
        if let Ok(found) = self.numbers.find_entry(hash, |known| *known == number) {
            found.remove();
        }
        *taken = None;
        self.free.push(number);
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        look(&self.values, number)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

fn look<T>(values: &[Option<(T, u32)>], number: u32) -> Option<&T> {
    let (value, _) = values.get(usize::try_from(number).ok()?)?.as_ref()?;
    Some(value)
}

fn place<T>(values: &mut [Option<(T, u32)>], number: u32) -> Option<&mut Option<(T, u32)>> {
    values.get_mut(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_its_number_is_used_again_when_nobody_has_it() {
        let mut pool = Pool::default();
        let [a, b, again] = ["a", "b", "a"].map(|value| pool.take(value));
        assert_eq!((a, pool.get(a), pool.get(b), pool.len()), (again, Some(&"a"), Some(&"b"), 2));
        pool.give_back(a);
        assert_eq!((pool.get(a), pool.len()), (Some(&"a"), 2), "one more has it");
        pool.give_back(again);
        assert_eq!((pool.get(a), pool.len()), (None, 1));
        assert_eq!((pool.take("c"), pool.get(a), pool.get(b)), (a, Some(&"c"), Some(&"b")));
    }
}
