//! The gate that a rotation waits at: whether it opens by itself, and what is said of that. Pure.

use rotation::evidence::{Gate, GateName};
use rotation::{Mode, Rotation, State};
use trust::Timestamp;

use super::holder::Holder;

/// A gate, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateView {
    /// Which gate it is.
    pub name: GateName,
    /// All of it in one sentence.
    pub summary: String,
    /// What keeps it closed, one each; empty while it is open.
    pub holds: Vec<String>,
    /// What comes of it when nobody does anything.
    pub opening: Opening,
    /// What somebody can do to open a gate that no time opens, one way each.
    pub ways: Vec<String>,
    /// Those that are named, the longest first.
    pub holders: Vec<Holder>,
    /// How many there are.
    pub total: u64,
    /// When it was judged.
    pub at: Timestamp,
    /// What it rested on so far.
    pub rests_on: Vec<String>,
}

impl GateView {
    /// Whether nothing keeps it closed.
    pub const fn is_open(&self) -> bool {
        self.holds.is_empty()
    }
}

/// What comes of a gate when nobody does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is open, and the rotation goes on.
    Open,
    /// It is open, and an operator lets the new root sign.
    ForActivation,
    /// It opens at this time at the latest.
    ByItself(Timestamp),
    /// It opens only by somebody's word, or by what somebody does.
    ByWord,
    /// Nothing ends while the rotation is on hold.
    Held,
    /// Nothing ends while agents hold bundles that this server does not know.
    Stopped,
}

impl Opening {
    /// What comes of this gate in this state.
    pub fn of(gate: &Gate, rotation: &Rotation, state: &State) -> Self {
        let by_hand = gate.name.waits_for_activation() && rotation.mode == Mode::Manual;
        match (rotation.held_since, state.seen.highest(), gate.is_open(), gate.opens_at_latest) {
            (Some(_), ..) => Self::Held,
            (None, Some(_), ..) => Self::Stopped,
            (None, None, true, _) if by_hand => Self::ForActivation,
            (None, None, true, _) => Self::Open,
            (None, None, false, Some(at)) => Self::ByItself(at),
            (None, None, false, None) => Self::ByWord,
        }
    }

    /// When it opens by itself.
    pub const fn at_latest(self) -> Option<Timestamp> {
        match self {
            Self::ByItself(at) => Some(at),
            Self::Open | Self::ForActivation | Self::ByWord | Self::Held | Self::Stopped => None,
        }
    }

    /// The word that is waited for; empty while none is.
    pub const fn waits_for(self) -> &'static str {
        match self {
            Self::Open | Self::ByItself(_) => "",
            Self::ForActivation => "activate",
            Self::ByWord => "confirm",
            Self::Held => "resume",
            Self::Stopped => "state",
        }
    }
}

/// What is said of a gate's holds, and of what can be done about them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'w> {
    pub(super) holds: &'w [String],
    pub(super) ways: &'w [String],
    /// Whether a canary is held for what was seen.
    pub(super) is_troubled: bool,
}

/// The gate in one sentence: what it waits for, and what comes of it.
pub(super) fn summary(
    gate: &Gate,
    opening: Opening,
    rotation: &Rotation,
    Words { holds, ways, is_troubled }: Words<'_>,
) -> String {
    let name = gate.name;
    let closed = holds.join(", ");
    let stands = match gate.is_open() {
        true => format!("the {name} gate is open"),
        false => format!("the {name} gate is closed: {closed}"),
    };
    let by_hand = gate.name.waits_for_activation() && rotation.mode == Mode::Manual;
    match opening {
        Opening::Open => stands,
        Opening::ForActivation => {
            let whom = if rotation.canary.is_some() { first_or_all(name) } else { "" };
            format!("{stands}: let the new root sign{whom} with `banyan rotate activate`")
        }
        Opening::ByItself(at) if by_hand => {
            format!(
                "{stands}; it opens by itself at {at} at the latest, and then waits for `banyan rotate activate`"
            )
        }
        Opening::ByItself(at) => format!("{stands}; it opens by itself at {at} at the latest"),
        Opening::ByWord => {
            format!("{stands}; it does not open by itself: {}", ways.join("; "))
        }
        Opening::Held if is_troubled => format!(
            "{stands}; the canary is held for what was seen, so nothing ends by itself: `banyan rotate rollback`, or `banyan rotate \
             resume --by NAME --reason TEXT`"
        ),
        Opening::Held => {
            format!(
                "{stands}; the rotation is on hold, so nothing ends by itself: `banyan rotate resume`"
            )
        }
        Opening::Stopped => format!(
            "{stands}; nothing ends by itself while agents hold bundles that this server never published: `banyan state show`"
        ),
    }
}

/// For whom it signs then, where there is a cohort.
const fn first_or_all(gate: GateName) -> &'static str {
    match gate {
        GateName::Trust => " for the cohort",
        GateName::Canary => " for everybody",
        GateName::Leaves | GateName::Converged => "",
    }
}

#[cfg(test)]
mod tests;
