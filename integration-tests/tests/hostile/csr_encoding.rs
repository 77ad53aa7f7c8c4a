//! Family "CSR encoding".

use integration_tests::untrusted::csr::{CsrDraft, labelled, pem};
use rcgen::KeyPair;
use trust::csr::CSR_LEN_MAX;
use trust::der::Reader;

use crate::{Case, judge_family};

const ENCODING: &str = "CSR_ENCODING_INVALID";
const PRIVATE_KEY: &str = "CSR_PRIVATE_KEY_INSIDE";

#[tokio::test(flavor = "multi_thread")]
async fn anything_but_one_block_of_strict_der_is_refused() {
    judge_family(async |ca| {
        let good = CsrDraft::new().der();
        let block = pem(&good);
        let content = Reader::new(&good).element().unwrap().content.to_vec();
        // The good content behind a length in another form.
        let outer = |length: &[u8]| pem(&[&[0x30], length, &content].concat());
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let indefinite = pem(&[&[0x30, 0x80][..], &content, &[0, 0]].concat());
        let mut no_version = CsrDraft::new();
        no_version.version.clear();
        let mut second_version = CsrDraft::new();
        second_version.version = vec![2, 1, 1];
        let case = |heading, text: String| Case::csr(ca, heading, text, ENCODING);
        vec![
            case("empty", String::new()),
            case("trailing bytes behind the DER", pem(&[good.as_slice(), &[0]].concat())),
            case("trailing bytes behind the block", format!("{block}hello")),
            case("bytes in front of the block", format!("hello\n{block}")),
            case("two blocks", format!("{block}{block}")),
            case("a certificate behind", format!("{block}{}", labelled("CERTIFICATE", &good))),
            case("another label", labelled("CERTIFICATE", &good)),
            case("no block", "a CSR, please".to_owned()),
            case("no base64", block.replacen("REQUEST-----", "REQUEST-----\n!!", 1)),
            case("BER: indefinite length", indefinite),
            case("BER: length with a zero in front", outer(&[&[0x83, 0], &length[..]].concat())),
            case("length near 2^32", outer(&[0x84, 0xff, 0xff, 0xff, 0xff])),
            case("length of 2^32", outer(&[0x85, 1, 0, 0, 0, 0])),
            case("length near 2^64", outer(&[&[0x88][..], &[0xff; 8]].concat())),
            case("length of 2^64", outer(&[&[0x89, 1][..], &[0; 8]].concat())),
            case("length of 127 octets", outer(&[&[0xff][..], &[0xff; 127]].concat())),
            case("nothing but nested sequences", pem(&vec![0x30; 8_000])),
            case("no version", no_version.pem()),
            case("another version", second_version.pem()),
            Case::csr(
                ca,
                "one byte more than 16 KiB",
                padded(&block, CSR_LEN_MAX + 1),
                "CSR_TOO_LARGE",
            ),
        ]
    })
    .await;
}

/// The same text with white space behind it.
fn padded(text: &str, bytes: usize) -> String {
    format!("{text}{}", " ".repeat(bytes - text.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_is_refused_and_kept_nowhere() {
    judge_family(async |ca| {
        let csr = CsrDraft::new();
        let leak = csr.key.serialize_pem();
        let other = KeyPair::generate().unwrap();
        let case = |heading, text: String, leaked: &str| {
            let secret: String = leaked.lines().nth(1).unwrap().to_owned();
            Case::csr(ca, heading, text, PRIVATE_KEY).with_secret(secret)
        };
        let disguised = pem(&other.serialize_der());
        vec![
            case("private key behind the CSR", format!("{}{leak}", csr.pem()), &leak),
            case("private key in front of it", format!("{leak}{}", csr.pem()), &leak),
            case("private key alone", leak.clone(), &leak),
            case("private key labelled as a CSR", disguised.clone(), &disguised),
        ]
    })
    .await;
}
