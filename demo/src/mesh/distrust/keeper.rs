//! Whoever keeps a file of roots: writes each bundle into it, sees that its readers have loaded it, and says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trust::RootId;

use super::operator::{Bundle, Operator};
use crate::mesh::sidecar::Sidecar;

/// Name of the relying party that the file is.
pub const RELYING_PARTY: &str = "roots-file";
/// How often the bundle is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// Longest wait until readers have loaded the file.
const LOADED_WITHIN: Duration = Duration::from_secs(10);

/// Writes the present bundle into the file.
///
/// # Errors
/// If the CA does not answer, or the file cannot be written.
pub async fn write(operator: &Operator, file: &Path) -> anyhow::Result<Bundle> {
    let bundle = operator.bundle().await?;
    let pem: String = bundle.roots.iter().map(|der| trust::certificate::pem_block(der)).collect();
    let next = file.with_extension("next");
    tokio::fs::write(&next, pem).await?;
    tokio::fs::rename(&next, file).await?;
    Ok(bundle)
}

/// Keeps the file for ever.
pub async fn keep(operator: Operator, file: PathBuf, readers: Vec<Arc<Sidecar>>) {
    let mut confirmed = 0;
    loop {
        match once(&operator, &file, &readers, confirmed).await {
            Ok(sequence) => confirmed = sequence,
            Err(error) => tracing::debug!(error = %format!("{error:#}"), "no roots written"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Answers the sequence that is confirmed then.
async fn once(
    operator: &Operator,
    file: &Path,
    readers: &[Arc<Sidecar>],
    confirmed: u64,
) -> anyhow::Result<u64> {
    if operator.rotation().await?.sequence == confirmed {
        return Ok(confirmed);
    }
    let bundle = write(operator, file).await?;
    let wanted: BTreeSet<_> = bundle.roots.iter().map(|der| RootId::of(der)).collect();
    let loaded = async {
        let has =
            |reader: &Arc<Sidecar>| reader.trusted().into_iter().collect::<BTreeSet<_>>() == wanted;
        while !readers.iter().all(has) {
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(LOADED_WITHIN, loaded).await?;
    operator.confirm(RELYING_PARTY, bundle.sequence).await?;
    Ok(bundle.sequence)
}
