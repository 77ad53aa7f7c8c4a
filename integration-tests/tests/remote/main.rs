//! Root authorities in other languages, each in a process of its own: the suite over the wire, and rotations onto them and
//! away from them under traffic.
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on ends here")]

mod check;
mod liar;
mod misbehavior;
mod process;
mod rotation;
