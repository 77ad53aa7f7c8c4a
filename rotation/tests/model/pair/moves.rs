//! What may happen next among two replicas and the mesh.

use super::drive::{incarnate, look, reopen, report, roll_back};
use super::{C, Handshake, Leaf, OVER, P, R, Request, Row, Setting, Without, World};
use crate::words::FAR;

/// Every next world, with what happened.
pub(super) fn moves(world: &World, setting: &Setting) -> Vec<(String, World)> {
    let mut all = Vec::new();
    for who in [0, 1] {
        let mut add = |name: &str, next: Option<World>| {
            all.extend(next.map(|next| (format!("{name} {}", ["a", "b"][who]), next)));
        };
        add("the record is shown by", look(world, setting, who));
        add("evidence of", report(world, setting, who));
        add("another segment of", reopen(world, setting, who));
        add("cut off:", cut(world, who));
        add("no longer cut off:", heal(world, who));
        add("crash of", crash(world, who));
        add("start of", start(world, setting, who, true));
        if setting.disk_is_lost {
            add("start without its disk of", start(world, setting, who, false));
        }
        add("request at", request(world, setting, who));
        add("row at", row(world, setting, who));
        add("last check at", check(world, setting, who));
        add("answer of", answer(world, who));
        if setting.proxy {
            add("the agent has the bundle of", learn(world, setting, who));
            add("the agent has a leaf of", renew(world, setting, who));
            add("the agent tells", tell(world, who));
        }
        add("the reader asks", ask(world, setting, who));
    }
    all.extend(roll_back(world, setting).map(|next| ("rolled back".to_owned(), next)));
    for (_, next) in &mut all {
        add_handshakes(world, setting, next);
    }
    all.extend(tick(world, setting).map(|next| ("time goes on".to_owned(), next)));
    all
}

fn cut(world: &World, who: usize) -> Option<World> {
    let mut next = world.clone();
    next.cuts = world.cuts.checked_sub(1)?;
    next.replicas[who].connected = false;
    world.acts(who).then_some(next)
}

fn heal(world: &World, who: usize) -> Option<World> {
    let mut next = world.clone();
    next.replicas[who].connected = true;
    (world.replicas[who].up && !world.replicas[who].connected).then_some(next)
}

fn crash(world: &World, who: usize) -> Option<World> {
    let mut next = world.clone();
    next.crashes = world.crashes.checked_sub(1)?;
    let replica = &mut next.replicas[who];
    if !replica.up {
        return None;
    }
    replica.up = false;
    replica.snapshot = None;
    replica.request = replica.request.filter(|one| matches!(one, Request::Checked(..)));
    Some(next)
}

fn start(world: &World, setting: &Setting, who: usize, has_disk: bool) -> Option<World> {
    let replica = &world.replicas[who];
    (!replica.up && replica.connected).then(|| incarnate(world, setting, who, has_disk))
}

/// Whether a replica may answer now.
fn may_release(world: &World, setting: &Setting, who: usize) -> bool {
    let replica = &world.replicas[who];
    let holds = replica.lease > world.tick || setting.without == Without::Lease;
    replica.up && holds
}

fn request(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let replica = &world.replicas[who];
    let snapshot = replica.snapshot.filter(|_| may_release(world, setting, who))?;
    let requests = replica.requests.checked_sub(1)?;
    let mut next = world.clone();
    next.replicas[who].requests = requests;
    next.replicas[who].request = Some(Request::Captured(snapshot));
    replica.request.is_none().then_some(next)
}

/// The row's end is within what the request captured.
fn row(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let replica = &world.replicas[who];
    let Some(Request::Captured(snapshot)) = replica.request.filter(|_| replica.up) else {
        return None;
    };
    let own = crate::words::segment(replica.segment);
    let present = world.record.leaf_limit(&snapshot.root.id(), &own);
    let later = present.map(|limit| limit.as_secs() - 1_000).filter(|_| world.acts(who));
    let limit = match (setting.without, later) {
        (Without::PassedBound, Some(later)) => later.max(snapshot.limit),
        _ => snapshot.limit,
    };
    let end = (world.tick + setting.client_leaf).min(limit);
    let mut next = world.clone();
    let row = Row {
        member: C,
        root: snapshot.root,
        end,
        born: snapshot.bundle.sequence,
        applied: 0,
        segment: replica.segment,
        reported: None,
    };
    let leaf = Leaf { root: snapshot.root, end, row: place(&mut next, row) };
    next.replicas[who].request = Some(Request::Written(snapshot, leaf));
    (end > world.tick).then_some(next)
}

/// Puts a row where an old one is over, so that worlds stay few.
fn place(world: &mut World, row: Row) -> u8 {
    let used = |number: usize| {
        let number = u8::try_from(number).unwrap();
        let held = world.leaves.iter().flatten().any(|leaf| leaf.row == number);
        let asked = world.replicas.iter().any(|replica| {
            matches!(replica.request, Some(Request::Written(_, leaf) | Request::Checked(_, leaf)) if leaf.row == number)
        });
        held || asked || world.rows[number as usize].end >= world.tick
    };
    let free = (0..world.rows.len()).find(|number| !used(*number));
    let number = free.unwrap_or(world.rows.len());
    match world.rows.get_mut(number) {
        Some(place) => *place = row,
        None => world.rows.push(row),
    }
    u8::try_from(number).unwrap()
}

fn check(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let Some(Request::Written(snapshot, leaf)) = world.replicas[who].request else { return None };
    let mut next = world.clone();
    next.replicas[who].request = Some(Request::Checked(snapshot, leaf));
    may_release(world, setting, who).then_some(next)
}

/// The answer leaves at any time after the last check, whatever has become of the replica. The client takes leaf and bundle
/// at once.
fn answer(world: &World, who: usize) -> Option<World> {
    let Some(Request::Checked(snapshot, leaf)) = world.replicas[who].request else { return None };
    let mut next = world.clone();
    next.replicas[who].request = None;
    next.leaves[C] = Some(leaf);
    next.trust[C] = snapshot.bundle;
    Some(next)
}

/// The agent stores a bundle, its proxy applies it, and no lower one is ever taken.
fn learn(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let bundle = world.replicas[who].snapshot.filter(|_| may_release(world, setting, who))?.bundle;
    let mut next = world.clone();
    next.trust[P] = bundle;
    (bundle.sequence > world.trust[P].sequence).then_some(next)
}

/// A leaf comes only to an agent that has the bundle of the snapshot.
fn renew(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let snapshot = world.replicas[who].snapshot.filter(|_| may_release(world, setting, who))?;
    let root = snapshot.root;
    if snapshot.bundle != world.trust[P] || world.leaves[P].is_some_and(|leaf| leaf.root == root) {
        return None;
    }
    let mut next = world.clone();
    let end = FAR.min(snapshot.limit);
    let born = snapshot.bundle.sequence;
    let segment = world.replicas[who].segment;
    let row = Row { member: P, root, end, born, applied: born, segment, reported: None };
    let row = place(&mut next, row);
    next.leaves[P] = Some(Leaf { root, end, row });
    (end > world.tick).then_some(next)
}

/// The agent tells a replica what its proxy applied, and which leaves of its segments nobody holds any more.
fn tell(world: &World, who: usize) -> Option<World> {
    let (leaf, applied) = (world.leaves[P]?, world.trust[P].sequence);
    let mut next = world.clone();
    for (number, row) in next.rows.iter_mut().enumerate() {
        let theirs = row.member == P && usize::from(row.segment) % 2 == who;
        if theirs && number == usize::from(leaf.row) {
            row.applied = applied;
        } else if theirs {
            row.end = OVER;
        }
    }
    (world.replicas[who].up && next != *world).then_some(next)
}

/// The reader takes whatever bundle it is given.
fn ask(world: &World, setting: &Setting, who: usize) -> Option<World> {
    if setting.staleness == 0 {
        return None;
    }
    let bundle = world.replicas[who].snapshot.filter(|_| may_release(world, setting, who))?.bundle;
    let mut next = world.clone();
    (next.trust[R], next.asked) = (bundle, world.tick);
    (next != *world).then_some(next)
}

/// Handshakes that were opened with the sides that members had before this move go on.
fn add_handshakes(world: &World, setting: &Setting, next: &mut World) {
    for opener in [P, C, R] {
        let Some(side) = world.side(opener).filter(|_| setting.handshake > 0) else { continue };
        if next.side(opener) != Some(side) {
            let over = world.tick + setting.handshake;
            next.handshakes.retain(|one| (one.opener, one.side) != (opener, side));
            next.handshakes.push(Handshake { over, opener, side });
        }
    }
    next.handshakes.sort_unstable();
}

/// Time goes on: whoever reaches the record, and serves from it, renews its lease, and the reader has asked in time.
fn tick(world: &World, setting: &Setting) -> Option<World> {
    let tick = world.tick + 1;
    let late = setting.staleness > 0 && tick - world.asked > setting.staleness;
    if tick > setting.ticks || late {
        return None;
    }
    let mut next = World { tick, ..world.clone() };
    next.handshakes.retain(|one| one.over > tick);
    for who in [0, 1] {
        // Who was away for longer than its lease looks at the record before it answers again.
        let behind = world.replicas[who]
            .snapshot
            .is_some_and(|known| known.bundle.sequence < world.bundle().sequence);
        let waits = behind && setting.without != Without::RecordBeforeLease;
        if world.acts(who) && !waits {
            // Counted from before it was sent.
            next.replicas[who].lease = world.tick + setting.lease + 1;
        }
    }
    Some(next)
}
