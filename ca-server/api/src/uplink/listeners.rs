//! Where workloads listen, and what their agent saw there.

use std::collections::BTreeMap;

use auth::refusal::echoed;
use ledger::{EvidenceClass, Probed, Witness};
use proto::banyan::agent::v1 as wire;
use registry::sessions::Listener;
use trust::{Sequence, Serial, SpiffeId};

use super::{Uplink, Word, probed};

/// Words of one agent about probes that are kept.
const PROBING_MAX: usize = 1_024;
/// Listeners of one agent that are kept.
const LISTENERS_MAX: usize = 256;

impl Uplink {
    /// Notes what is said of identities that the agent is entitled to; it opens no gate.
    pub(super) fn listeners(&self, said: &wire::Listeners) {
        let Some((agent, _)) = self.ca.registry.agent(&self.agent) else { return };
        let listener = |one: &wire::Listener| {
            let identity = SpiffeId::parse(&one.spiffe_id).ok()?;
            agent.identities.contains(&identity).then(|| Listener {
                identity,
                address: echoed(&one.address),
                learnt_from: echoed(&one.learnt_from),
                why_none: echoed(&one.why_none),
            })
        };
        let all: Vec<_> = said.listeners.iter().filter_map(listener).take(LISTENERS_MAX).collect();
        self.session.note(self.ca.clock.now(), |session| session.listeners = all);
    }

    /// What was seen at listeners. That a proxy verifies the next root is evidence, as good as one's own word can be; that it does not
    /// keeps a gate closed.
    pub(super) async fn probed(&self, said: &wire::Probed) {
        let (now, present) = (self.ca.clock.now(), self.bundles.borrow().sequence());
        let mut details = BTreeMap::new();
        for row in &said.rows {
            let Some(serial) = Serial::from_bytes(&row.serial) else { continue };
            let sequence = Sequence(row.sequence);
            let differs = self.differs.is_some_and(|differs| sequence <= differs);
            let detail = echoed(&row.detail);
            details.insert(serial, detail);
            if differs {
                continue;
            }
            let seen = probed(row.outcome, sequence, present);
            let taken = self.ca.ledger.probed(Witness::Agent(&self.agent), serial, seen, now).await;
            let word = match seen {
                Probed::Observed(applied) => {
                    Word::Applied(applied, EvidenceClass::HandshakeObserved)
                }
                // Another server hears it with the holder's next leaf.
                Probed::Nothing | Probed::NotProbeable(_) | Probed::Unable(_) => continue,
            };
            self.note_evidence(word, serial, taken.map(drop));
        }
        self.session.note(now, |session| {
            for (serial, detail) in details {
                match detail.is_empty() {
                    true => _ = session.probing.remove(&serial),
                    false if session.probing.len() < PROBING_MAX => {
                        _ = session.probing.insert(serial, detail);
                    }
                    false => {}
                }
            }
        });
    }
}
