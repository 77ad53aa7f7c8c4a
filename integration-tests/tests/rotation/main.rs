//! Roots replaced under traffic: real CA, real agents, handshakes without pause.

#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod absence;
mod canary;
mod distrust;
mod live;
mod operator;
mod renewed;
mod scheduled;
mod second_net;
mod trouble;
mod unable;
mod weakened;
