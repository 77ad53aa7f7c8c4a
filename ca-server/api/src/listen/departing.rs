//! A server that sends its clients elsewhere.

use std::time::Duration;

use control::front::Front as _;
use replicas::Drain;
use tokio::sync::watch;

use super::ServerFront;

impl ServerFront {
    /// Sends everybody elsewhere, spread over this time, and serves on until they have left: agents are asked on their streams to
    /// connect to another address first and then to leave (one that has no other address stays), and connections without such a
    /// stream end by GOAWAY as soon as what is under way on them is done. It holds for whoever connects from now on, too.
    ///
    /// It refuses nothing and changes no readiness: that is the caller's. How many agents are still there is
    /// [`registry::sessions::Sessions::connected_agents`]. Calling it again asks all of them again.
    pub fn drain(&self, spread: Duration) {
        self.departure.begin(spread);
    }

    /// Lets whoever connects from now on stay. Who was asked to go may still go.
    pub fn undrain(&self) {
        self.departure.end();
    }

    /// Drains for as long as somebody's word says so.
    pub async fn follow(self, mut word: watch::Receiver<Option<Drain>>, spread: Duration) {
        loop {
            let asked = word.borrow_and_update().as_ref().map(|drain| drain.spread_secs);
            match asked {
                Some(0) => self.drain(spread),
                Some(secs) => self.drain(Duration::from_secs(secs)),
                None => self.undrain(),
            }
            if asked.is_some() {
                self.set_ready(false).await;
            }
            if word.changed().await.is_err() {
                return;
            }
        }
    }
}
