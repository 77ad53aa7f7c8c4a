//! What probes and health are told of a server that sends its clients elsewhere.

use super::*;

#[tokio::test]
async fn a_server_that_sends_clients_elsewhere_is_not_ready_from_that_very_moment_on() {
    let front = ServerFront::of(TlsState::without_identity().unwrap());
    front.set_ready(true).await;
    let is_ready = front.readiness();
    assert!(is_ready() && front.is_ready());
    front.drain(Duration::from_secs(30));
    assert!(!is_ready() && !front.is_ready());
    // What somebody found before it drained.
    front.set_ready(true).await;
    front.undrain();
    assert!(!is_ready(), "until it is looked at again");
    front.set_ready(true).await;
    assert!(is_ready());
}
