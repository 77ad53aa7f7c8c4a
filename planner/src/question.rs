//! What is asked of a plan.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ledger::{EvidenceClass, RowKind};
use rotation::Policy;
use trust::plain::span;

/// Members that a plan may have: agents, their proxies, and clients that ask for themselves.
pub const MEMBERS_MAX: u64 = 4_000_000;
/// The longest life of leaves that is planned for: the time that a plan takes grows with it.
pub const LEAF_TTL_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A rotation that somebody thinks of.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who is there.
    pub mesh: Mesh,
    /// The limits of the machine.
    pub policy: Policy,
    /// Life of a leaf; `policy.leaf_lifetime_max` is the longest that any leaf may have.
    pub leaf_ttl: Duration,
    /// Leaves that agents are asked to renew early, a second.
    pub budget: u64,
    /// Evidence that the trust gate asks for leaves behind agents.
    pub agent_evidence: EvidenceClass,
    /// What is left of the present root's life when the rotation begins, if that is known.
    pub root_left: Option<Duration>,
    /// Size of a root's certificate in bytes.
    pub root_bytes: usize,
    /// When a client that asks for itself renews, as a share of the leaf's life.
    pub csr_renews_at: Share,
    /// What chance follows from.
    pub seed: u64,
}

/// Who is there.
#[derive(Debug, Clone)]
pub enum Mesh {
    /// So many, in the middle of their leaves' lives.
    Sketched(Sketch),
    /// These, as somebody found them.
    Found(Vec<Found>),
}

/// A mesh by its numbers.
#[derive(Debug, Clone, Copy)]
pub struct Sketch {
    /// Members: each is an agent with its proxies, or a client that asks for itself.
    pub agents: u64,
    /// Proxies behind each agent, with a leaf each.
    pub proxies: u32,
    /// The share of members that has no agent and asks for itself.
    pub csr_only: Share,
    /// The share of members that cannot be reached when the rotation begins.
    pub offline: Share,
    /// When those come back, after the begin; `None` if they never do.
    pub back_after: Option<Duration>,
}

/// One leaf that a server has a row of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Who holds it.
    pub kind: RowKind,
    /// The agent that it is behind, by a number of the caller's.
    pub agent: Option<u32>,
    /// Whether that agent is connected.
    pub connected: bool,
    /// Whether its holder takes its trust from elsewhere than from its agent.
    pub own_trust: bool,
    /// What is left of its life.
    pub left: Duration,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// Nobody is there.
    #[error("there is nobody to plan for: ask for at least 1 agent")]
    Nobody,
    /// Too many for one process.
    #[error(
        "{0} members with their proxies are more than a plan has room for: ask for at most {MEMBERS_MAX}"
    )]
    TooMany(u64),
    /// Nothing may be asked for.
    #[error("a budget of 0 leaves a second asks nobody to renew: write at least 1/s")]
    NoBudget,
    /// Leaves shorter than the server issues.
    #[error(
        "leaves that live {} are shorter than leaf.ttl_min, {}: plan for at least that, or for a policy with a lower leaf.ttl_min",
        span(*ttl), span(*least)
    )]
    TooShort {
        /// The life that was asked for.
        ttl: Duration,
        /// The shortest that is issued.
        least: Duration,
    },
    /// Leaves longer than the server issues, or than is planned for.
    #[error("leaves that live {} are longer than {}, the longest that a plan is made for here", span(*ttl), span(*most))]
    TooLong {
        /// The life that was asked for.
        ttl: Duration,
        /// The longest.
        most: Duration,
    },
    /// The root has ended, or will before a leaf can be issued.
    #[error(
        "a root that ends within {} issues no leaf of {} any more: plan from an earlier date",
        span(*left), span(*least)
    )]
    RootOver {
        /// What is left of its life.
        left: Duration,
        /// The shortest leaf.
        least: Duration,
    },
}

impl Question {
    /// # Errors
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<(), BadQuestion> {
        let members = self.mesh.leaves();
        match members {
            0 => return Err(BadQuestion::Nobody),
            members if members > MEMBERS_MAX => return Err(BadQuestion::TooMany(members)),
            _ => {}
        }
        if self.budget == 0 {
            return Err(BadQuestion::NoBudget);
        }
        let (ttl, least) = (self.leaf_ttl, self.policy.leaf_lifetime_min);
        if ttl < least {
            return Err(BadQuestion::TooShort { ttl, least });
        }
        let most = self.policy.leaf_lifetime_max.min(LEAF_TTL_MAX);
        if ttl > most {
            return Err(BadQuestion::TooLong { ttl, most });
        }
        match self.root_left {
            Some(left) if left < least => Err(BadQuestion::RootOver { left, least }),
            _ => Ok(()),
        }
    }

    /// How long the machine takes at most if nobody ever confirms anything.
    pub(crate) fn at_most(&self) -> Duration {
        self.policy.rotation_at_most() + self.policy.withdrawal_max
    }

    /// The mesh is watched so long before the rotation is asked for.
    pub(crate) fn lead_in(&self) -> Duration {
        Duration::from_secs(60).min(self.leaf_ttl / 4)
    }

    /// How long a plan goes on before it says that the rotation does not end by itself.
    pub(crate) fn patience(&self) -> Duration {
        self.at_most() + self.policy.leaf_lifetime_max
    }

    /// How finely time is looked at: half a second, as a server does, and coarser where leaves live for long.
    pub(crate) fn grain(&self) -> Duration {
        (self.leaf_ttl / 7_200).max(Duration::from_millis(500))
    }
}

impl Mesh {
    /// How many leaves there are at a time, about.
    fn leaves(&self) -> u64 {
        match self {
            Self::Sketched(sketch) => {
                sketch.agents.saturating_mul(u64::from(sketch.proxies).saturating_add(1))
            }
            Self::Found(found) => found.len() as u64,
        }
    }
}

/// A part of a whole, from none to all, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share(u32);

impl Share {
    /// So many of a hundred; all, if it is more.
    pub const fn percent(percent: u32) -> Self {
        if percent > 100 { Self(1_000_000) } else { Self(percent * 10_000) }
    }

    /// In millionths.
    pub const fn millionths(self) -> u64 {
        self.0 as u64
    }

    /// This part of so many, rounded.
    pub const fn of(self, whole: u64) -> u64 {
        (whole.saturating_mul(self.millionths()) + 500_000) / 1_000_000
    }
}

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no share: write a percentage from 0% to 100%, such as 2%")]
pub struct NoShare(String);

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let no_share = || NoShare(text.to_owned());
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || part.is_empty() || part.len() > 4 || !digits(whole) || !digits(part)
        {
            return Err(no_share());
        }
        let whole: u32 = whole.parse().map_err(|_| no_share())?;
        let part: u32 = format!("{part:0<4}").parse().map_err(|_| no_share())?;
        let millionths = whole.checked_mul(10_000).and_then(|whole| whole.checked_add(part));
        millionths.filter(|share| *share <= 1_000_000).map(Self).ok_or_else(no_share)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        let part = format!("{part:04}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_from_none_to_all() {
        for (text, told) in [("2%", "2%"), ("0.5%", "0.5%"), ("100", "100%"), ("0%", "0%")] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), told);
        }
        for text in ["-1%", "101%", "100.1%", "", "%", "a", "1.%", "+3%", "1e2", "99999999999%"] {
            let refused = text.parse::<Share>().unwrap_err().to_string();
            assert!(refused.contains("from 0% to 100%") && refused.contains(text), "{refused}");
        }
        assert_eq!(Share::percent(2).of(100_000), 2_000);
    }
}
