//! CAs in tiers: a root that is replaced at the top while members of every tier talk to each other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod conformance;
mod dead;
mod follow;
mod moving;
mod neighbors;
mod operator;
mod tier_ca;
mod weakened;
