//! Attacks on the sockets of a CA in a process of its own, with good clients beside them.
//!
//! All of it goes to this machine and is bounded. [`Victim`] is the server, [`Attack`] what is done to it; each is one
//! function of [`assault`]. Tests assert what does not depend on the machine's mood, the program `attacks` measures.

pub mod assault;
pub mod frames;
pub mod victim;

pub use assault::{Assault, Attack};
pub use victim::{Files, GoodClient, Victim};
