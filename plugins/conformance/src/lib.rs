//! The contract of plugins as a test suite: one call from a test, in this repository or outside of it.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn test(open: impl Fn() -> Arc<dyn plugins::KeyBackend> + Send + Sync + 'static) {
//! plugins_conformance::keys::run(&plugins_conformance::keys::Subject::new(open)).await.assert_conforms();
//! # }
//! ```
//!
//! A rule that a plugin is known to break is declared with its reason (`Subject::gap`). With
//! `BANYAN_CONFORMANCE_REPORT_DIR` set, [`Report::assert_conforms`] leaves each report there as a file.
//!
//! Each rule has a name; the [`Report`] lists which failed, and why, and which could not be tried. The suite needs an
//! empty store at first and opens it several times, as restarts do.
//!
//! The suite itself is tested against fakes that each break one rule (`tests/`).

pub mod authority;
pub mod keys;
mod report;

pub use report::{Broken, REPORT_DIR, Report, Verdict};
