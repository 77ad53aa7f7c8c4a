//! An offline root: a real server, files that are carried, and the real openssl on the other side.

mod bootstrap;
mod days;
mod live;
mod offline;
