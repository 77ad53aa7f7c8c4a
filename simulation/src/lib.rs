//! Whole CAs under one scheduler: real servers over a simulated store, disk, network, clock and source of chance, hit by whatever a
//! seed says; and whoever stands outside and sees whether the rules hold.
//!
//! | module | what |
//! |---|---|
//! | `dice` | chance, by the seed |
//! | `clock`, `disk`, `store`, `keys` | the fakes of what a machine has: clocks, a disk, a line to the store, keys and an authority |
//! | `run`, `world` | what all parts share |
//! | `machine`, `process`, `server` | a machine, and the process on it: the parts of a real server, put together as `ca-server/src/boot` does |
//! | `door`, `peers`, `agents` | calls to a server, calls between servers; a small agent, and workloads |
//! | `trap` | one durable operation that fails |
//! | `story` | operators, faults, and the calm after them |
//! | `observer` | the rules |
//!
//! A seed says everything, so it replays exactly; that needs a tokio whose own choices follow from a seed, which it has under
//! `--cfg tokio_unstable`: `cargo xtask simulate` sets that, in a target directory of its own. `docs/simulation.md` says more.
#![forbid(unsafe_code)]

mod agents;
mod clock;
mod dice;
mod disk;
mod door;
mod keys;
mod machine;
mod observer;
mod parts;
mod peers;
mod process;
mod run;
mod server;
mod settings;
mod store;
mod story;
mod trap;
mod world;

use std::cell::RefCell;
use std::panic;
use std::sync::{Arc, Once};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use agents::Agent;
pub use run::{Broken, Counts, Options, Quiet};
use story::Story;
pub use trap::{Failure, Point};
use world::World;

/// What a seed came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// It.
    pub seed: u64,
    /// The rule that was broken, if one was.
    pub violation: Option<String>,
    /// Digest of everything that happened, in its order.
    pub digest: u64,
    /// What happened, counted.
    pub counts: Counts,
    /// Durable operations of a quiet run from its beginning to the end of its first rotation.
    pub operations: u64,
}

thread_local! {
    /// The first panic of a task of this thread, whose runtime would swallow it.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what panics say, beside printing it.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let printed = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANIC.with(|first| _ = first.borrow_mut().get_or_insert_with(|| info.to_string()));
            printed(info);
        }));
    });
}

/// Runs a seed from its beginning to its end.
///
/// # Errors
/// When the runtime cannot be made.
pub fn run(seed: u64, options: Options) -> std::io::Result<Outcome> {
    hear_panics();
    PANIC.take();
    let runtime = runtime(seed)?;
    let mut outcome = runtime.block_on(async move {
        let world = World::new(seed, options);
        let operations = live(&world).await;
        let violation = world.violation();
        world.end();
        Outcome { seed, violation, digest: world.digest(), counts: world.counts(), operations }
    });
    drop(runtime);
    if let Some(panic) = PANIC.take() {
        outcome.violation.get_or_insert(panic);
    }
    Ok(outcome)
}

/// A runtime of one thread, whose time passes when nothing else is to be done.
fn runtime(seed: u64) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    #[cfg(not(tokio_unstable))]
    let _ = seed;
    builder.build()
}

/// Answers how many durable operations there were, in a quiet run.
async fn live(world: &Arc<World>) -> u64 {
    let mut blows = Vec::new();
    for machine in &world.machines {
        let (blow, hit) = mpsc::unbounded_channel();
        blows.push(blow);
        tokio::spawn(server::supervise(Arc::clone(world), Arc::clone(machine), hit));
    }
    world.trap.hits_by(blows);
    let is_quiet = world.options.quiet.is_some();
    let (agents, alone) = match is_quiet {
        true => (1, 1),
        false => world.roll(|dice| (1 + dice.below(3), dice.below(3))),
    };
    for number in 0..agents {
        tokio::spawn(Agent::new(world, number).run());
    }
    for number in 0..alone {
        tokio::spawn(agents::alone(Arc::clone(world), number));
    }
    let story = Story { world: Arc::clone(world) };
    if is_quiet {
        return story.tell_quietly().await;
    }
    story.tell().await;
    0
}
