//! A holder that acknowledged a bundle and has a listener: whether it was seen to verify the new root.

use ledger::Standing;
use trust::{Sequence, Timestamp};

/// Where a leaf stands with probes of its holders' listeners.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What the ledger knows.
    pub standing: Standing,
    /// What the agent said of a listener last, if something is wrong with it.
    pub said: Option<String>,
}

impl Listening {
    /// What is not seen of it yet, and what can be done. `behind` is its agent, in words, and `until` the end of its leaf.
    pub(super) fn in_words(
        &self,
        identity: &str,
        behind: String,
        sequence: Sequence,
        until: Timestamp,
    ) -> String {
        let said = self.said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
        let who = format!("{identity} (agent-held{behind}): acknowledged bundle {sequence}");
        match self.standing.is_unable(sequence) {
            true => format!(
                "{who} and cannot verify the new root{said}; no time opens the gate over it: replace that proxy by a version that \
                 verifies the new algorithm, and the gate goes on by itself; or give the rotation up with `banyan rotate abort`; or \
                 go on without it with `banyan waiver add NAME --covers {identity} --lasts 7d --reason TEXT --force`, and it breaks \
                 when the new root signs"
            ),
            false => format!(
                "{who}, and its agent has not seen yet that it verifies the new root{said}; waited for until {until}"
            ),
        }
    }
}
