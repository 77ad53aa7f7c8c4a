//! `banyan.admin.v1.ReplicaService`: the servers of this CA.

use std::sync::Arc;

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::replica_service_server::ReplicaService;
use proto::banyan::admin::v1::{
    DrainReplicaRequest, ListReplicasRequest, ListReplicasResponse, Replica, RuleReplicaRequest,
    RuleReplicaResponse,
};
use replicas::{Drain, DrainError};
use rotation::{Event, ReplicaName, RequestId};
use stores::SharedStore;
use tonic::{Request, Response, Status};
use trust::Timestamp;
use trust::randomness::random_bytes;

use crate::admin::Operators;
use crate::words;
use control::ca::Ca;
use control::servers::{self, Server};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Replicas {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Replicas {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    /// The server of this name, and where the servers of this CA are written.
    fn named(&self, name: &str) -> Result<(Server, Arc<dyn SharedStore>), Refusal> {
        let Some(store) = &self.ca.replication.store else {
            let text =
                "this CA has one server: its state is in a file of that server's data directory";
            let advice = "`banyan state move` takes it to a store that several servers share";
            return Err(Refusal::advised(Reason::RequestInvalid, text, advice));
        };
        let found = servers::list(&self.ca).into_iter().find(|server| server.name.as_str() == name);
        let found = found.ok_or_else(|| {
            let text = format!("no server of this CA has the name {name:?}");
            Refusal::advised(Reason::RequestInvalid, text, "`banyan replica list` names them")
        })?;
        Ok((found, Arc::clone(store)))
    }

    async fn drain(&self, asked: DrainReplicaRequest, caller: &str) -> Result<Server, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let (server, store) = self.named(&asked.name)?;
        words::journal(&self.ca, &word, "replica drain", asked.name, "").await?;
        let drain = Drain {
            by: word.by,
            reason: word.reason,
            at_secs: self.ca.clock.now().as_secs(),
            spread_secs: asked.spread_seconds,
        };
        replicas::drain(store.as_ref(), &server.name, &drain).await.map_err(not_written)?;
        Ok(server)
    }

    async fn undrain(&self, asked: RuleReplicaRequest, caller: &str) -> Result<Server, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let (server, store) = self.named(&asked.name)?;
        words::journal(&self.ca, &word, "replica undrain", asked.name, "").await?;
        replicas::undrain(store.as_ref(), &server.name).await.map_err(not_written)?;
        Ok(server)
    }

    async fn remove(&self, asked: RuleReplicaRequest, caller: &str) -> Result<Server, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let (server, store) = self.named(&asked.name)?;
        if server.answers {
            let text =
                format!("{} is the server that answers, and cannot take itself out", asked.name);
            let advice = "ask another one of `banyan replica list`";
            return Err(Refusal::advised(Reason::RequestInvalid, text, advice));
        }
        if is_alive(&server) && !asked.force {
            let text =
                format!("replica {} is {}, and may release leaves", asked.name, server.standing);
            let advice = "stop it first (a server that stops in order leaves no gate waiting), or say --force";
            return Err(Refusal::advised(Reason::RequestInvalid, text, advice));
        }
        let id: [u8; 8] = random_bytes(self.ca.randomness.as_ref());
        let request_id = RequestId::parse(&format!("remove-{:016x}", u64::from_be_bytes(id)));
        let request_id =
            request_id.map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?;
        let replica = ReplicaName::clone(&server.name);
        let removed = Event::ReplicaRemoved { request_id, replica };
        // Its segments first: a server that finds itself removed must not find them open.
        self.ca
            .driver
            .submit_as(removed, word)
            .await
            .map_err(|error| words::not_submitted(&error))?;
        replicas::remove(store.as_ref(), &server.name).await.map_err(not_written)?;
        Ok(server)
    }

    fn ruled(server: Server) -> RuleReplicaResponse {
        RuleReplicaResponse { replica: Some(Self::shown(server)) }
    }

    fn shown(server: Server) -> Replica {
        Replica {
            name: server.name.to_string(),
            standing: server.standing.to_owned(),
            answers: server.answers,
            leads: server.leads,
            address: server.address.unwrap_or_default(),
            version: server.version,
            seen_seconds_ago: server.silent.as_secs(),
            segment: server.segment.unwrap_or_default(),
            leaves_until: server.leaves_until.map(Timestamp::as_secs).unwrap_or_default(),
            clock_ahead_ms: server.ahead_millis,
        }
    }
}

#[tonic::async_trait]
impl ReplicaService for Replicas {
    async fn list_replicas(
        &self,
        request: Request<ListReplicasRequest>,
    ) -> Result<Response<ListReplicasResponse>, Status> {
        let list = || servers::list(&self.ca).into_iter().map(Self::shown).collect();
        self.operators
            .answer(&self.ca, request, async |_, _| Ok(ListReplicasResponse { replicas: list() }))
            .await
    }

    async fn drain_replica(
        &self,
        request: Request<DrainReplicaRequest>,
    ) -> Result<Response<RuleReplicaResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                self.drain(asked, by).await.map(Self::ruled)
            })
            .await
    }

    async fn undrain_replica(
        &self,
        request: Request<RuleReplicaRequest>,
    ) -> Result<Response<RuleReplicaResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                self.undrain(asked, by).await.map(Self::ruled)
            })
            .await
    }

    async fn remove_replica(
        &self,
        request: Request<RuleReplicaRequest>,
    ) -> Result<Response<RuleReplicaResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                self.remove(asked, by).await.map(Self::ruled)
            })
            .await
    }
}

fn is_alive(server: &Server) -> bool {
    !["silent", "stopped"].contains(&server.standing)
}

fn not_written(error: DrainError) -> Refusal {
    Refusal::new(Reason::RecordUnavailable, error.to_string())
}
