//! `banyan.admin.v1.CrlService`: the revocation lists, and who has them.

use std::sync::Arc;

use control::ca::Ca;
use control::crl::IssuerList;
use control::crl::holders::{self, CrlView, Lacking};
use proto::banyan::admin::v1::crl_service_server::CrlService;
use proto::banyan::admin::v1::{GetCrlRequest, GetCrlResponse, HolderWithoutList, RevocationList};
use tonic::{Request, Response, Status};

use crate::admin::Operators;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Crls {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Crls {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }
}

#[tonic::async_trait]
impl CrlService for Crls {
    async fn get_crl(
        &self,
        request: Request<GetCrlRequest>,
    ) -> Result<Response<GetCrlResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |_, _| Ok(shown(holders::view(&self.ca))))
            .await
    }
}

fn shown(view: CrlView) -> GetCrlResponse {
    let CrlView { settings, lists, holders, with, lacking, beyond_agents } = view;
    GetCrlResponse {
        enabled: settings.is_some(),
        number: lists.number,
        changed_number: lists.changed_number,
        changed_at: lists.changed_at.as_secs(),
        without: lists.without.clone().unwrap_or_default(),
        keep_seconds: settings
            .map_or(0, |settings| settings.keep.as_secs().try_into().unwrap_or(i64::MAX)),
        lists: lists.lists.iter().map(|list| one(list, lists.number)).collect(),
        holders: count(holders),
        holders_with: count(with),
        lacking: lacking.into_iter().map(lacks).collect(),
        beyond_agents: count(beyond_agents),
    }
}

fn one(list: &IssuerList, number: u64) -> RevocationList {
    RevocationList {
        issuer: list.issuer.as_bytes().to_vec(),
        root: list.root.as_bytes().to_vec(),
        number,
        entries: count(list.listed.len()),
        this_update: list.this_update.as_secs(),
        next_update: list.next_update.as_secs(),
        der: list.der.clone(),
    }
}

fn lacks(lacking: Lacking) -> HolderWithoutList {
    let row = &lacking.live.row;
    HolderWithoutList {
        serial: row.serial.as_bytes().to_vec(),
        identity: row.identity.to_string(),
        agent: row.agent.clone().unwrap_or_default(),
        agent_connected: lacking.agent_connected,
        has: lacking.has,
        since: lacking.since.as_secs(),
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
