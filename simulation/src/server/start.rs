//! The start of a simulated server. The order is that of `ca-server/src/boot`: each step rests on the one before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use auth::authn::Authenticator;
use auth::authn::cluster::NoClusters;
use auth::authn::jwt::JwtVerifier;
use auth::authz::{Authorizer, NameMismatch};
use auth::pace::Pace;
use control::bundles::{BundleHistory, Kept};
use control::ca::Ca;
use control::ca_keys::CaKeys;
use control::causes::Causes;
use control::crl::Crl;
use control::cross_net::CrossNet;
use control::duty::Shown;
use control::evidence::{self, EvidenceReader};
use control::federated::Federated;
use control::findings::Findings;
use control::hear;
use control::hierarchy::{Downstreams, Upstreams};
use control::hush::Hush;
use control::levels::Levels;
use control::metered::AuthorityCalls;
use control::metrics::Metrics;
use control::own_issuer::OwnIssuers;
use control::own_leaf::{self, Own, OwnLeaf, Under};
use control::peers::Peers;
use control::rehearsing::{RehearsalPolicy, Rehearsing};
use control::replication::Replication;
use control::reports::{self, Reports};
use control::seen::Seen;
use control::snapshots::Snapshots;
use control::standby::Pauses;
use control::upkeep::{Upkeep, horizon_due};
use control::{conditions, reporting};
use issuance::{Issuer, ServingNames, SnapshotCell};
use ledger::{Ledger, OpenOptions, Settings, WritesOn};
use registry::{AgentRegistry, Following};
use replicas::{Lease, Standing, watch_drain};
use rotation::{Effect, Event, Mode, SegmentId, State};
use rotation_driver::{DriverHandle, SharedRecord};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trust::{Bundle, SpiffeId};

use super::front::Front;
use super::open::{
    Core, Driven, Failed, Joined, asked, bootstrap, core, drive, join, paths, registry,
};
use crate::machine::Machine;
use crate::parts::{Bent, Simulated};
use crate::peers::Calls;
use crate::process::{Process, Started};
use crate::run::Broken;
use crate::settings::{AUTHORITY, EVIDENCE, LEAF_MAX, LEASE, POLICY, SKEW, profile};
use crate::world::World;

pub(super) async fn start(
    world: &Arc<World>,
    machine: &Arc<Machine>,
    dead: &Arc<AtomicBool>,
    tasks: &mut JoinSet<()>,
) -> Result<Started, Failed> {
    let core = core(world, machine, dead)?;
    let joined = join(&core, tasks).await?;
    let driven = drive(&core, &joined).await?;
    let (registry, following) = registry(&core).await?;
    bootstrap(&core, &driven.driver).await?;
    let (ledger, segment) = open_ledger(&core, &driven.driver).await?;
    let keys = Arc::clone(&machine.keys);
    let mut issuers = OwnIssuers::new(core.name.clone(), Some(segment.clone()), keys);
    own_issuer(&core, &mut issuers, &segment, &driven.driver).await?;
    let opened = Opened { registry, following, ledger, segment, issuers };
    let started = serve(&core, joined, driven, opened, tasks).await?;
    let said = started.process.segment.to_string();
    // The task that keeps the lease says so too.
    let _ = started
        .member
        .say(|row| {
            row.standing = Standing::Serves;
            row.segment = Some(said);
        })
        .await;
    Ok(started)
}

/// Reads the ledger, and opens a segment of this process: in the ledger first, and then in the record.
async fn open_ledger(
    core: &Core<'_>,
    driver: &DriverHandle,
) -> Result<(Arc<Ledger>, SegmentId), Failed> {
    let name = format!("{}-{:016x}", core.name, core.id());
    let segment = SegmentId::parse(&name)?;
    let settings = Settings {
        file_bytes_max: 4 << 10,
        commit_window: Duration::from_millis(2),
        writes_on: WritesOn::Task,
        ..Settings::default()
    };
    let options = OpenOptions {
        dir: paths().ledger(),
        segment: ledger::SegmentId::parse(&name)?,
        disk: Arc::clone(&core.disk),
        clock: Arc::clone(&core.clock),
        skew: SKEW,
        settings,
    };
    let (ledger, recovered) = Ledger::open(options)?;
    let read = recovered.whole.iter().map(|segment| SegmentId::parse(segment.as_str()));
    let mut read: BTreeSet<_> = read.collect::<Result<_, _>>()?;
    if core.world.is_broken(Broken::LostCountsAsRead) {
        read.extend(driver.state().segments_of(&core.name).map(|(id, _)| id.clone()));
    }
    crate::observer::recovered(&core.world.observer, core.machine, &ledger, &read);
    let (replica, opened) = (core.name.clone(), segment.clone());
    let state = driver.submit(Event::SegmentOpened { replica, segment: opened, read }).await?;
    let known = |id: &ledger::SegmentId| {
        SegmentId::parse(id.as_str()).is_ok_and(|id| state.segments.contains_key(&id))
    };
    ledger.forget(known)?;
    Ok((Arc::new(ledger), segment))
}

async fn own_issuer(
    core: &Core<'_>,
    issuers: &mut OwnIssuers,
    segment: &SegmentId,
    driver: &DriverHandle,
) -> Result<(), Failed> {
    asked(core, issuers, driver).await?;
    let (state, now) = (driver.state(), core.clock.now());
    if let Some(event) = horizon_due(&state, &POLICY, &core.name, segment, now) {
        driver.submit(event).await?;
    }
    Ok(())
}

/// What was opened over the record.
struct Opened {
    registry: AgentRegistry,
    following: Following,
    ledger: Arc<Ledger>,
    segment: SegmentId,
    issuers: OwnIssuers,
}

async fn serve(
    core: &Core<'_>,
    joined: Joined,
    driven: Driven,
    opened: Opened,
    tasks: &mut JoinSet<()>,
) -> Result<Started, Failed> {
    let Opened { registry, following, ledger, segment, issuers } = opened;
    let state = driven.driver.state();
    let keys = Arc::<crate::keys::SeededKeys>::clone(&core.machine.keys);
    let mut snapshots = Snapshots::new(keys, core.name.clone(), segment.clone());
    let cell = Arc::new(SnapshotCell::new(snapshots.of(&state, core.clock.now()).await?));
    let _ = driven.cell.set(Arc::clone(&cell));
    let ca_keys = Arc::new(CaKeys::default());
    ca_keys.learn(&state);
    let profile = profile().ok_or("the profile does not fit together")?;
    let (clock, randomness) = (Arc::clone(&core.clock), Arc::clone(&core.randomness));
    let issuer = Issuer::new(profile, Arc::clone(&ledger), clock, randomness);
    let id = SpiffeId::ca(&core.domain, core.name.as_str())?;
    let names = ServingNames::default();
    let (snapshot, now) = (cell.load(), core.clock.now());
    let under = Under::of(&snapshot);
    let own = own_leaf::issue(&issuer, snapshot, &id, &names, now).await?;
    let OwnLeaf { signing_leaf: (chain, key), key: spki, serial, validity, .. } = own;
    ca_keys.add(spki);
    own_leaf::release_others(&ledger, serial).await;
    driven.signer.set(chain, key);
    keep_present(&driven.bundles, &state, cell.load().bundle()).await;

    let replication = replication(core, &joined, &segment, tasks);
    let record = SharedRecord::new(Arc::clone(&core.store));
    joined.member.serve_only_current(Arc::new(Shown { record, cell: Arc::clone(&cell) }));
    let downstreams = Arc::new(Downstreams::new(registry.clone()));
    let evidence = Arc::new(EvidenceReader::new(evidence::Parts {
        ledger: Arc::clone(&ledger),
        registry: registry.clone(),
        clock: Arc::clone(&core.clock),
        settings: EVIDENCE,
        foreign_leaf_max: BTreeMap::new(),
        downstreams: Arc::clone(&downstreams),
        upstreams: Upstreams::default(),
        policy: POLICY,
        segment: segment.clone(),
        replication: Arc::clone(&replication),
    }));
    let (bundles, bundle_changes) = watch::channel(cell.load().bundle().clone());
    let front = Arc::new(Front::default());
    let metrics = Arc::new(Metrics::new(&AuthorityCalls::default()));
    let peers = Peers::new(
        replication.roster.clone(),
        Arc::new(Calls { run: Arc::clone(&core.world.run), machines: core.world.machines.clone() }),
        Arc::clone(&core.clock),
        metrics.peers.clone(),
    );
    let agents = Arc::new(registry.clone());
    let jwt = Arc::new(JwtVerifier::new(Vec::new(), core.domain.clone(), SKEW));
    let rows: Arc<Ledger> = Arc::clone(&ledger);
    let ca = Arc::new(Ca {
        authenticator: Authenticator::new(
            jwt,
            rows,
            Arc::<AgentRegistry>::clone(&agents),
            Arc::clone(&core.clock),
            16,
        ),
        clusters: Arc::new(NoClusters),
        authorizer: Authorizer::new(
            core.domain.clone(),
            NameMismatch::Refuse,
            Arc::<CaKeys>::clone(&ca_keys),
            agents,
        ),
        clock: Arc::clone(&core.clock),
        guard: Arc::clone(&core.guard),
        randomness: Arc::clone(&core.randomness),
        cell,
        issuer,
        ledger: Arc::clone(&ledger),
        sessions: registry.sessions(),
        registry,
        metrics,
        peers: Arc::new(peers),
        levels: Levels::default(),
        pace: Pace::new(1_000, Arc::clone(&core.clock)),
        seen: Seen::default(),
        reconnects_per_second: 100,
        shortage: None,
        hush: Hush::default(),
        driver: driven.driver.clone(),
        evidence: Arc::clone(&evidence),
        history: driven.bundles.clone(),
        policy: POLICY,
        bundles: bundle_changes,
        authorities: driven.authorities,
        authority_troubles: watch::channel(BTreeMap::new()).1,
        findings: Findings::default(),
        refusals: control::refusals::Refusals::default(),
        authority_drift: watch::channel(BTreeMap::new()).1,
        probing: Default::default(),
        handshakes: Default::default(),
        crl: Crl::new(None),
        rehearsing: Arc::new(Rehearsing::new(RehearsalPolicy::Never, None)),
        cross: Arc::new(CrossNet::new(false, *profile.settings(), Arc::clone(&core.store))),
        neighbors: BTreeSet::new(),
        neighbor_troubles: watch::channel(BTreeMap::new()).1,
        federated: Federated {
            bundles: watch::channel(None).1,
            troubles: watch::channel(BTreeMap::new()).1,
            refresh_hint: Duration::from_secs(300),
            endpoint: Default::default(),
            endpoint_trouble: watch::channel(None).1,
        },
        standby: None,
        causes: Causes { authority: AUTHORITY.to_owned(), ..Causes::default() },
        downstreams,
        upstreams: Upstreams::default(),
        id,
        replica: core.name.clone(),
        replication,
        store: Arc::clone(&core.store),
        started_at: now,
    });
    let source = Arc::new(Bent { reader: evidence, broken: core.world.options.broken });
    let (handle, clock) = (driven.driver.clone(), Arc::clone(&core.clock));
    tasks.spawn(rotation_driver::report(handle, source, POLICY, clock, joined.duty.clone()));
    tasks.spawn(ca.history.clone().follow());
    tasks.spawn(hear::keep(Arc::clone(&ca)));
    tasks.spawn(reporting::run(Arc::clone(&ca), Arc::clone(&core.store), segment.clone()));
    tasks.spawn(Arc::clone(&ca.peers).keep_telling(LEAF_MAX));
    tasks.spawn(following.run());
    let upkeep = Upkeep {
        ca: Arc::clone(&ca),
        driver: driven.driver.clone(),
        policy: POLICY,
        replica: core.name.clone(),
        issuers,
        segment: segment.clone(),
        snapshots,
        front: Arc::<Front>::clone(&front),
        transition_signer: driven.signer,
        bundles,
        keys: ca_keys,
        names,
        mode: Mode::Auto,
        standby: Pauses::default(),
        canary: None,
        own: Own { validity, under },
        machine: Arc::new(Simulated { guard: Arc::clone(&core.guard), ledger }),
        to_seal: Some(state.generation),
        ticks: 0,
        clock_well: true,
        is_noted: false,
    };
    let upkeep_stop = CancellationToken::new();
    let (stop, (told, upkeep_ended)) = (upkeep_stop.clone(), tokio::sync::oneshot::channel());
    tasks.spawn(async move {
        upkeep.run(stop).await;
        let _ = told.send(());
    });
    let ready = conditions::obstacles(&ca).is_empty();
    control::front::Front::set_ready(front.as_ref(), ready).await;
    Ok(Started {
        process: Arc::new(Process::new(ca, segment, Arc::clone(&core.dead))),
        store: Arc::clone(&core.store),
        driver: driven.task,
        member: joined.member,
        lost: joined.lost,
        upkeep_ended,
        upkeep_stop,
    })
}

/// Keeps the present bundle as the first of the past, unless it is being published.
async fn keep_present(history: &BundleHistory, state: &State, bundle: &Bundle) {
    let owed = |effect: &Effect| matches!(effect, Effect::PublishBundle { .. });
    if !history.has(bundle.sequence()) && !state.pending.iter().any(|pending| owed(&pending.effect))
    {
        let _ = history.keep(Kept { bundle: bundle.clone(), transition: None }).await;
    }
}

fn replication(
    core: &Core<'_>,
    joined: &Joined,
    segment: &SegmentId,
    tasks: &mut JoinSet<()>,
) -> Arc<Replication> {
    let (told, reports) = watch::channel(Arc::<Reports>::default());
    let (store, clock) = (Arc::clone(&core.store), Arc::clone(&core.clock));
    let watching = reports::watch_reports(store, segment.clone(), Arc::clone(&clock), told);
    if !core.world.is_broken(Broken::UnreadSegments) {
        tasks.spawn(watching);
    }
    let (told, drain) = watch::channel(None);
    tasks.spawn(watch_drain(Arc::clone(&core.store), core.name.clone(), told));
    let lease = match core.world.is_broken(Broken::NoLease) {
        true => Lease::unbounded(),
        false => joined.member.lease(),
    };
    Arc::new(Replication {
        address: None,
        name: core.name.clone(),
        lease,
        roster: joined.roster.clone(),
        reports,
        drain,
        store: Some(Arc::clone(&core.store)),
        skew: SKEW,
        lease_length: LEASE,
        clock,
    })
}
