//! Requests that no generated client would send.

use std::fmt;

use futures::StreamExt;
use proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::client::{Refused, TestClient};

const CREATE: PathAndQuery =
    PathAndQuery::from_static("/istio.v1.auth.IstioCertificateService/CreateCertificate");

/// The first field of a CSR request as bytes, which need not be text.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AnyBytes {
    /// The field.
    #[prost(bytes = "vec", tag = "1")]
    pub csr: Vec<u8>,
}

impl TestClient {
    /// Begins a call for a certificate and never sends its message; returns only when the server ends the call.
    pub async fn create_without_a_message(&self) -> Refused {
        let body = futures::stream::pending::<IstioCertificateRequest>();
        self.stream_to_create(Request::new(body), self.ready().await).await
    }

    /// Sends two messages where one is right.
    pub async fn create_with_two_messages(&self, message: IstioCertificateRequest) -> Refused {
        let body = futures::stream::iter([message.clone(), message]);
        self.stream_to_create(Request::new(body), self.ready().await).await
    }

    /// Sends these bytes where the text of the CSR should be.
    pub async fn create_with_bytes(&self, csr: Vec<u8>) -> Refused {
        let body = futures::stream::iter([AnyBytes { csr }]);
        self.stream_to_create(Request::new(body), self.ready().await).await
    }

    /// Sends a message compressed, which the server never said it takes.
    pub async fn create_compressed(&self, message: IstioCertificateRequest) -> Refused {
        let grpc = self.ready().await.send_compressed(CompressionEncoding::Gzip);
        self.stream_to_create(Request::new(futures::stream::iter([message])), grpc).await
    }

    async fn ready(&self) -> Grpc<Channel> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        grpc
    }

    async fn stream_to_create<S, M>(&self, request: Request<S>, mut grpc: Grpc<Channel>) -> Refused
    where
        S: futures::Stream<Item = M> + Send + 'static,
        M: prost::Message + fmt::Debug + 'static,
    {
        let codec = ProstCodec::<M, IstioCertificateResponse>::default();
        let request = request.map(StreamExt::boxed);
        let answer: Result<_, Status> = grpc.client_streaming(request, CREATE, codec).await;
        Refused::of(&answer.unwrap_err())
    }
}
