//! What agents and their proxies do.

use crate::entities::{Bundle, Leaf, P, Q, Root, Trust, row_of};
use crate::evidence::{release, report};
use rotation::Phase;

use crate::holder::{Change, LEAF, TRUST, after, in_flight, proven};
use crate::mesh::{Probed, Refuses, Setting, Without, World};
use crate::moves::Next;

/// Every move of an agent and its proxy.
pub(crate) fn moves(next: &mut Next<'_>, proxy: usize) {
    let (world, setting) = (next.world, next.setting);
    next.add("the agent learns the bundle:", proxy, learn(world, setting, proxy));
    next.add("the agent has the bundle on its disk:", proxy, persist(world, proxy));
    next.add("the agent has the account on its disk:", proxy, remember(world, proxy));
    next.add("the agent crashes:", proxy, crash(world, proxy));
    next.add("the agent stops:", proxy, stop(world, setting, proxy));
    next.add("the agent starts:", proxy, start(world, setting, proxy));
    (0..2).for_each(|secret| trust_moves(next, proxy, secret));
    leaf_moves(next, proxy);
    if proxy == Q && setting.unable {
        next.add("the agent probes the listener:", proxy, probe(world));
        next.add("a version that verifies the new root takes over:", proxy, replace(world));
    }
    if proxy == Q && setting.secrets == 0 {
        next.add("somebody changes the trust file:", proxy, change_file(world));
        next.add("the relying party confirms:", proxy, confirm(world, setting));
    }
}

/// Whether the agent asks for a leaf: it has none, or one that is almost over, of a root that no longer signs, or
/// promised for others than its holder.
pub(crate) fn wants(world: &World, setting: &Setting, proxy: usize, signer: Root) -> bool {
    let agent = &world.agents[proxy];
    let own = has_trust_of_its_own(world, setting, proxy) && setting.without != Without::Promise;
    let good = |leaf: Leaf| {
        leaf.root == signer && !ends_soon(world, setting, leaf) && !(leaf.promised && own)
    };
    agent.up && !agent.leaf.is_some_and(good)
}

/// Whether what the agent has stored is the bundle of the snapshot, as its word for it says.
pub(crate) fn has_stored(world: &World, setting: &Setting, proxy: usize, bundle: Bundle) -> bool {
    world.agents[proxy].disk == bundle || setting.without == Without::StoredBeforeLeaf
}

/// Whether the proxy's trust does not come from this agent alone, as far as the agent knows: such a holder proves nothing.
pub(crate) fn has_trust_of_its_own(world: &World, setting: &Setting, proxy: usize) -> bool {
    let agent = &world.agents[proxy];
    let forgotten = agent.forgotten != 0 && setting.without != Without::ForgottenIsUnknown;
    agent.holder.has_trust_of_its_own() || forgotten
}

/// After whatever happened the agent pushes what is in order, and asks for nothing twice.
pub(crate) fn settle(world: &mut World, setting: &Setting, proxy: usize) {
    let agent = &world.agents[proxy];
    if !agent.up {
        return;
    }
    // What was promised for others the agent's own plan keeps; the same goes for one that proves nothing any more.
    let kept = agent.forgotten != 0 && setting.without != Without::ForgottenIsUnknown;
    let leaf = agent.leaf.filter(|leaf| !(kept && leaf.promised));
    let (newest, tick, without) = (agent.seen, world.tick, setting.without);
    let holder = after(agent.holder, Change::Push { newest, leaf, tick, without });
    world.agents[proxy].holder = holder;
}

/// The reply: the bundle is stored already, or the leaf would not have come; a leaf of a root that left is dropped.
pub(crate) fn received(world: &mut World, setting: &Setting, proxy: usize, leaf: Leaf) {
    let trusted = world.agents[proxy].seen.roots & leaf.root.bit() != 0;
    world.agents[proxy].leaf = trusted.then_some(leaf);
    settle(world, setting, proxy);
}

fn learn(world: &World, setting: &Setting, proxy: usize) -> Option<World> {
    let (agent, bundle) = (&world.agents[proxy], world.bundle());
    let refuses = proxy == Q && setting.refuses != Refuses::Nothing;
    if !agent.up || agent.seen.sequence >= bundle.sequence || refuses {
        return None;
    }
    let mut next = world.clone();
    // A bundle is on the disk before anything is done with it.
    next.agents[proxy].seen = bundle;
    if setting.without != Without::DurableBeforePush {
        next.agents[proxy].disk = bundle;
    }
    settle(&mut next, setting, proxy);
    Some(next)
}

fn persist(world: &World, proxy: usize) -> Option<World> {
    let agent = &world.agents[proxy];
    (agent.up && agent.disk != agent.seen).then(|| {
        let mut next = world.clone();
        next.agents[proxy].disk = agent.seen;
        next
    })
}

/// The account lags behind the memory only where that protection is taken out.
fn remember(world: &World, proxy: usize) -> Option<World> {
    let agent = &world.agents[proxy];
    let written = agent.account.filter(|account| agent.up && *account != agent.holder)?;
    let mut next = world.clone();
    next.agents[proxy].account = Some(agent.holder).filter(|holder| *holder != written);
    Some(next)
}

fn crash(world: &World, proxy: usize) -> Option<World> {
    let mut next = world.clone();
    next.agent_crashes = world.agent_crashes.checked_sub(1)?;
    down(next, proxy)
}

/// An orderly stop releases the leaves that nobody holds.
fn stop(world: &World, setting: &Setting, proxy: usize) -> Option<World> {
    let mut next = world.clone();
    next.agent_stops = world.agent_stops.checked_sub(1)?;
    report(&mut next, setting, proxy);
    let spared = |row: u8| {
        let held = may_hold(world, proxy).any(|held| held == row);
        held && setting.without != Without::StopSparesHolders
    };
    release(&mut next, proxy, spared);
    down(next, proxy)
}

/// The agent's memory is gone, its disk is not; the proxy runs on with what it was given.
fn down(mut next: World, proxy: usize) -> Option<World> {
    let agent = &mut next.agents[proxy];
    if !agent.up {
        return None;
    }
    agent.up = false;
    agent.seen = agent.disk;
    agent.leaf = None;
    agent.holder = after(agent.account.unwrap_or(agent.holder), Change::Restored);
    next.requests[proxy] = None;
    Some(next)
}

fn start(world: &World, setting: &Setting, proxy: usize) -> Option<World> {
    (!world.agents[proxy].up).then(|| {
        let mut next = world.clone();
        next.agents[proxy].up = true;
        settle(&mut next, setting, proxy);
        next
    })
}

/// One validation secret: its answer, its refusal, its stream.
fn trust_moves(next: &mut Next<'_>, proxy: usize, secret: usize) {
    let (world, setting) = (next.world, next.setting);
    let agent = &world.agents[proxy];
    let is_used = world.members[proxy].trust[secret] != Trust::NONE;
    if !agent.up || !is_used || proxy == Q && setting.secrets == 0 {
        return;
    }
    let changed = |change: Change, taken: Option<Trust>| {
        let mut next = world.clone();
        next.agents[proxy].holder = after(agent.holder, change);
        if let Some(taken) = taken {
            take(&mut next, proxy, secret, taken);
        }
        next
    };
    let mut add = |name: &'static str, mut world: World| {
        settle(&mut world, setting, proxy);
        next.add(name, proxy, Some(world));
    };
    let is_bundle = |bundle| world.is_bundle(bundle);
    let pushed = in_flight(&agent.holder, secret).map(|view| Trust::taken(view, is_bundle));
    if pushed.is_some() {
        let one_for_all = setting.without == Without::EverySecret;
        let word = if one_for_all { Change::AcknowledgedByOne } else { Change::Acknowledged };
        add("bundle applied and acknowledged:", changed(word(secret), pushed));
        if world.refusals > 0 && proxy == Q {
            let lax = setting.without == Without::RefusedIsNotApplied;
            let word = if lax { Change::Acknowledged } else { Change::Refused };
            let refusals = world.refusals - 1;
            add("bundle refused:", World { refusals, ..changed(word(secret), None) });
        }
    }
    let known = agent.holder.trust.get(&TRUST[secret]);
    if proxy == Q && world.losses > 0 && known.is_some_and(|known| known.ready || pushed.is_some())
    {
        let losses = world.losses - 1;
        let lax = setting.without == Without::LostIsUnknown && pushed.is_some();
        let lost = if lax { Change::Acknowledged } else { Change::Lost };
        let gone = |taken| {
            let mut next = changed(lost(secret), taken);
            if lax {
                next.agents[proxy].holder = after(next.agents[proxy].holder, Change::Lost(secret));
            }
            World { losses, ..next }
        };
        add("stream of a bundle lost:", gone(None));
        if pushed.is_some() {
            add("bundle applied, and its stream lost:", gone(pushed));
        }
    }
    if known.is_none_or(|known| !known.ready && known.in_flight.is_none()) {
        let Trust { roots, version } = world.members[proxy].trust[secret];
        let word = (version != 0).then_some(Bundle { sequence: version, roots });
        let mut back = changed(Change::Back(secret, word), None);
        back.agents[proxy].forgotten &= !(1 << secret);
        add("stream of a bundle is back:", back);
    }
    let away = known.is_some_and(|known| !known.ready && known.in_flight.is_none());
    if setting.forgets && away && agent.holder.leaves[&LEAF].ready {
        let mut forgotten = changed(Change::Forgotten(secret), None);
        forgotten.agents[proxy].forgotten |= 1 << secret;
        add("stream of a bundle stays away:", forgotten);
    }
}

fn take(world: &mut World, proxy: usize, secret: usize, taken: Trust) {
    let had = world.members[proxy].trust[secret].roots;
    let common = had & taken.roots;
    world.swapped |= common != had && common != taken.roots;
    world.members[proxy].trust[secret] = taken;
}

/// The leaf: its answer, its refusal, its stream.
fn leaf_moves(next: &mut Next<'_>, proxy: usize) {
    let (world, setting) = (next.world, next.setting);
    let agent = &world.agents[proxy];
    if !agent.up {
        return;
    }
    let secret = &agent.holder.leaves[&LEAF];
    let changed = |change: Change, taken: Option<Leaf>| {
        let mut next = world.clone();
        next.agents[proxy].holder = after(agent.holder, change);
        next.members[proxy].leaf = taken.or(world.members[proxy].leaf);
        next
    };
    let mut add = |name: &'static str, mut world: World| {
        settle(&mut world, setting, proxy);
        next.add(name, proxy, Some(world));
    };
    let pushed = secret.in_flight.as_ref().map(Leaf::of);
    if pushed.is_some() {
        add("leaf in use and acknowledged:", changed(Change::LeafAcknowledged, pushed));
        if world.refusals > 0 && proxy == Q {
            let refusals = world.refusals - 1;
            add("leaf refused:", World { refusals, ..changed(Change::LeafRefused, None) });
        }
    }
    if proxy == Q && world.losses > 0 && (secret.ready || pushed.is_some()) {
        let losses = world.losses - 1;
        add("stream of a leaf lost:", World { losses, ..changed(Change::LeafLost, None) });
        if pushed.is_some() {
            add(
                "leaf in use, and its stream lost:",
                World { losses, ..changed(Change::LeafLost, pushed) },
            );
        }
    }
    if !secret.ready && pushed.is_none() {
        add("stream of a leaf is back:", changed(Change::LeafBack, None));
    }
}

/// Rows of the leaves that the holder may present, by the agent's account.
pub(crate) fn may_hold(world: &World, proxy: usize) -> impl Iterator<Item = u8> {
    world.agents[proxy].holder.leaves[&LEAF].may_hold.iter().map(|leaf| row_of(&leaf.serial))
}

/// The agent shakes hands with the listener by a leaf of the new root once that proxy has applied the bundle with it, and says
/// what it saw together with the rest.
fn probe(world: &World) -> Option<World> {
    let Phase::Distributing(_) = &world.record.phase else { return None };
    let (agent, sequence) = (&world.agents[Q], world.bundle().sequence);
    let has = agent.up && agent.disk == world.bundle() && proven(&agent.holder) == Some(sequence);
    let probed = Probed { sequence, verified: !world.members[Q].unable };
    (has && world.probed != Some(probed)).then(|| World { probed: Some(probed), ..world.clone() })
}

/// The proxy goes on in a newer version, with all that it had.
fn replace(world: &World) -> Option<World> {
    world.members[Q].unable.then(|| {
        let mut next = world.clone();
        next.members[Q].unable = false;
        next
    })
}

/// A file that comes from elsewhere: whoever writes it takes the present bundle, at any time.
fn change_file(world: &World) -> Option<World> {
    let file = Trust::of(world.bundle());
    (world.members[Q].trust[0] != file).then(|| {
        let mut next = world.clone();
        next.members[Q].trust[0] = file;
        next
    })
}

/// Whoever covers the holder says so once the file was changed.
fn confirm(world: &World, setting: &Setting) -> Option<World> {
    let bundle = world.bundle();
    let has = world.members[Q].trust[0] == Trust::of(bundle);
    (setting.covered && has && world.confirmed != bundle.sequence).then(|| {
        let mut next = world.clone();
        next.confirmed = bundle.sequence;
        next
    })
}

/// Whether the second proxy, with trust of its own, must renew before time goes on. One that has no leaf for a while is
/// no member, and may come back with trust that nobody confirmed: no gate can know of it.
pub(crate) fn must_renew(world: &World, setting: &Setting) -> bool {
    let ends = world.members[Q].leaf.is_some_and(|leaf| ends_soon(world, setting, leaf));
    ends && !setting.covered && !setting.lapses && has_trust_of_its_own(world, setting, Q)
}

/// Whether half of its life is over; what the first proxy has lives longer than the walk.
fn ends_soon(world: &World, setting: &Setting, leaf: Leaf) -> bool {
    leaf.end - world.tick <= setting.proxy_leaf / 2
}

const _: () = assert!(P == 0 && Q == 1);
