//! What everything that talks to an operator shares: the verbs of `banyan`, its demo and its benchmark.
//!
//! Answers go out through [`output`], failures through [`exit`], and [`terminal`] knows how wide the screen is.
//! [`admin_socket`] and [`tls_channel`] are the ways to a server, and [`journal`] and [`rotation`] read what it answers.

// Both end the program where nobody reads: `output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin_socket;
mod cohort;
pub mod exit;
pub mod journal;
pub mod output;
pub mod rotation;
pub mod signals;
pub mod terminal;
pub mod tls_channel;
mod told;
