//! The CA crashes, and its disk fails: what must hold then.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends here"
)]

mod authority;
mod green;
mod kill;
mod processes;
mod restored;
mod rotation;
mod serving;
mod unreadable;
mod writes;
