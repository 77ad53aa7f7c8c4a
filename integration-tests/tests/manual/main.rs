//! An offline root: a real server, files that are carried, and the real openssl on the other side.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod days;
mod founding;
mod live;
mod offline;
