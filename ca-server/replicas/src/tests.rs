//! Two servers and a store between them, on a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::RealDisk;
use rotation::ReplicaName;
use stores::SharedStore;
use stores::spaces::REPLICAS;
use stores_redb::RedbStore;
use tokio::sync::watch;
use trust::{Clock as _, ManualClock, Timestamp};

use crate::*;

const LEASE: Duration = Duration::from_secs(30);

struct World {
    store: Arc<dyn SharedStore>,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = RedbStore::create(Arc::new(RealDisk), &dir.path().join("state.redb")).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        Self { store: Arc::new(store), clock, _dir: dir }
    }

    fn joining(&self, name: &str, holder: &str, place: &str) -> Joining {
        let row = ReplicaRow {
            holder: holder.to_owned(),
            place: place.to_owned(),
            address: Some(format!("{name}.example.org:15012")),
            version: "0.1.0".to_owned(),
            reads: 1,
            lease_millis: 30_000,
            beat: 0,
            wall_millis: 0,
            standing: Standing::Serves,
            segment: None,
        };
        Joining {
            name: name.parse().unwrap(),
            row,
            store: Arc::clone(&self.store),
            clock: Arc::<ManualClock>::clone(&self.clock),
            is_alone: false,
        }
    }

    async fn join(&self, name: &str, holder: &str) -> Member {
        Member::join(self.joining(name, holder, holder)).await.unwrap()
    }

    fn is_held(&self, member: &Member) -> bool {
        member.lease().is_held(self.clock.uptime())
    }

    async fn row(&self, name: &str) -> stores::Versioned {
        self.store.get(&REPLICAS.key(name).unwrap()).await.unwrap().unwrap()
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.unwrap()
}

#[tokio::test]
async fn a_lease_is_counted_from_before_it_was_renewed_and_ends_without_a_renewal() {
    let world = World::new();
    let member = world.join("a", "one").await;
    assert!(world.is_held(&member));
    world.clock.advance(LEASE - Duration::from_secs(1));
    assert!(world.is_held(&member));
    assert_eq!(member.renew().await, Ok(true));
    world.clock.advance(LEASE - Duration::from_secs(1));
    assert!(world.is_held(&member));
    world.clock.advance(Duration::from_secs(1));
    assert!(!world.is_held(&member));
    // Whoever was held up for long goes on, if nobody took the name meanwhile.
    assert_eq!(member.renew().await, Ok(true));
    assert_eq!(member.lease().trouble(), None);
    assert!(world.is_held(&member));
    assert!(Lease::unbounded().is_held(Duration::from_secs(1 << 40)));
}

/// Says what it is told, and takes its time.
#[derive(Debug)]
struct Served {
    is_current: AtomicBool,
    takes: Duration,
    clock: Arc<ManualClock>,
}

#[async_trait::async_trait]
impl Currency for Served {
    async fn is_current(&self) -> bool {
        self.clock.advance(self.takes);
        self.is_current.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_server_that_serves_less_than_the_store_has_renews_no_lease_and_time_counts_from_before_it_looked()
 {
    let world = World::new();
    let member = world.join("a", "one").await;
    let served = Arc::new(Served {
        is_current: AtomicBool::new(false),
        takes: Duration::from_secs(10),
        clock: Arc::clone(&world.clock),
    });
    member.serve_only_current(Arc::<Served>::clone(&served));
    assert_eq!(member.renew().await, Ok(false));
    assert_eq!(member.renew().await, Ok(false));
    assert!(world.is_held(&member), "the lease of the start");
    assert!(member.lease().trouble().is_some_and(|why| why.contains("older than the record")));
    world.clock.advance(LEASE - Duration::from_secs(20));
    assert!(!world.is_held(&member));
    served.is_current.store(true, Ordering::SeqCst);
    assert_eq!(member.renew().await, Ok(true));
    world.clock.advance(LEASE - Duration::from_secs(11));
    assert!(world.is_held(&member));
    world.clock.advance(Duration::from_secs(1));
    assert!(!world.is_held(&member));
}

#[tokio::test]
async fn a_second_server_of_a_name_is_refused_while_the_first_renews_and_takes_it_when_that_is_gone()
 {
    let world = World::new();
    let first = world.join("a", "one").await;
    let second = tokio::spawn(Member::join(world.joining("a", "two", "two")));
    let renewals = async {
        loop {
            first.renew().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::select! {
        refused = within(second) => refused.unwrap().unwrap_err(),
        () = renewals => unreachable!("it renews for ever"),
    };
    let said = refused.to_string();
    assert!(
        said.contains("replica a at a.example.org:15012") && said.contains("replica.name"),
        "{said}"
    );

    // Its lease passes without a renewal: the name is free, and the first learns it.
    let second = tokio::spawn(Member::join(world.joining("a", "two", "two")));
    let passing = async {
        loop {
            world.clock.advance(Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let second = tokio::select! {
        joined = within(second) => joined.unwrap().unwrap(),
        () = passing => unreachable!("it passes for ever"),
    };
    assert!(world.is_held(&second));
    let lost = within(first.keep()).await;
    assert!(matches!(&lost, Lost::Taken { .. }), "{lost}");
    assert!(!world.is_held(&first));
    // It has ended for ever.
    assert!(first.renew().await.is_err());
    assert!(!world.is_held(&first));
}

#[tokio::test]
async fn who_stopped_in_order_or_ran_on_the_same_directory_is_not_waited_for() {
    let world = World::new();
    let first = world.join("a", "one").await;
    first.leave().await;
    assert!(!world.is_held(&first));
    let second = within(world.join("a", "two")).await;
    let third = within(Member::join(world.joining("a", "three", "two"))).await.unwrap();
    assert!(world.is_held(&third));
    assert!(matches!(second.renew().await, Err(Lost::Taken { .. })));
    let alone = Joining { is_alone: true, ..world.joining("a", "four", "four") };
    let alone = within(Member::join(alone)).await.unwrap();
    world.clock.advance(LEASE * 100);
    assert!(world.is_held(&alone));
}

#[tokio::test]
async fn a_removed_replica_and_an_edited_row_are_named() {
    let world = World::new();
    let first = world.join("a", "one").await;
    let (key, row) = (REPLICAS.key("a").unwrap(), world.row("a").await);
    world.store.delete(&key, &row.version).await.unwrap();
    assert_eq!(first.renew().await, Err(Lost::Removed { name: "a".parse().unwrap() }));
    let second = world.join("a", "two").await;
    let row = world.row("a").await;
    world.store.put(&key, b"{}", &row.version).await.unwrap();
    let said = second.renew().await.unwrap_err().to_string();
    assert!(said.contains("replicas/a") && said.contains("delete it"), "{said}");
    let said = Member::join(world.joining("a", "three", "three")).await.unwrap_err().to_string();
    assert!(said.contains("replicas/a") && said.contains("delete it"), "{said}");
}

#[tokio::test]
async fn the_roster_names_the_others_until_their_leases_have_passed_here_and_the_least_name_leads()
{
    let world = World::new();
    let me: ReplicaName = "b".parse().unwrap();
    // A clock of its own, so that whoever looks never sees its row by a clock that was put wrong for both.
    let others = Arc::new(ManualClock::at(world.clock.now()));
    let joining =
        Joining { clock: Arc::<ManualClock>::clone(&others), ..world.joining("a", "one", "one") };
    let other = Member::join(joining).await.unwrap();
    let own = world.join("b", "two").await;
    let (told, mut roster) = watch::channel(Arc::new(Roster::default()));
    let watching = tokio::spawn(watch_roster(
        Arc::clone(&world.store),
        me.clone(),
        Arc::<ManualClock>::clone(&world.clock),
        told,
    ));
    let leads = |roster: &Roster| roster.leads(&me, world.clock.uptime());
    within(roster.wait_for(|roster| roster.peers.len() == 1)).await.unwrap();
    assert!(!leads(&roster.borrow()), "one that was just seen first may hold its lease");
    world.clock.advance(LEASE);
    assert!(!leads(&roster.borrow()));
    world.clock.advance(Duration::from_millis(1));
    assert!(leads(&roster.borrow()));
    // It comes back, and its clock is two minutes ahead.
    others.jump_to(world.clock.now().plus(Duration::from_secs(120)));
    other.renew().await.unwrap();
    let ahead = |roster: &Arc<Roster>| {
        roster.peers.values().any(|peer| peer.ahead_millis.is_some_and(|millis| millis > 60_000))
    };
    within(roster.wait_for(ahead)).await.unwrap();
    assert!(!leads(&roster.borrow()));
    // Of two clocks nobody knows which is right.
    assert_eq!(roster.borrow().away_millis(world.clock.uptime()), None);
    other.leave().await;
    within(roster.wait_for(|roster| roster.leads(&me, world.clock.uptime()))).await.unwrap();
    drop(roster);
    own.renew().await.unwrap();
    within(watching).await.unwrap();
}

#[test]
fn the_middle_of_three_clocks_counts() {
    let row = |ahead: i64| Peer {
        row: ReplicaRow {
            holder: String::new(),
            place: String::new(),
            address: None,
            version: String::new(),
            reads: 1,
            lease_millis: 30_000,
            beat: 1,
            wall_millis: 0,
            standing: Standing::Serves,
            segment: None,
        },
        seen_at: Duration::ZERO,
        ahead_millis: Some(ahead),
    };
    let away = |others: &[i64]| {
        let peers = others.iter().enumerate();
        let peers =
            peers.map(|(n, ahead)| (format!("r{n}").parse().unwrap(), row(*ahead))).collect();
        Roster { peers, ..Roster::default() }.away_millis(Duration::from_secs(1))
    };
    assert_eq!(away(&[]), None);
    assert_eq!(away(&[5_000]), None);
    assert_eq!(away(&[5_000, 0]), Some(0), "one other is wrong");
    assert_eq!(away(&[5_000, 5_100]), Some(-5_000), "this one is behind");
    assert_eq!(away(&[-5_000, -5_100]), Some(5_000), "this one is ahead");
    assert_eq!(away(&[-5_000, 7_000]), Some(0));
    assert_eq!(away(&[-5_000, -5_000, 0]), Some(0), "two against two");
}
