//! The engine on etcd: the v3 API over mTLS, with several endpoints.
//!
//! A key is `PREFIX/SPACE/ID`, its version the revision at which it was last written. Each write is one transaction that
//! compares this revision. Reads are linearizable, and every request asks that its member has a leader.

mod connection;
mod member;
mod names;
mod noted;
mod settings;
mod store;
mod watch;

pub use settings::{Endpoint, InvalidSettings, Settings, TlsFiles, User};
pub use store::EtcdStore;
