//! What agents say, and what the driver makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rotation::evidence::{RelyingParties, Tally};
use rotation::{CohortSeen, Contents, Evidence, Phase, SegmentState, State};
use trust::{Generation, Sequence};

use crate::agents::{has_trust_of_its_own, may_hold};
use crate::entities::{C, P, Q, Root, Row};
use crate::holder::{LEAF, proven};
use crate::mesh::{Probed, Setting, Without, World};
use crate::replica::limits;
use crate::words::{at, identity};

/// The agent tells the CA what its proxy applied, and which leaves nobody holds any more. A report that comes later says
/// no less, so it is enough that it comes whenever the machine looks.
pub(crate) fn report(world: &mut World, setting: &Setting, proxy: usize) {
    if !world.agents[proxy].up {
        return;
    }
    let agent = &world.agents[proxy];
    let held = named(world, setting, proxy);
    // A word counts for the bundle that the agent has, if that is the CA's of that number.
    let (has, bundle) = (agent.disk, world.bundle());
    let same =
        has.sequence != bundle.sequence || has == bundle || setting.without == Without::Digest;
    let own = has_trust_of_its_own(world, setting, proxy);
    let words = world.rows.iter().enumerate().map(|(number, row)| {
        let number = u8::try_from(number).unwrap();
        let waits = agent.leaf.is_some_and(|leaf| leaf.row == number) && row.promised;
        match () {
            () if setting.without == Without::AckOnApply => agent.seen.sequence,
            () if held.contains(&number) && own && setting.without == Without::TrustOfItsOwn => {
                row.born
            }
            () if held.contains(&number) && !own => proven(&agent.holder).unwrap_or(0),
            // Nobody gets it before the newest bundle.
            () if !held.contains(&number) && waits && !own => has.sequence,
            () => 0,
        }
    });
    let words: Vec<u8> = words.collect();
    for (row, word) in
        world.rows.iter_mut().zip(words).filter(|(row, _)| row.member == proxy && same)
    {
        row.applied = row.applied.max(word);
    }
    let memory = world.agents[proxy].leaf.map(|leaf| leaf.row);
    let reply = world.requests[proxy].and_then(|request| request.leaf).map(|leaf| leaf.row);
    let reply = reply.filter(|_| setting.without != Without::HelloSparesReplies);
    release(world, proxy, |row| held.contains(&row) || memory == Some(row) || reply == Some(row));
}

/// Leaves that the agent says its holder may present.
fn named(world: &World, setting: &Setting, proxy: usize) -> BTreeSet<u8> {
    let leaf = &world.agents[proxy].holder.leaves[&LEAF];
    let is_back = leaf.ready || leaf.in_flight.is_some();
    let forgets = setting.without == Without::HelloNamesHolders && !is_back;
    may_hold(world, proxy).filter(|_| !forgets).collect()
}

/// Rows of an agent are over, but for those that somebody still may hold.
pub(crate) fn release(world: &mut World, proxy: usize, spared: impl Fn(u8) -> bool) {
    let rows = world.rows.iter_mut().enumerate().filter(|(_, row)| row.member == proxy);
    rows.filter(|(number, _)| !spared(u8::try_from(*number).unwrap()))
        .for_each(|(_, row)| end(row));
}

/// A row that is over tells nothing any more.
pub(crate) fn end(row: &mut Row) {
    row.ended = true;
    (row.born, row.applied, row.end, row.segment) = (0, 0, 0, 0);
}

/// Whether a row is over: by the wall clock and by the time that nobody sets.
pub(crate) fn is_over(world: &World, setting: &Setting, row: &Row) -> bool {
    let now = match setting.without {
        Without::BothClocks | Without::ClockFence => world.wall(),
        _ => world.earlier(),
    };
    row.ended || limits(world, setting).has_passed(at(row.end), at(now))
}

/// Whether the listener of that row's holder is still to be seen to verify a leaf of the new root.
fn is_unprobed(world: &World, setting: &Setting, row: &Row) -> bool {
    let sequence = world.bundle().sequence;
    let seen = world.probed.is_some_and(|probed| probed.verified && probed.sequence >= sequence);
    let asked = matches!(world.record.phase, Phase::Distributing(_));
    row.member == Q && setting.unable && asked && !seen && setting.without != Without::Probe
}

/// Whether it was seen not to.
fn is_unable(world: &World, setting: &Setting, row: &Row) -> bool {
    let refused = |probed: Probed| !probed.verified && probed.sequence >= world.bundle().sequence;
    is_unprobed(world, setting, row) && world.probed.is_some_and(refused)
}

/// What the driver counts in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Counted {
    at: i64,
    uptime: i64,
    sequence: u8,
    unproven: Tally,
    own_trust: Tally,
    live: [Tally; 3],
    unable: u64,
    unconfirmed: bool,
    cohort: Option<CohortSeen>,
}

pub(crate) fn counted(world: &World, setting: &Setting) -> Counted {
    let without = setting.without;
    let tally = |wanted: &dyn Fn(&Row) -> bool| {
        let rows = world.rows.iter().filter(|row| !is_over(world, setting, row) && wanted(row));
        let count = |tally: Tally, row: &Row| Tally {
            count: tally.count + 1,
            latest: tally.latest.max(Some(at(row.end))),
        };
        rows.fold(Tally::default(), count)
    };
    let sequence = world.bundle().sequence;
    let confirmed = world.confirmed == sequence || without == Without::Confirmation;
    let unproven = |row: &Row| {
        // Leaf and bundle in one reply, which the client installs itself.
        let by_birth =
            row.born >= sequence && (row.member == C || without == Without::BornIsNoWord);
        let by_word = row.applied >= sequence || row.member == Q && setting.covered && confirmed;
        without != Without::TrustGate && (!by_birth && !by_word || is_unprobed(world, setting, row))
    };
    let unable = tally(&|row| unproven(row) && is_unable(world, setting, row)).count;
    let is_own = |row: &Row| row.member != C && !row.promised;
    let live = |root: Root| tally(&|row| without != Without::LeafGate && row.root == root);
    Counted {
        at: world.wall(),
        uptime: world.tick,
        sequence,
        unproven: tally(&|row| unproven(row) && !is_own(row) && !is_unable(world, setting, row)),
        unable,
        // No end of theirs counts, as the next leaf says as little.
        own_trust: Tally { latest: None, ..tally(&|row| unproven(row) && is_own(row)) },
        live: [live(Root::A), live(Root::B), live(Root::S)],
        unconfirmed: setting.covered && !confirmed,
        cohort: world.record.phase.canary().map(|canary| {
            let rows = |wanted: &dyn Fn(&Row) -> bool| tally(&|row| wanted(row)).count;
            let is_in = |row: &Row| canary.cohort.has(&identity(row.member));
            CohortSeen {
                taken: rows(&|row| row.root.id() == canary.to),
                waiting: rows(&|row| row.root.id() == canary.from && is_in(row)),
                ..CohortSeen::default()
            }
        }),
    }
}

impl Counted {
    /// The report that the driver makes of it.
    pub(crate) fn report(&self, record: &State) -> Evidence {
        let read = record.segments.iter().filter_map(|(id, segment)| match segment.state {
            SegmentState::Sealed { generation } => Some((id.clone(), generation)),
            SegmentState::Closed(Contents::Read) => Some((id.clone(), Generation(0))),
            SegmentState::Open | SegmentState::Closed(Contents::Unread) => None,
        });
        let unbounded = u64::from(self.unconfirmed);
        Evidence {
            at: at(self.at),
            uptime: Duration::from_secs(self.uptime.unsigned_abs()),
            sequence: Sequence(u64::from(self.sequence)),
            unproven: self.unproven,
            own_trust: self.own_trust,
            unable: self.unable,
            waived: 0,
            live: [Root::A, Root::B, Root::S]
                .into_iter()
                .zip(self.live)
                .map(|(root, tally)| (root.id(), tally))
                .collect(),
            read: read.collect(),
            relying_parties: RelyingParties { unbounded, ..RelyingParties::default() },
            foreign: BTreeMap::new(),
            let_go: BTreeSet::new(),
            observer: None,
            draining: BTreeSet::new(),
            cohort: self.cohort,
        }
    }
}

const _: () = assert!(P < C);
