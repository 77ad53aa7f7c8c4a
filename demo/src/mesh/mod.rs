//! `banyan demo`: a whole mesh on this machine, under traffic that never pauses, while its root is replaced.
//!
//! A CA in a child process ([`ca`]), real agents in this one ([`members`]), and workloads that open a new mTLS
//! connection for every ordered pair, again and again ([`load`]): built-in sidecars ([`sidecar`], [`traffic`]), clients of
//! the CSR API ([`csr`]) or real Envoys ([`envoy`]). Leaves live for seconds, so every workload renews several times while one
//! watches. Meanwhile the root is rotated ([`rotation`]) and things are broken ([`faults`]). The demo fails if a single
//! connection fails, or if the old root is still anywhere at the end.

pub mod ca;
pub mod canary;
pub mod counts;
pub mod csr;
pub mod distrust;
pub mod envoy;
pub mod faults;
pub mod file;
pub mod gate;
pub mod held;
pub mod load;
pub mod members;
mod narrow;
pub mod plan;
pub mod proof;
pub mod random;
pub mod received;
pub mod report;
pub mod rotation;
pub mod sds;
pub mod sidecar;
pub mod stage;
pub mod store;
pub mod tls;
pub mod traffic;
pub mod unable;
pub mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use console::exit::Failure;
use console::terminal;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use trust::Clock;

use self::ca::{CaProcess, Lifetimes, Seat};
use self::canary::CanaryStory;
use self::csr::Account;
use self::faults::{Faults, Mesh};
use self::load::Load;
use self::members::Member;
use self::proof::{Changeover, Proof};
use self::random::Drawn;
use self::received::Received;
use self::report::{Outcome, Ran};
use self::rotation::{Rotations, Seen};
use self::stage::{Stage, interrupted, leave};
use self::store::Store;
use self::unable::Unable;
use crate::options::{DemoOptions, StoreEngine};
use crate::ports::free_address;
use crate::tokens::TokenSource;

/// Agents without `--agents`.
const AGENTS: u16 = 12;
/// Agents without `--agents` where each has a real Envoy.
const ENVOYS: u16 = 4;
/// Life of a workload's leaf; it is renewed at half of it.
const LEAF_SECS: u64 = 12;
/// Traffic before the first rotation, and between two.
const BEFORE_ROTATION: Duration = Duration::from_secs(8);
/// Traffic after the last rotation.
const AFTER_ROTATION: Duration = Duration::from_secs(5);
/// Longest time of one rotation: each gate may have to wait for a leaf's life and the horizon's step.
const ROTATION_MAX: Duration = Duration::from_secs(120);
/// How often the CA is looked at, and the view is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Runs the demo and prints what it found. Whatever ends it, Ctrl-C too, nothing that it started stays behind.
///
/// # Errors
/// [`Failure::Failed`] if the mesh does not come up, one connection failed, or the old root is not gone;
/// [`Failure::Interrupted`] on Ctrl-C.
pub async fn run(options: &DemoOptions) -> Result<(), Failure> {
    if let Some(contradiction) = options.contradiction() {
        return Err(Failure::Usage(contradiction.into()));
    }
    let directory =
        tempfile::Builder::new().prefix("banyan-demo-").tempdir().map_err(anyhow::Error::from)?;
    let mut stage = Stage::default();
    let ended = tokio::select! {
        // Signals are watched for before anything is started.
        biased;
        stop = interrupted() => {
            stop.map_err(anyhow::Error::from)?;
            None
        }
        outcome = show(options, directory.path(), &mut stage) => Some(outcome),
    };
    if ended.is_none() {
        terminal::error_text("\nstopping the demo\n");
    }
    stage.clear().await;
    let left = leave(directory, options.keep);
    match ended {
        None => Err(Failure::Interrupted(
            format!("the demo was interrupted and has stopped its CA and agents; {left}").into(),
        )),
        Some(outcome) => {
            if options.keep {
                terminal::error_line(&left);
            }
            match outcome? {
                Shown::Rotations(outcome) => {
                    outcome.print(options.json)?;
                    outcome.verdict().map_err(Failure::Failed)
                }
                Shown::Emergencies(outcome) => {
                    outcome.print(options.json)?;
                    outcome.verdict().map_err(Failure::Failed)
                }
            }
        }
    }
}

/// What there is to print.
enum Shown {
    Rotations(Box<Outcome>),
    Emergencies(Box<distrust::Outcome>),
}

async fn show(options: &DemoOptions, directory: &Path, stage: &mut Stage) -> anyhow::Result<Shown> {
    if options.distrust {
        let outcome = distrust::scenario(options, directory, stage).await?;
        return Ok(Shown::Emergencies(Box::new(outcome)));
    }
    Ok(Shown::Rotations(Box::new(scenario(options, directory, stage).await?)))
}

async fn scenario(
    options: &DemoOptions,
    directory: &Path,
    stage: &mut Stage,
) -> anyhow::Result<Outcome> {
    let agents = options.agents.unwrap_or(if options.envoy.is_some() { ENVOYS } else { AGENTS });
    let canary = CanaryStory::begin(options, agents)?;
    let mut view = view::View::new(options.json);
    view.say("starting the CA");
    let tokens = Arc::new(TokenSource::new()?);
    start_servers(options, directory, stage, &tokens).await?;
    view.say(&format!("starting {agents} agents"));
    for number in 1..=agents {
        // Known before the workload is there: the agent's configuration names it.
        let listener = options.algorithm.map(|_| free_address()).transpose()?;
        stage.members.push(Member::start(&stage.cas, directory, number, listener).await?);
    }
    let received = Received::default();
    let accounts = accounts(options, &stage.cas, &tokens).await?;
    let load = Load::start(options, &stage.members, accounts, directory, &received).await?;
    let load = stage.load.insert(load);
    let unable = Unable::begin(options, load)?;
    let ca = stage.cas.first().context("no CA")?;
    let mut changeover = Changeover::begin(ca, &stage.members).await?;
    let sockets: Vec<_> = stage.cas.iter().map(CaProcess::admin_socket).collect();
    let watching = AbortOnDropHandle::new(received.watch(sockets.clone()));
    view.say("every workload has its certificate; traffic starts");

    let started = host::SystemClock.uptime();
    let mut rotations =
        Rotations::new(ca.admin_socket(), options.rotations, options.canary.clone());
    let members = stage.members.len();
    let mut drawn = options.is_random().then(|| {
        let seed = options.seed.unwrap_or_else(another_seed);
        let plan = plan::drawn(seed, options.rotations, &plan::kinds(options), members);
        Drawn { seed, plan, made: Vec::new(), missed: Vec::new() }
    });
    let mut faults = Faults::new(match &drawn {
        Some(drawn) => drawn.plan.clone(),
        None => plan::spread(&options.fault, options.rotations, members),
    });
    if let Some(drawn) = &drawn {
        view.say(&drawn.announced());
    }
    let (cas, store) = (&mut stage.cas, stage.store.as_mut());
    let mesh = Mesh { cas, store, members: &mut stage.members, load, view: &mut view };
    let mut told = Told {
        rotations: &mut rotations,
        changeover: &mut changeover,
        faults: &mut faults,
        unable,
        canary,
    };
    drive(options, mesh, &mut told).await?;
    let Told { unable, canary, .. } = told;
    if drawn.is_none() && !faults.to_come().is_empty() {
        bail!(
            "these faults never came: {}; each waits until another of its kind, or of a server, is over: say --rotations 2 or more",
            random::listed_in_words(faults.to_come())
        );
    }
    if let Some(drawn) = &mut drawn {
        drawn.made = faults.made().to_vec();
        drawn.missed = faults.to_come().to_vec();
    }
    let (ca, load) =
        (stage.cas.first().context("no CA")?, stage.load.as_mut().context("no traffic")?);
    let proof = Proof::gather(ca, &stage.members, load, changeover).await?;
    let seconds = host::SystemClock.uptime().saturating_sub(started).as_secs_f64();
    let counts = load.stop().await?;
    view.draw(&counts, rotations.last());
    drop(watching);
    // Everything is up again: what is in no row now is in none.
    received.compare_last(&sockets).await;
    let status = ca.status().await.context("the CA does not answer at the end")?;
    let home = home(directory, options.replicas, options.replicas);
    let journal = home.join("data").join("state.redb");
    let ran = Ran { agents, seconds, counts, proof, rotations, drawn, unable, canary, received };
    Ok(Outcome::new(options, ran, &status, &journal))
}

/// Where a server of several is.
fn home(directory: &Path, replicas: u16, number: u16) -> PathBuf {
    match replicas {
        1 => directory.to_owned(),
        _ => directory.join(format!("ca-{number}")),
    }
}

/// Starts the store, if the servers share one, and the servers. The first is the one that operators ask; it has the greatest
/// name, so that another leads.
async fn start_servers(
    options: &DemoOptions,
    directory: &Path,
    stage: &mut Stage,
    tokens: &TokenSource,
) -> anyhow::Result<()> {
    let engine = options.engine();
    anyhow::ensure!(
        options.replicas == 1 || engine == StoreEngine::Etcd,
        "a file holds the state of one server: --store etcd"
    );
    if engine == StoreEngine::Etcd {
        let members = if options.kills_store_leader() { 3 } else { 1 };
        stage.store = Some(Store::start(directory, members).await?);
    }
    let store = stage.store.as_ref().map(Store::addresses).unwrap_or_default();
    let passphrase = directory.join("passphrase");
    ca::write_passphrase(&passphrase)?;
    for number in (1..=options.replicas).rev() {
        let home = home(directory, options.replicas, number);
        std::fs::create_dir_all(&home)?;
        let name = format!("ca-{number}");
        let seat = Seat { name, passphrase: passphrase.clone(), store: store.clone() };
        let lifetimes = Lifetimes { leaf_secs: LEAF_SECS, probes: !options.no_probe };
        stage.cas.push(CaProcess::spawn(&home, &seat, lifetimes, tokens).await?);
    }
    for ca in &mut stage.cas {
        ca.wait_ready().await?;
    }
    Ok(())
}

/// What the clients of the CSR API start with.
async fn accounts(
    options: &DemoOptions,
    cas: &[CaProcess],
    tokens: &Arc<TokenSource>,
) -> anyhow::Result<Vec<Account>> {
    let ca = cas.first().context("no CA")?;
    let roots = ca.roots().await?;
    let first_roots: String =
        roots.iter().map(|root| trust::certificate::pem_block(&root.der)).collect();
    let account = |number: u16| Account {
        ca: cas.iter().map(CaProcess::address).collect(),
        first_roots: first_roots.clone(),
        tokens: Arc::clone(tokens),
        name: ("demo", format!("csr{number:02}")),
    };
    Ok((1..=options.csr_only.unwrap_or_default()).map(account).collect())
}

/// A seed that nobody chose.
fn another_seed() -> u64 {
    let bytes: [u8; 4] = trust::randomness::random_bytes(&host::OsRandomness::new());
    u32::from_be_bytes(bytes).into()
}

/// What is told of the rotations.
struct Told<'a> {
    rotations: &'a mut Rotations,
    changeover: &'a mut Changeover,
    faults: &'a mut Faults,
    unable: Unable,
    canary: Option<CanaryStory>,
}

/// Before the first rotation every server learns of the new algorithm.
async fn change_algorithm(
    options: &DemoOptions,
    number: u32,
    mesh: &mut Mesh<'_>,
) -> anyhow::Result<()> {
    let Some(algorithm) = options.algorithm.filter(|_| number == 1) else { return Ok(()) };
    for ca in mesh.cas.iter_mut() {
        ca.change_algorithm(algorithm).await?;
    }
    let [root, issuer] = algorithm.keys();
    mesh.view.say(&format!("the next root has a key of {root}, its issuer one of {issuer}"));
    Ok(())
}

/// Lets the traffic run for as long as asked and until all rotations are over, and breaks what shall be broken.
async fn drive(
    options: &DemoOptions,
    mut mesh: Mesh<'_>,
    Told { rotations, changeover, faults, unable, canary }: &mut Told<'_>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let least = start + Duration::from_secs(options.seconds);
    let most = least + ROTATION_MAX * options.rotations;
    let mut next_at = start + BEFORE_ROTATION.min(Duration::from_secs(options.seconds) / 3);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        faults.tend(&mut mesh).await?;
        let seen = rotations.look().await;
        if let Seen::Phase(phase) = &seen {
            mesh.view.say(&format!("rotation {}: {phase}", rotations.number()));
            next_at = next_at.max(now + BEFORE_ROTATION / 4);
        }
        if seen != Seen::Nothing && rotations.is_under_way() {
            faults.during(rotations.number(), rotations.phase(), &mut mesh).await?;
        }
        unable.look(rotations.last(), mesh.load, mesh.view)?;
        if let (Some(canary), true) = (canary.as_mut(), seen != Seen::Nothing) {
            canary.look(rotations, mesh.view).await?;
        }
        changeover.note(mesh.members);
        let counts = mesh.load.counts().await?;
        mesh.view.draw(&counts, rotations.last());
        let enough = counts.handshakes >= options.connections_after(rotations.completed());
        if now >= next_at && enough && faults.none_in_force() {
            if rotations.none_wanted() {
                faults.now(&mut mesh).await?;
            } else if let Some(number) = rotations.next() {
                faults.carry_over(number - 1);
                faults.before(number, &mut mesh).await?;
                change_algorithm(options, number, &mut mesh).await?;
                rotations.start().await?;
            }
        }
        let rotated = rotations.none_wanted()
            || rotations.all_over_since().is_some_and(|since| now >= since + AFTER_ROTATION);
        // A phase that was over before it was seen has not had what was drawn for it, and the outcome says so.
        let over = !rotations.none_wanted() || faults.to_come().is_empty();
        let broken = over && faults.none_in_force();
        if now >= least && rotated && broken && enough && unable.is_over() {
            return Ok(());
        }
        if now >= most {
            let (over, wanted) = (rotations.completed(), options.rotations);
            bail!(
                "{over} of {wanted} rotations and {} of {} connections are over after {most:?}: {}",
                counts.handshakes,
                options.connections_after(wanted),
                rotations.explained()
            );
        }
    }
}
