//! A good rotation says nothing that calls for an operator. A binary of its own: it listens to the log of the whole process.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};

use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{GetRotationRequest, StartRotationRequest};
use support::{Place, admin_channel, eventually, stop};

/// Lines of the log.
#[derive(Debug, Default, Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_rotations_log_no_error_and_no_warning() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let place = Place::durable("[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n");
    let running = place.start().await.unwrap();
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    for name in ["one", "two"] {
        let request =
            StartRotationRequest { request_id: name.to_owned(), ..StartRotationRequest::default() };
        rotations.start_rotation(request).await.unwrap();
        eventually("the rotation is over", async || {
            let rotation =
                rotations.clone().get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
            rotation.phase == "steady" && rotation.done.iter().any(|done| done == name)
        })
        .await;
    }
    stop(running).await;
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(
        log.matches("the server's own leaf is renewed").count(),
        6,
        "it was listened to: {log}"
    );
    let loud: Vec<_> =
        log.lines().filter(|line| line.contains(" ERROR ") || line.contains(" WARN ")).collect();
    assert!(loud.is_empty(), "{loud:#?}");
}
