//! `kill -9` at any moment.
//!
//! `BANYAN_ROUNDS` sets the number of kills under load (default 12), `BANYAN_SEED` the moments.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use integration_tests::faults::{CaDir, ChildCa, Door, Durable, Leaf, Member, eventually};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trust::{Generation, Randomness as _, RootId, SeededRandomness, Sequence};

const CLIENTS: usize = 4;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ca_under_test"))
}

/// A time below `most_ms`, from the seed.
fn moment(random: &SeededRandomness, most_ms: u64) -> Duration {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    Duration::from_millis(u64::from_le_bytes(bytes) % most_ms)
}

/// What clients were given so far: one list for each.
type Released = Arc<Vec<Mutex<Vec<Leaf>>>>;

/// Asks for leaves without pause; what fails is tried again.
async fn client(door: Door, number: usize, released: Released, stop: CancellationToken) {
    let mut member = None;
    while !stop.is_cancelled() {
        let given = match &mut member {
            None => Member::join(&door, &format!("agent-{number}")).await.map(|joined| {
                let own = joined.own_leaf();
                member = Some(joined);
                own
            }),
            Some(member) => member.issue().await,
        };
        match given {
            Ok(leaf) => released[number].lock().unwrap().push(leaf),
            // The server is gone for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn counts(released: &Released) -> Vec<usize> {
    released.iter().map(|leaves| leaves.lock().unwrap().len()).collect()
}

/// What must never go back.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
struct Progress(Generation, Sequence);

/// Checks what a dead server left; answers how far the record had come.
async fn check(ca_dir: &CaDir, root: RootId, released: &Released) -> Progress {
    let all: Vec<Leaf> =
        released.iter().flat_map(|leaves| leaves.lock().unwrap().clone()).collect();
    let durable = Durable::read(&ca_dir.data()).await.unwrap();
    durable.covers(&all).unwrap();
    assert_eq!(durable.roots().into_iter().collect::<Vec<_>>(), [root], "one root, the same one");
    let state = durable.state.unwrap();
    Progress(state.generation, state.sequence)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_released_is_lost_when_the_ca_is_killed_under_load() {
    let (rounds, seed) = (number("BANYAN_ROUNDS", 12), number("BANYAN_SEED", 3));
    println!("seed {seed}");
    let (random, ca_dir) = (SeededRandomness::new(seed), CaDir::new("").unwrap());
    let mut ca = ChildCa::spawn(program(), &ca_dir).unwrap();
    let door = ca.door().await.unwrap();
    let status = door.status().await.unwrap();
    let root = RootId::from_bytes(&status.active_root).unwrap();

    let released: Released = Arc::new((0..CLIENTS).map(|_| Mutex::default()).collect());
    let (stop, clients) = (CancellationToken::new(), TaskTracker::new());
    for number in 0..CLIENTS {
        clients.spawn(client(door.clone(), number, Arc::clone(&released), stop.clone()));
    }
    let mut progress = Progress(Generation(status.generation), Sequence(status.sequence));
    for round in 0..rounds {
        // Every third time it dies while it starts, the other times while it serves.
        if round % 3 == 2 {
            ca.kill().await.unwrap();
            ca = ChildCa::spawn(program(), &ca_dir).unwrap();
            tokio::time::sleep(moment(&random, 150)).await;
        } else {
            tokio::time::sleep(moment(&random, 400)).await;
        }
        ca.kill().await.unwrap();
        let now = check(&ca_dir, root, &released).await;
        assert!(now >= progress, "round {round}: {now:?} after {progress:?}");
        progress = now;
        ca = ChildCa::spawn(program(), &ca_dir).unwrap();
        let (grpc, plain) = ca.ready().await.unwrap();
        door.moved(grpc, plain);
    }
    let before = counts(&released);
    let all_go_on = || {
        std::future::ready(counts(&released).iter().zip(&before).all(|(now, before)| now > before))
    };
    eventually("every client gets leaves again", all_go_on).await.unwrap();
    stop.cancel();
    clients.close();
    clients.wait().await;
    let status = door.status().await.unwrap();
    assert!(status.healthy, "{:?}", status.conditions);
    ca.kill().await.unwrap();
    check(&ca_dir, root, &released).await;
    println!("{:?} leaves in {rounds} rounds", counts(&released));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_killed_while_it_makes_its_first_root_makes_no_second_one() {
    let seed = number("BANYAN_SEED", 3);
    println!("seed {seed}");
    let random = SeededRandomness::new(seed);
    for _ in 0..4 {
        let ca_dir = CaDir::new("").unwrap();
        let mut promised = None;
        for _ in 0..4 {
            let ca = ChildCa::spawn(program(), &ca_dir).unwrap();
            tokio::time::sleep(moment(&random, 200)).await;
            ca.kill().await.unwrap();
            let roots = Durable::read(&ca_dir.data()).await.unwrap().roots();
            assert!(roots.len() <= 1, "{roots:?}");
            if let Some(root) = roots.first() {
                assert_eq!(*promised.get_or_insert(*root), *root, "a root in the record stays");
            }
        }
        let mut ca = ChildCa::spawn(program(), &ca_dir).unwrap();
        let door = ca.door().await.unwrap();
        let root = RootId::from_bytes(&door.status().await.unwrap().active_root).unwrap();
        assert_eq!(promised.unwrap_or(root), root);
        Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
        ca.kill().await.unwrap();
        assert_eq!(ca_dir.roots_made().await.unwrap(), 1);
    }
}
