//! What the sockets ask a running CA: who is recognized, how a rejection is said, and where it counts.

use std::sync::Arc;

use auth::refusal::{Reason, Refusal};
use prometheus_client::metrics::gauge::Gauge;
use rustls_pki_types::CertificateDer;
use tonic::Status;
use transport::grpc::Doorman;
use transport::{Meter, Peer, Rejection, RejectionHandler};

use control::ca::{Ca, Refused, UNKNOWN_CALLER};

/// A running CA, as the sockets see it.
#[derive(Clone, Debug)]
pub(crate) struct Entrance(pub(crate) Arc<Ca>);

impl Doorman for Entrance {
    fn recognizes(&self, certificates: &[CertificateDer<'static>]) -> bool {
        self.0.authenticator.recognizes(certificates, self.0.cell.load().bundle())
    }

    fn distrusted(&self) {
        self.0.metrics.handshake_distrusted();
    }
}

impl RejectionHandler for Entrance {
    fn rejected(&self, rejection: Rejection, peer: Option<&Peer>) -> Status {
        let (reason, text) = match rejection {
            Rejection::MetadataTooLarge => {
                (Reason::RequestInvalid, "the metadata is larger than 16 KiB")
            }
            Rejection::MessageTooLarge => {
                (Reason::RequestInvalid, "the request is larger than 64 KiB")
            }
            Rejection::MessageMalformed => {
                (Reason::RequestInvalid, "the request is not a message of this method")
            }
            Rejection::Overloaded => {
                (Reason::Overloaded, "the server has too many requests under way: retry")
            }
            Rejection::TimedOut => {
                (Reason::Overloaded, "the request was not answered in time: retry")
            }
        };
        let addr = peer.and_then(|peer| peer.addr);
        let refusal = Refusal::new(reason, text);
        self.0.refused(&refusal, Refused { caller: UNKNOWN_CALLER, subject: None, addr });
        refusal.into()
    }
}

impl Meter for Entrance {
    fn connection_cut(&self, reason: &'static str) {
        self.0.metrics.connection_cut(reason);
    }

    fn unsent_bytes(&self, port: &'static str) -> Gauge {
        self.0.metrics.unsent_bytes(port)
    }

    fn exposition(&self) -> String {
        self.0.metrics.exposition()
    }
}
