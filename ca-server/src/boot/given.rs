//! What every step of a start has in hand.

use rotation_driver::DriverHandle;

use super::answers::Asked;
use super::layout::Layout;
use super::patience::Patience;
use super::{Embedding, HostDeps};
use crate::config::Config;

/// What every step of a start has in hand.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) config: &'a Config,
    pub(super) deps: &'a HostDeps,
    pub(super) layout: &'a Layout,
    pub(super) embedding: &'a dyn Embedding,
    /// How long it waits for the store.
    pub(super) patience: &'a Patience,
}

impl<'a> Given<'a> {
    /// What goes through this driver.
    pub(super) const fn asks(&self, driver: &'a DriverHandle) -> Asked<'a> {
        Asked { driver, patience: self.patience }
    }
}
