//! A bounded memory of requests that were carried out, so that a repeated one is not carried out again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::RequestId;

/// How many done requests are remembered. They come some times a year, and are repeated within minutes.
pub const DONE_REQUESTS_MAX: usize = 64;

/// The most recent requests that were carried out, oldest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DoneRequests(VecDeque<RequestId>);

impl DoneRequests {
    /// Whether this request was carried out, as far as remembered.
    pub fn contains(&self, request: &RequestId) -> bool {
        self.0.contains(request)
    }

    /// Those that are remembered, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &RequestId> {
        self.0.iter()
    }

    /// How many are remembered; at most [`DONE_REQUESTS_MAX`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers one more, and forgets the oldest when full.
    pub(crate) fn remember(&mut self, request: RequestId) {
        while self.0.len() >= DONE_REQUESTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let id = |n: usize| RequestId::parse(&format!("r{n}")).unwrap();
        let mut done = DoneRequests::default();
        (0..=DONE_REQUESTS_MAX).for_each(|n| done.remember(id(n)));
        assert_eq!(done.len(), DONE_REQUESTS_MAX);
        assert!(
            !done.contains(&id(0))
                && done.contains(&id(1))
                && done.contains(&id(DONE_REQUESTS_MAX))
        );
    }
}
