//! `banyan demo`: a whole mesh on this machine, under traffic that never pauses.
//!
//! A CA in a child process ([`ca`]), real agents in this one ([`members`]), and workloads that open a new mTLS
//! connection for every ordered pair, again and again: built-in sidecars ([`sidecar`], [`traffic`]) or real Envoys
//! ([`envoy`]). Leaves live for seconds, so every workload renews several times while one watches. The demo fails if
//! a single connection fails.

pub mod ca;
pub mod envoy;
pub mod members;
pub mod report;
pub mod sidecar;
pub mod tls;
pub mod traffic;
pub mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;
use trust::Clock;

use self::ca::{CaProcess, Lifetimes};
use self::envoy::EnvoyMesh;
use self::members::Member;
use self::report::Outcome;
use self::sidecar::Sidecar;
use self::traffic::{FailureSample, Tally, Traffic};
use crate::args::{DemoOptions, Fault};
use crate::exit::Failure;

/// Agents without `--agents`.
const AGENTS: u16 = 12;
/// Agents without `--agents` where each has a real Envoy.
const ENVOYS: u16 = 4;
/// Life of a workload's leaf; it is renewed at half of it.
const LEAF_SECS: u64 = 12;
/// Longest wait until every workload has its first certificate.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long the CA stays away after it was killed.
const CA_AWAY: Duration = Duration::from_secs(3);
/// How often the view is drawn.
const TICK: Duration = Duration::from_millis(250);

/// Runs the demo and prints what it found.
///
/// # Errors
/// [`Failure::Failed`] if the mesh does not come up or one connection failed.
pub async fn run(options: &DemoOptions) -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("banyan-demo-").tempdir().map_err(anyhow::Error::from)?;
    let outcome = scenario(options, directory.path()).await;
    if options.keep {
        let kept = directory.keep();
        eprintln!("kept: {}", kept.display());
    }
    let outcome = outcome?;
    outcome.print(options.json)?;
    outcome.verdict().map_err(Failure::Failed)
}

/// The mesh's workloads, under traffic.
enum Load {
    Sidecars { members: Arc<Vec<Sidecar>>, tally: Arc<Tally>, traffic: Traffic },
    Envoys(EnvoyMesh),
}

/// Counters of the load at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Connections tried.
    pub handshakes: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Renewals of each workload.
    pub renewals: Vec<u64>,
    /// Ordered pairs that talked.
    pub pairs: usize,
    /// The first failures, in words.
    pub samples: Vec<FailureSample>,
}

async fn scenario(options: &DemoOptions, directory: &Path) -> anyhow::Result<Outcome> {
    let agents = options.agents.unwrap_or(if options.envoy.is_some() { ENVOYS } else { AGENTS });
    let mut view = view::View::new(options.json);
    view.say("starting the CA");
    let mut ca = CaProcess::start(directory, Lifetimes { leaf_secs: LEAF_SECS }).await?;
    view.say(&format!("starting {agents} agents"));
    let mut members = Vec::new();
    for number in 1..=agents {
        members.push(Member::start(&ca, directory, number).await?);
    }
    let mut load = Load::start(options, &members, directory).await?;
    view.say("every workload has its certificate; traffic starts");

    let started = host::SystemClock.uptime();
    drive(options, &mut ca, &mut load, &mut view).await?;
    let seconds = host::SystemClock.uptime().saturating_sub(started).as_secs_f64();
    let counts = load.stop().await?;
    view.end();
    let status = ca.status().await.context("the CA does not answer at the end")?;
    for member in members {
        member.stop().await;
    }
    Ok(Outcome::new(options, agents, seconds, counts, &status))
}

/// Lets the traffic run for as long as asked, and breaks what shall be broken, evenly spread over the time.
async fn drive(
    options: &DemoOptions,
    ca: &mut CaProcess,
    load: &mut Load,
    view: &mut view::View,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs(options.seconds);
    let between = Duration::from_secs(options.seconds) / (u32::try_from(options.fault.len())? + 2);
    let mut faults = options.fault.iter().zip(1..).peekable();
    let mut tick = tokio::time::interval(TICK);
    while Instant::now() < end {
        tick.tick().await;
        view.draw(&load.counts().await?);
        if let Some((fault, _)) = faults.next_if(|(_, place)| Instant::now() >= start + between * *place) {
            match fault {
                Fault::KillCa => kill_ca(ca, load, view).await?,
            }
        }
    }
    Ok(())
}

async fn kill_ca(ca: &mut CaProcess, load: &mut Load, view: &mut view::View) -> anyhow::Result<()> {
    ca.kill().await?;
    view.say("the CA was killed (SIGKILL)");
    let back = Instant::now() + CA_AWAY;
    while Instant::now() < back {
        tokio::time::sleep(TICK).await;
        view.draw(&load.counts().await?);
    }
    ca.restart().await?;
    view.say("the CA is back on the same state");
    Ok(())
}

impl Load {
    async fn start(options: &DemoOptions, members: &[Member], directory: &Path) -> anyhow::Result<Self> {
        if let Some(path) = &options.envoy {
            let binary = envoy::find_binary(path.as_deref())?;
            return Ok(Self::Envoys(EnvoyMesh::start(&binary, members, directory).await?));
        }
        let mut sidecars = Vec::new();
        for member in members {
            sidecars.push(Sidecar::start(member.id.clone(), member.socket.clone()).await?);
        }
        for sidecar in &sidecars {
            tokio::time::timeout(READY_DEADLINE, sidecar.ready())
                .await
                .with_context(|| format!("{} has no certificate after {READY_DEADLINE:?}", sidecar.id()))??;
        }
        let members = Arc::new(sidecars);
        let tally = Arc::new(Tally::default());
        let traffic = Traffic::start(&members, &tally);
        Ok(Self::Sidecars { members, tally, traffic })
    }

    async fn counts(&mut self) -> anyhow::Result<Counts> {
        match self {
            Self::Sidecars { members, tally, .. } => Ok(sidecar_counts(members, tally)),
            Self::Envoys(mesh) => mesh.counts().await,
        }
    }

    async fn stop(self) -> anyhow::Result<Counts> {
        match self {
            Self::Sidecars { members, tally, traffic } => {
                traffic.stop().await;
                Ok(sidecar_counts(&members, &tally))
            }
            Self::Envoys(mesh) => mesh.stop().await,
        }
    }
}

fn sidecar_counts(members: &[Sidecar], tally: &Tally) -> Counts {
    Counts {
        handshakes: tally.handshakes(),
        failed: tally.failed(),
        renewals: members.iter().map(|member| member.leaves_seen().saturating_sub(1)).collect(),
        pairs: tally.pairs().0,
        samples: tally.samples(),
    }
}
