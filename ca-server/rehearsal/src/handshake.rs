//! One handshake in memory: both sides prove that they hold their keys, and a verifier judges both chains.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, ServerConnection, SignatureScheme,
};
use rustls_pki_types::{
    CertificateDer, IpAddr, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use trust::{PeerRole, Timestamp};
use trust_tls::{AnyProvenClient, ServerRule, ders, server_verifier};

use crate::scene::{Actor, Scene, Unshaken};
use crate::verifier::{Presented, Verdict, Verifier};

/// Turns in which both sides speak; TLS 1.3 needs two.
const TURNS_MAX: usize = 8;

/// Shakes hands as a scene says, with this verifier at both ends.
///
/// # Errors
/// [`Unshaken`], with what the verifier said.
pub fn shake(scene: &Scene, verifier: &Arc<dyn Verifier>, now: Timestamp) -> Result<(), Unshaken> {
    let judge = |role| {
        let (verifier, anchors) = (Arc::clone(verifier), Arc::clone(&scene.bundle));
        Arc::new(Judge { verifier, anchors, role, now, said: Mutex::new(None) })
    };
    let (of_server, of_client) = (judge(PeerRole::Server), judge(PeerRole::Client));
    let spoken = speak(scene, &of_server, &of_client);
    let said =
        [&of_server, &of_client].into_iter().find_map(|judge| Some((judge.role, judge.said()?)));
    match (said, spoken) {
        (Some((role, Verdict::Refused(said))), _) => {
            Err(scene.failure(verifier.name(), role, said))
        }
        (Some((_, Verdict::CouldNotJudge(why))), _) => {
            Err(Unshaken::NotJudged { verifier: verifier.name(), why })
        }
        // Not about a chain: such as a key that signs no handshake.
        (None, Err(error)) => {
            Err(scene.failure("TLS".to_owned(), PeerRole::Server, error.to_string()))
        }
        (None, Ok(())) => Ok(()),
    }
}

fn speak(scene: &Scene, of_server: &Arc<Judge>, of_client: &Arc<Judge>) -> Result<(), Error> {
    let provider = Arc::new(ring::default_provider());
    let (chain, key) = presented(&scene.client);
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(Arc::<Judge>::clone(of_server)))
        .with_client_auth_cert(chain, key)?;
    client.enable_sni = false;
    let (chain, key) = presented(&scene.server);
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::<Judge>::clone(of_client))
        .with_single_cert(chain, key)?;
    // Nobody looks at the name: a SPIFFE id is the name that counts.
    let name = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let mut client = Connection::Client(ClientConnection::new(Arc::new(client), name)?);
    let mut server = Connection::Server(ServerConnection::new(Arc::new(server))?);
    for _ in 0..TURNS_MAX {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err(Error::HandshakeNotComplete)
}

fn presented(actor: &Actor) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = actor.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    (chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(actor.key.clone())))
}

/// Hands everything that one side has to say to the other.
fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let in_memory = |error: std::io::Error| Error::General(error.to_string());
    let mut said = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut said).map_err(in_memory)?;
    }
    let mut heard = said.as_slice();
    while !heard.is_empty() {
        to.read_tls(&mut heard).map_err(in_memory)?;
        to.process_new_packets()?;
    }
    Ok(())
}

/// Judges one side's chain, and keeps what was said: an alert says less.
#[derive(Debug)]
struct Judge {
    verifier: Arc<dyn Verifier>,
    anchors: Arc<Vec<Vec<u8>>>,
    role: PeerRole,
    now: Timestamp,
    said: Mutex<Option<Verdict>>,
}

impl Judge {
    fn said(&self) -> Option<Verdict> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn judged(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let Self { role, now, .. } = *self;
        let chain = ders(end_entity, intermediates);
        let presented = Presented { chain: &chain, anchors: &self.anchors, role, now };
        self.verifier.verify(&presented).map_err(|verdict| {
            *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
            Error::General("refused in a rehearsal".to_owned())
        })
    }
}

impl ServerRule for Judge {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), Error> {
        self.judged(end_entity, intermediates)
    }
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judged(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        AnyProvenClient.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        AnyProvenClient.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        AnyProvenClient.supported_verify_schemes()
    }
}
