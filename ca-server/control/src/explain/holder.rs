//! Who holds a gate closed: what is known of it, what the gate needs, and when it counts no longer.
//!
//! Pure. What would contradict itself cannot be made here: a holder that has what the gate needs is none, and each holder has
//! one time, the one that the gate counts.

use ledger::{EvidenceClass, Required, RowKind};
use rotation::Policy;
use rotation::evidence::GateName;
use trust::{RootId, Sequence, Serial, Timestamp};

use super::listening::Listening;
use super::names::{SHARED_ROOT, class_name, kind_name};

/// One holder of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who it is.
    pub who: Who,
    /// The agent that reports about it, if one does.
    pub agent: Option<AgentSeen>,
    /// What is known of it.
    pub has: Has,
    /// What the gate needs of it.
    pub needs: Needs,
    /// When it counts no longer.
    pub ends: Ends,
    /// What it, or its agent, refuses now.
    pub refuses: Option<String>,
    /// More than can be told from the rest.
    pub more: Option<String>,
    /// Whether it acknowledged the bundle and was seen not to verify the root that shall sign.
    pub unable: bool,
}

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever has a leaf.
    Leaf {
        /// What kind of row.
        kind: RowKind,
        /// Whose it is.
        identity: String,
        /// Its serial number.
        serial: Serial,
        /// Whether its trust comes from elsewhere than its leaf.
        own_trust: bool,
    },
    /// Who relies on the bundle without a leaf.
    RelyingParty {
        /// Its name.
        name: String,
    },
    /// A downstream CA.
    Downstream {
        /// Its name.
        name: String,
    },
    /// Others who issue under a root.
    Others {
        /// The root.
        root: RootId,
    },
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSeen {
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// When it was heard of last.
    pub last_seen: Timestamp,
}

/// What is known of a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Has {
    /// Nothing but that its leaf was issued at this bundle.
    Issued {
        /// The bundle that the leaf was issued at.
        born: Sequence,
    },
    /// It has a bundle.
    Bundle {
        /// The bundle.
        sequence: Sequence,
        /// The evidence.
        class: EvidenceClass,
    },
    /// It trusts what somebody else gives it.
    OwnTrust {
        /// The bundle that the leaf was issued at.
        born: Sequence,
    },
    /// A leaf under the root that is to go.
    LeafUnder {
        /// The root.
        root: RootId,
        /// The bundle that the leaf was issued at.
        born: Sequence,
    },
    /// Somebody confirmed a bundle for it; 0 for none.
    Confirmed {
        /// The bundle.
        sequence: Sequence,
    },
    /// It reported a bundle, once.
    Reported {
        /// The bundle.
        sequence: Sequence,
        /// When.
        at: Timestamp,
    },
    /// Nothing.
    Nothing,
}

/// What a gate needs of a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Evidence that it has a bundle.
    Bundle {
        /// The bundle.
        sequence: Sequence,
        /// The evidence.
        class: EvidenceClass,
    },
    /// A new leaf, with which the bundle comes.
    LeafWith {
        /// The bundle.
        sequence: Sequence,
    },
    /// That its agent sees its listener verify the root that shall sign.
    Verifies {
        /// The bundle that brings the root.
        sequence: Sequence,
    },
    /// Somebody's word that it trusts a bundle.
    WordFor {
        /// The bundle.
        sequence: Sequence,
    },
    /// A new leaf under the root that stays.
    LeafUnder {
        /// The root.
        root: RootId,
    },
    /// That somebody confirms a bundle.
    Confirmation {
        /// The bundle.
        sequence: Sequence,
        /// Which of the two it is.
        round: Round,
    },
    /// A report that it has taken the step.
    Report,
    /// The end of others' leaves.
    OthersEnd,
}

/// Which of the confirmations of one rotation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// For the bundle with both roots.
    Both,
    /// For the bundle without the root that has gone.
    Last,
    /// For the bundle as it was before: the rotation was given up or taken back.
    Back,
}

impl Round {
    /// That of this gate, of a rotation that was given up or not.
    pub(crate) const fn of(gate: GateName, given_up: bool) -> Self {
        match (given_up, gate) {
            (true, _) => Self::Back,
            (false, GateName::Converged) => Self::Last,
            (false, GateName::Trust | GateName::Canary | GateName::Leaves) => Self::Both,
        }
    }
}

/// When a holder counts no longer, whatever it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// At this time, by everybody's clock.
    At(Timestamp),
    /// Never: only a word ends it.
    ByWord,
}

impl Ends {
    /// At the earlier of two times, if there is one.
    pub(crate) fn first(one: Option<Timestamp>, other: Option<Timestamp>) -> Self {
        one.into_iter().chain(other).min().map_or(Self::ByWord, Self::At)
    }
}

/// What the ledger and its agent's session know of a leaf.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// What kind of row it is.
    pub kind: RowKind,
    /// Whose leaf it is.
    pub identity: String,
    /// Its serial number.
    pub serial: Serial,
    /// The agent that reports about it.
    pub agent: Option<AgentSeen>,
    /// The bundle that it was issued at.
    pub born: Sequence,
    /// The newest bundle that its holder is known to have, and by what evidence.
    pub newest: Option<(Sequence, EvidenceClass)>,
    /// Its end.
    pub not_after: Timestamp,
    /// What its holder, or the agent, refuses now.
    pub refuses: Option<String>,
    /// Why its holder gets no newer one, if an operator banned it.
    pub banned: Option<String>,
    /// Where it stands with probes of its holders' listeners, if it has any.
    pub listening: Option<Listening>,
}

/// What a gate asks of leaves.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// That their holders have a bundle, by evidence of this class.
    Bundle {
        /// The bundle.
        sequence: Sequence,
        /// The evidence.
        required: Required,
    },
    /// That none is left under `from`.
    Gone {
        /// The root that is to go.
        from: RootId,
        /// The root that stays.
        to: RootId,
    },
}

/// A relying party as gates see it.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// The latest bundle that it is known to have.
    pub confirmed: Sequence,
    /// When its staleness bound is over; `None` if only a word proves anything.
    pub until: Option<Timestamp>,
}

impl Holder {
    /// A leaf that holds a gate at `at`; `None` if it does not: it has what is asked, or its end has passed.
    pub fn of_leaf(leaf: Leaf, asked: Asked, at: Timestamp, policy: &Policy) -> Option<Self> {
        let Leaf { kind, identity, serial, agent, born, newest, not_after, refuses, .. } = leaf;
        let (banned, listening) = (leaf.banned, leaf.listening);
        let (has, needs) = match asked {
            Asked::Bundle { sequence, required: Required { class, probe } } => {
                let has = match newest {
                    Some((has, by)) if has >= sequence && by >= class => {
                        let unseen = |one: &Listening| one.standing.is_unprobed(sequence);
                        let listening = listening.filter(|one| probe && unseen(one))?;
                        let unable = listening.standing.is_unable(sequence);
                        let until = policy.over_at(not_after);
                        let ends = if unable { Ends::ByWord } else { Ends::At(until) };
                        let text = listening.in_words(&identity, behind(&agent), sequence, until);
                        let more =
                            Some(banned.into_iter().fold(text, |text, why| text + "; " + &why));
                        let has = Has::Bundle { sequence: has, class: by };
                        let needs = Needs::Verifies { sequence };
                        let who = Who::Leaf { kind, identity, serial, own_trust: false };
                        let holder = Self { who, agent, has, needs, ends, refuses, more, unable };
                        return holder.while_it_holds(at);
                    }
                    Some((sequence, class)) => Has::Bundle { sequence, class },
                    None => Has::Issued { born },
                };
                let needs = match kind.is_proven_by_birth() {
                    true => Needs::LeafWith { sequence },
                    false => Needs::Bundle { sequence, class },
                };
                (has, needs)
            }
            Asked::Gone { from, to } => {
                (Has::LeafUnder { root: from, born }, Needs::LeafUnder { root: to })
            }
        };
        let who = Who::Leaf { kind, identity, serial, own_trust: false };
        let ends = Ends::At(policy.over_at(not_after));
        Self { who, agent, has, needs, ends, refuses, more: banned, unable: false }
            .while_it_holds(at)
    }

    /// A relying party that has not confirmed `wanted`; `None` if its time is over.
    pub fn of_relying_party(
        party: Party,
        wanted: Sequence,
        round: Round,
        at: Timestamp,
        policy: &Policy,
    ) -> Option<Self> {
        let Party { name, confirmed, until } = party;
        if confirmed >= wanted {
            return None;
        }
        // Whoever did not confirm the first has no second.
        let round = match round {
            Round::Last if confirmed.next() < wanted => Round::Back,
            round => round,
        };
        let command = format!("`banyan relying-party confirm {name}`");
        let more = match round {
            Round::Both => format!("{command}, and once more when the former root has left"),
            Round::Last => format!("{command}, the second and last of this rotation"),
            Round::Back => command,
        };
        Self {
            who: Who::RelyingParty { name },
            agent: None,
            has: Has::Confirmed { sequence: confirmed },
            needs: Needs::Confirmation { sequence: wanted, round },
            ends: until.map_or(Ends::ByWord, |until| Ends::At(policy.over_at(until))),
            refuses: None,
            more: Some(more),
            unable: false,
        }
        .while_it_holds(at)
    }

    /// The same, if the gate gives up on everybody at this time.
    pub(crate) fn given_up_at(
        mut self,
        deadline: Option<Timestamp>,
        at: Timestamp,
    ) -> Option<Self> {
        if let Ends::At(end) = self.ends {
            self.ends = Ends::first(Some(end), deadline);
        } else if let Some(deadline) = deadline {
            self.ends = Ends::At(deadline);
        }
        self.while_it_holds(at)
    }

    /// What has passed holds no gate.
    pub(crate) fn while_it_holds(self, at: Timestamp) -> Option<Self> {
        match self.ends {
            Ends::At(end) if end <= at => None,
            _ => Some(self),
        }
    }

    /// What kind of holder it is, in one word.
    pub const fn kind(&self) -> &'static str {
        match &self.who {
            Who::Leaf { kind, .. } => kind_name(*kind),
            Who::RelyingParty { .. } => "relying-party",
            Who::Downstream { .. } => "downstream",
            Who::Others { .. } => SHARED_ROOT,
        }
    }

    /// Whose name it bears.
    pub fn name(&self) -> String {
        match &self.who {
            Who::Leaf { identity, .. } => identity.clone(),
            Who::RelyingParty { name } | Who::Downstream { name } => name.clone(),
            Who::Others { root } => root.to_string(),
        }
    }

    /// Whether it takes its leaf from its agent and its trust from elsewhere.
    pub const fn is_own_trust(&self) -> bool {
        matches!(&self.who, Who::Leaf { own_trust: true, .. })
    }

    /// As a refusal names it: what can be done is told beside it.
    pub(crate) fn in_short(&self) -> String {
        let behind = behind(&self.agent);
        let until = match self.ends {
            Ends::At(end) => format!(" until {end}"),
            Ends::ByWord => String::new(),
        };
        let own = match &self.who {
            Who::Leaf { own_trust: true, kind: RowKind::ChannelTrusted, .. } => {
                ", has its roots from a channel"
            }
            Who::Leaf { own_trust: true, .. } => ", takes no validation secret from its agent",
            _ if self.unable => ", acknowledged and cannot verify the new root",
            _ => "",
        };
        format!("{} ({}{behind}{own}){until}", self.name(), self.kind())
    }

    /// All of it in one sentence.
    pub fn sentence(&self) -> String {
        let is_told_apart = matches!(self.who, Who::Leaf { .. } | Who::RelyingParty { .. });
        if let (Some(more), false) = (&self.more, is_told_apart) {
            return more.clone();
        }
        let who = match &self.who {
            Who::Leaf { .. } => format!("{} ({})", self.name(), self.kind()),
            Who::RelyingParty { name } => format!("relying party {name}"),
            Who::Downstream { name } => format!("downstream CA {name}"),
            Who::Others { root } => format!("others under root {}", root.short()),
        };
        let (has, needs) = (self.has.in_words(), self.needs.in_words());
        let ends = match self.ends {
            Ends::At(end) => format!("waited for until {end}"),
            Ends::ByWord => "no time ends that".to_owned(),
        };
        let agent = behind(&self.agent);
        let refuses =
            self.refuses.as_ref().map(|said| format!(", refuses it: {said}")).unwrap_or_default();
        let more = self.more.as_ref().map(|more| format!(": {more}")).unwrap_or_default();
        format!("{who}: has {has}, needs {needs}, {ends}{agent}{refuses}{more}")
    }
}

/// The agent, and whether it is there.
fn behind(agent: &Option<AgentSeen>) -> String {
    match agent {
        None => String::new(),
        Some(AgentSeen { name, connected: true, .. }) => format!(", agent {name} is connected"),
        Some(AgentSeen { name, .. }) => format!(", agent {name} is not connected"),
    }
}

impl Has {
    /// As a column of a table has it.
    pub fn in_words(&self) -> String {
        match self {
            Self::Issued { born } => format!("nothing known since its issue at bundle {born}"),
            Self::Bundle { sequence, class } => {
                format!("bundle {sequence} ({})", class_name(*class))
            }
            Self::OwnTrust { .. } => "trust of its own".to_owned(),
            Self::LeafUnder { root, .. } => format!("a leaf of root {}", root.short()),
            Self::Confirmed { sequence: Sequence(0) } => "no bundle confirmed yet".to_owned(),
            Self::Confirmed { sequence } => format!("bundle {sequence} confirmed"),
            Self::Reported { sequence, .. } => format!("bundle {sequence} reported"),
            Self::Nothing => "-".to_owned(),
        }
    }

    /// The bundle that its leaf was issued at, of a leaf.
    pub const fn born(&self) -> Sequence {
        match self {
            Self::Issued { born } | Self::OwnTrust { born } | Self::LeafUnder { born, .. } => *born,
            _ => Sequence(0),
        }
    }

    /// The bundle that it is known to have; 0 for none.
    pub const fn sequence(&self) -> Sequence {
        match self {
            Self::Bundle { sequence, .. }
            | Self::Confirmed { sequence }
            | Self::Reported { sequence, .. } => *sequence,
            _ => Sequence(0),
        }
    }
}

impl Needs {
    /// As a column of a table has it.
    pub fn in_words(&self) -> String {
        match self {
            Self::Bundle { sequence, class } => {
                format!("bundle {sequence} ({})", class_name(*class))
            }
            Self::LeafWith { sequence } => format!("a new leaf, with bundle {sequence}"),
            Self::Verifies { sequence } => {
                format!("to be seen to verify the new root of bundle {sequence}")
            }
            Self::WordFor { sequence } => format!("a word for bundle {sequence}"),
            Self::LeafUnder { root } => format!("a new leaf, of root {}", root.short()),
            Self::Confirmation { sequence, round: Round::Both } => {
                format!("bundle {sequence} confirmed (1st of 2)")
            }
            Self::Confirmation { sequence, round: Round::Last } => {
                format!("bundle {sequence} confirmed (2nd of 2)")
            }
            Self::Confirmation { sequence, round: Round::Back } => {
                format!("bundle {sequence} confirmed")
            }
            Self::Report => "a report of this step".to_owned(),
            Self::OthersEnd => "the end of others' leaves".to_owned(),
        }
    }

    /// The bundle that is asked for; 0 if none is.
    pub const fn sequence(&self) -> Sequence {
        match self {
            Self::Bundle { sequence, .. }
            | Self::LeafWith { sequence }
            | Self::Verifies { sequence }
            | Self::WordFor { sequence }
            | Self::Confirmation { sequence, .. } => *sequence,
            Self::LeafUnder { .. } | Self::Report | Self::OthersEnd => Sequence(0),
        }
    }
}

/// Whom a gate waits for: as many by name as fit, and how many are left.
pub(crate) fn named(holders: &[Holder], total: u64, count_max: usize, len_max: usize) -> String {
    let mut text = String::new();
    let mut named = 0_u64;
    for holder in holders.iter().take(count_max) {
        let one = holder.in_short();
        if text.len() + one.len() > len_max {
            break;
        }
        text.push_str(if named == 0 { "; it waits for " } else { ", " });
        text.push_str(&one);
        named += 1;
    }
    match (named, total.saturating_sub(named)) {
        (_, 0) => text,
        (0, total) => format!("; it waits for {total} of those that `banyan rotate explain` names"),
        (_, more) => format!("{text} and {more} more, as `banyan rotate explain` says"),
    }
}

#[cfg(test)]
mod tests;
