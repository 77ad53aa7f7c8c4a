//! Authentication: who calls. A [`Caller`] is made here and nowhere else.
//!
//! | credential | where | judged by |
//! |---|---|---|
//! | a live leaf of this CA | the TLS connection | [`mtls`] |
//! | a JWT of a configured issuer | `authorization: Bearer ...` | [`jwt`], with keys from [`jwks`] |
//! | a service account's token of a cluster | `authorization: Bearer ...`, `clusterid` | [`cluster`], which was asked beforehand; [`signed`] finds forgeries without asking |
//! | a join token | `authorization: Bearer bjt1....` | [`join_token`] |
//!
//! Every credential that is presented must be good, and two must agree. Headers in which proxies forward a client's
//! certificate are never read. What a caller may do is not decided here, see [`crate::authz`].

mod claims;
pub mod cluster;
pub mod join_token;
pub mod jwks;
pub mod jwt;
mod jwt_parts;
mod jwt_ring;
pub mod mtls;
pub mod signed;
mod strict_json;
pub mod subject;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use issuance::Snapshot;
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;
use trust::join_token::JOIN_TOKEN_PREFIX;
use trust::{
    Bundle, CertificateId, Chain, Clock, PeerRole, RootId, Serial, SpiffeId, SpkiHash, Timestamp,
};

use self::claims::TokenClaims;
use self::join_token::{JoinGrant, JoinTokens};
use self::jwt::JwtVerifier;
use self::mtls::{CertificateHolder, ChainVerifier, Elsewhere, LiveRows, VerifiedLeaf};
use crate::refusal::{Reason, Refusal};

/// Who calls, proven at this call. It cannot be made outside this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    kind: CallerKind,
    unmatched: bool,
    /// What the token says that an agent of a node shows beside its certificate.
    beside: Option<TokenClaims>,
}

/// What a call brings to prove who makes it.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'c> {
    /// The client's certificates, leaf first; the handshake has proven the key of the first.
    pub certificates: &'c [CertificateDer<'c>],
    /// What the server says of the leaf that issued it; none if it is this one.
    pub elsewhere: Option<&'c Elsewhere>,
    /// The header of the call.
    pub metadata: &'c MetadataMap,
    /// What the cluster of the bearer token says of it; none for a token that no cluster judges.
    pub judged: Option<&'c Result<TokenClaims, Refusal>>,
}

/// A leaf that a client has shown, and whose chain is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownLeaf {
    /// Its identity.
    pub identity: SpiffeId,
    /// Its serial number.
    pub serial: Serial,
    /// Its certificate.
    pub certificate: CertificateId,
    /// The certificate of its issuer; none where a root signed it.
    pub issuer: Option<CertificateId>,
    /// The root that its chain ends in.
    pub root: RootId,
}

/// The kinds of callers, by the credential that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerKind {
    /// A workload with a live leaf of this CA.
    Workload {
        /// Its identity.
        identity: SpiffeId,
        /// Serial number of the leaf.
        serial: Serial,
        /// The leaf's key.
        spki: SpkiHash,
    },
    /// An agent with its own live leaf.
    Agent {
        /// Its name, the path below `/banyan/agent/`.
        name: String,
        /// Serial number of the leaf.
        serial: Serial,
        /// The leaf's key.
        spki: SpkiHash,
    },
    /// The subject of a token of a configured issuer.
    Jwt(TokenClaims),
    /// The bearer of a join token.
    JoinToken {
        /// What the token grants.
        grant: JoinGrant,
        /// SHA-256 of its secret, under which the registry knows it.
        secret_hash: [u8; 32],
    },
}

impl Caller {
    /// A caller that tests assume; product code has no way around the credentials.
    #[cfg(test)]
    pub(crate) const fn assumed(kind: CallerKind) -> Self {
        Self { kind, unmatched: false, beside: None }
    }

    /// The same, with a token beside the certificate.
    #[cfg(test)]
    pub(crate) fn with_token(self, claims: TokenClaims) -> Self {
        Self { beside: Some(claims), ..self }
    }

    /// What the token of the call says, be it the credential itself or beside an agent's certificate.
    pub const fn token(&self) -> Option<&TokenClaims> {
        match &self.kind {
            CallerKind::Jwt(claims) => Some(claims),
            _ => self.beside.as_ref(),
        }
    }

    /// Who it is.
    pub const fn kind(&self) -> &CallerKind {
        &self.kind
    }

    /// The serial number of its leaf, if the chain alone speaks for that: another server issued it, which could not be asked.
    pub const fn unmatched(&self) -> Option<Serial> {
        match &self.kind {
            CallerKind::Workload { serial, .. } | CallerKind::Agent { serial, .. }
                if self.unmatched =>
            {
                Some(*serial)
            }
            _ => None,
        }
    }

    /// The kind of credential as a metric label.
    pub const fn label(&self) -> &'static str {
        match self.kind {
            CallerKind::Workload { .. } => "mtls",
            CallerKind::Agent { .. } => "agent",
            CallerKind::Jwt(_) => "jwt",
            CallerKind::JoinToken { .. } => "join_token",
        }
    }

    /// Whom an audit record names: the identity, or the agent that a join token is for.
    pub fn subject(&self) -> String {
        match &self.kind {
            CallerKind::Workload { identity, .. } => identity.as_str().to_owned(),
            CallerKind::Agent { name, .. } => format!("agent {name}"),
            CallerKind::Jwt(claims) => claims.bearer(),
            CallerKind::JoinToken { grant, .. } => format!("join token of agent {}", grant.agent),
        }
    }
}

/// Judges the credentials of every call. Shared by all requests; makes no network call.
#[derive(Debug)]
pub struct Authenticator {
    chains: ChainVerifier,
    servers: ChainVerifier,
    jwt: Arc<JwtVerifier>,
    rows: Arc<dyn LiveRows>,
    tokens: Arc<dyn JoinTokens>,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Puts the parts together. The chain of each of so many `connections` is remembered, so that a busy server does not judge
    /// them anew at every call.
    pub fn new(
        jwt: Arc<JwtVerifier>,
        rows: Arc<dyn LiveRows>,
        tokens: Arc<dyn JoinTokens>,
        clock: Arc<dyn Clock>,
        connections: usize,
    ) -> Self {
        let (chains, servers) =
            (ChainVerifier::for_connections(connections), ChainVerifier::for_servers());
        Self { chains, servers, jwt, rows, tokens, clock }
    }

    /// Judges the credentials of a call against the snapshot that the request loaded.
    ///
    /// # Errors
    /// The refusal of the first bad credential, also if another one is good; `CREDENTIALS_DISAGREE` if two good ones
    /// name different callers; `CREDENTIAL_MISSING` if there is none.
    pub fn authenticate(
        &self,
        credentials: Credentials<'_>,
        snapshot: &Snapshot,
    ) -> Result<Caller, Refusal> {
        let Credentials { certificates, elsewhere, metadata, judged } = credentials;
        let (now, bundle) = (self.clock.now(), snapshot.bundle());
        let holder = match (certificates, elsewhere) {
            ([], _) => None,
            (chain, None) => Some(self.chains.verify(chain, bundle, self.rows.as_ref(), now)?),
            (chain, Some(word)) => Some(self.chains.verify_elsewhere(chain, bundle, word, now)?),
        };
        let bearer = match bearer(metadata)? {
            None => None,
            Some(token) if token.starts_with(JOIN_TOKEN_PREFIX) => {
                let domain = snapshot.bundle().trust_domain();
                let (grant, secret_hash) =
                    join_token::verify(token, self.tokens.as_ref(), domain, now)?;
                Some(CallerKind::JoinToken { grant, secret_hash })
            }
            Some(token) => Some(CallerKind::Jwt(match judged {
                Some(judged) => judged.clone()?,
                None => self.jwt.verify(token, now)?,
            })),
        };
        let unmatched = holder.as_ref().is_some_and(|holder| holder.unmatched);
        let beside = match (&holder, &bearer) {
            (Some(holder), Some(CallerKind::Jwt(claims))) => {
                Some(claims.clone()).filter(|claims| is_agent_of_its_node(holder, claims))
            }
            _ => None,
        };
        agreed(holder, bearer).map(|kind| Caller { kind, unmatched, beside })
    }

    /// The leaf that a client shows, if its chain is good and names a caller. Nothing is known of its row.
    pub fn shown(
        &self,
        certificates: &[CertificateDer<'_>],
        bundle: &Bundle,
    ) -> Result<ShownLeaf, Refusal> {
        self.chains.chain(certificates, bundle, self.clock.now()).map(ShownLeaf::from)
    }

    /// The same where the client is to be a server of this CA.
    pub fn shown_by_server(
        &self,
        certificates: &[CertificateDer<'_>],
        bundle: &Bundle,
    ) -> Result<ShownLeaf, Refusal> {
        self.servers.chain(certificates, bundle, self.clock.now()).map(ShownLeaf::from)
    }
}

impl From<VerifiedLeaf> for ShownLeaf {
    fn from(leaf: VerifiedLeaf) -> Self {
        let VerifiedLeaf { holder, certificate, issuer, root, .. } = leaf;
        Self { identity: holder.identity, serial: holder.serial, certificate, issuer, root }
    }
}

impl Authenticator {
    /// Whether a call with this certificate alone would be believed now. The handshake has proven its key.
    pub fn recognizes(&self, certificates: &[CertificateDer<'_>], bundle: &Bundle) -> bool {
        let now = self.clock.now();
        !certificates.is_empty()
            && self.chains.verify(certificates, bundle, self.rows.as_ref(), now).is_ok()
    }

    /// As [`authenticate`](Self::authenticate), for an agent that was away: its certificate may have ended, may chain to a
    /// root that has gone, and its row may be forgotten. The root must be one that this trust domain ever had, so that the
    /// end that the certificate names is true; whether its key is still registered is for [`crate::authz`].
    ///
    /// # Errors
    /// The refusal of the certificate where it is no such one.
    pub fn returning(
        &self,
        credentials: Credentials<'_>,
        snapshot: &Snapshot,
        former: &FormerMembers<'_>,
    ) -> Result<Caller, Refusal> {
        self.authenticate(credentials, snapshot).or_else(|refusal| {
            let may_return = matches!(
                refusal.reason(),
                Reason::CertificateExpired
                    | Reason::CertificateUntrusted
                    | Reason::CertificateNotIssued
            );
            let agent = || former_agent(credentials.certificates, former, self.clock.now());
            let kind = may_return.then(agent).flatten();
            kind.map(|kind| Caller { kind, unmatched: false, beside: None }).ok_or(refusal)
        })
    }
}

/// Whose certificate may be over and still bring its agent back.
pub struct FormerMembers<'a> {
    /// How long after the end of the certificate.
    pub within: Duration,
    /// Every root that the trust domain ever had, as one bundle.
    pub roots: &'a dyn Fn() -> Option<Bundle>,
}

/// The agent that a former certificate names.
fn former_agent(
    certificates: &[CertificateDer<'_>],
    former: &FormerMembers<'_>,
    now: Timestamp,
) -> Option<CallerKind> {
    let roots = (former.roots)()?;
    let chain = Chain::parse(certificates).ok()?;
    let leaf = chain.leaf();
    let end = leaf.validity().not_after();
    chain.verify(&roots, now.min(end), PeerRole::Client).ok()?;
    let identity = leaf.spiffe_id().ok()?;
    let name = identity.agent_name()?.to_owned();
    let ours = identity.trust_domain() == roots.trust_domain() && end.plus(former.within) >= now;
    let agent = CallerKind::Agent { name, serial: leaf.serial()?, spki: leaf.spki_hash() };
    ours.then_some(agent)
}

/// The token of a call that a cluster may judge: a bearer token that is none of our own.
pub fn foreign_bearer(metadata: &MetadataMap) -> Option<&str> {
    let token = bearer(metadata).ok().flatten()?;
    Some(token).filter(|token| !token.starts_with(JOIN_TOKEN_PREFIX))
}

/// The one bearer token of a call. Another scheme is a credential that cannot be judged, and so a bad one.
pub fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, Refusal> {
    let unsupported = || {
        let text = "send at most one authorization header, and `Bearer <token>` in it";
        Refusal::new(Reason::TokenSchemeUnsupported, text)
    };
    let mut headers = metadata.get_all("authorization").iter();
    let Some(header) = headers.next() else { return Ok(None) };
    if headers.next().is_some() {
        return Err(unsupported());
    }
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    token.filter(|token| !token.is_empty()).map(Some).ok_or_else(unsupported)
}

fn agreed(
    holder: Option<CertificateHolder>,
    bearer: Option<CallerKind>,
) -> Result<CallerKind, Refusal> {
    match (holder, bearer) {
        (None, None) => {
            let text = "authenticate with a client certificate of this CA, a JWT or a join token";
            Err(Refusal::new(Reason::CredentialMissing, text))
        }
        (None, Some(bearer)) => Ok(bearer),
        (Some(holder), None) => Ok(of_certificate(holder)),
        (Some(holder), Some(CallerKind::Jwt(claims)))
            if claims.identity == holder.identity || is_agent_of_its_node(&holder, &claims) =>
        {
            Ok(of_certificate(holder))
        }
        (Some(holder), Some(CallerKind::JoinToken { grant, secret_hash }))
            if holder.identity.agent_name() == Some(grant.agent.as_str()) =>
        {
            Ok(CallerKind::JoinToken { grant, secret_hash })
        }
        (Some(_), Some(_)) => {
            let text =
                "the client certificate and the token name different callers: send one of them";
            Err(Refusal::new(Reason::CredentialsDisagree, text))
        }
    }
}

/// Whether a certificate is that of an agent of the node that the bearer of a token is on.
fn is_agent_of_its_node(holder: &CertificateHolder, claims: &TokenClaims) -> bool {
    let (agent, of_node) = (holder.identity.agent_name(), claims.agents_of_node());
    agent.zip(of_node).is_some_and(|(agent, of_node)| agent.starts_with(&of_node))
}

fn of_certificate(holder: CertificateHolder) -> CallerKind {
    let CertificateHolder { identity, serial, spki, .. } = holder;
    match identity.agent_name().map(str::to_owned) {
        Some(name) => CallerKind::Agent { name, serial, spki },
        None => CallerKind::Workload { identity, serial, spki },
    }
}
