//! Who is at the other end of a connection, as far as the connection tells.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::conduct::Conduct;

/// What a handler learns about the connection of its request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's certificates, leaf first, with proof of possession and judged by nobody yet; empty without any.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Where the client is; `None` on a Unix socket.
    pub addr: Option<SocketAddr>,
    /// The user at the other end of a Unix socket, as the kernel says.
    pub uid: Option<u32>,
    /// Cancelled when the connection should end: long streams say goodbye then.
    pub ending: CancellationToken,
    /// How the connection behaves.
    pub conduct: Arc<Conduct>,
}

impl Peer {
    /// The client of a connection that the kernel or the handshake tells of.
    pub fn new(certificates: Arc<[CertificateDer<'static>]>, conduct: &Arc<Conduct>) -> Self {
        let (ending, conduct) = (conduct.ending.clone(), Arc::clone(conduct));
        Self { certificates, addr: None, uid: None, ending, conduct }
    }
}
