//! The CA crashes, and its disk fails: what must hold then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod kill;
mod processes;
