//! The one call to a SPIRE server, and what its answers and refusals mean.

use std::time::Duration;

use plugins::checks::MAX_ANSWER_LEN;
use plugins::{AuthorityDeps, PluginError};
use proto::spire::api::server::svid::v1::svid_client::SvidClient;
use proto::spire::api::server::svid::v1::{
    NewDownstreamX509caRequest, NewDownstreamX509caResponse,
};
use tonic::{Code, Status};
use trust::certificate::Certificate;
use trust::{RootId, SpiffeId, Timestamp};

use crate::channel;
use crate::config::Settings;
use crate::identity::Credential;

/// Room for what encloses certificates in a message.
const ENVELOPE_MAX: usize = 64 * 1024;
/// How long to wait when the server says that it was asked too often; it does not say itself.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// An intermediate as the server answered it: read, not checked.
pub(crate) struct Downstream {
    /// The intermediate and what stands above it, without the root.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Every root of the trust domain.
    pub(crate) roots: Vec<Vec<u8>>,
    /// The roots that the chain's last certificate names as its issuer: one, or none if the answer is unfit.
    pub(crate) signers: Vec<RootId>,
    /// When the first of those ends.
    pub(crate) root_ends: Option<Timestamp>,
    /// The earliest end of the chain and of its root.
    pub(crate) ends: Timestamp,
}

/// Asks for an intermediate.
///
/// # Errors
/// [`PluginError`] by what comes next; a refusal tells the command that mends it.
pub(crate) async fn new_downstream_ca(
    settings: &Settings,
    deps: &AuthorityDeps,
    csr_der: Vec<u8>,
    ttl: i32,
    within: Duration,
) -> Result<Downstream, PluginError> {
    let call = async {
        let credential = Credential::read(&settings.identity, deps, within).await?;
        let id = credential.id.clone();
        let connected = channel::server(&settings.server, credential, deps.clock.clone()).await;
        let channel = connected.map_err(|detail| PluginError::AuthorityDown { detail })?;
        let mut client =
            SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER_LEN + ENVELOPE_MAX);
        let request = NewDownstreamX509caRequest { csr: csr_der, preferred_ttl: ttl };
        let answer = client.new_downstream_x509ca(request).await;
        let answer = answer.map_err(|status| refused(&status, &id, settings))?;
        Downstream::read(answer.into_inner())
    };
    let late = || PluginError::Transient {
        detail: format!("{} did not answer within {} s", settings.server, within.as_secs()),
    };
    tokio::time::timeout(within, call).await.map_err(|_| late())?
}

impl Downstream {
    fn read(answer: NewDownstreamX509caResponse) -> Result<Self, PluginError> {
        let NewDownstreamX509caResponse { ca_cert_chain: mut chain, x509_authorities: roots } =
            answer;
        let unreadable = |error| PluginError::Permanent {
            detail: format!(
                "the SPIRE server's answer holds a certificate that cannot be read: {error}"
            ),
        };
        let parsed: Vec<Certificate> = chain
            .iter()
            .map(|der| Certificate::parse(der))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        let authorities: Vec<Certificate> = roots
            .iter()
            .map(|der| Certificate::parse(der))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        // A server below another authority may give that one's root too.
        let length = parsed.iter().take_while(|one| one.subject_der() != one.issuer_der()).count();
        chain.truncate(length);
        let parsed = parsed.get(..length).unwrap_or_default();
        let top = parsed.last().ok_or_else(|| PluginError::Permanent {
            detail: "the SPIRE server's answer holds no intermediate".to_owned(),
        })?;
        let signed = |root: &&Certificate| {
            root.subject_der() == top.issuer_der()
                && root.extensions().subject_key_id == top.extensions().authority_key_id
        };
        let above: Vec<&Certificate> = authorities.iter().filter(signed).collect();
        let signers = above.iter().map(|root| RootId::of(root.der())).collect();
        let root_ends = above.iter().map(|root| root.validity().not_after()).min();
        let ends = parsed.iter().map(|one| one.validity().not_after()).chain(root_ends).min();
        Ok(Self { chain, roots, signers, root_ends, ends: ends.unwrap_or(Timestamp::from_secs(0)) })
    }
}

fn refused(status: &Status, id: &SpiffeId, settings: &Settings) -> PluginError {
    let Settings { server, .. } = settings;
    let said: String = status.message().chars().take(300).collect();
    match status.code() {
        Code::PermissionDenied => PluginError::Denied {
            reason: format!(
                "{server} signs no CA for {id} ({said}); mark its entry as downstream: spire-server entry update \
                 -downstream -entryID ID -spiffeID {id} -parentID ID_OF_THE_AGENT -selector SELECTOR (`spire-server \
                 entry show -spiffeID {id}` prints them)"
            ),
        },
        Code::Unauthenticated => PluginError::Denied {
            reason: format!(
                "{server} does not take the SVID of {id} ({said}); look at what renews it"
            ),
        },
        Code::ResourceExhausted => PluginError::RateLimited { retry_after: RETRY_AFTER },
        Code::Unavailable => PluginError::AuthorityDown { detail: format!("{server}: {said}") },
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => {
            PluginError::Permanent { detail: format!("{server} refused the request: {said}") }
        }
        _ => PluginError::Transient { detail: format!("{server}: {said}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let text = "server = 'spire.example:8081'\nworkload_api = 'unix:/a'";
        Settings::read(&text.parse().expect("toml"), std::path::Path::new("")).expect("reads")
    }

    #[test]
    fn a_refusal_says_what_comes_next() {
        let id = SpiffeId::parse("spiffe://example.org/banyan").expect("id");
        let refused = |code| refused(&Status::new(code, "said"), &id, &settings());
        assert!(matches!(refused(Code::Unavailable), PluginError::AuthorityDown { .. }));
        assert!(matches!(refused(Code::ResourceExhausted), PluginError::RateLimited { .. }));
        assert!(matches!(refused(Code::Internal), PluginError::Transient { .. }));
        assert!(matches!(refused(Code::InvalidArgument), PluginError::Permanent { .. }));
        assert!(matches!(refused(Code::Unauthenticated), PluginError::Denied { .. }));
        let denied = refused(Code::PermissionDenied).to_string();
        assert!(
            denied.contains("entry update") && denied.contains("spiffe://example.org/banyan"),
            "{denied}"
        );
    }

    #[test]
    fn an_answer_without_a_readable_intermediate_is_none() {
        let answer = |chain: &[&[u8]]| NewDownstreamX509caResponse {
            ca_cert_chain: chain.iter().map(|der| der.to_vec()).collect(),
            x509_authorities: Vec::new(),
        };
        for chain in [&[][..], &[&b"no certificate"[..]]] {
            assert!(matches!(Downstream::read(answer(chain)), Err(PluginError::Permanent { .. })));
        }
    }
}
