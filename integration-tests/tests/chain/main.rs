//! One root authority after another under traffic: chains of rotations, the way from a CA that is there already, and
//! authorities that fail meanwhile.

#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod further;
mod links;
mod migration;
mod parts;
mod trouble;
