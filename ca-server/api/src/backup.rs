//! A backup of the state as a stream: each part is made when the one before was taken, so that a slow reader costs nothing.

use std::sync::Arc;

use auth::refusal::{Reason, Refusal};
use ca_state::backup::{BackupError, Choice, Taking};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use proto::banyan::admin::v1::BackupPart;
use stores::SharedStore;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use crate::call::Call;

/// Where a backup stands.
enum Stage {
    /// Nothing was read yet: a store that is slow must not keep the answer from beginning.
    Begins,
    Goes(Box<Taking>),
}

struct Parts {
    call: Call,
    stage: Stage,
    with_keys: bool,
    /// Held until the stream ends.
    _one: OwnedSemaphorePermit,
}

/// The parts of a backup of this CA's state.
pub(crate) fn parts(
    call: Call,
    with_keys: bool,
    one: OwnedSemaphorePermit,
) -> BoxStream<'static, Result<BackupPart, Status>> {
    let parts = Parts { call, stage: Stage::Begins, with_keys, _one: one };
    stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        match parts.next().await {
            Ok(Some(bytes)) => Some((Ok(BackupPart { bytes }), Some(parts))),
            Ok(None) => None,
            Err(error) => {
                let refusal = Refusal::new(Reason::RecordUnavailable, error.to_string());
                Some((Err(parts.call.refuse(refusal)), None))
            }
        }
    })
    .boxed()
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        if matches!(self.stage, Stage::Begins) {
            let ca = &self.call.ca;
            let choice = Choice {
                with_keys: self.with_keys,
                now: ca.clock.now().as_secs(),
                release: env!("CARGO_PKG_VERSION").to_owned(),
            };
            let store: Arc<dyn SharedStore> = Arc::clone(&ca.store);
            self.stage = Stage::Goes(Box::new(Taking::begin(store, &choice).await?));
        }
        match &mut self.stage {
            Stage::Goes(taking) => taking.next().await,
            Stage::Begins => Ok(None),
        }
    }
}
