//! The contract of [`stores::SharedStore`] as a test suite: one call from a test of an engine.
//!
//! Each rule has a name; the [`Report`] lists which failed, and why, and which could not be tried, since the engine has no
//! such trouble. The suite needs an empty store. It is itself tested against fakes that each break one rule (`tests/`).

mod log;
mod report;
mod rules;
mod subject;

pub use log::no_entry_is_lost_or_repeated;
pub use report::{Broken, Report, Verdict};
pub use subject::{Subject, Trouble};

/// Tries every rule.
pub async fn run(subject: &Subject) -> Report {
    let mut report = Report::default();
    rules::keys::all(subject, &mut report).await;
    rules::lists::all(subject, &mut report).await;
    rules::races::all(subject, &mut report).await;
    rules::watches::all(subject, &mut report).await;
    rules::troubles::all(subject, &mut report).await;
    report
}
