//! What can be done in the place of what was refused, as data: each verb named here is legal in the state that refused.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trust::{Cohort, RootId, Sequence, Timestamp};

use crate::codec;
use crate::{AuthorityName, Event, Evidence, Mode, ReplicaName, RequestId};

/// Something that an operator can say to the machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Begin a rotation.
    Start,
    /// Let the new root sign; after a rollback, go forward again.
    Activate,
    /// Let no phase end by itself.
    Hold,
    /// Let the new root sign for more than the cohort of a canary.
    Widen,
    /// Let phases end again.
    Resume,
    /// The same for a canary that is held for what was seen: whoever says so stands for it by name.
    Accept,
    /// Give the rotation up.
    Abort,
    /// Let the former root sign again.
    Rollback,
    /// Have a new issuer signed, in the place of one that is being signed.
    RenewIssuer {
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Of which replica: the one that is asked to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaName>,
    },
    /// Want the renewal of an issuer no more.
    CancelRenewal {
        /// Under which root.
        #[serde(with = "codec::text")]
        root: RootId,
        /// Of which replica: the one that is asked to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaName>,
    },
    /// Let the record go on above what agents hold.
    Continue {
        /// Above this sequence.
        #[serde(with = "codec::sequence")]
        above: Sequence,
        /// Without waiting for the leaves that were issued after the backup: no other root had begun to sign by then.
        now: bool,
    },
    /// Let the word of an agent about bundles count no more.
    Dismiss {
        /// The agent.
        agent: String,
    },
    /// Let it count again.
    Heed {
        /// The agent.
        agent: String,
    },
    /// Take back that a root is distrusted.
    TrustAgain {
        /// The root.
        #[serde(with = "codec::text")]
        root: RootId,
    },
}

/// What an event of a verb is made of besides the verb.
#[derive(Clone, Debug)]
pub struct Saying<'a> {
    /// Name of the request.
    pub request_id: &'a RequestId,
    /// Who makes the root of a rotation that starts.
    pub authority: &'a AuthorityName,
    /// What an activation is judged by.
    pub evidence: Option<&'a Evidence>,
}

/// What goes on by itself, and makes legal what was refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The first root is being made.
    // Journals have the first name.
    #[serde(rename = "founding")]
    Bootstrap,
    /// The rotation ends by itself.
    Rotation,
    /// The trust gate opens; then the new root can be activated.
    TrustGate {
        /// At this time at the latest, if the evidence says one.
        #[serde(with = "codec::optional_seconds")]
        at_latest: Option<Timestamp>,
    },
    /// The renewal of the issuer ends by itself.
    Renewal,
}

/// What can be done instead. Empty where only the event itself must be made otherwise: then the cause says how.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Advice {
    /// What waiting is good for; `None` if nothing comes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Verbs that the state takes now, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<Verb>,
}

impl Verb {
    /// The event of this verb; `None` for an activation without evidence.
    pub fn event(&self, saying: &Saying<'_>) -> Option<Event> {
        let request_id = saying.request_id.clone();
        let reason = "as advised".to_owned();
        Some(match self.clone() {
            Self::Start => Event::RotationRequested {
                request_id,
                authority: saying.authority.clone(),
                mode: Mode::Auto,
                stage_again: None,
                canary: None,
            },
            Self::Activate => {
                Event::ActivateRequested { request_id, evidence: saying.evidence?.clone() }
            }
            Self::Hold => Event::HoldRequested { request_id },
            Self::Widen => {
                let cohort = Cohort::new(100, BTreeSet::new()).ok()?;
                Event::CanaryWidened { request_id, cohort }
            }
            Self::Resume | Self::Accept => Event::ResumeRequested { request_id },
            Self::Abort => Event::AbortRequested { request_id },
            Self::Rollback => Event::RollbackRequested { request_id },
            Self::RenewIssuer { root, replica } => {
                Event::IssuerRenewalRequested { request_id, root, replica, replaces: true }
            }
            Self::CancelRenewal { root, replica } => {
                Event::IssuerRenewalCancelled { request_id, root, replica }
            }
            Self::Continue { above, now } => {
                Event::ContinueRequested { request_id, above, reason, waits: !now }
            }
            Self::Dismiss { agent } => Event::SightingDismissed { request_id, agent, reason },
            Self::Heed { agent } => Event::SightingHeeded { request_id, agent },
            Self::TrustAgain { root } => {
                Event::RootTrustedAgain { request_id, root, by: String::new(), reason }
            }
        })
    }

    /// The verb in one word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Activate => "activate",
            Self::Hold => "hold",
            Self::Widen => "widen",
            Self::Resume | Self::Accept => "resume",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
            Self::RenewIssuer { .. } => "renew",
            Self::CancelRenewal { .. } => "cancel",
            Self::Continue { .. } => "continue",
            Self::Dismiss { .. } => "dismiss",
            Self::Heed { .. } => "heed",
            Self::TrustAgain { .. } => "trust-again",
        }
    }

    /// The command that says it.
    pub fn command(&self) -> String {
        match self {
            Self::Start
            | Self::Activate
            | Self::Hold
            | Self::Resume
            | Self::Abort
            | Self::Rollback => {
                format!("banyan rotate {}", self.name())
            }
            Self::Widen => "banyan rotate widen --canary COHORT".to_owned(),
            Self::Accept => "banyan rotate resume --by NAME --reason TEXT".to_owned(),
            Self::RenewIssuer { root, .. } | Self::CancelRenewal { root, .. } => {
                format!("banyan issuer {} --root {}", self.name(), root.short())
            }
            Self::Continue { above, now } => {
                let now = if *now { "--now " } else { "" };
                format!("banyan state continue --above {above} {now}--by NAME --reason TEXT")
            }
            Self::Dismiss { agent } => {
                format!("banyan state dismiss {agent} --by NAME --reason TEXT")
            }
            Self::Heed { agent } => format!("banyan state heed {agent} --by NAME"),
            Self::TrustAgain { root } => {
                format!("banyan root trust-again {} --by NAME --reason TEXT", root.short())
            }
        }
    }

    fn in_words(&self) -> String {
        let command = self.command();
        match self {
            Self::Start => format!("start a rotation with `{command}`"),
            Self::Activate => format!("go forward again with `{command}`"),
            Self::Hold => format!("hold it with `{command}`"),
            Self::Widen => format!("let the new root sign for more with `{command}`"),
            Self::Resume => format!("let it go on with `{command}`"),
            Self::Accept => {
                format!("mend what was seen, then let it go on with `{command}`")
            }
            Self::Abort => format!("give it up with `{command}`"),
            Self::Rollback => format!("roll it back with `{command}`"),
            Self::RenewIssuer { .. } => format!("take its place with `{command}`"),
            Self::CancelRenewal { .. } => format!("cancel it with `{command}`"),
            Self::Continue { now: false, .. } => {
                format!("continue above all that was seen with `{command}`")
            }
            Self::Continue { now: true, .. } => format!(
                "if no other root had begun to sign after the backup was made, continue above all that was seen with `{command}`"
            ),
            Self::Dismiss { agent } => {
                format!("if what agent {agent} says is wrong, disregard it with `{command}`")
            }
            Self::Heed { .. } => format!("let an agent's word count again with `{command}`"),
            Self::TrustAgain { .. } => {
                format!("if that was a mistake, take it back with `{command}`")
            }
        }
    }
}

impl Wait {
    fn in_words(&self) -> String {
        match self {
            Self::Bootstrap => "wait until the first root signs".to_owned(),
            Self::Rotation | Self::Renewal => "wait until it is over".to_owned(),
            Self::TrustGate { at_latest: None } => {
                format!(
                    "once the trust gate is open, let the new root sign with `{}`",
                    Verb::Activate.command()
                )
            }
            Self::TrustGate { at_latest: Some(at) } => {
                format!("it opens by itself at {at} at the latest")
            }
        }
    }
}

impl Advice {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.wait.is_none() && self.verbs.is_empty()
    }

    /// All of it, as parts of one sentence.
    pub fn in_words(&self) -> String {
        let parts: Vec<_> = self
            .wait
            .iter()
            .map(Wait::in_words)
            .chain(self.verbs.iter().map(Verb::in_words))
            .collect();
        parts.join(", or ")
    }
}
