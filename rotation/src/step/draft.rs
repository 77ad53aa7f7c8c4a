//! The next state in the making.

use std::collections::BTreeSet;

use trust::RootId;

use crate::{BundleChange, Cause, Effect, PendingEffect, RootState, State};

/// What an event comes to: a draft of the next state, nothing to change, or a reason to refuse.
pub(super) type Decision = Result<Option<Draft>, Cause>;

/// A next state in the making.
pub(super) struct Draft {
    pub(super) state: State,
    pub(super) effects: Vec<Effect>,
}

impl Draft {
    pub(super) fn after(former: &State) -> Self {
        let mut state = former.clone();
        state.generation = former.generation.next();
        Self { state, effects: Vec::new() }
    }

    /// Decides an effect: it stays owed until [`Self::settle`] finds its result.
    pub(super) fn owe(&mut self, effect: Effect) {
        self.state
            .pending
            .push(PendingEffect { generation: self.state.generation, effect: effect.clone() });
        self.effects.push(effect);
    }

    /// Strikes out the pending effects that are done or overtaken.
    pub(super) fn settle(&mut self, is_done: impl Fn(&Effect) -> bool) {
        self.state.pending.retain(|pending| !is_done(&pending.effect));
    }

    /// Gives the bundle of the roots as they now are a sequence, and has it published.
    pub(super) fn change_bundle(&mut self) -> BundleChange {
        self.state.sequence = self.state.sequence.next();
        self.owe_bundle()
    }

    /// Has the bundle of the roots as they now are published. It keeps its number if it is the one `before`: a root that comes
    /// or goes may be a further one, too, and then whoever has the bundle has this one.
    pub(super) fn publish(&mut self, before: &BTreeSet<RootId>) -> BundleChange {
        if self.state.bundle_ids() != *before {
            return self.change_bundle();
        }
        self.owe_bundle()
    }

    fn owe_bundle(&mut self) -> BundleChange {
        let sequence = self.state.sequence;
        // What is published is the latest bundle, so a former one is not waited for.
        self.settle(|effect| matches!(effect, Effect::PublishBundle { .. }));
        self.owe(Effect::PublishBundle { sequence });
        BundleChange { sequence, generation: self.state.generation }
    }

    pub(super) fn set_root(&mut self, root: RootId, to: RootState) {
        if let Some(entry) = self.state.roots.get_mut(&root) {
            entry.state = to;
        }
    }
}
