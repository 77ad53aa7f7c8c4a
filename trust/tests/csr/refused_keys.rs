//! Keys and signatures that are refused.

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use trust::SignatureAlgorithm;
use trust::der::{Writer, oid, tag};

use crate::draft::{Draft, der, ec_spki, rsa_spki, spki};
use crate::{accept_der, accept_pem, assert_refused, fixture};

/// 1.3.101.110.
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
/// Order of the P-256 group.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const F4: &[u8] = &[1, 0, 1];

fn named(curve: &[u8]) -> Vec<u8> {
    der(|w| w.oid(curve))
}

/// A modulus of `bits` bits, odd.
fn modulus(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> ((8 - bits % 8) % 8);
    modulus
}

#[test]
fn hostile_keys_of_other_programs_are_refused() {
    assert_refused(
        &[
            ("explicit parameters", fixture!("p256-explicit").to_vec(), "CSR_KEY_UNSUPPORTED"),
            ("P-521", fixture!("p521").to_vec(), "CSR_KEY_UNSUPPORTED"),
            ("secp256k1", fixture!("secp256k1").to_vec(), "CSR_KEY_UNSUPPORTED"),
            ("Ed448", fixture!("ed448").to_vec(), "CSR_KEY_UNSUPPORTED"),
            ("RSA-1024", fixture!("rsa-1024").to_vec(), "CSR_KEY_WEAK"),
            ("RSA-4104", fixture!("rsa-4104").to_vec(), "CSR_KEY_UNSUPPORTED"),
            ("RSA exponent 3", fixture!("rsa-exponent-3").to_vec(), "CSR_KEY_WEAK"),
            ("PSS-only key", fixture!("rsa-key-pss").to_vec(), "CSR_KEY_UNSUPPORTED"),
            ("PSS signature", fixture!("rsa-signature-pss").to_vec(), "CSR_ALGORITHM_UNSUPPORTED"),
            ("RSA with SHA-1", fixture!("rsa-sha1").to_vec(), "CSR_ALGORITHM_WEAK"),
            ("RSA with MD5", fixture!("rsa-md5").to_vec(), "CSR_ALGORITHM_WEAK"),
            ("ECDSA with SHA-1", fixture!("p256-sha1").to_vec(), "CSR_ALGORITHM_WEAK"),
            ("ECDSA with SHA-512", fixture!("p256-sha512").to_vec(), "CSR_ALGORITHM_UNSUPPORTED"),
        ],
        accept_pem,
    );
}

#[test]
fn hostile_curve_keys_are_refused() {
    const INVALID: &str = "CSR_KEY_INVALID";
    const UNSUPPORTED: &str = "CSR_KEY_UNSUPPORTED";
    let with = |spki| Draft::new().spki(spki).sign();
    let p256 = KeyPair::generate().unwrap().der_bytes().to_vec();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().der_bytes().to_vec();
    let change = |point: &[u8], at: usize| {
        let mut point = point.to_vec();
        point[at] ^= 1;
        point
    };
    let compressed = [&[2 | (p256[64] & 1)], &p256[1..33]].concat();
    let above_the_prime = [&[4][..], &[0xff; 64]].concat();
    let ed25519_one = [&[1][..], &[0; 31]].concat();
    let ed25519_unreduced = [&[0xee][..], &[0xff; 30], &[0x7f]].concat();
    let unused_bits = der(|w| {
        w.sequence(|w| {
            w.sequence(|w| w.oid(oid::ED25519));
            w.primitive(tag::BIT_STRING, &[[1; 32].as_slice(), &[0]].concat());
        });
    });
    let curve = || named(oid::P256);
    assert_refused(
        &[
            ("point off P-256 by x", with(ec_spki(&curve(), &change(&p256, 32))), INVALID),
            ("point off P-256 by y", with(ec_spki(&curve(), &change(&p256, 64))), INVALID),
            ("point off P-384", with(ec_spki(&named(oid::P384), &change(&p384, 96))), INVALID),
            ("coordinates above the prime", with(ec_spki(&curve(), &above_the_prime)), INVALID),
            ("origin", with(ec_spki(&curve(), &[&[4][..], &[0; 64]].concat())), INVALID),
            ("point at infinity", with(ec_spki(&curve(), &[0])), INVALID),
            ("no point", with(ec_spki(&curve(), &[])), INVALID),
            ("compressed point", with(ec_spki(&curve(), &compressed)), INVALID),
            (
                "hybrid point",
                with(ec_spki(&curve(), &[&[6 | (p256[64] & 1)], &p256[1..]].concat())),
                INVALID,
            ),
            ("point of another curve", with(ec_spki(&curve(), &p384)), INVALID),
            ("no parameters", with(ec_spki(&[], &p256)), INVALID),
            ("implicit parameters", with(ec_spki(&der(Writer::null), &p256)), UNSUPPORTED),
            (
                "two curves",
                with(ec_spki(&[curve(), curve()].concat(), &p256)),
                "CSR_ENCODING_INVALID",
            ),
            ("X25519", with(spki(X25519, &[], &[9; 32])), UNSUPPORTED),
            ("Ed25519 of small order", with(spki(oid::ED25519, &[], &ed25519_one)), "CSR_KEY_WEAK"),
            ("Ed25519 above the prime", with(spki(oid::ED25519, &[], &ed25519_unreduced)), INVALID),
            ("Ed25519 of 31 bytes", with(spki(oid::ED25519, &[], &[7; 31])), INVALID),
            (
                "Ed25519 with parameters",
                with(spki(oid::ED25519, &der(Writer::null), &[7; 32])),
                INVALID,
            ),
            ("unused bits in the key", with(unused_bits), "CSR_ENCODING_INVALID"),
        ],
        accept_der,
    );
}

#[test]
fn hostile_rsa_keys_are_refused() {
    const WEAK: &str = "CSR_KEY_WEAK";
    const TOO_LONG: &str = "CSR_KEY_UNSUPPORTED";
    let with =
        |modulus: &[u8], exponent: &[u8]| Draft::new().spki(rsa_spki(modulus, exponent)).sign();
    let mut even = modulus(2048);
    even[255] = 0xfe;
    let no_null = spki(oid::RSA_ENCRYPTION, &[], &der(|w| w.sequence(|w| w.unsigned(F4))));
    assert_refused(
        &[
            ("2047 bits", with(&modulus(2047), F4), WEAK),
            ("1 bit", with(&[1], F4), WEAK),
            ("zero", with(&[0], F4), WEAK),
            ("4097 bits", with(&modulus(4097), F4), TOO_LONG),
            ("14 KiB", with(&modulus(14 * 1024 * 8), F4), TOO_LONG),
            ("exponent 1", with(&modulus(2048), &[1]), WEAK),
            ("exponent 3", with(&modulus(2048), &[3]), WEAK),
            ("huge exponent", with(&modulus(2048), &modulus(2047)), WEAK),
            ("even modulus", with(&even, F4), "CSR_KEY_INVALID"),
            ("no NULL parameters", Draft::new().spki(no_null).sign(), "CSR_KEY_INVALID"),
        ],
        accept_der,
    );
}

#[test]
fn hostile_signatures_are_refused() {
    const INVALID: &str = "CSR_SIGNATURE_INVALID";
    let draft = Draft::new();
    let good = draft.key.sign(&draft.info()).unwrap();
    let (r, s) = split(&good);
    let signed = |r: &[u8], s: &[u8]| draft.assemble(&join(r, s));
    let mut wrong = good.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let other = KeyPair::generate().unwrap();
    let padded = |value: &[u8]| [&[0], value].concat();
    let negative: Vec<u8> = [&[0x80], &r[1..]].concat();
    assert!(accept_der(&signed(&r, &s)).is_ok(), "the parts themselves are good");
    assert_refused(
        &[
            ("wrong", draft.assemble(&wrong), INVALID),
            ("over other bytes", draft.assemble(&draft.key.sign(b"other bytes").unwrap()), INVALID),
            ("by another key", draft.assemble(&other.sign(&draft.info()).unwrap()), INVALID),
            ("of another key", Draft::new().spki(other.subject_public_key_info()).sign(), INVALID),
            ("none", draft.assemble(&[]), INVALID),
            ("r = 0", signed(&[0], &s), INVALID),
            ("s = 0", signed(&r, &[0]), INVALID),
            ("r = s = 0", signed(&[0], &[0]), INVALID),
            ("r = n", signed(&padded(&P256_ORDER), &s), INVALID),
            ("s = n", signed(&r, &padded(&P256_ORDER)), INVALID),
            ("r + 2^256", signed(&[&[1], tail(&r, 32)].concat(), &s), INVALID),
            ("non-minimal r", signed(&padded(&r), &s), INVALID),
            ("non-minimal s", signed(&r, &padded(&s)), INVALID),
            ("negative r", signed(&negative, &s), INVALID),
            ("bytes behind r and s", draft.assemble(&[good.as_slice(), &[0]].concat()), INVALID),
            (
                "r and s side by side",
                draft.assemble(&[tail(&r, 32), tail(&s, 32)].concat()),
                INVALID,
            ),
        ],
        accept_der,
    );
}

#[test]
fn an_algorithm_that_does_not_fit_the_key_is_refused() {
    const MISMATCH: &str = "CSR_ALGORITHM_MISMATCH";
    const UNSUPPORTED: &str = "CSR_ALGORITHM_UNSUPPORTED";
    let ed25519 = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p256 = |algorithm: &[u8]| Draft::new().algorithm(algorithm.to_vec()).sign();
    let with_null = der(|w| {
        w.sequence(|w| {
            w.oid(oid::ECDSA_SHA256);
            w.null();
        });
    });
    let cases = [
        ("Ed25519 by P-256", p256(SignatureAlgorithm::Ed25519.der()), MISMATCH),
        ("RSA by P-256", p256(SignatureAlgorithm::RsaPkcs1Sha256.der()), MISMATCH),
        (
            "ECDSA by Ed25519",
            Draft::with_key(ed25519(), SignatureAlgorithm::EcdsaP256Sha256).sign(),
            MISMATCH,
        ),
        ("ECDSA with parameters", p256(&with_null), UNSUPPORTED),
        (
            "key's algorithm as the signature's",
            p256(&der(|w| w.sequence(|w| w.oid(oid::EC_PUBLIC_KEY)))),
            UNSUPPORTED,
        ),
        ("no algorithm", p256(&der(|w| w.sequence(|_| {}))), "CSR_ENCODING_INVALID"),
        // The algorithm fits the key, but is not the one that was used.
        (
            "SHA-384 named, SHA-256 used",
            p256(SignatureAlgorithm::EcdsaP256Sha384.der()),
            "CSR_SIGNATURE_INVALID",
        ),
    ];
    assert_refused(&cases, accept_der);
}

/// Content octets of r and s.
fn split(signature: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut parts = trust::der::Reader::new(signature).sequence().unwrap();
    let mut integer = || parts.value(tag::INTEGER).unwrap().to_vec();
    (integer(), integer())
}

fn join(r: &[u8], s: &[u8]) -> Vec<u8> {
    der(|w| {
        w.sequence(|w| {
            w.primitive(tag::INTEGER, r);
            w.primitive(tag::INTEGER, s);
        });
    })
}

/// The last `length` bytes, with zeros in front where there are fewer.
fn tail(value: &[u8], length: usize) -> &[u8] {
    &value[value.len().saturating_sub(length)..]
}
