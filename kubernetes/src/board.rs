//! How each part is: one line each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it can do its work.
    pub ready: bool,
    /// What it is doing, or what is in its way and what to do about it.
    pub text: String,
}

/// How every part is, by name.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, Standing>>>);

/// The line of one part on the board.
#[derive(Clone, Debug)]
pub struct Part {
    board: Board,
    name: String,
}

impl Board {
    /// A line for a part, which is not ready until it says so.
    #[must_use]
    pub fn part(&self, name: impl Into<String>) -> Part {
        let part = Part { board: self.clone(), name: name.into() };
        part.put(Standing { ready: false, text: "is starting".to_owned() });
        part
    }

    /// Every line.
    #[must_use]
    pub fn lines(&self) -> BTreeMap<String, Standing> {
        self.all().clone()
    }

    /// Whether each part can do its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.all().values().all(|standing| standing.ready)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It can do its work, and this is what it is doing.
    pub fn ready(&self, text: impl Into<String>) {
        self.put(Standing { ready: true, text: text.into() });
    }

    /// It cannot do its work: this is in its way, and this is what to do about it. Logged when it is another thing than before.
    pub fn stuck(&self, text: impl Into<String>) {
        let text = text.into();
        let standing = Standing { ready: false, text: text.clone() };
        if self.put(standing) {
            tracing::warn!(part = self.name, "{text}");
        }
    }

    /// Answers whether it is another thing than before.
    fn put(&self, standing: Standing) -> bool {
        let before = self.board.all().insert(self.name.clone(), standing.clone());
        before.as_ref() != Some(&standing)
    }
}
