//! What is due, in its order.
//!
//! A plan has millions of dates ahead of it, and one heap of all of them is read all over the memory for each. They lie in one
//! heap for the present second, and unsorted in one pile for each later one: a pile becomes a heap when its second comes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Length of a pile, in milliseconds.
const PILE: u64 = 1_000;

/// A date: when, the how manieth that was entered, and what.
type Entry<T> = Reverse<(u64, u64, T)>;

/// What is due, in the order of its time, and what is due at the same time in the order in which it was entered.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    entered: u64,
    /// Up to the end of the present pile.
    near: BinaryHeap<Entry<T>>,
    present: u64,
    far: BTreeMap<u64, Vec<Entry<T>>>,
}

impl<T: Ord> Default for Agenda<T> {
    fn default() -> Self {
        Self { entered: 0, near: BinaryHeap::new(), present: 0, far: BTreeMap::new() }
    }
}

impl<T: Ord> Agenda<T> {
    /// Enters something that is due at a time, in milliseconds.
    pub(crate) fn enter(&mut self, millis: u64, what: T) {
        self.entered += 1;
        let (pile, entry) = (millis / PILE, Reverse((millis, self.entered, what)));
        if pile <= self.present {
            self.near.push(entry);
        } else {
            self.far.entry(pile).or_default().push(entry);
        }
    }

    /// Takes what is due next, if that is due by now.
    pub(crate) fn next_until(&mut self, now: u64) -> Option<(u64, T)> {
        while self.near.is_empty() {
            let next = self.far.first_entry().filter(|next| *next.key() <= now / PILE)?;
            self.present = *next.key();
            self.near = BinaryHeap::from(next.remove());
        }
        let Reverse((millis, _, _)) = self.near.peek()?;
        if *millis > now {
            return None;
        }
        self.near.pop().map(|Reverse((millis, _, what))| (millis, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_one_sorted_list_whenever_it_was_entered() {
        let (mut agenda, mut expected) = (Agenda::default(), Vec::new());
        let mut state = 7_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            (state >> 33) % below
        };
        let (mut number, mut came) = (0_u64, Vec::new());
        for now in (0..20_000).step_by(250) {
            for _ in 0..20 {
                // Some are late already, as answers to what was late itself.
                let due = (now + draw(5_000)).saturating_sub(300);
                agenda.enter(due, number);
                expected.push((due, number));
                number += 1;
            }
            let due_by_now = expected.extract_if(.., |(due, _)| *due <= now);
            let mut due_by_now: Vec<_> = due_by_now.collect();
            due_by_now.sort_unstable();
            let taken: Vec<_> = std::iter::from_fn(|| agenda.next_until(now)).collect();
            assert_eq!(taken, due_by_now, "at {now}");
            came.extend(taken);
        }
        assert!(came.len() > 1_000);
        let rest: Vec<_> = std::iter::from_fn(|| agenda.next_until(u64::MAX)).collect();
        expected.sort_unstable();
        assert_eq!(rest, expected);
    }
}
