//! One stream to one place, and what was said on it.

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use tokio::sync::mpsc;
use tonic::Streaming;
use trust::Serial;

use super::said::{ROWS_MAX, Said};
use crate::ca_client::{CallError, Place, refused};
use crate::evidence::Evidence;
use crate::member::BUILD;

/// Messages that wait for the wire; then the next round of evidence waits.
pub(super) const UP_MAX: usize = 16;

/// A stream that is up.
pub(super) struct Line {
    pub(super) place: Place,
    up: Option<mpsc::Sender<wire::AgentMessage>>,
    down: Streaming<wire::ServerMessage>,
    said: Said,
}

impl Line {
    /// A stream that began with this certificate.
    pub(super) fn new(
        place: Place,
        own: Option<Serial>,
        up: mpsc::Sender<wire::AgentMessage>,
        down: Streaming<wire::ServerMessage>,
    ) -> Self {
        Self { place, up: Some(up), down, said: Said::beginning_with(own) }
    }

    /// The next message down; none when the CA has ended the stream in order.
    pub(super) async fn next(&mut self) -> Result<Option<wire::ServerMessage>, CallError> {
        self.down.message().await.map_err(|status| refused(&self.place, status))
    }

    /// Says what is true now and was not said yet; whether the stream still takes it.
    pub(super) async fn say_news(&mut self, evidence: &Evidence) -> bool {
        let news = self.said.news(evidence);
        self.say(news).await
    }

    /// Queues messages; says whether the stream still takes them.
    pub(super) async fn say(&mut self, messages: Vec<Up>) -> bool {
        let Some(up) = &self.up else { return false };
        for message in messages {
            if up.send(wire::AgentMessage { message: Some(message) }).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Ends our side, and waits until the CA has heard all of it and ends its own.
    pub(super) async fn end(mut self) {
        self.up = None;
        while let Ok(Some(_)) = self.next().await {}
    }
}

/// The first message.
pub(super) fn hello(evidence: &Evidence) -> Up {
    let (sequence, digest) = evidence.bundle.clone().unwrap_or_default();
    Up::Hello(wire::Hello {
        build: BUILD.to_owned(),
        highest_sequence: sequence.0,
        highest_digest: if sequence.0 == 0 { Vec::new() } else { digest },
        held_serials: evidence
            .held
            .iter()
            .take(ROWS_MAX)
            .map(|serial| serial.as_bytes().to_vec())
            .collect(),
    })
}
