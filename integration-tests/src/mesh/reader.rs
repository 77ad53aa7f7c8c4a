//! A member in a Pod without agent: its leaf comes by the CSR API for the Pod's own token, its trust from the bundle that is published
//! into its namespace, and from nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use host::SystemClock;
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use tokio::task::JoinHandle;
use tonic::Status;
use trust::Clock as _;

use super::ca::csr;
use super::ztunnel::channel;
use super::{Guest, Holding, ZtunnelFiles};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// The member. It renews its leaf at half of its life.
#[derive(Debug)]
pub struct Reader {
    guest: Arc<Guest>,
    task: JoinHandle<()>,
}

impl Reader {
    /// A member with the files of its Pod.
    pub fn of_pod(name: &str, files: ZtunnelFiles) -> Self {
        let guest = Arc::new(Guest::new(name, Holding::default()));
        let task = tokio::spawn(keep_up(files, Arc::clone(&guest)));
        Self { guest, task }
    }

    /// What it holds.
    #[must_use]
    pub fn guest(&self) -> Arc<Guest> {
        Arc::clone(&self.guest)
    }

    /// Asks once for a leaf, and keeps nothing.
    ///
    /// # Errors
    /// As the CA answers, or if the files are not good.
    pub async fn ask(files: &ZtunnelFiles) -> Result<Holding, Status> {
        let told = |error: anyhow::Error| Status::internal(format!("{error:#}"));
        let key = KeyPair::generate().map_err(|error| told(error.into()))?;
        let request = request(files, &key).map_err(told)?;
        let mut client = IstioCertificateServiceClient::new(channel(files).map_err(told)?);
        let mut strings = client.create_certificate(request).await?.into_inner().cert_chain;
        // The roots of the answer are not looked at.
        strings.pop();
        let der = |text: &String| pem::parse(text).map(pem::Pem::into_contents);
        let chain = strings.iter().map(der).collect::<Result<_, _>>();
        let roots = published(&files.roots).map_err(told)?;
        Ok(Holding {
            chain: chain.map_err(|error| told(error.into()))?,
            key: key.serialize_der(),
            roots,
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_up(files: ZtunnelFiles, guest: Arc<Guest>) {
    loop {
        let held = guest.holding();
        if is_due(&held) {
            match Reader::ask(&files).await {
                Ok(new) => guest.hold(new),
                Err(status) => tracing::warn!(guest = guest.name(), %status, "no leaf"),
            }
        } else if let Ok(roots) = published(&files.roots)
            && roots != held.roots
        {
            guest.hold(Holding { roots, ..held });
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn is_due(held: &Holding) -> bool {
    let Some(leaf) = held.leaf() else { return true };
    let (start, end) = (leaf.validity().not_before(), leaf.validity().not_after());
    SystemClock.now() >= start.plus(end.since(start) / 2)
}

fn request(
    files: &ZtunnelFiles,
    key: &KeyPair,
) -> anyhow::Result<tonic::Request<IstioCertificateRequest>> {
    let csr = csr(key)?.1;
    let message = IstioCertificateRequest { csr, validity_duration: 0, metadata: None };
    let mut request = tonic::Request::new(message);
    let token = std::fs::read_to_string(&files.token).context("its token")?;
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

fn published(file: &PathBuf) -> anyhow::Result<Vec<Vec<u8>>> {
    let blocks = pem::parse_many(std::fs::read(file)?)?;
    anyhow::ensure!(!blocks.is_empty(), "no roots are published");
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}
