//! Channels to one place.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::addresses::Place;
use super::call_error::CallError;

/// Time for TCP alone: one lost SYN is sent again after a second.
const TCP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one call, and for a stream to begin; then streams have keepalive.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is silent for so long is asked for a sign of life, and ends without one. So a server that froze, or a way
/// to it that swallows everything, is left within 20 s.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Largest answer that is read: a bundle has at most 512 KiB, a chain far less.
const MESSAGE_MAX: usize = 1024 * 1024;

pub(crate) type Client = AgentServiceClient<Channel>;

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

/// A channel that connects when it is first used, and again when the connection is lost: always to the same place.
pub(crate) fn channel(to: &Place, config: ClientConfig) -> Result<Channel, CallError> {
    let name = ServerName::try_from(to.named.server_name.clone())
        .map_err(|error| CallError::Address(error.to_string()))?;
    // TLS is the connector's own: the scheme only keeps tonic from adding another.
    let endpoint = Endpoint::from_shared(format!("http://{}", to.named.address))
        .map_err(|error| CallError::Address(error.to_string()))?
        .user_agent(concat!("banyan-agent/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| CallError::Address(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER_WITHIN)
        .keep_alive_while_idle(true);
    let (tls, at) = (TlsConnector::from(Arc::new(config)), to.at);
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let connect = async {
                let tcp = tokio::time::timeout(TCP_TIMEOUT, TcpStream::connect(at)).await??;
                tcp.set_nodelay(true)?;
                tls.connect(name, tcp).await
            };
            tokio::time::timeout(CONNECT_TIMEOUT, connect).await?.map(TokioIo::new)
        }
    })))
}

#[cfg(test)]
mod tests {
    use proto::banyan::agent::v1 as wire;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;
    use trust_tls::AnyMember;

    use super::*;
    use crate::ca_client::tls::client_config;
    use crate::config::CaAddress;

    async fn fails_within(at: std::net::SocketAddr, most: Duration) {
        let named = CaAddress { address: at.to_string(), server_name: "ca".to_owned() };
        let place = Place { named, at, choice: 0 };
        let nobody = Arc::new(AnyMember(Arc::new(rustls::RootCertStore::empty())));
        let tls = client_config(trust_tls::server_verifier(nobody), None).unwrap();
        let mut client = client(channel(&place, tls).unwrap());
        let began = Instant::now();
        let answer = client.get_bundle(timed(wire::GetBundleRequest::default())).await;
        let error = crate::ca_client::refused(&place, answer.unwrap_err());
        assert!(error.leaves() && began.elapsed() < most, "{error}, after {:?}", began.elapsed());
    }

    /// A listener whose queue is full: the kernel drops every further SYN.
    #[tokio::test]
    async fn a_place_that_swallows_every_syn_is_given_up_after_two_seconds() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(at)).await
        {
            queued.push(connected.unwrap());
        }
        fails_within(at, TCP_TIMEOUT + Duration::from_secs(2)).await;
    }

    #[tokio::test]
    async fn a_server_that_froze_before_its_handshake_is_given_up_after_five_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        fails_within(listener.local_addr().unwrap(), CONNECT_TIMEOUT + Duration::from_secs(3))
            .await;
    }
}
