//! Encodings that are refused: PEM and the outer DER.

use rcgen::KeyPair;
use trust::csr::CSR_LEN_MAX;
use trust::der::{Writer, tag};

use crate::draft::{Draft, der, pem};
use crate::{accept_der, accept_pem, assert_refused};

const ENCODING: &str = "CSR_ENCODING_INVALID";
const PRIVATE_KEY: &str = "CSR_PRIVATE_KEY_INSIDE";

#[test]
fn hostile_pem_is_refused() {
    let csr = pem("CERTIFICATE REQUEST", &Draft::new().sign());
    let csr = csr.trim_end();
    let key = KeyPair::generate().unwrap();
    let sec1 = der(|w| {
        w.sequence(|w| {
            w.unsigned(&[1]);
            w.octet_string(&[7; 32]);
        });
    });
    let wide = format!("{csr}{}", " ".repeat(CSR_LEN_MAX + 1 - csr.len()));
    let cases = [
        ("empty", String::new(), ENCODING),
        ("white space", " \r\n".to_owned(), ENCODING),
        ("trailing text", format!("{csr}\nhello"), ENCODING),
        ("leading text", format!("hello\n{csr}"), ENCODING),
        ("two blocks", format!("{csr}\n{csr}"), ENCODING),
        ("a certificate behind", format!("{csr}\n{}", pem("CERTIFICATE", &[0x30, 0])), ENCODING),
        ("another label", csr.replace("CERTIFICATE REQUEST", "CERTIFICATE"), ENCODING),
        ("labels that differ", csr.replace("BEGIN CERT", "BEGIN NEW CERT"), ENCODING),
        ("no end", csr.replace("-----END CERTIFICATE REQUEST-----", ""), ENCODING),
        (
            "a header",
            csr.replacen("REQUEST-----", "REQUEST-----\nProc-Type: 4,ENCRYPTED\n", 1),
            ENCODING,
        ),
        ("not base64", csr.replacen("REQUEST-----", "REQUEST-----\n!", 1), ENCODING),
        ("padding cut off", cut_padding(), ENCODING),
        ("no content", pem("CERTIFICATE REQUEST", &[]), ENCODING),
        ("private key behind", format!("{csr}\n{}", key.serialize_pem()), PRIVATE_KEY),
        ("private key in front", format!("{}{csr}", key.serialize_pem()), PRIVATE_KEY),
        ("private key alone", key.serialize_pem(), PRIVATE_KEY),
        (
            "private key labelled CSR, PKCS#8",
            pem("CERTIFICATE REQUEST", &key.serialize_der()),
            PRIVATE_KEY,
        ),
        ("private key labelled CSR, SEC 1", pem("CERTIFICATE REQUEST", &sec1), PRIVATE_KEY),
        ("one byte more than 16 KiB", wide, "CSR_TOO_LARGE"),
    ];
    let cases = cases.map(|(heading, text, reason)| (heading, text.into_bytes(), reason));
    assert_refused(&cases, accept_pem);
}

/// A CSR whose base64 ends with padding, without it.
fn cut_padding() -> String {
    let padded = || {
        let csr = Draft::new().sign();
        (!csr.len().is_multiple_of(3)).then_some(csr)
    };
    let csr = std::iter::repeat_with(padded).flatten().next().unwrap();
    pem("CERTIFICATE REQUEST", &csr).replace('=', "")
}

#[test]
fn a_private_key_is_not_echoed() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let refusal = accept_pem(key.as_bytes()).unwrap_err();
    let base64 = key.lines().nth(1).unwrap();
    assert!(!format!("{refusal} {refusal:?}").contains(&base64[..8]));
}

#[test]
fn exactly_16_kib_is_taken() {
    let csr = pem("CERTIFICATE REQUEST", &Draft::new().sign());
    let full = format!("{csr}{}", "\n".repeat(CSR_LEN_MAX - csr.len()));
    assert!(accept_pem(full.as_bytes()).is_ok());
}

#[test]
fn hostile_der_is_refused() {
    let good = Draft::new().sign();
    let content = trust::der::Reader::new(&good).element().unwrap().content.to_vec();
    let outer = |length: &[u8]| [&[0x30], length, &content].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut padded_version = Draft::new();
    padded_version.version = vec![2, 2, 0, 0];
    let mut second_version = Draft::new();
    second_version.version = vec![2, 1, 1];
    let mut no_version = Draft::new();
    no_version.version = Vec::new();
    let draft = Draft::new();
    let four_parts = der(|w| {
        w.sequence(|w| {
            w.raw(&content);
            w.null();
        });
    });
    let constructed_signature = der(|w| {
        w.sequence(|w| {
            w.raw(&draft.info());
            w.raw(&draft.algorithm);
            w.nested(tag::BIT_STRING | 0x20, |w| w.bit_string(&[0; 8]));
        });
    });
    assert_refused(
        &[
            ("empty", Vec::new(), ENCODING),
            ("trailing byte", [good.as_slice(), &[0]].concat(), ENCODING),
            ("two CSRs", [good.as_slice(), &good].concat(), ENCODING),
            ("a fourth part", four_parts, ENCODING),
            ("an integer", der(|w| w.unsigned(&[1])), ENCODING),
            ("null", der(Writer::null), ENCODING),
            ("indefinite length", [outer(&[0x80]).as_slice(), &[0, 0]].concat(), ENCODING),
            ("length with a leading zero", outer(&[&[0x83, 0][..], &length].concat()), ENCODING),
            ("length of 4 octets", outer(&[&[0x84, 0, 0][..], &length].concat()), ENCODING),
            ("length of 2^32 - 1", outer(&[0x84, 0xff, 0xff, 0xff, 0xff]), ENCODING),
            ("length of 2^32", outer(&[0x85, 1, 0, 0, 0, 0]), ENCODING),
            ("length of 2^64 - 1", outer(&[&[0x88][..], &[0xff; 8]].concat()), ENCODING),
            ("length of 2^64", outer(&[&[0x89, 1][..], &[0; 8]].concat()), ENCODING),
            ("length of 127 octets", outer(&[&[0xff][..], &[0xff; 127]].concat()), ENCODING),
            ("long tag", [&[0x3f, 0x10], &good[1..]].concat(), ENCODING),
            ("version not minimal", padded_version.sign(), ENCODING),
            ("version 1", second_version.sign(), ENCODING),
            ("no version", no_version.sign(), ENCODING),
            ("constructed bit string", constructed_signature, ENCODING),
            ("larger than 16 KiB", vec![0x30; CSR_LEN_MAX + 1], "CSR_TOO_LARGE"),
            ("16 KiB of nested sequences", vec![0x30; CSR_LEN_MAX], ENCODING),
        ],
        accept_der,
    );
}
