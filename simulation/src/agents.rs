//! A small agent, and workloads. The agent is a fake that follows the rules of the real one (`agent/src/install.rs`): a bundle is
//! durable before anybody hears of it; a holder gets trust before a leaf, and loses trust only after its leaf has changed; a leaf
//! goes only to a holder that acknowledged the bundle that it was born under; what was acknowledged is said again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::seen::Stored;
use trust::{Bundle, Clock as _, RootId, Serial, SpiffeId, Timestamp, TrustDomain};

use crate::door::{self, Asks, Said, Stream};
use crate::machine::Machine;
use crate::observer::{self, Leaf};
use crate::run::Broken;
use crate::settings::TRUST_DOMAIN;
use crate::world::World;

/// How long somebody waits for one answer, mostly; and how long at times.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_MAX: Duration = Duration::from_secs(90);

fn patience(world: &World) -> Duration {
    if world.goes_wrong(50) { PATIENCE_MAX } else { PATIENCE }
}

/// Roots that a holder trusts, and the bundle that this proves.
#[derive(Clone, Debug)]
struct View {
    proves: u64,
    roots: BTreeSet<RootId>,
}

/// A process that takes trust and a leaf.
#[derive(Debug)]
struct Workload {
    id: u64,
    identity: SpiffeId,
    trust: Option<View>,
    leaf: Option<Leaf>,
    /// Got from the CA and not handed over yet.
    next: Option<Leaf>,
    /// It does nothing until then, and goes on with what it has.
    stuck_until: Duration,
    /// It ends then.
    ends: Duration,
}

impl Workload {
    fn comes(world: &World, agent: &str, ahead: i64) -> Option<Self> {
        let id = world.unique();
        let domain = TrustDomain::parse(TRUST_DOMAIN).ok()?;
        let identity = SpiffeId::for_path(&domain, &format!("/ns/{agent}/sa/w{id}")).ok()?;
        observer::holder_comes(&world.observer, id, &format!("w{id} of {agent}"), ahead);
        let (stuck_until, life) = (Duration::ZERO, world.roll(|dice| dice.millis(30_000, 900_000)));
        let ends = world.elapsed() + life;
        Some(Self { id, identity, trust: None, leaf: None, next: None, stuck_until, ends })
    }

    fn is_stuck(&mut self, world: &World) -> bool {
        let now = world.elapsed();
        if self.stuck_until < now && world.goes_wrong(3) {
            self.stuck_until = now + world.roll(|dice| dice.millis(500, 90_000));
        }
        self.stuck_until > now && world.may_fail()
    }

    fn trusts(&mut self, world: &World, view: View) {
        observer::trusts(&world.observer, self.id, view.roots.clone());
        self.trust = Some(view);
    }

    fn presents(&mut self, world: &World, leaf: Leaf) {
        observer::presents(&world.observer, self.id, leaf);
        self.leaf = Some(leaf);
    }

    fn wants_leaf(&self, now: Timestamp, roots: Option<&BTreeSet<RootId>>) -> bool {
        let good = |leaf: &Leaf| {
            let (begins, ends) = (leaf.validity.not_before(), leaf.validity.not_after());
            let half = begins.plus(ends.since(begins) / 2);
            now < half && roots.is_none_or(|roots| roots.contains(&leaf.root))
        };
        !self.leaf.as_ref().is_some_and(good) && !self.next.as_ref().is_some_and(good)
    }
}

fn roots_of(bundle: &Bundle) -> BTreeSet<RootId> {
    bundle.roots().iter().map(|root| root.id()).collect()
}

/// An agent, and the workloads on its node.
#[derive(Debug)]
pub(crate) struct Agent {
    world: Arc<World>,
    name: String,
    /// By how much its wall clock is ahead, in seconds.
    ahead: i64,
    server: usize,
    bundle: Option<Bundle>,
    workloads: Vec<Workload>,
    /// Leaves that nobody holds any more, until that was said.
    over: Vec<Serial>,
    said: BTreeMap<Serial, u64>,
    stream: Option<Stream>,
}

impl Agent {
    pub(crate) fn new(world: &Arc<World>, number: u64) -> Self {
        let name = format!("node-{number}");
        let (ahead, workloads) = world.roll(|dice| (dice.below(3), 1 + dice.below(3)));
        let ahead = i64::try_from(ahead).unwrap_or(0) - 1;
        let workloads =
            (0..workloads).filter_map(|_| Workload::comes(world, &name, ahead)).collect();
        let server = world.roll(|dice| dice.index(world.machines.len()));
        Self {
            world: Arc::clone(world),
            name,
            ahead,
            server,
            bundle: None,
            workloads,
            over: Vec::new(),
            said: BTreeMap::new(),
            stream: None,
        }
    }

    /// Keeps its workloads supplied, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let (pause, away) = self.world.roll(|dice| {
                let away =
                    if dice.happens(8) { dice.millis(1_000, 80_000) } else { Duration::ZERO };
                (dice.millis(300, 1_200), away)
            });
            tokio::time::sleep(pause).await;
            if !away.is_zero() && self.world.may_fail() {
                // It is restarted, or its node is cut off: workloads go on with what they have.
                self.world.note(&self.name, &"is away");
                self.disconnected();
                tokio::time::sleep(away).await;
            }
            self.turn().await;
        }
    }

    /// It says everything again at the next stream.
    fn disconnected(&mut self) {
        self.said.clear();
        self.stream = None;
    }

    fn machine(&self) -> Option<Arc<Machine>> {
        self.world.machines.get(self.server % self.world.machines.len().max(1)).cloned()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.world.true_clock.now().as_secs() + self.ahead)
    }

    async fn turn(&mut self) {
        let Some(machine) = self.machine() else { return };
        let world = Arc::clone(&self.world);
        let asked = tokio::time::timeout(patience(&world), door::bundle(&world, &machine)).await;
        match asked.ok().flatten() {
            Some(bundle) => self.offer(bundle),
            None => {
                self.server += 1;
                self.disconnected();
            }
        }
        self.come_and_go();
        self.install().await;
        self.ask(&machine).await;
        self.install().await;
        self.say(&machine).await;
    }

    /// Takes a bundle that is newer than what it has stored.
    fn offer(&mut self, bundle: Bundle) {
        if self.bundle.as_ref().is_none_or(|known| known.sequence() < bundle.sequence()) {
            self.world.note(&self.name, &format_args!("stores bundle {}", bundle.sequence()));
            self.bundle = Some(bundle);
        }
    }

    fn come_and_go(&mut self) {
        let now = self.world.elapsed();
        for place in &mut self.workloads {
            if place.ends > now {
                continue;
            }
            observer::holder_goes(&self.world.observer, place.id);
            self.over.extend(place.leaf.iter().chain(&place.next).map(|leaf| leaf.serial));
            if let Some(next) = Workload::comes(&self.world, &self.name, self.ahead) {
                *place = next;
            }
        }
    }

    /// Brings every holder a step further, as far as the rules allow.
    async fn install(&mut self) {
        let Some(bundle) = &self.bundle else { return };
        let (sequence, newest) = (bundle.sequence().0, roots_of(bundle));
        let (world, now) = (Arc::clone(&self.world), self.now());
        for holder in &mut self.workloads {
            if holder.is_stuck(&world) {
                continue;
            }
            if world.is_broken(Broken::LeafFirst) && holder.trust.is_some() {
                if let Some(leaf) = holder.next.take() {
                    self.over.extend(holder.leaf.map(|former| former.serial));
                    holder.presents(&world, leaf);
                }
                if world.roll(|dice| dice.happens(980)) {
                    continue;
                }
            }
            let held = holder
                .leaf
                .filter(|leaf| now <= leaf.validity.not_after().plus(Duration::from_secs(2)));
            let next = match (&holder.trust, held) {
                (Some(view), _) if view.roots == newest && view.proves == sequence => None,
                (Some(view), Some(leaf)) if !newest.contains(&leaf.root) => {
                    // Its leaf goes first: until then it trusts both.
                    let roots: BTreeSet<_> = view.roots.union(&newest).copied().collect();
                    (roots != view.roots).then_some(View { proves: view.proves, roots })
                }
                _ => Some(View { proves: sequence, roots: newest.clone() }),
            };
            if let Some(view) = next {
                if world.is_broken(Broken::EarlyAck)
                    && let Some(known) = &mut holder.trust
                {
                    // Said before it is so.
                    known.proves = view.proves;
                    if world.roll(|dice| dice.happens(800)) {
                        continue;
                    }
                }
                tokio::time::sleep(world.roll(|dice| dice.millis(1, 60))).await;
                holder.trusts(&world, view);
            }
            let ready = holder.trust.as_ref().is_some_and(|view| newest.is_subset(&view.roots));
            if ready && let Some(leaf) = holder.next.take() {
                if !newest.contains(&leaf.root) {
                    self.over.push(leaf.serial);
                    continue;
                }
                tokio::time::sleep(world.roll(|dice| dice.millis(1, 60))).await;
                self.over.extend(holder.leaf.map(|former| former.serial));
                holder.presents(&world, leaf);
            }
        }
    }

    async fn ask(&mut self, machine: &Machine) {
        let Some(bundle) = self.bundle.clone() else { return };
        let (newest, now) = (roots_of(&bundle), self.now());
        let digest = bundle.digest();
        let stored = Stored { sequence: bundle.sequence(), digest: Some(digest) };
        let world = Arc::clone(&self.world);
        let mut bundles = Vec::new();
        for holder in &mut self.workloads {
            if !holder.wants_leaf(now, Some(&newest)) {
                continue;
            }
            let asks = Asks::Agent { name: self.name.clone(), stored };
            let asked = door::issue(&world, machine, &holder.identity, asks);
            let Ok(Some(reply)) = tokio::time::timeout(patience(&world), asked).await else {
                continue;
            };
            self.over.extend(holder.next.take().map(|former| former.serial));
            holder.next = Some(reply.leaf);
            bundles.push(reply.bundle);
        }
        bundles.into_iter().for_each(|bundle| self.offer(bundle));
    }

    /// Says what is proven of each leaf, once it is; and what is over.
    async fn say(&mut self, machine: &Machine) {
        let proven = |holder: &Workload| Some((holder.leaf?.serial, holder.trust.as_ref()?.proves));
        let applied: Vec<(Serial, u64)> = self
            .workloads
            .iter()
            .filter_map(proven)
            .filter(|(serial, sequence)| self.said.get(serial) != Some(sequence))
            .collect();
        if applied.is_empty() && self.over.is_empty() {
            return;
        }
        let news = Said { applied: &applied, over: &self.over };
        let world = Arc::clone(&self.world);
        let said = door::say(&world, machine, &self.name, &mut self.stream, &news);
        if tokio::time::timeout(patience(&world), said).await.ok().flatten().is_some() {
            self.said.extend(applied);
            self.over.clear();
        }
    }
}

/// A workload that asks by itself: it takes the leaf and the bundle of one reply, both at once.
pub(crate) async fn alone(world: Arc<World>, number: u64) {
    let ahead = i64::try_from(world.roll(|dice| dice.below(3))).unwrap_or(0) - 1;
    let name = format!("alone-{number}");
    let Some(mut workload) = Workload::comes(&world, &name, ahead) else { return };
    loop {
        tokio::time::sleep(world.roll(|dice| dice.millis(500, 2_000))).await;
        let now = Timestamp::from_secs(world.true_clock.now().as_secs() + ahead);
        if workload.is_stuck(&world) || !workload.wants_leaf(now, None) {
            continue;
        }
        let Some(machine) = world.roll(|dice| world.machines.get(dice.index(world.machines.len())))
        else {
            continue;
        };
        let asked = door::issue(&world, machine, &workload.identity, Asks::Alone);
        if let Ok(Some(reply)) = tokio::time::timeout(patience(&world), asked).await {
            let view = View { proves: reply.leaf.born, roots: roots_of(&reply.bundle) };
            observer::installs(&world.observer, workload.id, view.roots.clone(), reply.leaf);
            workload.trust = Some(view);
            workload.leaf = Some(reply.leaf);
        }
    }
}
