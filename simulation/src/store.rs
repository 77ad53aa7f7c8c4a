//! The store that all servers share, and the line that each process has to it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use stores::{
    Entry, HintSender, Hints, Key, Page, ReadError, SharedStore, Space, Version, Versioned,
    WriteError, hints,
};

use crate::machine::Machine;
use crate::run::{Broken, Run, locked};
use crate::trap::{Blow, Failure};

/// How long a call waits for an answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// The store itself, which loses nothing.
#[derive(Default)]
pub(crate) struct Central {
    state: Mutex<State>,
    /// Who is told of every write.
    told: OnceLock<Told>,
}

type Told = Box<dyn Fn(&Key) + Send + Sync>;

impl fmt::Debug for Central {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Central").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<(&'static str, String), (u64, Vec<u8>)>,
    writings: u64,
    watches: Vec<Watch>,
}

#[derive(Debug, Clone)]
struct Watch {
    machine: Arc<Machine>,
    space: &'static str,
    sender: HintSender,
}

fn version(writing: u64) -> Version {
    Version::new(writing.to_string())
}

impl Central {
    /// From now on this is told of every write, once it is done.
    pub(crate) fn told_by(&self, told: impl Fn(&Key) + Send + Sync + 'static) {
        let _ = self.told.set(Box::new(told));
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Versioned> {
        let place = (key.space().name(), key.id().to_owned());
        let found = locked(&self.state).entries.get(&place).cloned();
        found.map(|(writing, value)| Versioned { value, version: version(writing) })
    }

    pub(crate) fn list(&self, space: Space, from: Option<&str>, limit: usize) -> Page {
        let state = locked(&self.state);
        let from = (space.name(), from.unwrap_or_default().to_owned());
        let mut left =
            state.entries.range(from..).take_while(|((name, _), _)| *name == space.name());
        let entries = left.by_ref().take(limit).map(|((_, id), (writing, value))| Entry {
            id: id.clone(),
            value: value.clone(),
            version: version(*writing),
        });
        let entries = entries.collect();
        Page { entries, more: left.next().is_some() }
    }

    /// Every watch of a machine says to look everywhere: its line is back.
    pub(crate) fn look_everywhere(&self, machine: &Machine) {
        let state = locked(&self.state);
        let of = state.watches.iter().filter(|watch| watch.machine.number == machine.number);
        of.for_each(|watch| watch.sender.everywhere());
    }
}

/// A write on its way.
#[derive(Debug, Clone)]
struct Writing {
    key: Key,
    expected: Option<Version>,
    value: Option<Vec<u8>>,
}

/// The store as one process sees it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) run: Arc<Run>,
    pub(crate) central: Arc<Central>,
    pub(crate) machine: Arc<Machine>,
    /// The process is dead.
    pub(crate) dead: Arc<AtomicBool>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line of {} to the store", self.machine)
    }
}

impl Line {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// One way between process and store. `false`: what was sent is lost.
    async fn way(&self) -> bool {
        let slow = self.run.goes_wrong(20);
        let most = if slow { 1_500 } else { 12 };
        tokio::time::sleep(self.run.roll(|dice| dice.millis(1, most))).await;
        self.machine.awake().await;
        if self.is_dead() {
            // Nobody is there any more who could go on.
            std::future::pending::<()>().await;
        }
        !self.machine.is_cut_off() && !self.run.goes_wrong(4)
    }

    async fn read<T>(&self, what: impl FnOnce(&Central) -> T) -> Result<T, ReadError> {
        self.machine.awake().await;
        if self.way().await {
            let read = what(&self.central);
            if self.way().await {
                return Ok(read);
            }
        }
        tokio::time::sleep(DEADLINE).await;
        self.machine.awake().await;
        Err(ReadError::Failed { reason: "the simulated store did not answer".to_owned() })
    }

    async fn write(
        &self,
        key: &Key,
        expected: Option<&Version>,
        value: Option<&[u8]>,
    ) -> Result<Version, WriteError> {
        self.machine.awake().await;
        let writing = Writing {
            key: key.clone(),
            expected: expected.cloned(),
            value: value.map(<[u8]>::to_vec),
        };
        if !self.way().await {
            if self.run.goes_wrong(300) {
                self.arrives_late(writing);
            }
            tokio::time::sleep(DEADLINE).await;
            self.machine.awake().await;
            return Err(match self.run.roll(|dice| dice.happens(500)) {
                true => WriteError::unknown(key, "the simulated store did not answer"),
                // A connection that was never made: surely nothing was sent.
                false if self.machine.is_cut_off() => {
                    WriteError::failed(key, "the simulated store cannot be reached")
                }
                false => WriteError::unknown(key, "the simulated store did not answer"),
            });
        }
        let written = self.arrives(&writing).await?;
        if self.way().await {
            return written;
        }
        tokio::time::sleep(DEADLINE).await;
        self.machine.awake().await;
        Err(WriteError::unknown(key, "the answer of the simulated store was lost"))
    }

    /// A write has reached the store, which answers; the outer error is what its writer hears in the place of that.
    async fn arrives(&self, writing: &Writing) -> Result<Result<Version, WriteError>, WriteError> {
        let key = &writing.key;
        let place = (key.space().name(), key.id());
        let note = |failure: &dyn fmt::Display| {
            self.run.note(&self.machine, &format_args!("write of {place:?}: {failure}"));
        };
        let Some(failure) = self.run.trap.operation(note) else { return Ok(apply(self, writing)) };
        match failure {
            Failure::Killed | Failure::PowerCut => _ = apply(self, writing),
            Failure::Torn => {}
            Failure::Full => return Err(WriteError::failed(key, "the simulated store is full")),
            Failure::Faulty => {
                return Err(WriteError::unknown(key, "the simulated store did not answer"));
            }
            Failure::SaidToFail => {
                let _ = apply(self, writing);
                return Err(WriteError::unknown(key, "the answer of the simulated store was lost"));
            }
        }
        self.dead.store(true, Ordering::Relaxed);
        let blow = if failure == Failure::Killed { Blow::Kill } else { Blow::PowerCut };
        self.run.trap.hit(self.machine.number, blow);
        std::future::pending().await
    }

    /// What the caller gave up may arrive nevertheless.
    fn arrives_late(&self, writing: Writing) {
        let line = self.clone();
        let pause = line.run.roll(|dice| dice.millis(10, 6_000));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            line.run.note(&line.machine, &"a write arrives late");
            let _ = apply(&line, &writing);
        });
    }
}

fn apply(line: &Line, writing: &Writing) -> Result<Version, WriteError> {
    let Line { run, central, machine, .. } = line;
    let Writing { key, expected, value } = writing;
    let place = (key.space().name(), key.id().to_owned());
    let mut state = locked(&central.state);
    let found = state.entries.get(&place).map(|(writing, _)| version(*writing));
    if found != *expected && !run.is_broken(Broken::LyingStore) {
        return Err(WriteError::conflict(key, found));
    }
    state.writings += 1;
    let writing = state.writings;
    match value {
        Some(value) => _ = state.entries.insert(place, (writing, value.clone())),
        None => _ = state.entries.remove(&place),
    }
    state.watches.retain(|watch| !watch.sender.is_unread());
    let watches: Vec<Watch> =
        state.watches.iter().filter(|watch| watch.space == key.space().name()).cloned().collect();
    drop(state);
    run.note(machine, &format_args!("writes {key:?}", key = (key.space().name(), key.id())));
    if let Some(told) = central.told.get() {
        told(key);
    }
    watches.into_iter().for_each(|watch| tell(run, watch, key.id()));
    Ok(version(writing))
}

/// A hint comes late, twice, or when the line is back.
fn tell(run: &Run, watch: Watch, id: &str) {
    let (pause, twice) = run.roll(|dice| (dice.millis(1, 60), dice.happens(20)));
    let id = id.to_owned();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        for _ in 0..=u32::from(twice) {
            if !watch.machine.is_cut_off() {
                watch.sender.at(&id);
            }
        }
    });
}

#[async_trait]
impl SharedStore for Line {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.read(|central| central.get(key)).await
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, None, Some(value)).await
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, Some(expected), Some(value)).await
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.write(key, Some(expected), None).await.map(drop)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.read(|central| central.list(space, from, limit)).await
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        let (sender, hints) = hints();
        self.read(|central| {
            let machine = Arc::clone(&self.machine);
            let watch = Watch { machine, space: space.name(), sender: sender.clone() };
            locked(&central.state).watches.push(watch);
        })
        .await?;
        // What changed while the answer was under way.
        sender.everywhere();
        Ok(hints)
    }
}

/// The store as the observer sees it: at once, and without fault.
#[derive(Debug)]
pub(crate) struct Truth(pub(crate) Arc<Central>);

#[async_trait]
impl SharedStore for Truth {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        Ok(self.0.get(key))
    }

    async fn create(&self, key: &Key, _: &[u8]) -> Result<Version, WriteError> {
        Err(WriteError::failed(key, "the observer writes nothing"))
    }

    async fn put(&self, key: &Key, _: &[u8], _: &Version) -> Result<Version, WriteError> {
        Err(WriteError::failed(key, "the observer writes nothing"))
    }

    async fn delete(&self, key: &Key, _: &Version) -> Result<(), WriteError> {
        Err(WriteError::failed(key, "the observer writes nothing"))
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        Ok(self.0.list(space, from, limit))
    }

    async fn watch(&self, _: Space) -> Result<Hints, ReadError> {
        Err(ReadError::Failed { reason: "the observer watches nothing".to_owned() })
    }
}
