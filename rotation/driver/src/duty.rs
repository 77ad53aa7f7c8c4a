//! Which part of the work this process does, where several servers drive one record.

use rotation::{Effect, ReplicaName};

/// What a process performs of the effects that the record owes. Any of them may be performed by several at once without
/// harm; to share them spares the work of losing races.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Which replica this is; `None` when no other process can write the record.
    pub replica: Option<ReplicaName>,
    /// Whether this process does what one of all has to do: it stages roots, and reports evidence.
    pub leads: bool,
    /// Of all servers that are registered the one that reads the oldest records, if that is older than what this program
    /// writes.
    pub former: Option<Former>,
}

/// A server of a former release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its name.
    pub replica: ReplicaName,
    /// The newest format of the record that it reads.
    pub reads: u32,
}

impl Duty {
    /// That of the one process there is.
    #[must_use]
    pub const fn alone() -> Self {
        Self { replica: None, leads: true, former: None }
    }

    /// Whether an effect is performed by this process.
    pub fn has(&self, effect: &Effect) -> bool {
        match effect {
            Effect::RequestIssuer { replica: Some(whose), .. } => {
                self.replica.as_ref().is_none_or(|own| own == whose)
            }
            Effect::StageRoot { .. } | Effect::RequestIssuer { replica: None, .. } => self.leads,
            Effect::PublishBundle { .. } | Effect::SwitchSigner { .. } => true,
        }
    }
}
