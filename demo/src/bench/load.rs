//! Clients that ask for certificates as fast as the server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::server::BenchServer;
use crate::tokens::Supply;

/// Connections over which kept requests are spread, at each server.
const CONNECTIONS: usize = 4;
/// Length of a slice of the counted time. The kernel counts CPU time in hundredths of a second.
const SLICE: Duration = Duration::from_millis(500);
/// Different CSRs; each is used many times, and verified by the server each time.
const CSRS: usize = 256;

/// Time before each row that is not counted.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Debug)]
pub struct Job {
    /// Whether connections are kept.
    pub connections: Connections,
    /// Requests in flight.
    pub in_flight: u16,
    /// How long requests are counted.
    pub duration: Duration,
    /// How long requests run before they are counted.
    pub warm_up: Duration,
    /// Tokens to show.
    pub tokens: Supply,
}

/// What a request does about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// A few connections carry all requests.
    Kept,
    /// Every request opens its own, with a full handshake.
    NewEach,
}

/// What one row found.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Certificates that came while it was counted.
    pub certificates: u64,
    /// Wall time of the counted part.
    pub wall: Duration,
    /// CPU time of the servers' processes per certificate, in microseconds: the median of half-second slices, since others may
    /// use the machine for a moment.
    pub cpu_us_per_cert: f64,
    /// Median time from request to answer, in microseconds.
    pub p50_us: u64,
    /// 99th percentile of the same.
    pub p99_us: u64,
    /// Requests in flight.
    pub in_flight: u16,
}

/// Runs one row, its requests spread evenly over the servers.
///
/// # Errors
/// The first refused or failed request: a benchmark with errors is none.
pub async fn run(servers: &[&BenchServer], job: Job) -> anyhow::Result<Measured> {
    let csrs = Arc::new(csrs()?);
    let (mut channels, connections) = (Vec::new(), CONNECTIONS * servers.len());
    for server in servers.iter().cycle().take(connections.min(usize::from(job.in_flight))) {
        channels.push((server.connector(), server.connector().connect().await?));
    }
    let start = Instant::now() + job.warm_up;
    let window = Window { start, end: start + job.duration };
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..usize::from(job.in_flight) {
        let (connector, channel) =
            channels.get(number % channels.len()).context("no connection")?.clone();
        let source = match job.connections {
            Connections::Kept => Source::Kept(channel),
            Connections::NewEach => Source::NewEach(connector),
        };
        clients.spawn(client(
            source,
            job.tokens.clone(),
            Arc::clone(&csrs),
            Clerk { window, done: Arc::clone(&done) },
        ));
    }
    let cpu_us_per_cert = watch(servers, window, &done).await?;
    let mut latencies = Histogram::<u64>::new(3)?;
    while let Some(client) = clients.join_next().await {
        latencies.add(client??)?;
    }
    if latencies.is_empty() {
        bail!("no certificate was issued while it was counted");
    }
    Ok(Measured {
        certificates: latencies.len(),
        wall: job.duration,
        cpu_us_per_cert,
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        in_flight: job.in_flight,
    })
}

#[derive(Debug, Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

/// What a client counts with.
#[derive(Debug)]
struct Clerk {
    window: Window,
    done: Arc<AtomicU64>,
}

/// CPU time per certificate in each slice of the window; gives their median, in microseconds.
async fn watch(servers: &[&BenchServer], window: Window, done: &AtomicU64) -> anyhow::Result<f64> {
    let mut costs = Vec::new();
    let mut boundary = window.start;
    tokio::time::sleep_until(boundary).await;
    while boundary < window.end {
        let (cpu, certificates) = (cpu_time(servers)?, done.load(Ordering::Relaxed));
        boundary = (boundary + SLICE).min(window.end);
        tokio::time::sleep_until(boundary).await;
        let certificates = done.load(Ordering::Relaxed) - certificates;
        if certificates > 0 {
            costs.push(
                (cpu_time(servers)?.saturating_sub(cpu)).as_secs_f64() * 1e6 / certificates as f64,
            );
        }
    }
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().context("no certificate was issued while it was counted")
}

/// What the processes of all of them have used.
fn cpu_time(servers: &[&BenchServer]) -> anyhow::Result<Duration> {
    servers.iter().map(|server| server.cpu_time()).sum()
}

enum Source {
    Kept(Channel),
    NewEach(super::server::Connector),
}

async fn client(
    source: Source,
    tokens: Supply,
    csrs: Arc<Vec<String>>,
    clerk: Clerk,
) -> anyhow::Result<Histogram<u64>> {
    let Clerk { window, done } = clerk;
    let mut latencies = Histogram::new(3)?;
    for csr in csrs.iter().cycle() {
        let before = Instant::now();
        if before >= window.end {
            break;
        }
        let token = tokens.next().context("the row used up its tokens; ask for fewer seconds")?;
        let channel = match &source {
            Source::Kept(channel) => channel.clone(),
            Source::NewEach(connector) => connector.connect().await?,
        };
        issue(channel, csr, token).await?;
        let after = Instant::now();
        done.fetch_add(1, Ordering::Relaxed);
        if before >= window.start && after < window.end {
            latencies.record(u64::try_from((after - before).as_micros())?)?;
        }
    }
    Ok(latencies)
}

async fn issue(channel: Channel, csr: &str, token: &str) -> anyhow::Result<()> {
    let mut request = tonic::Request::new(IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: 3_600,
        metadata: None,
    });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
    anyhow::ensure!(answer.get_ref().cert_chain.len() >= 2, "the answer has no chain");
    Ok(())
}

fn csrs() -> anyhow::Result<Vec<String>> {
    let make = |_| {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&key)?.pem()?)
    };
    (0..CSRS).map(make).collect()
}
