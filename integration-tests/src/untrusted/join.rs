//! Join tokens and agents.

use hyper_util::rt::TokioIo;
use proto::banyan::admin::v1::CreateTokenRequest;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{
    GetBundleRequest, IssueWorkloadRequest, RegisterRequest, RenewAgentRequest,
};
use rcgen::KeyPair;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::untrusted::ca::TestCa;
use crate::untrusted::client::{Credential, Refused, TestClient};
use crate::untrusted::csr::CsrDraft;

impl TestCa {
    /// A client of the admin API on its Unix socket.
    ///
    /// # Panics
    /// When the socket does not answer.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        let path = self.admin_socket().to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let channel = Endpoint::from_static("http://admin").connect_with_connector(connector).await;
        AdminServiceClient::new(channel.expect("the admin socket answers"))
    }

    /// A join token for an agent that may have these identities issued.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn join_token(&self, agent: &str, identities: &[&str]) -> String {
        let request = CreateTokenRequest {
            agent: agent.to_owned(),
            identities: identities.iter().map(|&identity| identity.to_owned()).collect(),
            ttl_seconds: 0,
            ..Default::default()
        };
        let answer = self.admin().await.create_token(request).await;
        answer.expect("a join token is made").into_inner().token
    }

    /// Registers an agent with a new join token; answers with what it shows from then on.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn join(&self, agent: &str, identities: &[&str]) -> Credential {
        let token = self.join_token(agent, identities).await;
        let client = TestClient::connect(self).await;
        client.register(&token).await.expect("an agent with a new join token is registered")
    }
}

impl TestClient {
    /// Registers an agent with a new key.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the token is no text for a header.
    pub async fn register(&self, token: &str) -> Result<Credential, Refused> {
        self.register_as(token, false).await
    }

    /// Registers the agent of the node that the token's pod is on, with a new key.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the token is no text for a header.
    pub async fn register_for_node(&self, token: &str) -> Result<Credential, Refused> {
        self.register_as(token, true).await
    }

    async fn register_as(&self, token: &str, for_node: bool) -> Result<Credential, Refused> {
        let draft = CsrDraft::new().without_names();
        let (stored_sequence, stored_digest) = self.stored().await?;
        let build = "test".to_owned();
        let csr = draft.der();
        let message = RegisterRequest { csr, build, stored_sequence, stored_digest, for_node };
        let mut request = Request::new(message);
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
        let answer = AgentServiceClient::new(self.channel.clone()).register(request).await;
        let chain = answer.map_err(|status| Refused::of(&status))?.into_inner().chain;
        Ok(Credential::new(chain, &draft.key))
    }

    /// Sequence and digest of the bundle in force, as an agent has them that stored it.
    async fn stored(&self) -> Result<(u64, Vec<u8>), Refused> {
        let answer = AgentServiceClient::new(self.channel.clone())
            .get_bundle(GetBundleRequest::default())
            .await;
        let bundle =
            answer.map_err(|status| Refused::of(&status))?.into_inner().bundle.unwrap_or_default();
        Ok((bundle.sequence, bundle.digest))
    }

    /// Renews an agent's own certificate, for this key.
    ///
    /// # Errors
    /// The refusal.
    pub async fn renew_agent(&self, key: KeyPair) -> Result<Credential, Refused> {
        let draft = CsrDraft::of(key).without_names();
        let (stored_sequence, stored_digest) = self.stored().await?;
        let message = RenewAgentRequest { csr: draft.der(), stored_sequence, stored_digest };
        let answer = AgentServiceClient::new(self.channel.clone()).renew_agent(message).await;
        let chain = answer.map_err(|status| Refused::of(&status))?.into_inner().chain;
        Ok(Credential::new(chain, &draft.key))
    }

    /// Asks for a leaf as an agent does for a workload.
    ///
    /// # Errors
    /// The refusal.
    pub async fn issue_workload(&self, identity: &str) -> Result<(), Refused> {
        self.issue_workload_with(identity, None).await
    }

    /// The same with a token beside the certificate, as the agent of a node does it.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the token is no text for a header.
    pub async fn issue_workload_with(
        &self,
        identity: &str,
        token: Option<&str>,
    ) -> Result<(), Refused> {
        let csr = CsrDraft::new().without_names().der();
        let (stored_sequence, stored_digest) = self.stored().await?;
        let message = IssueWorkloadRequest {
            csr,
            spiffe_id: identity.to_owned(),
            validity_seconds: 0,
            stored_sequence,
            stored_digest,
            only_to_trusting: true,
            listening: None,
        };
        let mut request = Request::new(message);
        if let Some(token) = token {
            let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let answer = AgentServiceClient::new(self.channel.clone()).issue_workload(request).await;
        answer.map(drop).map_err(|status| Refused::of(&status))
    }
}
