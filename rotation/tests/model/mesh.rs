//! A small mesh, and what makes a handshake in it fail.

use rotation::{Mode, State};
use trust::RootId;

use crate::entities::{
    BOTH, Bundle, C, EVERY, Handshake, Leaf, Member, P, Q, Request, Root, Roots, Row, Side, Trust,
};
use crate::holder;
use crate::install::Installed;
use crate::kept::Kept;
use crate::words::{Distributed, FAR, distributing, identity};

/// What is taken out. `Nothing` takes nothing out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Without {
    Nothing,
    TrustGate,
    AckOnApply,
    LeafGate,
    SettleAtT,
    SettleAtL,
    RowBeforeSignature,
    BundleBeforeLeaf,
    SegmentBound,
    TwiceTheSkew,
    Horizon,
    DurableBeforePush,
    HolderBeforeLeaf,
    /// A row of an agent proves trust by the bundle it was born with.
    BornIsNoWord,
    /// A holder without a validation secret of ours is taken for one that trusts.
    TrustOfItsOwn,
    /// The agent promises, and hands the leaf to whoever wants it.
    Promise,
    /// A leaf goes to an agent that has not stored the bundle.
    StoredBeforeLeaf,
    /// The word of an agent counts whatever its bundle of that number holds.
    Digest,
    /// The relying party that covers a holder need not confirm.
    Confirmation,
    /// The acknowledgement of one validation secret counts for all.
    EverySecret,
    /// What was pushed on a stream that was lost is taken for applied.
    LostIsUnknown,
    /// A refusal is taken for an answer like any other.
    RefusedIsNotApplied,
    /// A validation secret that stayed away is no secret, while another one is there.
    ForgottenIsUnknown,
    /// From {A} to {B} at once.
    Union,
    /// Rows end by the wall clock.
    BothClocks,
    /// Gates are judged while the wall clock is off.
    ClockFence,
    /// A replica that starts believes the wall clock that it finds.
    ClockMark,
    /// After a restart the agent says that it knows of no leaf whose holder is not back.
    HelloNamesHolders,
    /// What the agent does not know yet is over, too.
    HelloSparesReplies,
    /// An agent that stops releases every leaf.
    StopSparesHolders,
    /// A further root is gone when a rotation withdraws a root or is given up.
    FurtherOutlives,
    /// A further root comes in with whichever change of the bundle is next.
    FurtherAlone,
    /// What agents hold of a newer record keeps nothing as it is.
    Fence,
    /// The operator says that agents which hold more than the record are wrong, and they are right.
    GoesOnAbove,
    /// A restored record goes on with the rows that it finds.
    Recovery,
    /// A distrusted root goes by a word, whoever has leaves of it.
    GoesByItsGate,
    /// What a proxy acknowledged it is taken to be able to verify.
    Probe,
    /// When a canary ends, what was signed before is taken for known: segments are not sealed anew.
    SealAtTheEnd,
}

/// The backup that the replica is restored from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restored {
    No,
    /// Of before the rotation, put back by hand while the new root does not sign yet: nobody tells the record.
    Former,
    /// Of when the new bundle had just been decided, put back at any time until a root is withdrawn. Its number is in force, so
    /// no agent can tell; leaves of the new root, and rows of both, may have come since.
    SameBundle,
}

/// The bundle that an agent refuses, and what it has instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refuses {
    Nothing,
    /// It has none but the first.
    Newer,
    /// It has another one of the same number.
    OtherOfThatNumber,
}

/// What the authority says of a root of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Further {
    No,
    /// It is named, and in the bundle from the start.
    Trusted,
    /// The same, until it is named no more.
    Leaves,
    /// It comes to be named at some time.
    Comes,
}

/// Whether an operator distrusts roots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Distrusts {
    No,
    /// The standby root that is there from the start, which may be promoted and dropped.
    Standby,
    /// Any root, while the new one takes the place of the old.
    InRotation,
    /// The same, and the new root comes as a standby root, which may be promoted and dropped.
    WithStandby,
}

/// What becomes of a canary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Canaries {
    No,
    /// It ends by itself.
    ByItself,
    /// Or somebody widens it to the client, once at any time.
    Widened,
    /// Or somebody takes it back.
    TakenBack,
    /// Or lets it go forward again, too.
    Forward,
}

impl Canaries {
    pub(crate) fn is_some(self) -> bool {
        self != Self::No
    }

    /// What somebody may say of it, each once.
    pub(crate) fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::No | Self::ByItself => &[],
            Self::Widened => &["widen"],
            Self::TakenBack => &["roll back"],
            Self::Forward => &["roll back", "go forward"],
        }
    }
}

impl Distrusts {
    /// How the new root comes.
    const fn mode(self) -> Mode {
        match self {
            Self::No | Self::Standby | Self::InRotation => Mode::Auto,
            Self::WithStandby => Mode::Standby,
        }
    }
}

impl Further {
    /// Whether it is in the bundle from the start.
    pub(crate) const fn is_trusted(self) -> bool {
        matches!(self, Self::Trusted | Self::Leaves)
    }
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
    /// Ticks that a leaf of the second proxy lives; 0 for longer than the walk.
    pub(crate) proxy_leaf: i64,
    /// Validation secrets of the second proxy, each on a stream of its own; with none its trust is its own.
    pub(crate) secrets: usize,
    /// Whether that one, with trust of its own, may be without a leaf for a while.
    pub(crate) lapses: bool,
    /// Whether a relying party by name covers the second proxy.
    pub(crate) covered: bool,
    /// What the second proxy's agent refuses.
    pub(crate) refuses: Refuses,
    /// Whether the second proxy has no leaf at first.
    pub(crate) joiner: bool,
    /// Times that the second proxy loses a stream; and whether it may stay away for so long that it is forgotten.
    pub(crate) losses: u8,
    pub(crate) forgets: bool,
    /// Times that the second proxy refuses what it is given.
    pub(crate) refusals: u8,
    /// Crashes of agents, and orderly stops.
    pub(crate) agent_crashes: u8,
    pub(crate) agent_stops: u8,
    /// Crashes of the replica, and whether they take its segment with them.
    pub(crate) replica_crashes: u8,
    pub(crate) disk_is_lost: bool,
    /// Ticks that the replica's wall clock steps ahead, once, until it steps back; 0 if it does not.
    pub(crate) step: i64,
    /// Whether an operator aborts, rolls back and goes forward again, each once at any time.
    pub(crate) operator: bool,
    /// A further root, which the authority names, then does not, then names again.
    pub(crate) further: Further,
    /// Whether that operator also holds the rotation and resumes it, each once at any time.
    pub(crate) holds: bool,
    /// Which backup the replica is restored from, once.
    pub(crate) restored: Restored,
    /// What an operator says of roots, each once at any time.
    pub(crate) distrusts: Distrusts,
    /// Whether that operator also takes such a word back, each once at any time.
    pub(crate) takes_back: bool,
    /// Whether there is a standby root from the start, which every bundle has.
    pub(crate) standby: bool,
    /// Whether the second proxy has a listener, which is probed, and cannot verify the new root until it is replaced.
    pub(crate) unable: bool,
    /// Whether the new root signs for the second proxy first, and what somebody does about that.
    pub(crate) canary: Canaries,
}

impl Setting {
    /// The roots that are trusted from the start besides the one that signs.
    pub(crate) fn others(&self) -> Roots {
        let further = if self.further.is_trusted() { Root::F.bit() } else { 0 };
        let standby = if self.standby { Root::S.bit() } else { 0 };
        further | standby
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Agent {
    pub(crate) up: bool,
    /// The latest bundle it knows, and the one on its disk.
    pub(crate) seen: Bundle,
    pub(crate) disk: Bundle,
    /// The newest leaf, in memory.
    pub(crate) leaf: Option<Leaf>,
    /// Its proxy, as far as it knows.
    pub(crate) holder: Kept<Installed>,
    /// The account on the disk, where it is not always that of the memory.
    pub(crate) account: Option<Kept<Installed>>,
    /// Validation secrets that stayed away and are not back, a bit each.
    pub(crate) forgotten: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) record: Kept<State>,
    /// The time that nobody sets.
    pub(crate) tick: i64,
    /// What the replica's wall clock is ahead of it, and how many steps are left.
    pub(crate) ahead: i64,
    pub(crate) steps: u8,
    /// What the replica believes that it is ahead: nothing, unless it forgets at a restart what it noted.
    pub(crate) believed: i64,
    pub(crate) segment: u8,
    pub(crate) rows: Vec<Row>,
    pub(crate) members: [Member; 3],
    pub(crate) agents: [Agent; 2],
    pub(crate) requests: [Option<Request>; 3],
    pub(crate) handshakes: Vec<Handshake>,
    /// The bundle that the relying party confirmed.
    pub(crate) confirmed: u8,
    pub(crate) client_requests: u8,
    pub(crate) losses: u8,
    pub(crate) refusals: u8,
    pub(crate) agent_crashes: u8,
    pub(crate) agent_stops: u8,
    pub(crate) replica_crashes: u8,
    /// Whether the authority names the further root, and how often that still changes.
    pub(crate) named: bool,
    pub(crate) namings: u8,
    /// A proxy was given trust that neither only grew nor only shrank, or a bundle was.
    pub(crate) swapped: bool,
    /// The last bundle with which the second proxy's listener was probed; and whether it verified a leaf of the new root.
    pub(crate) probed: Option<Probed>,
    /// The roots of the bundles by number, where there is a standby root from the start; 0 if there was none of that number.
    pub(crate) bundles: [Roots; 16],
    /// Restores that are left; and the bundle that an agent said it holds when the record had none of that number.
    pub(crate) restores: u8,
    pub(crate) heard: Option<Bundle>,
}

/// What a probe saw.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Probed {
    pub(crate) sequence: u8,
    pub(crate) verified: bool,
}

impl World {
    pub(crate) fn start(setting: &Setting) -> Self {
        let mut rows = Vec::new();
        let members = [P, Q, C].map(|member| joined(setting, member, &mut rows));
        Self {
            record: Kept::record(distributing(&Distributed {
                mode: setting.distrusts.mode(),
                bound: setting.bound,
                others: setting.others(),
                canary: setting.canary.is_some(),
            })),
            tick: 0,
            ahead: 0,
            believed: 0,
            steps: if setting.step == 0 { 0 } else { 2 },
            segment: 1,
            rows,
            members,
            agents: [P, Q].map(|proxy| agent(setting, proxy, &members[proxy])),
            requests: [None; 3],
            handshakes: Vec::new(),
            confirmed: 1,
            client_requests: setting.client_requests,
            losses: setting.losses,
            refusals: setting.refusals,
            agent_crashes: setting.agent_crashes,
            agent_stops: setting.agent_stops,
            replica_crashes: setting.replica_crashes,
            named: setting.further.is_trusted(),
            namings: u8::from(matches!(setting.further, Further::Leaves | Further::Comes)),
            swapped: false,
            probed: None,
            bundles: bundles(setting),
            restores: u8::from(setting.restored != Restored::No),
            heard: None,
        }
    }

    /// The bundle that is decided.
    pub(crate) fn bundle(&self) -> Bundle {
        let roots = self.record.bundle().into_keys().map(|id| Root::of(id).bit()).sum();
        Bundle { sequence: u8::try_from(self.record.sequence.0).unwrap(), roots }
    }

    /// Whether that is a bundle of this mesh, and not a union of two.
    pub(crate) fn is_bundle(&self, bundle: Bundle) -> bool {
        match self.bundles[1] {
            0 => bundle.roots & BOTH != BOTH || bundle.sequence == 2,
            _ => self.bundles[usize::from(bundle.sequence)] == bundle.roots,
        }
    }

    /// Notes the bundle that is decided, where that is done.
    pub(crate) fn note_bundle(&mut self) {
        if self.bundles[1] != 0 {
            let bundle = self.bundle();
            self.bundles[usize::from(bundle.sequence)] = bundle.roots;
        }
    }

    /// The root that a member's leaves are signed under now.
    pub(crate) fn signer_for(&self, member: usize) -> Option<RootId> {
        match self.record.phase.canary() {
            Some(canary) if canary.cohort.has(&identity(member)) => Some(canary.to),
            _ => self.record.signing_root(),
        }
    }

    /// The replica's wall clock.
    pub(crate) fn wall(&self) -> i64 {
        self.tick + self.ahead
    }

    /// What the replica may believe: the earlier of the wall clock and the time that nobody sets since it was noted.
    pub(crate) fn earlier(&self) -> i64 {
        self.wall().min(self.tick + self.believed)
    }

    /// Whether the replica's wall clock is off by more than the clocks of a mesh may be.
    pub(crate) fn is_off(&self, setting: &Setting) -> bool {
        (self.ahead - self.believed).abs() > setting.skew
    }

    /// Whether somebody still knows the leaf of this row.
    fn is_known(&self, number: usize) -> bool {
        let has = |leaf: &Option<Leaf>| leaf.is_some_and(|leaf| usize::from(leaf.row) == number);
        self.members.iter().any(|member| has(&member.leaf))
            || self.requests.iter().flatten().any(|request| has(&request.leaf))
            || self.agents.iter().any(|agent| {
                let accounts = [Some(agent.holder), agent.account];
                has(&agent.leaf)
                    || accounts.iter().flatten().any(|account| holder::knows(account, number))
            })
    }

    /// The number for a new row: rows that are over, and whose leaves nobody knows any more, are not told apart.
    pub(crate) fn free_row(&self) -> usize {
        let free = |number: &usize| self.rows[*number].ended && !self.is_known(*number);
        (0..self.rows.len()).find(free).unwrap_or(self.rows.len())
    }

    pub(crate) fn forget_rows(&mut self) {
        while self.rows.last().is_some_and(|row| row.ended) && !self.is_known(self.rows.len() - 1) {
            self.rows.pop();
        }
        for number in 0..self.rows.len() {
            if self.rows[number].ended && !self.is_known(number) {
                self.rows[number] = Row::FORGOTTEN;
            }
        }
    }

    /// A pair whose handshake fails for trust while both leaves are valid by the slowest clock (S1), a bundle whose number was
    /// known to be another's (S4), or a proxy whose trust was swapped (S6).
    pub(crate) fn failing(&self, setting: &Setting) -> Option<String> {
        if self.swapped {
            return Some(
                "one change of a proxy's trust, or of the bundle, both adds and removes".to_owned(),
            );
        }
        let bundle = self.bundle();
        let again = |heard: &Bundle| heard.sequence == bundle.sequence && *heard != bundle;
        if let Some(heard) = self.heard.filter(again) {
            return Some(format!("{heard:?} was known to be out, and {bundle:?} has its number"));
        }
        let now = self.tick - 2 * setting.skew;
        let fails = |one: &Side, other: &Side| {
            let valid = now <= one.end && now <= other.end;
            valid && (other.roots & one.root.bit() == 0 || one.roots & other.root.bit() == 0)
        };
        let sides = self.members.map(|member| member.side());
        // Whoever has a leaf under the further root is met by everybody, until the authority names that root no more.
        let turns_away = |side: &Side| side.roots & Root::F.bit() == 0;
        if setting.further.is_trusted()
            && self.named
            && let Some(side) = sides.iter().flatten().find(|side| turns_away(side))
        {
            return Some(format!(
                "a member ({side:?}) meets one with a leaf under the further root"
            ));
        }
        let side_of = |(member, side): (usize, &Option<Side>)| side.map(|side| (member, side));
        let openers = sides.iter().enumerate().filter_map(side_of);
        let in_flight = self.handshakes.iter().map(|handshake| (handshake.opener, handshake.side));
        for (opener, side) in openers.chain(in_flight) {
            for (acceptor, other) in sides.iter().enumerate().filter_map(side_of) {
                if acceptor != opener && fails(&side, &other) {
                    let [one, two] = [opener, acceptor].map(|member| ["p", "q", "c"][member]);
                    return Some(format!("{one} ({side:?}) meets {two} ({other:?})"));
                }
            }
        }
        None
    }
}

fn joined(setting: &Setting, member: usize, rows: &mut Vec<Row>) -> Member {
    // What the agents' proxies hold is from a former segment, long read.
    let end = match member {
        C => setting.client_leaf.min(setting.bound),
        Q if setting.proxy_leaf > 0 => setting.proxy_leaf,
        _ => FAR,
    };
    let other = Bundle { sequence: 2, roots: Root::A.bit() };
    let first = Bundle::first(setting.others());
    let refuses = member == Q && setting.refuses == Refuses::OtherOfThatNumber;
    let has = Trust::of(if refuses { other } else { first });
    let trust = [has, if member == Q && setting.secrets == 2 { has } else { Trust::NONE }];
    let unable = member == Q && setting.unable;
    let absent = if member == C { setting.client_leaf == 0 } else { setting.joiner && member == Q };
    if absent {
        return Member { trust, leaf: None, unable };
    }
    let row = u8::try_from(rows.len()).unwrap();
    let own = member == Q && setting.secrets == 0;
    let promised = member != C && !own;
    rows.push(Row {
        member,
        root: Root::A,
        end,
        born: 1,
        applied: u8::from(!own),
        promised,
        ended: false,
        segment: u8::from(member == C),
    });
    Member { trust, leaf: Some(Leaf { root: Root::A, end, row, born: 1, promised }), unable }
}

/// Bundles are told apart by what was decided only where two own roots are not always a union.
fn bundles(setting: &Setting) -> [Roots; 16] {
    let mut bundles = [0; 16];
    if setting.standby {
        let others = setting.others();
        bundles[1] = Bundle::first(others).roots;
        bundles[2] = BOTH | others;
    }
    bundles
}

fn agent(setting: &Setting, proxy: usize, member: &Member) -> Agent {
    let Trust { roots, version } = member.trust[0];
    let has = Bundle { sequence: version, roots };
    let secrets = if proxy == Q { setting.secrets } else { 1 };
    let unwritten = setting.without == Without::HolderBeforeLeaf;
    Agent {
        up: true,
        seen: has,
        disk: has,
        leaf: member.leaf,
        holder: Kept::holder(holder::start(secrets, has, member.leaf)),
        account: unwritten.then(|| Kept::holder(holder::start(secrets, has, None))),
        forgotten: 0,
    }
}

const _: () =
    assert!(BOTH == Root::A.bit() | Root::B.bit() && EVERY == BOTH | Root::F.bit() | Root::S.bit());
