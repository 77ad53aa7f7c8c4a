//! What the reader takes and what it does not, byte by byte.

use super::*;

#[test]
fn only_minimal_lengths_are_read() {
    let of = |length: &[u8]| {
        Reader::new(&[&[0x04], length, &[0; 300]].concat()).element().map(|e| e.content.len())
    };
    for (length, expected) in [
        (&[0x00][..], Ok(0)),
        (&[0x7f], Ok(127)),
        (&[0x81, 0x80], Ok(128)),
        (&[0x82, 0x01, 0x00], Ok(256)),
        (&[0x80], Err(DerError::Length)),
        (&[0x81, 0x7f], Err(DerError::Length)),
        (&[0x82, 0x00, 0xff], Err(DerError::Length)),
        (&[0x83, 0x00, 0x01, 0x00], Err(DerError::Length)),
        (&[0x83, 0xff, 0xff, 0xff], Err(DerError::Truncated)),
        (&[0x84, 0x00, 0x00, 0x00, 0x01], Err(DerError::Length)),
        (&[0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(DerError::Length)),
        (&[0xff], Err(DerError::Length)),
    ] {
        assert_eq!(of(length), expected, "{length:02x?}");
    }
}

#[test]
fn only_minimal_integers_are_read() {
    for (bytes, expected) in [
        (&[2, 1, 0][..], Ok(&[0][..])),
        (&[2, 1, 0x7f], Ok(&[0x7f])),
        (&[2, 2, 0, 0x80], Ok(&[0x80])),
        (&[2, 0], Err(DerError::NotCanonical)),
        (&[2, 1, 0x80], Err(DerError::NotCanonical)),
        (&[2, 2, 0, 0], Err(DerError::NotCanonical)),
        (&[2, 2, 0, 0x7f], Err(DerError::NotCanonical)),
    ] {
        assert_eq!(Reader::new(bytes).unsigned(), expected, "{bytes:02x?}");
    }
}

#[test]
fn only_canonical_booleans_are_read() {
    assert_eq!(Reader::new(&[1, 1, 0xff]).boolean(), Ok(true));
    assert_eq!(Reader::new(&[1, 1, 0x00]).boolean(), Ok(false));
    for bytes in [&[1, 1, 1][..], &[1, 0], &[1, 2, 0xff, 0xff]] {
        assert_eq!(Reader::new(bytes).boolean(), Err(DerError::NotCanonical), "{bytes:02x?}");
    }
    assert_eq!(Reader::new(&[1, 1, 0x00]).default_false(), Err(DerError::NotCanonical));
    assert_eq!(Reader::new(&[]).default_false(), Ok(false));
}

#[test]
fn only_whole_unpadded_object_identifiers_are_read() {
    for (bytes, is_read) in [
        (&[6, 1, 0x2b][..], true),
        (&[6, 2, 0x81, 0x00], true),
        (&[6, 0], false),
        (&[6, 1, 0x80], false),
        (&[6, 2, 0x2b, 0x81], false),
        (&[6, 3, 0x2b, 0x80, 0x01], false),
    ] {
        assert_eq!(Reader::new(bytes).oid().is_ok(), is_read, "{bytes:02x?}");
    }
}

#[test]
fn only_canonical_named_bits_are_read() {
    for (bytes, expected) in [
        (&[3, 1, 0][..], Ok(0)),
        (&[3, 2, 7, 0x80], Ok(1)),
        (&[3, 2, 5, 0xa0], Ok(0b101)),
        (&[3, 3, 7, 0x80, 0x80], Ok(0x101)),
        (&[3, 3, 7, 0x00, 0x80], Ok(0x100)),
        (&[3, 0], Err(DerError::NotCanonical)),
        (&[3, 1, 1], Err(DerError::NotCanonical)),
        (&[3, 2, 0, 0x80], Err(DerError::NotCanonical)),
        (&[3, 2, 7, 0xc0], Err(DerError::NotCanonical)),
        (&[3, 2, 8, 0x00], Err(DerError::NotCanonical)),
        (&[3, 3, 0, 0x80, 0x00], Err(DerError::NotCanonical)),
        (&[3, 3, 8, 0x80, 0x00], Err(DerError::NotCanonical)),
        (&[3, 4, 0, 1, 1, 1], Err(DerError::NotCanonical)),
    ] {
        assert_eq!(Reader::new(bytes).named_bits(), expected, "{bytes:02x?}");
    }
}

#[test]
fn sixteen_levels_are_entered_and_no_more() {
    let nested = |levels: usize| {
        (0..levels).fold(vec![5, 0], |inner, _| {
            [&[0x30, u8::try_from(inner.len()).unwrap()], inner.as_slice()].concat()
        })
    };
    assert_eq!(walk(&mut Reader::new(&nested(16))), Ok(()));
    assert_eq!(walk(&mut Reader::new(&nested(17))), Err(DerError::TooDeep));
}

#[test]
fn a_walk_looks_into_every_value() {
    for (bytes, expected) in [
        (&[0x31, 4, 5, 0, 5, 0][..], Ok(())),
        (&[0x31, 6, 2, 1, 1, 2, 1, 2], Ok(())),
        (&[0x31, 6, 2, 1, 2, 2, 1, 1], Err(DerError::NotCanonical)),
        (&[0x30, 3, 1, 1, 1], Err(DerError::NotCanonical)),
        (&[0xa0, 4, 2, 2, 0, 1], Err(DerError::NotCanonical)),
        (&[0x02, 2, 0xff, 0x80], Err(DerError::NotCanonical)),
        (&[0x02, 1, 0xff], Ok(())),
        (&[0x05, 1, 0], Err(DerError::NotCanonical)),
        (&[0x03, 2, 1, 1], Err(DerError::NotCanonical)),
        (&[0x10, 0], Err(DerError::NotCanonical)),
        (&[0x24, 2, 4, 0], Err(DerError::NotCanonical)),
        (&[0x1f, 0x81, 0], Err(DerError::UnsupportedTag)),
        (&[0x00, 0], Err(DerError::UnsupportedTag)),
        (&[0x30, 1], Err(DerError::Truncated)),
    ] {
        assert_eq!(walk(&mut Reader::new(bytes)), expected, "{bytes:02x?}");
    }
}
