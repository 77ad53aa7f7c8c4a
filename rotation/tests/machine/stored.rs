//! The record's bytes: what was written is read back, and nothing else is.

use rotation::record::{FORMAT, RecordError, decode, encode};
use rotation::{Contents, Mode, State, step};

use crate::words::*;

fn rich() -> State {
    let events = [
        opened("ca", "s1", &[]),
        opened("cb", "t1", &[]),
        horizon("A", "s1", 2_000),
        sealed("s1", 6),
        closed("t1", Contents::Unread),
        renewal("r1", "A"),
    ];
    events.iter().fold(bootstrapped(), |state, event| {
        step(&state, event, at(1_000), &policy()).unwrap().next
    })
}

#[test]
fn a_written_state_is_read_back_the_same() {
    let staging = after(signing(), 1_000, &[rotation("r", Mode::Manual), hold("h")]);
    let settling = after(distributed(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
    let withdrawing = after(distributed(Mode::Auto), 1_000, &[abort("x")]);
    let digest = Some(trust::BundleDigest::of(b"other"));
    let seen = rotation::Event::BundleSighted {
        agent: "host/1".to_owned(),
        sequence: trust::Sequence(9),
        digest,
    };
    let seen = after(signing(), 1_000, &[seen]);
    for state in [start(), bootstrapped(), rich(), staging, settling, drained(), withdrawing, seen]
    {
        let bytes = encode(&state).unwrap();
        assert_eq!(decode(&bytes).unwrap(), state);
        assert_eq!(encode(&decode(&bytes).unwrap()).unwrap(), bytes, "one state has one form");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bytes = encode(&rich()).unwrap();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << bit;
            assert!(decode(&flipped).is_err(), "bit {bit} of byte {index}");
        }
        assert!(decode(&bytes[..index]).is_err(), "cut at {index}");
    }
    assert!(decode(&[&bytes[..], &[0]].concat()).is_err(), "one byte more");
}

#[test]
fn a_newer_format_is_told_apart_from_damage_and_says_what_to_do() {
    let mut bytes = encode(&bootstrapped()).unwrap();
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_be_bytes());
    let error = decode(&bytes).unwrap_err();
    assert!(matches!(error, RecordError::Newer { found } if found == FORMAT + 1));
    assert!(error.to_string().contains("start the release that wrote it"), "{error}");
    let error = decode(b"").unwrap_err();
    assert!(matches!(error, RecordError::Damaged { .. }));
    assert!(error.to_string().contains("restore the latest backup"), "{error}");
}

#[test]
fn a_sound_form_with_an_unsound_state_is_refused() {
    let mut state = bootstrapped();
    state.roots.values_mut().next().unwrap().active_issuer = None;
    let error = decode(&encode(&state).unwrap()).unwrap_err();
    assert!(matches!(error, RecordError::Unsound { .. }), "{error}");
}

/// A record as the release before the first rotation wrote it.
#[test]
fn a_record_of_the_first_format_is_read() {
    let body = r#"{"trust_domain":"example.org","generation":5,"sequence":1,"phase":{"steady":{"since":1000}},"roots":{"559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd":{"state":"active","tainted":false,"authority":"main","exclusive":true,"der":"41","not_after":100000,"horizon":null,"issuers":{"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb":{"chain":["61"],"key":"key-a","not_after":50000}},"active_issuer":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","renewal":null}},"segments":{},"pending":[],"done":["f"]}"#;
    let mut bytes = b"BANYANST".to_vec();
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(crc32fast::hash(body.as_bytes()).to_be_bytes());
    bytes.extend(body.as_bytes());
    assert_eq!(decode(&bytes).unwrap(), bootstrapped());
    bytes[8..12].copy_from_slice(&0_u32.to_be_bytes());
    assert!(matches!(decode(&bytes).unwrap_err(), RecordError::Damaged { .. }));
}
