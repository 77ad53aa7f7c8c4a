//! The entities, and what makes a handshake fail.

use rotation::State;

use crate::words::{FAR, distributing};

/// Who holds a leaf: the proxies of two agents, and the client that only sends CSRs.
pub(crate) const P: usize = 0;
pub(crate) const Q: usize = 1;
pub(crate) const C: usize = 2;

/// What is taken out. `None` takes nothing out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Without {
    Nothing,
    GateT,
    AckOnApply,
    GateL,
    Settle,
    RowBeforeSignature,
    BundleBeforeLeaf,
    SegmentBound,
    TwiceTheSkew,
    Horizon,
    DurableBeforePush,
    HolderBeforeLeaf,
}

/// A small mesh: who there is, what may go wrong, and how far the walk goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) without: Without,
    /// Ticks that the walk lasts.
    pub(crate) ticks: i64,
    /// Ticks that a handshake may take.
    pub(crate) handshake: i64,
    /// Ticks between any two clocks are at most twice this.
    pub(crate) skew: i64,
    /// Ticks that a segment's bound lies ahead when it is raised.
    pub(crate) bound: i64,
    /// Ticks that a leaf of the client lives; 0 when there is no client.
    pub(crate) client_leaf: i64,
    /// Requests of the client.
    pub(crate) client_requests: u8,
    /// Whether the second proxy has no leaf at first.
    pub(crate) joiner: bool,
    /// Crashes of agents.
    pub(crate) agent_crashes: u8,
    /// Crashes of the replica, and whether they take its segment with them.
    pub(crate) replica_crashes: u8,
    pub(crate) disk_is_lost: bool,
    /// Whether an operator aborts, rolls back and goes forward again, each once at any time.
    pub(crate) operator: bool,
    /// Whether that operator also holds the rotation and resumes it, each once at any time.
    pub(crate) holds: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Root {
    A,
    B,
}

/// The bundles: 1 is {A}, 2 is {A, B}; then comes 3, which is {B}, or after an abort or a rollback 4, which is {A}.
pub(crate) type Bundle = u8;

pub(crate) fn trusts(bundle: Bundle, root: Root) -> bool {
    match root {
        Root::A => bundle != 3,
        Root::B => bundle == 2 || bundle == 3,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leaf {
    pub(crate) root: Root,
    pub(crate) end: i64,
    pub(crate) row: u8,
}

/// What the peers of a member see of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    pub(crate) trust: Bundle,
    pub(crate) leaf: Option<Leaf>,
}

/// A request: what it captured, and how far it got.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Request {
    pub(crate) generation: u64,
    pub(crate) bundle: Bundle,
    pub(crate) root: Root,
    /// Horizon and bound in force.
    pub(crate) limit: i64,
    pub(crate) segment: u8,
    /// The leaf, once its row is durable.
    pub(crate) leaf: Option<Leaf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Row {
    pub(crate) member: usize,
    pub(crate) root: Root,
    pub(crate) end: i64,
    pub(crate) born: Bundle,
    pub(crate) applied: Bundle,
    pub(crate) ended: bool,
    pub(crate) segment: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Agent {
    /// The latest bundle it knows, and the one on its disk.
    pub(crate) seen: Bundle,
    pub(crate) disk: Bundle,
    /// Whether the proxy is in its holder set, in memory and on disk.
    pub(crate) knows_holder: bool,
    pub(crate) holder_on_disk: bool,
    /// A leaf that is not handed over yet, with the bundle of its reply.
    pub(crate) leaf: Option<(Leaf, Bundle)>,
}

/// A handshake that was opened just before its opener changed: the longest of all with that side. Whoever accepts it
/// joins with what it has at that time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handshake {
    pub(crate) opener: usize,
    pub(crate) side: Member,
    /// It is over before this tick.
    pub(crate) over: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) record: State,
    pub(crate) tick: i64,
    pub(crate) segment: u8,
    pub(crate) rows: Vec<Row>,
    pub(crate) members: [Member; 3],
    pub(crate) agents: [Agent; 2],
    pub(crate) requests: [Option<Request>; 3],
    pub(crate) client_requests: u8,
    pub(crate) handshakes: Vec<Handshake>,
    pub(crate) agent_crashes: u8,
    pub(crate) replica_crashes: u8,
}

impl World {
    pub(crate) fn start(setting: &Setting) -> Self {
        // What the agents' proxies hold is from a former segment, long read.
        let ends = [FAR, FAR, setting.client_leaf.min(setting.bound)];
        let mut rows = Vec::new();
        let mut member = |member: usize| {
            let absent = if member == C { setting.client_leaf == 0 } else { setting.joiner && member == Q };
            if absent {
                return Member { trust: 1, leaf: None };
            }
            let (row, end) = (u8::try_from(rows.len()).unwrap(), ends[member]);
            rows.push(Row {
                member,
                root: Root::A,
                end,
                born: 1,
                applied: 1,
                ended: false,
                segment: u8::from(member == C),
            });
            Member { trust: 1, leaf: Some(Leaf { root: Root::A, end, row }) }
        };
        let members = [member(P), member(Q), member(C)];
        let on_disk = setting.without != Without::HolderBeforeLeaf;
        let agent = |holder| Agent {
            seen: 1,
            disk: 1,
            knows_holder: holder,
            holder_on_disk: holder && on_disk,
            leaf: None,
        };
        Self {
            record: distributing(setting.bound),
            tick: 0,
            segment: 1,
            rows,
            members,
            agents: [agent(true), agent(!setting.joiner)],
            requests: [None; 3],
            client_requests: setting.client_requests,
            handshakes: Vec::new(),
            agent_crashes: setting.agent_crashes,
            replica_crashes: setting.replica_crashes,
        }
    }

    /// A pair whose handshake fails for trust while both leaves are valid by the slowest clock (S1).
    pub(crate) fn failing(&self, setting: &Setting) -> Option<String> {
        let now = self.tick - 2 * setting.skew;
        let valid = |member: &Member| member.leaf.filter(|leaf| now <= leaf.end);
        let fails = |opener: &Member, acceptor: &Member| {
            let (Some(one), Some(other)) = (valid(opener), valid(acceptor)) else { return false };
            !trusts(acceptor.trust, one.root) || !trusts(opener.trust, other.root)
        };
        let openers = (0..3).map(|member| (member, self.members[member]));
        let in_flight = self.handshakes.iter().map(|handshake| (handshake.opener, handshake.side));
        for (opener, side) in openers.chain(in_flight) {
            for (acceptor, other) in self.members.iter().enumerate() {
                if acceptor != opener && fails(&side, other) {
                    return Some(format!("{side:?} of {opener} meets {other:?} of {acceptor}"));
                }
            }
        }
        None
    }
}
