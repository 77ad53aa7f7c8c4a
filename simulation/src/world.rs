//! All that there is in one run: the store, the machines, the authority, and who observes them.

use std::ops::Deref;
use std::sync::Arc;

use plugins::RootAuthority;

use crate::keys::Authority;
use crate::machine::Machine;
use crate::observer::Observer;
use crate::run::{Broken, Options, Run};
use crate::store::Central;

/// What all parts share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) run: Arc<Run>,
    pub(crate) central: Arc<Central>,
    pub(crate) machines: Vec<Arc<Machine>>,
    pub(crate) observer: Arc<Observer>,
    authority: Arc<Authority>,
}

impl Deref for World {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Arc<Self> {
        let run = Arc::new(Run::new(seed, options));
        let servers = match run.roll(|dice| dice.below(10)) {
            0..3 => 1,
            3..6 => 2,
            _ => 3,
        };
        let servers = options.quiet.map_or(servers, |quiet| quiet.servers);
        let machine =
            |number| run.roll(|dice| Arc::new(Machine::new(number, seed, run.began, dice)));
        let machines: Vec<_> = (0..servers).map(machine).collect();
        if run.is_broken(Broken::LyingDisk) {
            machines.iter().for_each(|machine| machine.medium.lie());
        }
        let central = Arc::new(Central::default());
        let observer = Arc::new(Observer::new(Arc::clone(&run), Arc::clone(&central)));
        let weak = Arc::downgrade(&observer);
        central.told_by(move |key| {
            if let Some(observer) = weak.upgrade() {
                crate::observer::wrote(&observer, key);
            }
        });
        let authority = Arc::new(Authority::new(Arc::clone(&run), seed));
        Arc::new(Self { run, central, machines, observer, authority })
    }

    /// The authority that all servers ask.
    pub(crate) fn authority(&self) -> Arc<dyn RootAuthority> {
        Arc::<Authority>::clone(&self.authority)
    }

    /// Ends everything: what is left holds nothing of each other.
    pub(crate) fn end(&self) {
        self.machines.iter().for_each(|machine| machine.runs(None));
    }
}
