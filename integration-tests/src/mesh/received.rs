//! Every leaf that clients were given, as they saw it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use host::SystemClock;
use trust::{Certificate, Clock as _, Serial, Timestamp};

/// What clients were given; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<Mutex<BTreeMap<Serial, ReceivedLeaf>>>);

/// A leaf, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedLeaf {
    /// Whose it is.
    pub identity: String,
    /// Name of the root that its chain leads to, in DER.
    pub root_subject: Vec<u8>,
    /// When it was seen first.
    pub at: Timestamp,
}

impl Received {
    /// A client was given a chain, leaf first. What is no leaf of Banyan is none.
    pub fn note(&self, chain: &[Vec<u8>]) {
        let parsed = |der: &Vec<u8>| Certificate::parse(der).ok();
        let (Some(leaf), Some(last)) =
            (chain.first().and_then(parsed), chain.last().and_then(parsed))
        else {
            return;
        };
        let Some(serial) = leaf.serial() else { return };
        let received = ReceivedLeaf {
            identity: leaf.spiffe_id().map(|id| id.to_string()).unwrap_or_default(),
            root_subject: last.issuer_der().to_vec(),
            at: SystemClock.now(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(serial).or_insert(received);
    }

    /// An agent has this certificate of its own, serial number in hexadecimal; its root is not looked at.
    pub fn note_own(&self, serial: &str, identity: &str) {
        let digits: Vec<_> = serial.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| {
            std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        let Some(serial) = bytes.and_then(|bytes| Serial::from_bytes(&bytes)) else { return };
        let (identity, root_subject) = (identity.to_owned(), Vec::new());
        let received = ReceivedLeaf { identity, root_subject, at: SystemClock.now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(serial).or_insert(received);
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<Serial, ReceivedLeaf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
