//! What may happen next.

use std::fmt;

use rotation::{Effect, Phase};

use crate::agents::{self, has_stored, has_trust_of_its_own, wants};
use crate::entities::{Bundle, C, Handshake, Leaf, P, Q, Request, Root, Row, Trust};
use crate::mesh::{Setting, Without, World};
use crate::replica;
use crate::restored;
use crate::words::{FAR, segment};

/// The name of a move: what happens, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Move(&'static str, &'static str);

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, whom) = self;
        if whom.is_empty() { f.write_str(what) } else { write!(f, "{what} {whom}") }
    }
}

/// The worlds after one world.
pub(crate) struct Next<'a> {
    pub(crate) world: &'a World,
    pub(crate) setting: &'a Setting,
    all: Vec<(Move, World)>,
}

impl Next<'_> {
    pub(crate) fn add(&mut self, name: &'static str, who: usize, world: Option<World>) {
        self.all.extend(world.map(|world| (Move(name, ["p", "q", "c", ""][who]), world)));
    }

    /// A move that is nobody's in particular.
    pub(crate) fn happens(&mut self, name: &'static str, world: Option<World>) {
        self.add(name, 3, world);
    }
}

/// Every next world, with the name of the move.
pub(crate) fn moves(world: &World, setting: &Setting) -> Vec<(Move, World)> {
    let mut next = Next { world, setting, all: Vec::new() };
    for member in [P, Q, C] {
        next.add("request by", member, request(world, setting, member, snapshot(world)));
        let former =
            former(world, setting).and_then(|former| request(world, setting, member, former));
        next.add("request, on the bundle before, by", member, former);
        next.add("row for", member, row(world, setting, member));
        next.add("reply to", member, reply(world, setting, member));
    }
    for proxy in [P, Q] {
        agents::moves(&mut next, proxy);
    }
    replica::moves(&mut next);
    restored::moves(&mut next);
    next.happens("tick", tick(world, setting));
    let mut all = next.all;
    for (_, next) in &mut all {
        next.swapped |= is_swapped(world.bundle(), next.bundle());
        next.note_bundle();
        add_handshakes(world, setting, next);
        next.forget_rows();
    }
    all
}

/// Whether a change of the bundle both adds and removes.
const fn is_swapped(before: Bundle, after: Bundle) -> bool {
    let common = before.roots & after.roots;
    common != before.roots && common != after.roots
}

/// What a request captures of its snapshot.
type Snapshot = (u64, Bundle);

fn snapshot(world: &World) -> Snapshot {
    (world.record.generation.0, world.bundle())
}

/// The snapshot before the new root was in the bundle; no request takes it once that bundle is out. Later changes need no
/// such thing: a request may have been made before them.
fn former(world: &World, setting: &Setting) -> Option<Snapshot> {
    let Phase::Distributing(phase) = &world.record.phase else { return None };
    let owed = |effect: &Effect| matches!(effect, Effect::PublishBundle { .. });
    let is_out = !world.record.pending.iter().any(|pending| owed(&pending.effect));
    let first = phase.bundle.generation.0 - 1;
    (!is_out).then_some((first, Bundle::first(setting.others())))
}

/// A request takes a snapshot. An agent says what it has stored, and gets no leaf if that is not the snapshot's bundle.
fn request(world: &World, setting: &Setting, member: usize, snapshot: Snapshot) -> Option<World> {
    let signer = world.signer_for(member)?;
    let limit = world.record.leaf_limit(&signer, &segment(world.segment))?.as_secs() - 1_000;
    let (root, (generation, bundle)) = (Root::of(signer), snapshot);
    let wanted = match member {
        C => world.client_requests > 0,
        proxy => wants(world, setting, proxy, root) && has_stored(world, setting, proxy, bundle),
    };
    if !wanted || world.requests[member].is_some() || limit <= world.tick || world.is_off(setting) {
        return None;
    }
    let mut next = world.clone();
    next.client_requests -= u8::from(member == C);
    let own =
        || has_trust_of_its_own(world, setting, member) && setting.without != Without::Promise;
    let mut request = Request {
        generation,
        bundle,
        root,
        limit,
        segment: world.segment,
        promised: member != C && !own(),
        leaf: None,
    };
    if setting.without == Without::Horizon {
        request.limit = FAR;
    }
    next.requests[member] = Some(request);
    // One member with a request that waits for its row is enough.
    let waits = member == C || setting.client_leaf == 0 && member == Q;
    if waits { Some(next) } else { row(&next, setting, member) }
}

/// The row is durable: its end is within what the request captured. A promise stands in it from the start.
fn row(world: &World, setting: &Setting, member: usize) -> Option<World> {
    let request = world.requests[member].filter(|request| request.leaf.is_none())?;
    let life = match member {
        C => setting.client_leaf,
        Q if setting.proxy_leaf > 0 => setting.proxy_leaf,
        _ => FAR,
    };
    let end = (world.tick + life).min(request.limit);
    if end <= world.tick {
        return None;
    }
    let mut next = world.clone();
    let number = world.free_row();
    let (root, born, promised) = (request.root, request.bundle.sequence, request.promised);
    let applied = if promised { born } else { 0 };
    let segment = request.segment;
    let durable = Row { member, root, end, born, applied, promised, ended: false, segment };
    match next.rows.get_mut(number) {
        Some(row) => *row = durable,
        None => next.rows.push(durable),
    }
    let row = u8::try_from(number).unwrap();
    next.requests[member] =
        Some(Request { leaf: Some(Leaf { root, end, row, born, promised }), ..request });
    Some(next)
}

/// The reply arrives. A client takes leaf and bundle at once.
fn reply(world: &World, setting: &Setting, member: usize) -> Option<World> {
    let request = world.requests[member]?;
    let leaf = request.leaf?;
    let mut next = world.clone();
    next.requests[member] = None;
    if member == C {
        next.members[C].leaf = Some(leaf);
        next.members[C].trust[0] = Trust::of(request.bundle);
    } else {
        agents::received(&mut next, setting, member, leaf);
    }
    Some(next)
}

/// Handshakes that were opened with the sides that members had before this move go on.
fn add_handshakes(world: &World, setting: &Setting, next: &mut World) {
    if setting.handshake == 0 {
        return;
    }
    for (opener, member) in world.members.iter().enumerate() {
        let Some(side) = member.side() else { continue };
        if next.members[opener].side() != Some(side) {
            let over = world.tick + setting.handshake;
            next.handshakes.retain(|former| (former.opener, former.side) != (opener, side));
            next.handshakes.push(Handshake { over, opener, side });
        }
    }
    next.handshakes.sort_unstable();
}

/// Time goes on, and agents see it.
fn tick(world: &World, setting: &Setting) -> Option<World> {
    let tick = world.tick + 1;
    if tick > setting.ticks || agents::must_renew(world, setting) {
        return None;
    }
    let mut next = World { tick, ..world.clone() };
    next.handshakes.retain(|handshake| handshake.over > tick);
    for proxy in [P, Q] {
        agents::settle(&mut next, setting, proxy);
    }
    Some(next)
}
