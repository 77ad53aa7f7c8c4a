//! Two replicas on one record, both of which may drive: a request in flight at each, crashes with and without their disks,
//! a replica that sees neither the record nor the other one, one that stands still between its last check and its answer,
//! handshakes in flight, and an operator who rolls back. The record is moved by the real `rotation::step`.
//!
//! The mesh is the least that can fail: a proxy behind an agent, a client that only sends CSRs, and a reader of bundles who
//! has no leaf and asks anybody at least every so often.

use rotation::State;

use crate::entities::{Bundle, Root, Roots};
use crate::kept::Kept;

mod drive;
mod moves;
mod start;
mod tests;
mod walk;

/// The members: a proxy, a client, a reader.
const P: usize = 0;
const C: usize = 1;
const R: usize = 2;

/// The end of a row that is over for certain, or of which nothing is known any more.
const OVER: i64 = -1;

/// What is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// A bound that has passed may come back: a request takes the present one, and a gate closes no segment.
    PassedBound,
    /// A replica answers without a lease.
    Lease,
    /// A lease is renewed by whoever reaches the store, whatever it serves.
    RecordBeforeLease,
    /// The trust of readers is assumed from when the bundle is in force at the driver, not at everybody.
    InForceAtAll,
    /// A segment that was not read counts as empty.
    SegmentBound,
    /// What another observer counted is counted on.
    Observer,
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    without: Without,
    ticks: i64,
    handshake: i64,
    /// Ticks that a bound lies ahead when it is raised, and that a leaf of the client lives.
    bound: i64,
    client_leaf: i64,
    /// Requests of the client at each replica.
    requests: [u8; 2],
    /// Whether the proxy moves; otherwise it has no leaf, and is nobody.
    proxy: bool,
    /// Ticks that a lease lasts, and within which the reader asks again; 0 when there is no reader.
    lease: i64,
    staleness: i64,
    cuts: u8,
    crashes: u8,
    disk_is_lost: bool,
    rolls_back: bool,
}

/// What requests at a replica are served from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Snapshot {
    generation: u64,
    bundle: Bundle,
    root: Root,
    /// The lesser of horizon and bound, as they were then.
    limit: i64,
}

/// A request of the client at one replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Request {
    /// It took a snapshot; no row yet.
    Captured(Snapshot),
    /// Its row is durable.
    Written(Snapshot, Leaf),
    /// The lease was looked at, and the answer leaves at any later time.
    Checked(Snapshot, Leaf),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Replica {
    up: bool,
    /// It reaches the record.
    connected: bool,
    segment: u8,
    snapshot: Option<Snapshot>,
    /// It may answer before this tick, by its own clock.
    lease: i64,
    request: Option<Request>,
    requests: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Leaf {
    root: Root,
    end: i64,
    row: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Row {
    member: usize,
    root: Root,
    end: i64,
    born: u8,
    applied: u8,
    segment: u8,
    /// What its replica said last of `applied` where others read it; nothing of a row that is newer.
    reported: Option<u8>,
}

/// What a member shows and trusts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Side {
    roots: Roots,
    leaf: Option<(Root, i64)>,
}

/// A handshake that a member opened just before it changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Handshake {
    over: i64,
    opener: usize,
    side: Side,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    record: Kept<State>,
    tick: i64,
    replicas: [Replica; 2],
    rows: Vec<Row>,
    /// The bundle that each member trusts.
    trust: [Bundle; 3],
    leaves: [Option<Leaf>; 2],
    /// When the reader asked last, and since when it is known that nobody answers with a former bundle.
    asked: i64,
    in_force: Option<(u8, i64)>,
    handshakes: Vec<Handshake>,
    cuts: u8,
    crashes: u8,
}

impl World {
    fn side(&self, member: usize) -> Option<Side> {
        let leaf = self.leaves.get(member).copied().flatten().map(|leaf| (leaf.root, leaf.end));
        let takes_part = leaf.is_some() || member == R;
        takes_part.then_some(Side { roots: self.trust[member].roots, leaf })
    }

    /// A handshake that fails for trust, if one does.
    fn failing(&self, setting: &Setting) -> Option<String> {
        let members = if setting.staleness > 0 { 3 } else { 2 };
        let present = (0..members).filter_map(|member| Some((member, self.side(member)?)));
        let present: Vec<_> = present.collect();
        let in_flight = self.handshakes.iter().map(|one| (one.opener, one.side));
        let refuses = |one: &Side, other: &Side| {
            other.leaf.is_some_and(|(root, end)| end >= self.tick && one.roots & root.bit() == 0)
        };
        for (opener, side) in present.iter().copied().chain(in_flight) {
            for (acceptor, other) in present.iter().filter(|(acceptor, _)| *acceptor != opener) {
                let lives = |side: &Side| side.leaf.is_none_or(|(_, end)| end >= self.tick);
                if lives(&side) && lives(other) && (refuses(&side, other) || refuses(other, &side))
                {
                    let [one, two] = [opener, *acceptor].map(|who| ["p", "c", "r"][who]);
                    return Some(format!("{one} ({side:?}) meets {two} ({other:?})"));
                }
            }
        }
        None
    }

    fn bundle(&self) -> Bundle {
        let roots = self.record.bundle().into_keys().map(|id| Root::of(id).bit()).sum();
        Bundle { sequence: u8::try_from(self.record.sequence.0).unwrap(), roots }
    }
}
