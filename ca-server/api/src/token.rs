//! `banyan.admin.v1.TokenService`: lists join tokens, and takes them back. They are made in `join`.

use std::sync::Arc;

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::token_service_server::TokenService;
use proto::banyan::admin::v1::{
    JoinTokenInfo, ListTokensRequest, ListTokensResponse, RevokeTokensRequest, RevokeTokensResponse,
};
use registry::{BanRow, TokenRow, id_of};
use tonic::{Request, Response, Status};
use trust::{BundleDigest, Timestamp};

use crate::admin::Operators;
use crate::{page, words};
use control::ca::Ca;

/// Tokens that one call takes back at most.
const REVOKED_MAX: usize = 1_000;
/// Ids that go into one entry of the journal.
const JOURNALED_TOGETHER: usize = 32;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Tokens {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    fn list(&self, asked: &ListTokensRequest) -> ListTokensResponse {
        let limit = page::limit(asked.limit).saturating_add(1);
        let rows = self.ca.registry.tokens_after(&asked.after, &asked.agent, limit);
        let tokens = rows.into_iter().map(|(id, row)| self.shown(id, row)).collect();
        // A token may have many long identities.
        let (tokens, next) =
            page::cut_messages(tokens, asked.limit, |last: &JoinTokenInfo| last.id.clone());
        ListTokensResponse { tokens, next: next.unwrap_or_default() }
    }

    async fn revoke(
        &self,
        asked: RevokeTokensRequest,
        caller: &str,
    ) -> Result<RevokeTokensResponse, Refusal> {
        if asked.ids.is_empty() || asked.ids.len() > REVOKED_MAX {
            let text = format_args!("name 1 to {REVOKED_MAX} tokens by their ids");
            return Err(Refusal::advised(
                Reason::RequestInvalid,
                text,
                "`banyan token list` shows them",
            ));
        }
        let word = words::word(&asked.by, &asked.reason, caller)?;
        let hashes = self.ca.registry.tokens_named(&asked.ids)?;
        let ids: Vec<_> = hashes.iter().map(id_of).collect();
        for some in ids.chunks(JOURNALED_TOGETHER) {
            words::journal(&self.ca, &word, "token revoke", some.join(", "), "").await?;
        }
        let sentence = BanRow { by: word.by, reason: word.reason, at: self.ca.clock.now() };
        let revoked = self.ca.registry.revoke_tokens(hashes, sentence).await?;
        tracing::warn!(
            tokens = revoked.len(),
            by = asked.by,
            reason = asked.reason,
            "join tokens revoked"
        );
        let tokens = revoked.into_iter().map(|(id, row)| self.shown(id, row)).collect();
        Ok(RevokeTokensResponse { tokens })
    }

    fn shown(&self, id: String, row: TokenRow) -> JoinTokenInfo {
        let state = row.state(self.ca.clock.now());
        let in_force = self.ca.cell.load().bundle().digest();
        let (made_by, made_at) = row.made.map(|(by, at)| (by, at.as_secs())).unwrap_or_default();
        let revoked = row.revoked.unwrap_or_else(|| BanRow {
            by: String::new(),
            reason: String::new(),
            at: Timestamp::default(),
        });
        JoinTokenInfo {
            id,
            agent: row.agent,
            identities: row.identities.iter().map(ToString::to_string).collect(),
            state: state.to_owned(),
            expires_at: row.expires.as_secs(),
            used_at: row.used.map_or(0, |(_, at)| at.as_secs()),
            made_by,
            made_at,
            uses_left: u32::from(state == "unused"),
            bundle_digest: row
                .pins
                .as_ref()
                .map(|digest| digest.as_bytes().to_vec())
                .unwrap_or_default(),
            bundle_in_force: row
                .pins
                .as_ref()
                .is_some_and(|pinned: &BundleDigest| *pinned == in_force),
            revoked_by: revoked.by,
            revoked_reason: revoked.reason,
            revoked_at: revoked.at.as_secs(),
        }
    }
}

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, _| Ok(self.list(&asked))).await
    }

    async fn revoke_tokens(
        &self,
        request: Request<RevokeTokensRequest>,
    ) -> Result<Response<RevokeTokensResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.revoke(asked, by).await)
            .await
    }
}
