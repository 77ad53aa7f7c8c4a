//! Servers over stores, and what operators ask of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ca_server::{Embedding, Running};
use hyper_util::rt::TokioIo;
use plugin_key_file::KdfCost;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    ConfirmRelyingPartyRequest, GetRotationRequest, ReadJournalRequest, Rotation,
};
use rotation::State;
use stores::SharedStore;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Short lives and limits, as the directory of the former release was made with.
pub(crate) const LIMITS: &str = "[root]\nlifetime = \"18000d\"\nissuer_lifetime = \"9000d\"\n[leaf]\nttl_default = \"10s\"\n\
                                 ttl_max = \"10s\"\nttl_min = \"5s\"\nbackdate = \"1s\"\nskew = \"1s\"\n\
                                 [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1h\"\n";
/// Each gate may wait for a leaf of 10 s, the horizon's step and twice the skew.
pub(crate) const ROTATION_MAX: Duration = Duration::from_secs(120);

/// A server whose shared state is in this store.
pub(crate) struct Over {
    pub(crate) store: Arc<dyn SharedStore>,
}

impl Over {
    pub(crate) fn new(store: Arc<dyn SharedStore>) -> Self {
        Self { store }
    }
}

impl Embedding for Over {
    fn key_cost(&self) -> KdfCost {
        KdfCost::LEAST
    }

    fn store(&self, _: Arc<dyn SharedStore>) -> Arc<dyn SharedStore> {
        Arc::clone(&self.store)
    }
}

pub(crate) fn channel(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://admin").connect_with_connector_lazy(connect)
}

pub(crate) fn rotations(running: &Running) -> RotationServiceClient<Channel> {
    RotationServiceClient::new(channel(&running.admin_socket))
}

pub(crate) async fn rotation(running: &Running) -> anyhow::Result<Rotation> {
    Ok(rotations(running).get_rotation(GetRotationRequest {}).await?.into_inner())
}

/// Waits until the rotation is as wanted.
pub(crate) async fn until(
    running: &Running,
    what: &str,
    wanted: impl Fn(&Rotation) -> bool,
) -> anyhow::Result<Rotation> {
    let mut last = Rotation::default();
    let poll = async {
        loop {
            last = rotation(running).await?;
            if wanted(&last) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(ROTATION_MAX, poll).await;
    found.with_context(|| format!("{what}: {last:#?}"))??;
    Ok(last)
}

/// The relying party says that it has the bundle in force.
pub(crate) async fn confirm(running: &Running, name: &str) -> anyhow::Result<()> {
    let request = ConfirmRelyingPartyRequest { name: name.to_owned(), ..Default::default() };
    rotations(running).confirm_relying_party(request).await?;
    Ok(())
}

/// The record, once the journal has led to it.
pub(crate) async fn verified(running: &Running) -> anyhow::Result<State> {
    let (mut client, mut entries) = (rotations(running), Vec::new());
    loop {
        let from = entries.last().map_or(0, |(index, _)| *index + 1);
        let page = client.read_journal(ReadJournalRequest { from, limit: 0 }).await?.into_inner();
        entries.extend(page.entries.into_iter().map(|entry| (entry.index, entry.entry)));
        if page.more {
            continue;
        }
        let record: State = serde_json::from_slice(&page.record)?;
        let replayed = rotation_driver::replay(record.trust_domain.clone(), &entries)?;
        // What came while it was read is in the entries and not in the record.
        if replayed.state.generation == record.generation {
            anyhow::ensure!(replayed.state == record, "the journal leads to another record");
            return Ok(record);
        }
    }
}
