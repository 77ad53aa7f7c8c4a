//! Calls to the CA, over channels that are built anew at each change of the bundle or of the agent's own certificate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use tower::service_fn;
use trust::{Bundle, Clock};

use crate::key::PrivateKey;
use crate::leaf::Leaf;

pub(crate) mod tls;

/// Time for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one call; streams have keepalive instead.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read: a bundle has at most 512 KiB, a chain far less.
const MESSAGE_MAX: usize = 1024 * 1024;

/// The CA's reason for an agent that is not in its registry, or with another key.
const UNKNOWN: &str = "AGENT_UNKNOWN";
/// The CA's reason for an agent that is banned.
const BANNED: &str = "AGENT_BANNED";
/// The CA's reason for a certificate that an operator took for gone, the first time that it is shown.
const FORGOTTEN: &str = "CERTIFICATE_FORGOTTEN";

pub(crate) type Client = AgentServiceClient<Channel>;

/// Where the CA is.
#[derive(Clone, Debug)]
pub(crate) struct CaAddress {
    /// `host:port`.
    pub(crate) address: String,
    /// Name sent in the handshake (SNI); the CA's SPIFFE id is what is verified.
    pub(crate) server_name: String,
}

/// The CA as this agent knows it now.
#[derive(Debug)]
pub(crate) struct CaClient {
    address: CaAddress,
    clock: Arc<dyn Clock>,
    trust: watch::Receiver<Option<Bundle>>,
    credential: watch::Receiver<Option<Arc<Leaf>>>,
    cached: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    bundle: Bundle,
    credential: Arc<Leaf>,
    channel: Channel,
}

/// A call that brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no bundle yet, so the CA cannot be told from an impostor.
    #[error("the CA is not known yet: first contact has not been made")]
    NoTrust,
    /// There is no live certificate of the agent's own yet.
    #[error("this agent has no live certificate of its own yet")]
    NoCredential,
    /// The channel cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The address is no address.
    #[error("the address of the CA cannot be used: {0}")]
    Address(String),
    /// The CA said no, or could not be asked.
    #[error("{}", said(.address, .status))]
    Refused {
        /// Where it was asked.
        address: String,
        /// What was said.
        status: Box<Status>,
    },
}

impl CallError {
    /// Whether the CA itself judged the credential and refused it.
    fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::Unauthenticated)
    }

    /// Whether the CA judged the caller, and said no for good.
    pub(crate) fn is_refusal(&self) -> bool {
        let for_good = |code| matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        matches!(self, Self::Refused { status, .. } if for_good(status.code()))
    }

    /// The reason that the CA gave, such as `AGENT_UNKNOWN`.
    fn reason(&self) -> Option<String> {
        let Self::Refused { status, .. } = self else { return None };
        Some(status.get_details_error_info()?.reason)
    }

    /// Whether an operator of the CA banned this agent.
    pub(crate) fn is_ban(&self) -> bool {
        self.reason().as_deref() == Some(BANNED)
    }

    /// Whether the CA does not take this agent for a member with the certificate that it showed: it was removed from the
    /// registry, or the certificate is not one that counts. A certificate that was forgotten counts again once it was shown.
    pub(crate) fn turns_away(&self) -> bool {
        match self.reason().as_deref() {
            Some(UNKNOWN) => true,
            Some(FORGOTTEN) => false,
            _ => self.is_unauthenticated(),
        }
    }

    /// What the CA said, without where it was asked.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused { status, .. } => told(status),
            other => other.to_string(),
        }
    }

    /// Whether the CA wants its bundle stored before it gives a leaf.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::Aborted)
    }

    /// Whether the CA could not be reached, or not believed.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown))
    }
}

impl CaClient {
    /// A client that follows the bundle and the credential.
    pub(crate) fn new(
        address: CaAddress,
        clock: Arc<dyn Clock>,
        trust: watch::Receiver<Option<Bundle>>,
        credential: watch::Receiver<Option<Arc<Leaf>>>,
    ) -> Self {
        Self { address, clock, trust, credential, cached: Mutex::new(None) }
    }

    /// A client without credential of its own, for a call that carries a token.
    pub(crate) fn anonymous(&self) -> Result<Client, CallError> {
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        self.build(bundle, None).map(client)
    }

    /// A client with the agent's certificate. The channel is shared until the bundle or the certificate changes.
    pub(crate) fn authenticated(&self) -> Result<Client, CallError> {
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        let credential = self.credential.borrow().clone().ok_or(CallError::NoCredential)?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |cached: &&Cached| {
            Arc::ptr_eq(&cached.credential, &credential) && cached.bundle == bundle
        };
        if let Some(cached) = cached.as_ref().filter(fits) {
            return Ok(client(cached.channel.clone()));
        }
        let channel = self.build(bundle.clone(), Some(tls::presented(&credential)))?;
        *cached = Some(Cached { bundle, credential, channel: channel.clone() });
        Ok(client(channel))
    }

    /// Wraps what a call said.
    pub(crate) fn refused(&self, status: Status) -> CallError {
        CallError::Refused { address: self.address.address.clone(), status: Box::new(status) }
    }

    pub(crate) fn address(&self) -> &CaAddress {
        &self.address
    }

    /// Asks for a workload's leaf.
    pub(crate) async fn issue(
        &self,
        request: wire::IssueWorkloadRequest,
    ) -> Result<wire::IssueResponse, CallError> {
        let mut client = self.authenticated()?;
        let call = client.issue_workload(timed(request));
        Ok(call.await.map_err(|status| self.refused(status))?.into_inner())
    }

    /// A client with a certificate that may have expired, or whose root has gone: only for the one call that takes it.
    pub(crate) fn returning(
        &self,
        chain: &[Vec<u8>],
        key: &PrivateKey,
    ) -> Result<Client, CallError> {
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        self.build(bundle, Some((chain, key.rustls()))).map(client)
    }

    fn build(
        &self,
        bundle: Bundle,
        credential: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Channel, CallError> {
        let verifier = tls::ca_verifier(bundle, Arc::clone(&self.clock));
        channel(&self.address, tls::client_config(verifier, credential)?)
    }
}

/// A client without credential that believes these roots.
pub(crate) fn believing(
    bundle: Bundle,
    address: &CaAddress,
    clock: &Arc<dyn Clock>,
) -> Result<Client, CallError> {
    let verifier = tls::ca_verifier(bundle, Arc::clone(clock));
    channel(address, tls::client_config(verifier, None)?).map(client)
}

/// A request with the deadline of a call.
pub(crate) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// A client on a channel.
pub(crate) fn client(channel: Channel) -> Client {
    AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A channel that connects when it is first used, and again when the connection is lost.
pub(crate) fn channel(to: &CaAddress, config: ClientConfig) -> Result<Channel, CallError> {
    let name = ServerName::try_from(to.server_name.clone())
        .map_err(|error| CallError::Address(error.to_string()))?;
    // TLS is the connector's own: the scheme only keeps tonic from adding another.
    let endpoint = Endpoint::from_shared(format!("http://{}", to.address))
        .map_err(|error| CallError::Address(error.to_string()))?
        .user_agent(concat!("banyan-agent/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| CallError::Address(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    let tls = TlsConnector::from(Arc::new(config));
    let address = to.address.clone();
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| {
        let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
        async move {
            let connect = async {
                let tcp = TcpStream::connect(resolved(&address).await?.as_slice()).await?;
                tcp.set_nodelay(true)?;
                tls.connect(name, tcp).await
            };
            tokio::time::timeout(CONNECT_TIMEOUT, connect).await?.map(TokioIo::new)
        }
    })))
}

async fn resolved(address: &str) -> std::io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(address).await?.collect())
}

/// Who failed: the CA that answered, or the way to it.
fn said(address: &str, status: &Status) -> String {
    let told = told(status);
    let Some(source) = std::error::Error::source(status) else {
        let did = match status.code() {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::DeadlineExceeded => "cannot answer now",
            Code::Unknown | Code::Internal | Code::DataLoss | Code::Cancelled | Code::Ok => {
                "failed"
            }
            _ => "refused",
        };
        return format!("the CA at {address} {did}: {told}");
    };
    match (source.is::<tonic::transport::Error>(), status.code()) {
        (true, _) => format!("the CA at {address} cannot be reached: {told}"),
        (false, Code::DeadlineExceeded) => format!("the CA at {address} gave no answer: {told}"),
        (false, _) => format!("the connection to the CA at {address} ended: {told}"),
    }
}

/// The message of a status with the causes below it, which tonic keeps apart.
fn told(status: &Status) -> String {
    let mut text = status.message().chars().take(256).collect::<String>();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        // A cause that its error has told already, at its end or above what follows.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_takes_is_told_as_that_and_not_as_an_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let status =
            client(channel).get_bundle(wire::GetBundleRequest::default()).await.unwrap_err();
        let text = said(&address, &status);
        assert!(text.starts_with(&format!("the CA at {address} cannot be reached: ")), "{text}");
        assert_eq!(text.matches("Connection refused").count(), 1, "{text}");
        let busy = said("ca:1", &Status::unavailable("retry in 2 s"));
        assert_eq!(busy, "the CA at ca:1 cannot answer now: retry in 2 s");
        let refused = said("ca:1", &Status::permission_denied("this agent is banned"));
        assert_eq!(refused, "the CA at ca:1 refused: this agent is banned");
    }

    #[test]
    fn a_refusal_says_by_its_reason_whether_the_agent_is_a_member() {
        let refused = |code, reason: &str| {
            let details = tonic_types::ErrorDetails::with_error_info(
                reason,
                "banyan",
                std::collections::HashMap::new(),
            );
            let status = Box::new(Status::with_error_details(code, "no", details));
            CallError::Refused { address: "ca:1".to_owned(), status }
        };
        let of = |error: CallError| (error.turns_away(), error.is_ban());
        assert_eq!(of(refused(Code::PermissionDenied, "AGENT_UNKNOWN")), (true, false));
        assert_eq!(of(refused(Code::Unauthenticated, "CERTIFICATE_NOT_ISSUED")), (true, false));
        assert_eq!(of(refused(Code::Unauthenticated, "CERTIFICATE_FORGOTTEN")), (false, false));
        assert_eq!(of(refused(Code::PermissionDenied, "AGENT_BANNED")), (false, true));
        assert_eq!(of(refused(Code::PermissionDenied, "IDENTITY_NOT_ENTITLED")), (false, false));
    }
}
