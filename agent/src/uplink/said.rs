//! What is said on one stream: everything once, and then only what is news.

use std::collections::{BTreeMap, BTreeSet};

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::agent_message::Message as Up;
use trust::{Serial, SpiffeId, Timestamp};

use crate::counted::Counted;
use crate::evidence::{Applied, Evidence};
use crate::probed::Seen;

/// Rows or serials in one message.
pub(super) const ROWS_MAX: usize = 1024;

/// Rows in one message that have a text each.
const PROBED_MAX: usize = 128;
/// Identities in one message, each with what its Envoys count.
const COUNTED_MAX: usize = 64;

/// What was said on this stream.
#[derive(Default)]
pub(super) struct Said {
    /// The certificate that the stream began with. It is not given up here, since the CA would end the stream for that: the next
    /// stream, which begins with its successor, says it.
    own: Option<Serial>,
    applied: BTreeMap<Serial, Applied>,
    probed: BTreeMap<Serial, Seen>,
    counted: BTreeMap<SpiffeId, Counted>,
    listeners: Vec<wire::Listener>,
    lists: BTreeMap<Serial, u64>,
    released: BTreeSet<Serial>,
    nacks: u64,
    /// Not said yet on this stream.
    refusing: Option<Vec<(Option<Serial>, String)>>,
}

impl Said {
    /// Nothing, on a stream that begins with this certificate.
    pub(super) fn beginning_with(own: Option<Serial>) -> Self {
        Self { own, ..Self::default() }
    }

    /// What is true and was not said on this stream yet; now it is.
    pub(super) fn news(&mut self, evidence: &Evidence) -> Vec<Up> {
        let fresh: Vec<wire::AppliedRow> = evidence
            .applied
            .iter()
            .filter(|(serial, claim)| self.applied.get(*serial) != Some(*claim))
            .map(|(serial, claim)| wire::AppliedRow {
                serial: serial.as_bytes().to_vec(),
                sequence: claim.sequence.0,
                evidence: claim.class.into(),
            })
            .collect();
        let released = evidence.released.difference(&self.released);
        let released: Vec<Vec<u8>> = released
            .filter(|serial| self.own != Some(**serial))
            .map(|serial| serial.as_bytes().to_vec())
            .collect();
        let mut messages: Vec<Up> =
            fresh.chunks(ROWS_MAX).map(|rows| Up::Ack(wire::Ack { rows: rows.to_vec() })).collect();
        messages.extend(
            released
                .chunks(ROWS_MAX)
                .map(|serials| Up::Release(wire::Release { serials: serials.to_vec() })),
        );
        // After the acknowledgements, which they rest on.
        let probed: Vec<wire::ProbedRow> = evidence
            .probed
            .iter()
            .filter(|(serial, seen)| self.probed.get(*serial) != Some(*seen))
            .map(|(serial, seen)| wire::ProbedRow {
                serial: serial.as_bytes().to_vec(),
                sequence: seen.sequence.0,
                outcome: seen.outcome.wire().into(),
                detail: seen.detail.clone(),
            })
            .collect();
        messages.extend(
            probed.chunks(PROBED_MAX).map(|rows| Up::Probed(wire::Probed { rows: rows.to_vec() })),
        );
        let counted: Vec<wire::HandshakeCount> = evidence
            .counted
            .iter()
            .filter(|(identity, counted)| self.counted.get(*identity) != Some(*counted))
            .map(|(identity, counted)| counted.wire(identity))
            .collect();
        messages.extend(
            counted
                .chunks(COUNTED_MAX)
                .map(|counts| Up::Handshakes(wire::HandshakeCounts { counts: counts.to_vec() })),
        );
        if self.listeners != evidence.listeners {
            let listeners = evidence.listeners.iter().take(ROWS_MAX).cloned().collect();
            messages.push(Up::Listeners(wire::Listeners { listeners }));
        }
        let number = |all: &BTreeMap<Serial, u64>, serial| all.get(serial).copied().unwrap_or(0);
        let listed: Vec<wire::ListsRow> = evidence
            .lists
            .iter()
            .filter(|(serial, now)| number(&self.lists, *serial) != **now)
            .map(|(serial, now)| wire::ListsRow {
                serial: serial.as_bytes().to_vec(),
                number: *now,
            })
            .collect();
        messages.extend(
            listed
                .chunks(ROWS_MAX)
                .map(|rows| Up::Lists(wire::ListsApplied { rows: rows.to_vec() })),
        );
        let nacks = evidence.nacks.iter().filter(|(number, _)| *number > self.nacks);
        messages.extend(nacks.map(|(_, nack)| Up::Nack(nack.clone())));
        if self.refusing.as_ref() != Some(&evidence.refusing) {
            let refused = evidence.refusing.iter().map(|(serial, reason)| wire::Refused {
                serial: serial.map(|serial| serial.as_bytes().to_vec()).unwrap_or_default(),
                reason: reason.clone(),
            });
            messages.push(Up::Refusals(wire::Refusals { refused: refused.collect() }));
            self.refusing = Some(evidence.refusing.clone());
        }
        self.applied.clone_from(&evidence.applied);
        self.probed.clone_from(&evidence.probed);
        self.counted.clone_from(&evidence.counted);
        self.listeners.clone_from(&evidence.listeners);
        self.lists.clone_from(&evidence.lists);
        self.released.clone_from(&evidence.released);
        self.nacks = evidence.health.nacks;
        messages
    }
}

/// Leaves with their ends, as far as they can be read.
pub(super) fn rows(rows: &[wire::DoubtedRow]) -> Vec<(Serial, Timestamp)> {
    let row = |row: &wire::DoubtedRow| {
        Some((Serial::from_bytes(&row.serial)?, Timestamp::from_secs(row.not_after)))
    };
    rows.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust::Sequence;

    fn serial(number: u8) -> Serial {
        Serial::from_bytes(&[0x40 + number; 16]).unwrap()
    }

    #[test]
    fn each_stream_hears_everything_once_and_then_only_news() {
        let claim = |sequence| Applied {
            sequence: Sequence(sequence),
            class: wire::EvidenceClass::Applied,
        };
        let nack = wire::Nack { serial: Vec::new(), sequence: 1, reason: "no".to_owned() };
        let mut evidence = Evidence {
            applied: BTreeMap::from([(serial(1), claim(1)), (serial(2), claim(1))]),
            released: BTreeSet::from([serial(3)]),
            nacks: vec![(1, nack)],
            health: wire::Health { holders: 1, workloads: 1, nacks: 1 },
            ..Evidence::default()
        };
        let mut said = Said::default();
        let kinds = |messages: &[Up]| -> Vec<&str> {
            messages
                .iter()
                .map(|message| match message {
                    Up::Ack(ack) if ack.rows.len() == 2 => "ack of two",
                    Up::Ack(_) => "ack of one",
                    Up::Release(_) => "release",
                    Up::Nack(_) => "nack",
                    Up::Refusals(all) if all.refused.is_empty() => "nothing refused",
                    Up::Refusals(_) => "refusals",
                    _ => "other",
                })
                .collect()
        };
        let all = ["ack of two", "release", "nack", "nothing refused"];
        assert_eq!(kinds(&said.news(&evidence)), all);
        assert_eq!(said.news(&evidence), []);
        evidence.applied.insert(serial(2), claim(2));
        evidence.refusing.push((Some(serial(1)), "no".to_owned()));
        assert_eq!(kinds(&said.news(&evidence)), ["ack of one", "refusals"]);
        evidence.refusing.clear();
        assert_eq!(
            kinds(&said.news(&evidence)),
            ["nothing refused"],
            "the end of a refusal is said too"
        );
        assert_eq!(kinds(&Said::default().news(&evidence)), all);
    }

    #[test]
    fn a_stream_does_not_give_up_the_certificate_that_it_began_with_and_the_next_one_does() {
        let evidence =
            Evidence { released: BTreeSet::from([serial(3), serial(4)]), ..Evidence::default() };
        let released = |own: Option<Serial>| {
            let mut said = Said::beginning_with(own);
            let messages = said.news(&evidence);
            messages.into_iter().find_map(|message| match message {
                Up::Release(release) => Some(release.serials),
                _ => None,
            })
        };
        let bytes = |number| serial(number).as_bytes().to_vec();
        assert_eq!(released(Some(serial(3))), Some(vec![bytes(4)]));
        assert_eq!(released(Some(serial(5))), Some(vec![bytes(3), bytes(4)]));
    }
}
