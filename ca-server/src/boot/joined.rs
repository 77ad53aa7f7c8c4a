//! Joins the servers of the CA, where the store is one that several can have; and leaves them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use control::duty::{Shown, first_duty, share};
use control::paths::FILE_MODE;
use control::replication::Replication;
use control::reports::{self, Reports};
use issuance::SnapshotCell;
use replicas::{
    Drain, Joining, Lost, Member, ReplicaRow, Roster, Standing, watch_drain, watch_roster,
};
use rotation::{ReplicaName, SegmentId};
use rotation_driver::{Duty, SharedRecord};
use stores::SharedStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trust::Clock;
use trust::randomness::random_bytes;

use super::BootError;
use super::blocking::blocking;
use super::given::Given;

/// This server among those of its CA.
#[derive(Debug)]
pub(super) struct Joined {
    /// It itself; none where no other can be.
    member: Option<Member>,
    name: ReplicaName,
    /// Where other servers reach it.
    address: Option<String>,
    lease_length: Duration,
    store: Arc<dyn SharedStore>,
    clock: Arc<dyn Clock>,
    roster: watch::Receiver<Arc<Roster>>,
    /// Which part of the driver's work is this server's.
    pub(super) duty: watch::Receiver<Duty>,
    /// Why it is none of them any more.
    pub(super) lost: watch::Receiver<Option<Lost>>,
    /// What runs for it; dropping it ends that.
    tasks: JoinSet<()>,
}

impl Joined {
    /// Joins, and begins to follow the others. Where the store can have one server only, there is nobody to join.
    pub(super) async fn join(
        given: Given<'_>,
        store: &Arc<dyn SharedStore>,
    ) -> Result<Self, BootError> {
        let Given { config, deps, .. } = given;
        let name = ReplicaName::parse(config.replica())?;
        let clock = Arc::clone(&deps.clock);
        let (tell_lost, lost) = watch::channel(None);
        let mut joined = Self {
            member: None,
            name: name.clone(),
            address: config.replica_section().address().map(str::to_owned),
            lease_length: Duration::ZERO,
            store: Arc::clone(store),
            clock: Arc::clone(&clock),
            roster: watch::channel(Arc::default()).1,
            duty: watch::channel(Duty::alone()).1,
            lost,
            tasks: JoinSet::new(),
        };
        if !config.store().is_shared() {
            return Ok(joined);
        }
        let row = row(given).await?;
        let joining = Joining {
            name: name.clone(),
            row,
            store: Arc::clone(store),
            clock: Arc::clone(&clock),
            is_alone: false,
        };
        let member = Member::join(joining).await?;
        joined.lease_length = config.replica_section().lease();
        let keeping = member.clone();
        joined.tasks.spawn(async move {
            let lost = keeping.keep().await;
            tracing::error!(%lost, "this server is no replica any more");
            tell_lost.send_replace(Some(lost));
        });
        let (told, mut roster) = watch::channel(Arc::default());
        let watching = watch_roster(Arc::clone(store), name.clone(), Arc::clone(&clock), told);
        joined.tasks.spawn(watching);
        // Nobody leads before the others were looked at.
        let _ = roster.changed().await;
        let first = first_duty(name.clone(), &roster.borrow());
        let (tell_duty, duty) = watch::channel(first);
        joined.tasks.spawn(share(member.clone(), roster.clone(), clock, tell_duty));
        joined.member = Some(member);
        joined.roster = roster;
        joined.duty = duty;
        tracing::info!(%name, "joined the servers of this CA");
        Ok(joined)
    }

    /// What handlers and gates need of it; reports of the others are followed from now on.
    pub(super) fn replication(&mut self, segment: &SegmentId, skew: Duration) -> Arc<Replication> {
        let clock = Arc::clone(&self.clock);
        let Some(member) = &self.member else {
            return Arc::new(Replication::alone(self.name.clone(), clock, skew));
        };
        let (told, reports) = watch::channel(Arc::<Reports>::default());
        let watching = reports::watch_reports(
            Arc::clone(&self.store),
            segment.clone(),
            Arc::clone(&clock),
            told,
        );
        self.tasks.spawn(watching);
        let (told, drain) = watch::channel(None);
        self.tasks.spawn(watch_drain(Arc::clone(&self.store), self.name.clone(), told));
        self.tasks.spawn(say_so(member.clone(), drain.clone()));
        Arc::new(Replication {
            name: self.name.clone(),
            address: self.address.clone(),
            lease: member.lease(),
            roster: self.roster.clone(),
            reports,
            drain,
            store: Some(Arc::clone(&self.store)),
            skew,
            lease_length: self.lease_length,
            clock,
        })
    }

    /// From now on the lease holds only while what this cell shows is as new as the record.
    pub(super) fn serve_only_current(&self, cell: &Arc<SnapshotCell>) {
        let Some(member) = &self.member else { return };
        let record = SharedRecord::new(Arc::clone(&self.store));
        member.serve_only_current(Arc::new(Shown { record, cell: Arc::clone(cell) }));
    }

    /// Says that it serves, and with which segment.
    pub(super) async fn serves(&self, segment: &SegmentId) {
        let Some(member) = &self.member else { return };
        let segment = segment.to_string();
        let said = member
            .say(|row| {
                row.standing = Standing::Serves;
                row.segment = Some(segment);
            })
            .await;
        // The task that keeps the lease says so too.
        if let Err(lost) = said {
            tracing::debug!(%lost, "not said that it serves");
        }
    }

    /// Within this time it learns that its name is another's, or that it was taken out for good.
    pub(super) const fn notices_within(&self) -> Duration {
        self.lease_length
    }

    /// Whether other servers can be there.
    pub(super) const fn is_shared(&self) -> bool {
        self.member.is_some()
    }

    /// Where all servers read and write.
    pub(super) fn store(&self) -> Arc<dyn SharedStore> {
        Arc::clone(&self.store)
    }

    /// Leaves in order: nothing of this server is in flight.
    pub(super) async fn leave(mut self) {
        self.tasks.shutdown().await;
        if let Some(member) = &self.member {
            member.leave().await;
        }
    }
}

/// Says of this server whether it drains.
async fn say_so(member: Member, mut drain: watch::Receiver<Option<Drain>>) {
    while drain.changed().await.is_ok() {
        let standing = match drain.borrow().is_some() {
            true => Standing::Drains,
            false => Standing::Serves,
        };
        tracing::warn!(standing = standing.as_str(), "an operator's word about this server");
        // The task that keeps the lease tells what goes wrong.
        let _ = member.say(|row| row.standing = standing).await;
    }
}

async fn row(given: Given<'_>) -> Result<ReplicaRow, BootError> {
    let Given { config, deps, layout, .. } = given;
    let section = config.replica_section();
    let holder: [u8; 16] = random_bytes(deps.randomness.as_ref());
    let new_place: [u8; 16] = random_bytes(deps.randomness.as_ref());
    let (path, disk) = (layout.paths.place(), Arc::clone(&deps.disk));
    let failed = {
        let path = path.clone();
        move |source| BootError::DataDir { path, source }
    };
    let place = blocking(move || match disk.read(&path) {
        Ok(place) => Ok(String::from_utf8_lossy(&place).trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let place = hex(new_place);
            disk.replace(&path, place.as_bytes(), FILE_MODE).map(|()| place)
        }
        Err(error) => Err(error),
    });
    Ok(ReplicaRow {
        holder: hex(holder),
        place: place.await?.map_err(failed)?,
        address: section.address().map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        reads: rotation::record::FORMAT,
        lease_millis: u64::try_from(section.lease().as_millis()).unwrap_or(u64::MAX),
        beat: 0,
        wall_millis: deps.clock.now_millis(),
        standing: Standing::Starts,
        segment: None,
    })
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
