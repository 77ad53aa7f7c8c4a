//! Ports for servers that must come back at the same address.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};

/// How often the kernel is asked for another port.
const ADDRESS_ATTEMPTS: usize = 100;

/// Ports that were given out. The kernel may offer one again, and two Envoys would share it without a word.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address that was free a moment ago, and is given out once only. The CA needs a fixed one, because it comes back
/// after a kill.
///
/// # Errors
/// If no port is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    for _ in 0..ADDRESS_ATTEMPTS {
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
        let address = listener.local_addr()?;
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address.port()) {
            return Ok(address);
        }
    }
    bail!("no free port on 127.0.0.1 that was not given out before")
}
