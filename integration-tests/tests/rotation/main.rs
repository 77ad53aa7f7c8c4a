//! Roots replaced under traffic: real CA, real agents, handshakes without pause.

mod live;
mod weakened;
