//! The one task that feeds the machine of `rotation` and obeys it.
//!
//! Events come in on a bounded channel. Each is given to `rotation::step`; what comes out is checked, and stored with
//! a compare-and-swap of the whole record, pending effects included, and an entry of the journal in the same write.
//! Only then is it anybody's truth: watchers see it, the submitter gets its answer, and the pending effects are
//! performed, each in a task of its own, so that an authority that hangs holds up nothing else. Their results are
//! events again. After a restart, or after a write whose outcome is unknown, the same path starts from the record.
//!
//! The task decides nothing that `step` could decide. It knows no plugin, no network and no file beyond its store.
//!
//! Start at [`start`], then the ports: [`RecordStore`], [`Effects`], and [`EvidenceSource`], which [`report`] reads while a
//! phase ends at a gate.
//!
//! The feature `testing` adds fakes: effects and a store that fail when told to.
#![forbid(unsafe_code)]

mod driver;
mod duty;
mod effects;
#[cfg(feature = "testing")]
mod fake_effects;
#[cfg(feature = "testing")]
mod fault_store;
mod former;
mod handle;
mod journal;
mod news;
mod performer;
mod replay;
mod reporter;
mod shared_record;
mod store;

pub use driver::{DriverParts, DriverTask, StartError, start};
pub use duty::{Duty, Former};
pub use effects::{EffectError, Effects, Trouble};
#[cfg(feature = "testing")]
pub use fake_effects::FakeEffects;
#[cfg(feature = "testing")]
pub use fault_store::{FaultStore, WriteFault};
pub use former::{FormerError, former_record, take_over};
pub use handle::{DriverHandle, QUEUE_EVENTS_MAX, SubmitError};
pub use journal::{JournalEntry, Outcome, Word};
pub use replay::{ReplayError, Replayed, is_routine, replay};
pub use reporter::{EvidenceSource, NoEvidence, Reporter, report, report_every};
pub use shared_record::{JOURNAL_ENTRIES_MAX, Kept, SharedRecord};
pub use store::{RecordStore, StoreError, Stored, Write};
