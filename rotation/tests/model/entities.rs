//! What there is in a mesh.

use trust::{RootId, Sequence, Serial, Timestamp};

use crate::install::{HeldLeaf, TrustView};
use crate::words::{at, root};

/// Who holds a leaf: the proxies of two agents, and the client that only sends CSRs.
pub(crate) const P: usize = 0;
pub(crate) const Q: usize = 1;
pub(crate) const C: usize = 2;

/// Roots, a bit each.
pub(crate) type Roots = u8;
/// The two that a rotation is about.
pub(crate) const BOTH: Roots = 3;
/// All there are.
pub(crate) const EVERY: Roots = 15;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Root {
    A = 1,
    B = 2,
    /// A root of others, which signs nothing here.
    F = 4,
    /// A standby root that is there from the start.
    S = 8,
}

impl Root {
    pub(crate) const fn bit(self) -> Roots {
        self as Roots
    }

    pub(crate) fn id(self) -> RootId {
        root(match self {
            Self::A => "A",
            Self::B => "B",
            Self::F => "F",
            Self::S => "S",
        })
    }

    pub(crate) fn of(id: RootId) -> Self {
        [Self::A, Self::F, Self::S].into_iter().find(|one| one.id() == id).unwrap_or(Self::B)
    }
}

/// The bundles: 1 is {A}, 2 is {A, B}; then comes 3, which is {B}, or after an abort or a rollback {A}. A further root and a
/// standby root may be in each of them, and come or go with later ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Bundle {
    pub(crate) sequence: u8,
    pub(crate) roots: Roots,
}

impl Bundle {
    /// The first, with the other roots that are trusted from the start.
    pub(crate) const fn first(others: Roots) -> Self {
        Self { sequence: 1, roots: Root::A as Roots | others }
    }

    pub(crate) fn view(self) -> TrustView {
        let held = [Root::A, Root::B, Root::F, Root::S]
            .into_iter()
            .filter(|root| self.roots & root.bit() != 0);
        TrustView {
            proves: Sequence(u64::from(self.sequence)),
            roots: held.map(Root::id).collect(),
        }
    }
}

/// What one validation secret of a member holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Trust {
    pub(crate) roots: Roots,
    /// The bundle that these roots are; 0 for a union of two.
    pub(crate) version: u8,
}

impl Trust {
    /// A secret that the member does not have.
    pub(crate) const NONE: Self = Self { roots: EVERY, version: 0 };

    pub(crate) fn of(bundle: Bundle) -> Self {
        Self { roots: bundle.roots, version: bundle.sequence }
    }

    /// What a push gives, and the bundle of which it is the whole, if it is one.
    pub(crate) fn taken(view: &TrustView, is_bundle: impl Fn(Bundle) -> bool) -> Self {
        let roots = view.roots.iter().map(|id| Root::of(*id).bit()).sum();
        let sequence = u8::try_from(view.proves.0).unwrap();
        Self { roots, version: if is_bundle(Bundle { sequence, roots }) { sequence } else { 0 } }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Leaf {
    pub(crate) root: Root,
    pub(crate) end: i64,
    pub(crate) row: u8,
    pub(crate) born: u8,
    /// Whether the CA has the agent's word that only holders get it that have acknowledged.
    pub(crate) promised: bool,
}

impl Leaf {
    /// As the agent notes it.
    pub(crate) fn held(self) -> HeldLeaf {
        let mut serial = [0x40; Serial::LEN];
        serial[Serial::LEN - 1] = self.row;
        HeldLeaf {
            serial: Serial::from_bytes(&serial).unwrap(),
            root: self.root.id(),
            not_after: at(self.end),
            born: Sequence(u64::from(self.born)),
            promised: self.promised,
        }
    }

    pub(crate) fn of(held: &HeldLeaf) -> Self {
        Self {
            root: Root::of(held.root),
            end: held.not_after.since(Timestamp::from_secs(1_000)).as_secs().cast_signed(),
            row: row_of(&held.serial),
            born: u8::try_from(held.born.0).unwrap(),
            promised: held.promised,
        }
    }
}

pub(crate) fn row_of(serial: &Serial) -> u8 {
    serial.as_bytes()[Serial::LEN - 1]
}

/// What the peers of a member see of it. One that uses two validation secrets may use either for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Member {
    pub(crate) trust: [Trust; 2],
    pub(crate) leaf: Option<Leaf>,
    /// Whether it cannot verify the algorithm of the new root, whatever it acknowledges.
    pub(crate) unable: bool,
}

impl Member {
    /// Its side of a handshake: it takes part in one with a leaf only, and believes what it trusts and can verify.
    pub(crate) fn side(&self) -> Option<Side> {
        let leaf = self.leaf?;
        let verifies = if self.unable { EVERY & !Root::B.bit() } else { EVERY };
        Some(Side {
            roots: self.trust[0].roots & self.trust[1].roots & verifies,
            root: leaf.root,
            end: leaf.end,
        })
    }
}

/// One side of a handshake: trust, and the leaf that is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Side {
    pub(crate) roots: Roots,
    pub(crate) root: Root,
    pub(crate) end: i64,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [Root::A, Root::B, Root::F, Root::S].into_iter();
        let names: Vec<_> = all
            .filter(|root| self.roots & root.bit() != 0)
            .map(|root| format!("{root:?}"))
            .collect();
        write!(f, "trust {{{}}} with a leaf of {:?}", names.join(", "), self.root)
    }
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
    /// The agent's word in advance: who gets the leaf has acknowledged on every validation secret.
    pub(crate) promised: bool,
    /// The leaf, once its row is durable.
    pub(crate) leaf: Option<Leaf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Row {
    pub(crate) member: usize,
    pub(crate) root: Root,
    pub(crate) end: i64,
    pub(crate) born: u8,
    pub(crate) applied: u8,
    pub(crate) promised: bool,
    pub(crate) ended: bool,
    pub(crate) segment: u8,
}

impl Row {
    pub(crate) const FORGOTTEN: Self = Self {
        member: P,
        root: Root::A,
        end: 0,
        born: 0,
        applied: 0,
        promised: false,
        ended: true,
        segment: 0,
    };
}

/// A handshake that was opened just before its opener changed: the longest of all with that side. Whoever accepts it
/// joins with what it has at that time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Handshake {
    /// It is over before this tick.
    pub(crate) over: i64,
    pub(crate) opener: usize,
    pub(crate) side: Side,
}
