//! From one signer to the other.

use trust::{RootId, Timestamp};

use super::draft::Draft;
use crate::{BundleChange, Draining, Phase, Rotation};

/// What goes from phase to phase.
pub(super) struct Passes {
    pub(super) rotation: Rotation,
    pub(super) from: RootId,
    pub(super) to: RootId,
    pub(super) bundle: BundleChange,
}

/// The new root signs for everybody, the former one drains.
pub(super) fn switch(draft: &mut Draft, passes: Passes, now: Timestamp) {
    let Passes { rotation, from, to, bundle } = passes;
    draft.switch(from, to);
    let switched = draft.state.generation;
    draft.state.phase = Phase::Draining(Draining {
        rotation,
        from,
        to,
        bundle,
        switched,
        rolled_back: false,
        since: now,
        settling: None,
        observer: None,
    });
}
