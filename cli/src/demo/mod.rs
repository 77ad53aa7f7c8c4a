//! `banyan demo`: a whole mesh on this machine, under traffic that never pauses, while its root is replaced.
//!
//! A CA in a child process ([`ca`]), real agents in this one ([`members`]), and workloads that open a new mTLS
//! connection for every ordered pair, again and again: built-in sidecars ([`sidecar`], [`traffic`]), clients of the CSR
//! API ([`csr`]) or real Envoys ([`envoy`]). Leaves live for seconds, so every workload renews several times while one
//! watches. Meanwhile the root is rotated ([`rotation`]) and things are broken ([`faults`]). The demo fails if a single
//! connection fails, or if the old root is still anywhere at the end.

pub mod ca;
pub mod csr;
pub mod envoy;
pub mod faults;
pub mod gate;
pub mod members;
pub mod proof;
pub mod report;
pub mod rotation;
pub mod sidecar;
pub mod tls;
pub mod traffic;
pub mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;
use trust::Clock;

use self::ca::{CaProcess, Lifetimes};
use self::csr::Account;
use self::envoy::EnvoyMesh;
use self::faults::{Faults, Mesh};
use self::members::Member;
use self::proof::{Changeover, Proof};
use self::report::Outcome;
use self::rotation::{Rotations, Seen};
use self::sidecar::Sidecar;
use self::traffic::{FailureSample, Tally, Traffic};
use crate::args::DemoOptions;
use crate::bench::tokens::TokenSource;
use crate::exit::Failure;
use crate::{terminal, verbs};

/// Agents without `--agents`.
const AGENTS: u16 = 12;
/// Agents without `--agents` where each has a real Envoy.
const ENVOYS: u16 = 4;
/// Life of a workload's leaf; it is renewed at half of it.
const LEAF_SECS: u64 = 12;
/// Longest wait until every workload has its first certificate.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Traffic before the first rotation, and between two.
const BEFORE_ROTATION: Duration = Duration::from_secs(8);
/// Traffic after the last rotation.
const AFTER_ROTATION: Duration = Duration::from_secs(5);
/// Longest time of one rotation: each gate may have to wait for a leaf's life and the horizon's step.
const ROTATION_MAX: Duration = Duration::from_secs(120);
/// Longest time for everything to stop at the end.
const CLEAR_WITHIN: Duration = Duration::from_secs(10);
/// How often the view is drawn.
const TICK: Duration = Duration::from_millis(250);

/// Runs the demo and prints what it found. Whatever ends it, Ctrl-C too, nothing that it started stays behind.
///
/// # Errors
/// [`Failure::Failed`] if the mesh does not come up, one connection failed, or the old root is not gone;
/// [`Failure::Interrupted`] on Ctrl-C.
pub async fn run(options: &DemoOptions) -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("banyan-demo-").tempdir().map_err(anyhow::Error::from)?;
    let mut stage = Stage::default();
    let ended = tokio::select! {
        // Signals are watched for before anything is started.
        biased;
        stop = interrupted() => {
            stop.map_err(anyhow::Error::from)?;
            None
        }
        outcome = scenario(options, directory.path(), &mut stage) => Some(outcome),
    };
    if ended.is_none() {
        terminal::error_text("\nstopping the demo\n");
    }
    stage.clear().await;
    let left = leave(directory, options.keep);
    match ended {
        None => Err(Failure::Interrupted(format!(
            "the demo was interrupted and has stopped its CA and agents; {left}"
        ))),
        Some(outcome) => {
            if options.keep {
                terminal::error_text(&format!("{left}\n"));
            }
            let outcome = outcome?;
            outcome.print(options.json)?;
            outcome.verdict().map_err(Failure::Failed)
        }
    }
}

/// Waits for Ctrl-C, SIGTERM, or the end of the terminal.
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        stop = verbs::stop_requested() => stop,
        _ = hung_up.recv() => Ok(()),
    }
}

/// Removes the directory, or keeps it, and says so.
fn leave(directory: tempfile::TempDir, keep: bool) -> String {
    let path = directory.path().display().to_string();
    if keep {
        let _ = directory.keep();
        return format!("{path} is kept");
    }
    match directory.close() {
        Ok(()) => format!("{path} is removed"),
        Err(error) => format!("{path} could not be removed: {error}"),
    }
}

/// What was started and must end with the demo.
#[derive(Default)]
struct Stage {
    ca: Option<CaProcess>,
    members: Vec<Member>,
    load: Option<Load>,
}

impl Stage {
    /// Ends all of it, whatever is there.
    async fn clear(&mut self) {
        let all = async {
            if let Some(load) = self.load.take() {
                load.end().await;
            }
            for member in self.members.drain(..) {
                member.stop().await;
            }
            if let Some(mut ca) = self.ca.take() {
                // One that is dead already is what is wanted.
                let _ = ca.kill().await;
            }
        };
        // What does not end in time is killed when it is dropped.
        let _ = tokio::time::timeout(CLEAR_WITHIN, all).await;
    }
}

/// The mesh's workloads, under traffic.
pub enum Load {
    /// Built-in proxies and clients of the CSR API.
    Sidecars {
        /// The workloads, those with an agent first.
        members: Arc<Vec<Sidecar>>,
        /// Counters.
        tally: Arc<Tally>,
        /// What lets them talk.
        traffic: Traffic,
        /// How many have an agent.
        with_agent: usize,
    },
    /// Real Envoys.
    Envoys(Box<EnvoyMesh>),
}

/// Counters of the load at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Connections tried.
    pub handshakes: u64,
    /// Connections that failed while both sides had a live leaf.
    pub failed: u64,
    /// Connections that one side could not open or take for want of a live leaf, or because it was frozen.
    pub expired: u64,
    /// Renewals of each workload.
    pub renewals: Vec<u64>,
    /// Ordered pairs that talked.
    pub pairs: usize,
    /// The first failures, in words.
    pub samples: Vec<FailureSample>,
}

async fn scenario(options: &DemoOptions, directory: &Path, stage: &mut Stage) -> anyhow::Result<Outcome> {
    let agents = options.agents.unwrap_or(if options.envoy.is_some() { ENVOYS } else { AGENTS });
    let mut view = view::View::new(options.json);
    view.say("starting the CA");
    let tokens = Arc::new(TokenSource::new()?);
    let ca = stage.ca.insert(CaProcess::spawn(directory, Lifetimes { leaf_secs: LEAF_SECS }, &tokens)?);
    ca.wait_ready().await?;
    view.say(&format!("starting {agents} agents"));
    for number in 1..=agents {
        stage.members.push(Member::start(ca, directory, number).await?);
    }
    let accounts = accounts(options, ca, &tokens).await?;
    let load = stage.load.insert(Load::start(options, (&stage.members, accounts), directory).await?);
    let mut changeover = Changeover::begin(ca, &stage.members).await?;
    view.say("every workload has its certificate; traffic starts");

    let started = host::SystemClock.uptime();
    let mut rotations = Rotations::new(ca.admin_socket(), options.rotations);
    let mesh = Mesh { ca, members: &mut stage.members, load, view: &mut view };
    drive(options, mesh, &mut rotations, &mut changeover).await?;
    let (ca, load) = (stage.ca.as_ref().context("no CA")?, stage.load.as_mut().context("no traffic")?);
    let proof = Proof::gather(ca, &stage.members, load, changeover).await?;
    let seconds = host::SystemClock.uptime().saturating_sub(started).as_secs_f64();
    let counts = load.stop().await?;
    view.draw(&counts, rotations.last());
    let status = ca.status().await.context("the CA does not answer at the end")?;
    let journal = directory.join("data").join("record.redb");
    Ok(Outcome::new(options, (agents, seconds), counts, (proof, rotations), (&status, &journal)))
}

/// What the clients of the CSR API start with.
async fn accounts(
    options: &DemoOptions,
    ca: &CaProcess,
    tokens: &Arc<TokenSource>,
) -> anyhow::Result<Vec<Account>> {
    let roots = ca.roots().await?;
    let first_roots: String = roots.iter().map(|root| trust::certificate::pem_block(&root.der)).collect();
    let account = |number: u16| Account {
        ca: ca.address(),
        first_roots: first_roots.clone(),
        tokens: Arc::clone(tokens),
        name: ("demo", format!("csr{number:02}")),
    };
    Ok((1..=options.csr_only).map(account).collect())
}

/// Lets the traffic run for as long as asked and until all rotations are over, and breaks what shall be broken.
async fn drive(
    options: &DemoOptions,
    mut mesh: Mesh<'_>,
    rotations: &mut Rotations,
    changeover: &mut Changeover,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let least = start + Duration::from_secs(options.seconds);
    let most = least + ROTATION_MAX * options.rotations;
    let mut faults = Faults::new(&options.fault, options.rotations);
    let mut next_at = start + BEFORE_ROTATION.min(Duration::from_secs(options.seconds) / 3);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        faults.tend(&mut mesh).await?;
        if let Seen::Phase(phase) = rotations.look().await {
            mesh.view.say(&format!("rotation {}: {phase}", rotations.number()));
            faults.during(rotations.number(), &phase, &mut mesh).await?;
            next_at = next_at.max(now + BEFORE_ROTATION / 4);
        }
        changeover.note(mesh.members);
        let counts = mesh.load.counts().await?;
        mesh.view.draw(&counts, rotations.last());
        if now >= next_at {
            if rotations.none_wanted() {
                faults.now(&mut mesh).await?;
            } else if let Some(number) = rotations.next() {
                faults.before(number, &mut mesh).await?;
                rotations.start().await?;
            }
        }
        let rotated = rotations.none_wanted()
            || rotations.all_over_since().is_some_and(|since| now >= since + AFTER_ROTATION);
        if now >= least && rotated && faults.are_over() {
            return Ok(());
        }
        if now >= most {
            let (over, wanted) = (rotations.completed(), options.rotations);
            bail!("{over} of {wanted} rotations are over after {most:?}: {}", rotations.explained());
        }
    }
}

impl Load {
    async fn start(
        options: &DemoOptions,
        (members, accounts): (&[Member], Vec<Account>),
        directory: &Path,
    ) -> anyhow::Result<Self> {
        if let Some(path) = &options.envoy {
            let binary = envoy::find_binary(path.as_deref())?;
            return Ok(Self::Envoys(Box::new(EnvoyMesh::start(&binary, members, directory).await?)));
        }
        let mut sidecars = Vec::new();
        for member in members {
            sidecars.push(Sidecar::start(member.id.clone(), member.socket.clone()).await?);
        }
        let with_agent = sidecars.len();
        for account in accounts {
            let domain = trust::TrustDomain::parse(ca::TRUST_DOMAIN)?;
            let id = trust::SpiffeId::kubernetes(&domain, account.name.0, &account.name.1)?;
            sidecars.push(Sidecar::start_csr_only(id, account).await?);
        }
        for sidecar in &sidecars {
            tokio::time::timeout(READY_DEADLINE, sidecar.ready())
                .await
                .with_context(|| format!("{} has no certificate after {READY_DEADLINE:?}", sidecar.id()))??;
        }
        let members = Arc::new(sidecars);
        let tally = Arc::new(Tally::default());
        let traffic = Traffic::start(&members, &tally);
        Ok(Self::Sidecars { members, tally, traffic, with_agent })
    }

    /// Counters at this moment.
    ///
    /// # Errors
    /// If an Envoy that is not frozen does not answer.
    pub async fn counts(&mut self) -> anyhow::Result<Counts> {
        match self {
            Self::Sidecars { members, tally, .. } => Ok(sidecar_counts(members, tally)),
            Self::Envoys(mesh) => mesh.counts().await,
        }
    }

    /// Freezes the last workload that has an agent, or lets it go on.
    ///
    /// # Errors
    /// If its process is gone.
    pub fn freeze_last(&mut self, frozen: bool) -> anyhow::Result<()> {
        match self {
            Self::Sidecars { members, with_agent, .. } => {
                let last = with_agent.checked_sub(1).and_then(|place| members.get(place));
                last.context("there is no workload with an agent")?.freeze(frozen);
                Ok(())
            }
            Self::Envoys(mesh) => mesh.freeze_last(frozen),
        }
    }

    /// Lets what is under way come to its end, and counts for the last time.
    async fn stop(&mut self) -> anyhow::Result<Counts> {
        match self {
            Self::Sidecars { members, tally, traffic, .. } => {
                traffic.stop().await;
                Ok(sidecar_counts(members, tally))
            }
            Self::Envoys(mesh) => mesh.stop().await,
        }
    }

    /// Ends it as it is.
    async fn end(self) {
        match self {
            Self::Sidecars { traffic, .. } => traffic.end().await,
            Self::Envoys(mesh) => mesh.end().await,
        }
    }
}

fn sidecar_counts(members: &[Sidecar], tally: &Tally) -> Counts {
    Counts {
        handshakes: tally.handshakes(),
        failed: tally.failed(),
        expired: tally.expired(),
        renewals: members.iter().map(|member| member.leaves_seen().saturating_sub(1)).collect(),
        pairs: tally.pairs().0,
        samples: tally.samples(),
    }
}
