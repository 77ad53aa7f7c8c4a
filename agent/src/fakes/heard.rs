//! What the fake of the CA heard, put together.

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;

use super::ca::Desk;

impl Desk {
    /// Rows that the agent last claimed, newest claim for each serial.
    pub(crate) fn claims(&self) -> std::collections::BTreeMap<Vec<u8>, (u64, wire::EvidenceClass)> {
        let acks = self.heard.iter().filter_map(|message| match message {
            Up::Ack(ack) => Some(&ack.rows),
            _ => None,
        });
        acks.flatten().map(|row| (row.serial.clone(), (row.sequence, row.evidence()))).collect()
    }

    /// What was said last to be refused.
    pub(crate) fn refusals(&self) -> Option<Vec<wire::Refused>> {
        self.heard.iter().rev().find_map(|message| match message {
            Up::Refusals(refusals) => Some(refusals.refused.clone()),
            _ => None,
        })
    }

    pub(crate) fn released(&self) -> Vec<Vec<u8>> {
        let releases = self.heard.iter().filter_map(|message| match message {
            Up::Release(release) => Some(release.serials.clone()),
            _ => None,
        });
        releases.flatten().collect()
    }

    pub(crate) fn nacks(&self) -> Vec<wire::Nack> {
        let nacks = self.heard.iter().filter_map(|message| match message {
            Up::Nack(nack) => Some(nack.clone()),
            _ => None,
        });
        nacks.collect()
    }
}
