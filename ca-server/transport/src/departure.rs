//! Sending clients elsewhere while they are still served: each connection is asked to end, spread over a time.
//!
//! Asked is by GOAWAY, which every gRPC client obeys: what is under way ends, and the next call goes over a new connection. A
//! connection with a [`Resident`] is left alone: its client is told in words of its own, and leaves when it has found
//! another server. Nothing is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::conduct::Conduct;

/// Whether clients are sent elsewhere, and over how long. Clones are the same.
#[derive(Clone, Debug)]
pub struct Departure(watch::Sender<Option<Duration>>);

/// Something on a connection that its client ends itself, until this is dropped.
#[derive(Debug)]
pub struct Resident(Arc<Conduct>);

impl Default for Departure {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Departure {
    /// Sends all clients elsewhere, those to come too, spread over this time.
    pub fn begin(&self, spread: Duration) {
        self.0.send_replace(Some(spread));
    }

    /// Lets clients come again. Who was asked to go may still go.
    pub fn end(&self) {
        self.0.send_replace(None);
    }

    /// Whether clients are sent elsewhere.
    pub fn is_under_way(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Follows it: the time to spread over, once clients are sent elsewhere.
    pub fn watch(&self) -> watch::Receiver<Option<Duration>> {
        self.0.subscribe()
    }

    /// Ends when it is this connection's turn to go, and nobody resides on it.
    pub(crate) async fn turn_of(&self, conduct: &Arc<Conduct>) {
        let mut asked = self.watch();
        // The sender lives as long as this does.
        let spread = asked.wait_for(Option::is_some).await.map(|asked| *asked);
        let spread = spread.ok().flatten().unwrap_or_default();
        tokio::time::sleep(share(conduct.number, spread)).await;
        conduct.is_without_residents().await;
    }
}

impl Resident {
    /// Somebody resides on this connection from now on.
    pub fn on(conduct: &Arc<Conduct>) -> Self {
        conduct.residents.send_modify(|residents| *residents += 1);
        Self(Arc::clone(conduct))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.residents.send_modify(|residents| *residents = residents.saturating_sub(1));
    }
}

/// A moment of the spread for each connection: neighbouring numbers come far apart, and any run of them evenly.
fn share(number: u64, spread: Duration) -> Duration {
    let fraction = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let millis = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
    Duration::from_millis(millis.saturating_mul(fraction) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_evenly_over_the_spread() {
        let spread = Duration::from_secs(100);
        let mut all: Vec<_> = (1..=1_000).map(|number| share(number, spread)).collect();
        assert!(all.iter().all(|share| *share < spread));
        all.sort_unstable();
        let widest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest < Duration::from_millis(500), "{widest:?}");
        assert!(all[0] < Duration::from_secs(1) && all[999] > Duration::from_secs(99));
        assert_eq!(share(7, Duration::ZERO), Duration::ZERO);
    }
}
