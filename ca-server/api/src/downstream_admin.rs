//! `banyan.downstream.v1` for operators: who may ask for an issuer, and what became of those who did.

use std::sync::Arc;

use auth::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::ca::Ca;
use control::hierarchy::downstream::Downstream;
use proto::banyan::admin::v1::{AddRelyingPartyRequest, RemoveRelyingPartyRequest};
use proto::banyan::downstream::v1 as wire;
use proto::banyan::downstream::v1::downstream_admin_service_server::DownstreamAdminService;
use registry::NEIGHBOR_PARTY;
use tonic::{Request, Response, Status};
use trust::Timestamp;
use trust::digest::sha256;
use trust::randomness::random_bytes;

use crate::admin::Operators;
use crate::downstream::{TOKEN_PREFIX, invalid};
use crate::relying_parties;
use crate::words;

/// Longest name of a downstream CA, in bytes.
const NAME_MAX: usize = 64;

/// What operators call.
#[derive(Clone, Debug)]
pub(crate) struct DownstreamAdmin {
    ca: Arc<Ca>,
    operators: Operators,
}

impl DownstreamAdmin {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    async fn add(
        &self,
        message: wire::AddDownstreamRequest,
        by: &str,
    ) -> Result<wire::AddDownstreamResponse, Refusal> {
        let word = words::word(&message.by, &message.reason, by)?;
        let name = checked(message.name)?;
        self.ca.registry.downstream_named(&name, false)?;
        if message.neighbor {
            // First, so that there is never a token of it that a gate does not wait for.
            let party = AddRelyingPartyRequest {
                name: party(&name),
                by: message.by.clone(),
                reason: message.reason.clone(),
                ..Default::default()
            };
            relying_parties::add(&self.ca, party, by).await?;
        } else if self.ca.registry.is_neighbor(&name) {
            let party = party(&name);
            return Err(invalid(format!(
                "the relying party {party} makes {name} a neighbor: `banyan relying-party remove {party}`, or add it with --neighbor"
            )));
        }
        words::journal(&self.ca, &word, "tier add", &name, "").await?;
        let secret: [u8; 32] = random_bytes(self.ca.randomness.as_ref());
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        self.ca
            .registry
            .add_downstream(name.clone(), sha256(token.as_bytes()), self.ca.clock.now())
            .await?;
        tracing::info!(downstream = name, by, "downstream CA added");
        Ok(wire::AddDownstreamResponse { name, token })
    }
}

#[tonic::async_trait]
impl DownstreamAdminService for DownstreamAdmin {
    async fn add_downstream(
        &self,
        request: Request<wire::AddDownstreamRequest>,
    ) -> Result<Response<wire::AddDownstreamResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |message, by| self.add(message, by).await)
            .await
    }

    async fn list_downstreams(
        &self,
        request: Request<wire::ListDownstreamsRequest>,
    ) -> Result<Response<wire::ListDownstreamsResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |_, _| {
                let downstreams = self
                    .ca
                    .downstreams
                    .downstreams()
                    .into_iter()
                    .map(|downstream| shown(&self.ca, downstream))
                    .collect();
                Ok(wire::ListDownstreamsResponse { downstreams })
            })
            .await
    }

    async fn remove_downstream(
        &self,
        request: Request<wire::RemoveDownstreamRequest>,
    ) -> Result<Response<wire::RemoveDownstreamResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |message, by| {
                let word = words::word(&message.by, &message.reason, by)?;
                let name = checked(message.name)?;
                // What is not there is not written down either.
                self.ca.registry.downstream_named(&name, true)?;
                words::journal(&self.ca, &word, "tier remove", &name, "").await?;
                self.ca.registry.remove_downstream(name.clone()).await?;
                self.ca.downstreams.forget(&name);
                if self.ca.registry.is_neighbor(&name) {
                    let party = RemoveRelyingPartyRequest {
                        name: party(&name),
                        by: message.by,
                        reason: message.reason,
                    };
                    relying_parties::remove(&self.ca, party, by).await?;
                }
                tracing::warn!(
                    downstream = name,
                    by,
                    "downstream CA removed: nothing waits for it any more"
                );
                Ok(wire::RemoveDownstreamResponse {})
            })
            .await
    }
}

fn shown(ca: &Ca, downstream: Downstream) -> wire::Downstream {
    let now = ca.clock.now();
    let (live, until) =
        (downstream.live(&ca.policy, now).count(), downstream.until(&ca.policy, now));
    let added_at = downstream.row.added.as_secs();
    let (reported_at, report) =
        downstream.told.map(|told| (told.at.as_secs(), told.report)).unwrap_or_default();
    wire::Downstream {
        neighbor: ca.registry.is_neighbor(&downstream.name),
        name: downstream.name,
        added_at,
        live_issuers: u64::try_from(live).unwrap_or(u64::MAX),
        issuers_until: until.map_or(0, Timestamp::as_secs),
        reported_at,
        applied_sequence: report.applied_sequence,
        waits_for: report.waits_for,
    }
}

/// The relying party that a neighbor is to gates.
fn party(name: &str) -> String {
    format!("{NEIGHBOR_PARTY}{name}")
}

fn checked(name: String) -> Result<String, Refusal> {
    let fits = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
        return Err(invalid(
            "a downstream CA's name has 1 to 64 characters of letters, digits, '.', '_', '-'",
        ));
    }
    Ok(name)
}
