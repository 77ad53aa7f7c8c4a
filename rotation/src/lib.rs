//! The machine that decides how a trust domain gets its root, keeps it signing, and is able to change it.
//!
//! It is pure: [`step`] takes a [`State`], an [`Event`], the time and the [`Policy`], and answers with the next
//! state and the [`Effect`]s to perform, or with a [`Refusal`] that says what would make the event legal. There is
//! no clock here, no randomness, no cryptography, no I/O and no logging, so a model checker can walk it.
//!
//! Whoever runs the machine stores the next state, with the effects that it still owes, before it performs any of
//! them, and checks [`invariants`] before it stores. The bytes that are stored are made by [`record`].
//!
//! Start at [`State`], then [`Event`] and [`step`].
#![forbid(unsafe_code)]

mod about;
mod advice;
mod canary;
mod cause;
mod codec;
mod der;
mod done;
mod effect;
mod event;
pub mod evidence;
mod further;
pub mod invariants;
mod names;
mod phases;
mod policy;
mod questions;
pub mod record;
mod refusal;
mod rehearsal;
mod roots;
mod segments;
mod sightings;
mod state;
mod step;
mod taint;
mod under_way;

pub use about::About;
pub use advice::{Advice, Saying, Verb, Wait};
pub use canary::{Canary, CohortSeen, Share, Trouble};
pub use cause::Cause;
pub use der::Der;
pub use done::{DONE_REQUESTS_MAX, DoneRequests};
pub use effect::{Effect, PendingEffect};
pub use event::{Event, PreparedRoot, SignedIssuer};
pub use evidence::Evidence;
pub use further::{FURTHER_ROOTS_MAX, FurtherEntry, FurtherRoot};
pub use names::{
    AuthorityName, BadName, KeyName, NAME_BYTES_MAX, ReplicaName, RequestId, SegmentId,
};
pub use phases::{
    BootstrapStep, Bootstrapping, Distributing, Draining, Ended, Ending, Phase, Staging,
    StagingStep, Steady, Withdrawing,
};
pub use policy::Policy;
pub use refusal::Refusal;
pub use rehearsal::Rehearsal;
pub use roots::{IssuerEntry, IssuerRenewal, RootEntry, RootState};
pub use segments::{Contents, Segment, SegmentState};
pub use sightings::{DISMISSED_MAX, LOST_REPLICA, SIGHTINGS_MAX, Sighting, Sightings};
pub use state::{Signer, State};
pub use step::{Transition, legal, step};
pub use taint::{Cut, Taint};
pub use under_way::{BundleChange, Mode, Observer, Rotation};
