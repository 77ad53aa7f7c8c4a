//! What every step of a start has in hand.

use super::layout::Layout;
use super::{Embedding, HostDeps};
use crate::config::Config;

/// What every step of a start has in hand.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) config: &'a Config,
    pub(super) deps: &'a HostDeps,
    pub(super) layout: &'a Layout,
    pub(super) embedding: &'a dyn Embedding,
}
