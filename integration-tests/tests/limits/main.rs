//! How much the CA takes of one client and of all together. While a limit is being tried, a good client gets
//! certificates all the time.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod attacks;
mod load;
mod sizes;
mod tls;

use std::cell::Cell;
use std::time::Duration;

use integration_tests::untrusted::{TestCa, TestClient};
use tokio::time::{Interval, MissedTickBehavior};

/// How fast a good client asks: slower than what one identity may have by any setting tried here, however fast the
/// machine is.
fn good_pace() -> Interval {
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Does something hostile while a good client, on a connection of before, asks for certificates all the time; none of
/// its requests may fail, and there is one more at the end.
async fn while_a_good_client_is_served<T>(ca: &TestCa, hostile: impl Future<Output = T>) -> T {
    let client = TestClient::connect(ca).await;
    client.create_good(ca).await;
    let answered = Cell::new(0);
    let mut pace = good_pace();
    let serving = async {
        loop {
            pace.tick().await;
            client.create_good(ca).await;
            answered.set(answered.get() + 1);
        }
    };
    let outcome = tokio::select! {
        outcome = hostile => outcome,
        () = serving => unreachable!("it asks for ever"),
    };
    client.create_good(ca).await;
    assert_eq!(client.connections(), 1, "after {} answers", answered.get());
    outcome
}
