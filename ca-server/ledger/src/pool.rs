//! Values that many rows have in common: each is kept once, for as long as any row has it, and named by a small number.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Pool<T> {
    /// Each value, and how many have it. One that nobody has is free for another.
    values: Vec<(T, u32)>,
    numbers: HashMap<T, u32>,
    free: Vec<u32>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new(), free: Vec::new() }
    }
}

impl<T: Copy + Eq + Hash> Pool<T> {
    /// The number of a value that one more has.
    pub(crate) fn take(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            if let Some((_, having)) = place(&mut self.values, *number) {
                *having += 1;
            }
            return *number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(free) = place(&mut self.values, number) {
                    *free = (value, 1);
                }
                number
            }
            None => {
                self.values.push((value, 1));
                u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(value, number);
        number
    }

    /// One less has the value of this number.
    pub(crate) fn give_back(&mut self, number: u32) {
        let Some((value, having)) = place(&mut self.values, number) else { return };
        *having = having.saturating_sub(1);
        if *having == 0 {
            self.numbers.remove(value);
            self.free.push(number);
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<T> {
        self.values.get(usize::try_from(number).ok()?).map(|(value, _)| *value)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

fn place<T>(values: &mut [(T, u32)], number: u32) -> Option<&mut (T, u32)> {
    values.get_mut(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_its_number_is_used_again_when_nobody_has_it() {
        let mut pool = Pool::default();
        let [a, b, again] = ["a", "b", "a"].map(|value| pool.take(value));
        assert_eq!((a, pool.get(a), pool.get(b), pool.len()), (again, Some("a"), Some("b"), 2));
        pool.give_back(a);
        assert_eq!((pool.get(a), pool.len()), (Some("a"), 2), "one more has it");
        pool.give_back(again);
        assert_eq!(pool.len(), 1);
        assert_eq!((pool.take("c"), pool.get(a), pool.get(b)), (a, Some("c"), Some("b")));
    }
}
