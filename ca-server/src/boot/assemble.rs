//! From an open record to a server whose sockets are bound: the ledger and its segment, the first snapshot, the server's
//! own leaf, and everything that handlers work with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clusters::KubeClusters;
use issuance::{Issuer, ServingNames, SnapshotCell};
use peers::PeerClient;
use rotation::{Effect, ReplicaName, SegmentId, State};
use tokio::sync::watch;
use trust::{Bundle, SpiffeId};

use super::BootError;
use super::ca;
use super::federation;
use super::given::Given;
use super::neighbors;
use super::open::{self, CoreServices};
use super::own_issuer;
use super::rows;
use super::settings;
use super::unstarted::Unstarted;
use api::{Addresses, Served, ServerFront, Sockets};
use control::authority_health::{self, AuthorityTroubles};
use control::authority_upkeep::{Allowed, AuthorityUpkeep, Drifts};
use control::bundles::{BundleHistory, Kept};
use control::ca::Ca;
use control::ca_keys::CaKeys;
use control::compaction::Compaction;
use control::crl::keeper::{CrlKeeper, KeeperParts};
use control::cross_upkeep::CrossUpkeep;
use control::evidence::{self, EvidenceReader};
use control::footing::Footing;
use control::further_roots::FurtherRoots;
use control::gauges;
use control::hear;
use control::hierarchy::{Downstreams, Upstreams, follower};
use control::issuers as distrusted;
use control::logs::Logs;
use control::machine::OnThreads;
use control::metered::Authorities;
use control::metrics::Metrics;
use control::neighbors::NeighborTroubles;
use control::own_issuer::OwnIssuers;
use control::own_leaf::{self, Own, OwnLeaf, Under};
use control::peers::Peers;
use control::peers::calls::{Nobody, PeerCalls};
use control::rehearsing::Stage;
use control::reissue::Reissue;
use control::reporting;
use control::snapshots::Snapshots;
use control::standby::Pauses;
use control::upkeep::Upkeep;

/// Time over which a server that drains sends its clients elsewhere, unless somebody says another.
const DRAIN_OVER: Duration = Duration::from_secs(30);

/// A server that is served already and not yet kept up.
pub(super) struct Assembled {
    pub(super) ca: Arc<Ca>,
    pub(super) served: Served,
    pub(super) upkeep: Upkeep,
    pub(super) unstarted: Unstarted,
    pub(super) segment: SegmentId,
}

pub(super) async fn assemble(
    given: Given<'_>,
    core: &mut CoreServices,
    addresses: Addresses,
) -> Result<Assembled, BootError> {
    let Given { config, deps, layout, embedding, .. } = given;
    let driver = &core.driver.clone();
    let (registry, following) = open::registry(config, deps, &core.store).await?;
    open::bootstrapped(config, deps, Arc::clone(&core.keys), given.asks(driver)).await?;
    let (ledger, segment) = rows::open(config, deps, layout, driver).await?;
    let (policy, now) = (open::policy(config), deps.clock.now());
    let replica = ReplicaName::parse(config.replica())?;
    let keys = Arc::clone(&core.keys);
    let mut issuers = OwnIssuers::new(replica.clone(), Some(segment.clone()), keys)
        .renewed_every(config.root().issuer_renew_every());
    own_issuer::wait(&mut issuers, &segment, &policy, deps, given.asks(driver)).await?;
    let state = driver.state();
    // Leaves go on without it.
    if let Err(error) = core.cross.read().await {
        tracing::warn!(%error, "cross certificates cannot be read");
    }
    let makes_snapshots =
        || Snapshots::new(Arc::clone(&core.keys), replica.clone(), segment.clone());
    let rehearsed_with = makes_snapshots();
    let mut snapshots = makes_snapshots().with_cross(Arc::clone(&core.cross));
    let cell = Arc::new(SnapshotCell::new(snapshots.of(&state, now).await?));
    // Nobody else sets it.
    let _ = core.cell.set(Arc::clone(&cell));

    let keys = Arc::new(CaKeys::default());
    keys.learn(&state);
    let (clock, randomness) = (Arc::clone(&deps.clock), Arc::clone(&deps.randomness));
    let issuer = Issuer::new(settings::profile(config)?, Arc::clone(&ledger), clock, randomness);
    let id = SpiffeId::ca(config.trust_domain(), config.replica())?;
    let (dns_names, ip_addresses) = (config.listen().dns_names(), config.listen().ip_addresses());
    let names = ServingNames::new(dns_names.to_vec(), ip_addresses.to_vec())?;
    // A wall clock that is not believed keeps nobody from looking at this server: at a start its leaf is issued at the time
    // that uptime says, which no jump leads.
    let (snapshot, started_at) = (cell.load(), deps.clock.now());
    let under = Under::of(&snapshot);
    core.rehearsing.set(Stage {
        issuer: issuer.clone(),
        ledger: Arc::clone(&ledger),
        cell: Arc::clone(&cell),
        names: names.clone(),
    });
    let (front, validity) = match own_leaf::issue(&issuer, snapshot, &id, &names, started_at).await
    {
        Ok(OwnLeaf { identity, signing_leaf: (chain, own_key), key, serial, validity }) => {
            keys.add(key);
            own_leaf::release_others(&ledger, serial).await;
            core.transition_signer.set(chain, own_key);
            (ServerFront::new(identity)?, validity)
        }
        Err(error)
            if cell.load().signer().validity().not_after() < now.plus(config.leaf().ttl_min()) =>
        {
            let ended = cell.load().signer().validity().not_after();
            tracing::error!(
                %error,
                %ended,
                "the issuer's chain has ended: nothing is issued and no TLS connection is answered until its authority has \
                 signed a new one; the admin socket, health and metrics are served"
            );
            (ServerFront::without_identity()?, cell.load().signer().validity())
        }
        Err(error) => return Err(error.into()),
    };
    keep_present(&core.bundles, &state, cell.load().bundle()).await;

    let jwt = Arc::new(settings::token_issuers(config));
    let clusters = Arc::new(KubeClusters::new(config.clusters(), Arc::clone(&jwt), &deps.clock));
    let (bundles, bundle_changes) = watch::channel(cell.load().bundle().clone());
    let (told, authority_troubles) = watch::channel(AuthorityTroubles::new());
    let (drift_told, authority_drift) = watch::channel(Drifts::new());
    let (neighbors_told, neighbor_troubles) = watch::channel(NeighborTroubles::new());
    let (federation_told, federated) = federation::federated(config);
    let downstreams = Arc::new(Downstreams::new(registry.clone()));
    let (upstreams, watches) = upstreams(&core.authorities);
    let replication = core.joined.replication(&segment, config.leaf().skew());
    core.joined.serve_only_current(&cell);
    let evidence = Arc::new(EvidenceReader::new(evidence::Parts {
        downstreams: Arc::clone(&downstreams),
        upstreams: upstreams.clone(),
        ledger: Arc::clone(&ledger),
        registry: registry.clone(),
        clock: Arc::clone(&deps.clock),
        settings: settings::evidence(config),
        foreign_leaf_max: settings::foreign_leaf_max(config),
        policy,
        segment: segment.clone(),
        replication: Arc::clone(&replication),
    }));
    let calls: Arc<dyn PeerCalls> = match core.joined.is_shared() {
        true => {
            let clock = Arc::clone(&deps.clock);
            Arc::new(PeerClient::new(bundle_changes.clone(), front.identity(), clock))
        }
        false => Arc::new(Nobody),
    };
    let metrics = Arc::new(Metrics::with(&core.calls, |registry| clusters.register(registry)));
    let peers = Peers::new(
        replication.roster.clone(),
        calls,
        Arc::clone(&deps.clock),
        metrics.peers.clone(),
    );
    let places = transport::files::places(config.limits().connections());
    let parts = ca::CaParts {
        replica: replica.clone(),
        guard: Arc::clone(&core.guard),
        cell,
        issuer,
        ledger,
        registry,
        bundles: bundle_changes,
        authorities: core.authorities.clone(),
        authority_troubles,
        authority_drift,
        neighbor_troubles,
        federated,
        id,
        evidence,
        history: core.bundles.clone(),
        downstreams,
        upstreams,
        metrics,
        peers: Arc::new(peers),
        keys: Arc::clone(&keys),
        jwt: Arc::clone(&jwt),
        clusters: Arc::<KubeClusters>::clone(&clusters),
        shortage: places.shortage,
        replication,
        store: core.joined.store(),
        rehearsing: Arc::clone(&core.rehearsing),
        cross: Arc::clone(&core.cross),
    };
    let ca = Arc::new(ca::ca(config, deps, driver, parts));
    // Weak: the metrics belong to the CA that they show.
    let (shown, issuer_keys) = (Arc::downgrade(&ca), Arc::clone(&core.keys));
    ca.metrics.refresh_with(move |live| {
        if let Some(ca) = shown.upgrade() {
            gauges::refresh(&ca, live);
        }
        live.key_backend_waiting
            .set(issuer_keys.waiting().and_then(|calls| calls.try_into().ok()).unwrap_or(0));
    });
    let served = Sockets::listen(addresses, config.listen().admin_socket())?.serve(
        settings::served_as(config, places.connections, federation_told.shown_as(config)),
        &ca,
        front,
    )?;
    let unstarted = Unstarted::new(&served.stop);
    let crosses = CrossUpkeep { ca: Arc::clone(&ca), snapshots: rehearsed_with }.run();
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(crosses));
    let checks = authority_health::watch(core.authorities.clone(), driver.troubles(), told);
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(checks));
    let evidence = embedding.evidence(Arc::<EvidenceReader>::clone(&ca.evidence));
    let reporter = rotation_driver::report(
        driver.clone(),
        evidence,
        policy,
        Arc::clone(&deps.clock),
        core.joined.duty.clone(),
    );
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(reporter));
    let authority_upkeep = AuthorityUpkeep {
        replica: replica.clone(),
        authorities: core.authorities.clone(),
        driver: driver.clone(),
        mode: config.rotation().mode(),
        canary: config.rotation().canary().cloned(),
        allowed: Allowed {
            follow: config.rotation().follow_authority(),
            destroy: config.root().destroy_retired_keys(),
        },
        store: Arc::clone(&core.store),
        drift: drift_told,
        further: FurtherRoots {
            driver: driver.clone(),
            clock: Arc::clone(&deps.clock),
            patience: policy.settle,
            again: settings::trust_again(config),
            missing: Mutex::default(),
        },
    };
    served
        .tasks
        .spawn(served.stop.gently.clone().run_until_cancelled_owned(authority_upkeep.run()));
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(clusters.keep()));
    for watch in watches {
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(watch));
    }
    for (name, upstream) in &ca.upstreams.0 {
        let follow = follower::follow(Arc::clone(&ca), name.clone(), upstream.clone());
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(follow));
    }
    neighbors::keep(config, &core.neighbors, &ca, &served, neighbors_told);
    let federation = federation_told.keep(
        config.clone(),
        ca.registry.clone(),
        Arc::clone(&deps.clock),
        core.joined.duty.clone(),
    );
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(federation));
    let published = ca.history.clone().follow();
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(published));
    let sightings = hear::keep(Arc::clone(&ca));
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(sightings));
    if core.joined.is_shared() {
        let draining = served.front.clone().follow(ca.replication.drain.clone(), DRAIN_OVER);
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(draining));
        let reporting = reporting::run(Arc::clone(&ca), core.joined.store(), segment.clone());
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(reporting));
        let telling = Arc::clone(&ca.peers).keep_telling(config.leaf().ttl_max());
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(telling));
    }
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(following.run()));
    let keeper = KeeperParts {
        keys: Arc::clone(&core.keys),
        disk: Arc::clone(&deps.disk),
        path: layout.paths.crl(),
    };
    if let Some(lists) = CrlKeeper::of(&ca, keeper) {
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(lists.run()));
    }
    let census = control::census::run(ca.registry.clone());
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(census));
    let of_issuers = distrusted::reissue(Arc::clone(&ca), config.rotation().reissue_per_second());
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(of_issuers));
    let reissue = Reissue::new(Arc::clone(&ca), config.rotation().reissue_per_second()).run();
    served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(reissue));
    let shared = settings::state_is(config);
    let looked = Footing::of(&layout.paths, ca.ledger.segment().as_str(), shared);
    let footing = looked
        .map_err(|source| BootError::DataDir { path: config.data_dir().to_owned(), source })?;
    let machine = OnThreads {
        guard: Arc::clone(&ca.guard),
        jwt,
        footing: Arc::new(footing),
        logs: Arc::new(Logs::of(&ca.ledger)),
        ledger: Arc::clone(&ca.ledger),
        compaction: Mutex::new(Compaction::default()),
    };
    let upkeep = Upkeep {
        ca: Arc::clone(&ca),
        driver: driver.clone(),
        policy,
        replica,
        issuers,
        segment: segment.clone(),
        snapshots,
        front: Arc::new(served.front.clone()),
        transition_signer: Arc::clone(&core.transition_signer),
        bundles,
        keys,
        names,
        mode: config.rotation().mode(),
        standby: Pauses::default(),
        canary: config.rotation().canary().cloned(),
        own: Own { validity, under },
        machine: Arc::new(machine),
        to_seal: Some(state.generation),
        ticks: 0,
        clock_well: true,
        is_noted: false,
    };
    Ok(Assembled { ca, served, upkeep, unstarted, segment })
}

/// What upstream CAs will have said, and the tasks that listen to them.
fn upstreams(
    authorities: &Authorities,
) -> (Upstreams, Vec<impl Future<Output = ()> + Send + 'static>) {
    let (mut upstreams, mut watches) = (Upstreams::default(), Vec::new());
    for (name, authority) in
        authorities.iter().filter(|(_, authority)| authority.upstream().is_some())
    {
        let (told, upstream) = watch::channel(None);
        upstreams.0.insert(name.clone(), upstream);
        watches.push(follower::watch(Arc::clone(authority), told));
    }
    (upstreams, watches)
}

/// Keeps the present bundle as the first of the past, where a former release kept none. One that is being published
/// comes with the signature of that.
async fn keep_present(history: &BundleHistory, state: &State, bundle: &Bundle) {
    let owed = |effect: &Effect| matches!(effect, Effect::PublishBundle { .. });
    if history.has(bundle.sequence()) || state.pending.iter().any(|pending| owed(&pending.effect)) {
        return;
    }
    if let Err(error) = history.keep(Kept { bundle: bundle.clone(), transition: None }).await {
        tracing::warn!(%error, "the present bundle is not kept: whoever is away from now on needs a new join token");
    }
}
