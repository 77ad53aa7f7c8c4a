//! Rows and records for the tests of this crate.

use std::sync::Arc;

use trust::{CertificateId, RootId, Sequence, Serial, SpiffeId, SpkiHash, Timestamp};

use crate::record::{AuditRefusal, Record};
use crate::row::{Ended, EvidenceClass, Forgotten, LiveRow, Probed, Proof, Row, RowKind, Word};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) fn serial(number: u64) -> Serial {
    let mut bytes = [0x40; Serial::LEN];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Serial::from_bytes(&bytes).unwrap()
}

pub(crate) fn root(number: u8) -> RootId {
    RootId::from_bytes(&[number; 32]).unwrap()
}

pub(crate) fn certificate(number: u8) -> CertificateId {
    CertificateId::from_bytes(&[number; 32]).unwrap()
}

/// A row of agent `a` under root 1, born at 1, that lives an hour.
pub(crate) fn row(number: u64) -> Row {
    Row {
        serial: serial(number),
        spki: SpkiHash::from_bytes(&[3; 32]).unwrap(),
        identity: SpiffeId::parse("spiffe://example.org/shop/cart").unwrap(),
        agent: Some("a".to_owned()),
        root: root(1),
        issuer: certificate(2),
        not_after: Timestamp::from_secs(NOW.as_secs() + 3_600),
        born: Sequence(1),
        kind: RowKind::AgentHeld,
        word: Word::None,
    }
}

pub(crate) fn applied(sequence: u64) -> Proof {
    Proof { applied: Sequence(sequence), class: EvidenceClass::Applied, at: NOW }
}

pub(crate) fn one_of_each() -> Vec<Record> {
    let live = |ended, certificate| {
        let change = crate::row::Change {
            certificate,
            evidence: applied(9).into(),
            ended,
            forgotten: Forgotten::default(),
        };
        let mut live = LiveRow::new(Arc::new(Row { agent: None, kind: RowKind::Own, ..row(8) }));
        live.join(change);
        live
    };
    let refusal = AuditRefusal::new("CSR_TOO_LARGE", "jwt")
        .identity("spiffe://example.org/x")
        .peer(([127, 0, 0, 1], 443).into())
        .detail("a CSR of 1\u{0}7 KiB");
    let listening = |number, seen| {
        let word = Word::Listening { trusting: Sequence(7), seen };
        Record::Intent(Arc::new(Row { word, ..row(number) }))
    };
    vec![
        listening(4, Probed::Nothing),
        listening(5, Probed::NotProbeable(Sequence(6))),
        listening(6, Probed::Unable(Sequence(6))),
        listening(7, Probed::Observed(Sequence(6))),
        Record::Intent(Arc::new(Row { kind: RowKind::Probe, ..row(8) })),
        Record::Intent(Arc::new(row(1))),
        Record::Intent(Arc::new(Row { word: Word::Trusting(Sequence(7)), ..row(2) })),
        Record::Intent(Arc::new(Row { word: Word::OwnTrust, ..row(3) })),
        Record::Issued { serial: serial(1), certificate: certificate(7) },
        Record::Abandoned { serial: serial(1), reason: "signer_failed".to_owned() },
        Record::Acked { serial: serial(1), proof: applied(4) },
        Record::Released { serial: serial(1) },
        Record::Superseded { serial: serial(1), by: serial(2) },
        Record::Refused(refusal),
        Record::Refused(AuditRefusal::new("r", "none")),
        Record::Suppressed { refusals: 12, since: NOW },
        Record::Carried(live(None, None)),
        Record::Carried(live(Some(Ended::Released), Some(certificate(1)))),
        Record::Carried(live(Some(Ended::Superseded { by: serial(3) }), None)),
        Record::Carried(live(Some(Ended::Abandoned), None)),
        Record::Turned { serial: serial(1), forgotten: Forgotten::from_turns(1) },
        Record::Unmatched { serial: serial(2), shown: serial(1), owner: "ca-2".to_owned() },
        Record::Bearer {
            serial: serial(2),
            place: "pod u-1 cart-1, node a, cluster one".to_owned(),
        },
        Record::End { records: 3 },
    ]
}
