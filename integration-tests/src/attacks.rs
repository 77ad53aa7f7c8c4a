//! Attacks on the sockets of a CA and of an agent, each in a process of its own, with good clients beside them.
//!
//! All of it goes to this machine and is bounded. [`Victim`] is the server, [`Attack`] what is done to it; each is one
//! function of [`assault`], or of `insider` where the server knows the caller. [`AgentVictim`] and [`SocketAttack`] are the same for
//! an agent. Tests assert what does not depend on the machine's mood, the program `attacks` measures.

pub mod assault;
mod counts;
pub mod frames;
mod insider;
pub mod socket;
pub mod victim;

pub use assault::{Assault, Attack};
pub use socket::{AgentVictim, Intruders, SocketAttack};
pub use victim::{Files, GoodClient, Victim};
