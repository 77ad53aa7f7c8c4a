//! Between the forms of PKCS#11 and those of X.509: curves, public keys, signatures.

use plugins::KeySpec;
use plugins::ring_keys::spki;
use ring::digest::{SHA256, SHA384, digest};
use trust::PublicKey;
use trust::der::Writer;

/// DER of the object identifiers of P-256, P-384 (RFC 5480 section 2.1.1.1) and Ed25519 (RFC 8410 section 3).
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// DER PrintableString `edwards25519`: the other name that PKCS#11 has for that curve.
const EDWARDS25519: &[u8] = b"\x13\x0cedwards25519";

/// `CKA_EC_PARAMS` of a new key.
pub(crate) const fn ec_params(spec: KeySpec) -> &'static [u8] {
    match spec {
        KeySpec::P256 => P256,
        KeySpec::P384 => P384,
        KeySpec::Ed25519 => ED25519,
    }
}

/// The kind of a key by its `CKA_EC_PARAMS`; none for curves that Banyan does not use.
pub(crate) fn spec_of(ec_params: &[u8]) -> Option<KeySpec> {
    match ec_params {
        P256 => Some(KeySpec::P256),
        P384 => Some(KeySpec::P384),
        ED25519 | EDWARDS25519 => Some(KeySpec::Ed25519),
        _ => None,
    }
}

/// The public key whose point is `CKA_EC_POINT`: the point as the value of a DER OCTET STRING, or, of tokens that
/// follow an older reading of the standard, the bare point.
pub(crate) fn public_key(
    spec: KeySpec,
    ec_point: &[u8],
) -> Result<PublicKey, trust::key::KeyError> {
    let point_len = match spec {
        KeySpec::P256 => 65,
        KeySpec::P384 => 97,
        KeySpec::Ed25519 => 32,
    };
    // Shorter than 128 bytes in every case: tag 04, one octet of length, the point.
    let point = match ec_point {
        [0x04, len, point @ ..] if point.len() == point_len && usize::from(*len) == point_len => {
            point
        }
        bare => bare,
    };
    PublicKey::parse(&spki(spec, point))
}

/// What the token signs: the digest of the message for ECDSA, the message itself for Ed25519.
pub(crate) fn to_be_signed(spec: KeySpec, message: &[u8]) -> Vec<u8> {
    match spec {
        KeySpec::P256 => digest(&SHA256, message).as_ref().to_vec(),
        KeySpec::P384 => digest(&SHA384, message).as_ref().to_vec(),
        KeySpec::Ed25519 => message.to_vec(),
    }
}

/// A signature as X.509 carries it; none if the token's has the wrong length. PKCS#11 writes an ECDSA signature as r
/// and s, each as long as the curve's order.
pub(crate) fn x509_signature(spec: KeySpec, signature: &[u8]) -> Option<Vec<u8>> {
    let half = match spec {
        KeySpec::Ed25519 => return (signature.len() == 64).then(|| signature.to_vec()),
        KeySpec::P256 => 32,
        KeySpec::P384 => 48,
    };
    let (r, s) = signature.split_at_checked(half)?;
    if s.len() != half {
        return None;
    }
    let mut writer = Writer::with_capacity(signature.len() + 12);
    writer.sequence(|writer| {
        writer.unsigned(r);
        writer.unsigned(s);
    });
    Some(writer.into_der())
}

#[cfg(test)]
mod tests {
    use plugins::ring_keys::RingKey;

    use super::*;

    #[test]
    fn both_writings_of_a_point_are_the_same_key() {
        for spec in KeySpec::ALL {
            let (key, _) = RingKey::generate(spec).expect("key");
            let bare = key.public().key_octets();
            let mut writer = Writer::new();
            writer.octet_string(bare);
            assert_eq!(public_key(spec, bare).as_ref(), Ok(key.public()), "{spec}");
            assert_eq!(public_key(spec, &writer.into_der()).as_ref(), Ok(key.public()), "{spec}");
            assert!(public_key(spec, bare.split_last().expect("bytes").1).is_err(), "{spec}");
        }
    }

    #[test]
    fn curves_are_known_by_their_names() {
        for spec in KeySpec::ALL {
            assert_eq!(spec_of(ec_params(spec)), Some(spec));
        }
        assert_eq!(spec_of(EDWARDS25519), Some(KeySpec::Ed25519));
        // secp521r1
        assert_eq!(spec_of(&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23]), None);
    }

    #[test]
    fn integers_of_a_signature_are_minimal_and_positive() {
        let mut fixed = [0; 64];
        fixed[31] = 0x7f;
        fixed[32] = 0x80;
        let der = x509_signature(KeySpec::P256, &fixed).expect("a signature");
        let mut expected = vec![0x30, 0x26, 0x02, 0x01, 0x7f, 0x02, 0x21, 0x00, 0x80];
        expected.resize(0x28, 0);
        assert_eq!(der, expected);
    }

    #[test]
    fn signatures_of_the_wrong_length_are_refused() {
        for len in [0, 63, 65, 96] {
            assert_eq!(x509_signature(KeySpec::P256, &vec![1; len]), None, "{len}");
        }
        assert_eq!(x509_signature(KeySpec::Ed25519, &[1; 63]), None);
    }
}
