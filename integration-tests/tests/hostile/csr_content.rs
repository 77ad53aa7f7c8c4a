//! Family "CSR content".

use integration_tests::untrusted::CART;
use integration_tests::untrusted::csr::{
    CsrDraft, alternative_names, attribute, der, extension, pem, sequence, uri,
};
use trust::der::{Writer, oid};

use crate::{Case, judge_family};

const EXTENSION: &str = "CSR_EXTENSION_REFUSED";
const ATTRIBUTE: &str = "CSR_ATTRIBUTE_REFUSED";
const ENCODING: &str = "CSR_ENCODING_INVALID";
/// id-kp-codeSigning (RFC 5280 §4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// anyExtendedKeyUsage.
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// An identifier that nobody knows.
const UNKNOWN: &[u8] = &[0x2b, 0x06, 0x01];

fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(der(Writer::null), |inner, _| sequence(&[inner]))
}

#[tokio::test(flavor = "multi_thread")]
async fn csrs_that_ask_for_more_than_a_leaf_are_refused() {
    const SECRET: &str = "a password that somebody uses elsewhere";
    judge_family(async |ca| {
        let case = |heading, draft: CsrDraft, reason| Case::csr(ca, heading, draft.pem(), reason);
        let critical = |heading, oid: &[u8], value: &[u8]| {
            case(heading, CsrDraft::new().and_extension(oid, true, value), EXTENSION)
        };
        let purpose = |purpose: &[u8]| sequence(&[der(|w| w.oid(purpose))]);
        let names = || alternative_names(&[uri(CART)]);
        let unknown = |n: u8| extension(&[0x2b, 0x06, n], false, &[]);
        let odd = |n: u8, value: Vec<u8>| attribute(&[0x2b, 0x06, n], &[value]);
        let password = attribute(oid::CHALLENGE_PASSWORD, &[der(|w| w.utf8_string(SECRET))]);
        let with = |attributes| CsrDraft::new().attributes(attributes);
        vec![
            critical("CA:TRUE", oid::BASIC_CONSTRAINTS, &sequence(&[der(|w| w.boolean(true))])),
            critical(
                "path length",
                oid::BASIC_CONSTRAINTS,
                &sequence(&[der(|w| w.unsigned(&[0]))]),
            ),
            critical("keyCertSign", oid::KEY_USAGE, &der(|w| w.named_bits(1 | 1 << 5))),
            critical("cRLSign", oid::KEY_USAGE, &der(|w| w.named_bits(1 << 6))),
            critical("odd EKU: code signing", oid::EXTENDED_KEY_USAGE, &purpose(CODE_SIGNING)),
            critical("odd EKU: any", oid::EXTENDED_KEY_USAGE, &purpose(ANY_PURPOSE)),
            critical("odd EKU: none", oid::EXTENDED_KEY_USAGE, &sequence(&[])),
            critical("unknown critical extension", UNKNOWN, &[]),
            case("duplicate extension", CsrDraft::new().extensions(&[names(), names()]), EXTENSION),
            case(
                "17 extensions",
                CsrDraft::new().extensions(&(0..17).map(unknown).collect::<Vec<_>>()),
                EXTENSION,
            ),
            case(
                "duplicate attribute",
                with(vec![odd(1, nested(0)), odd(1, nested(0))]),
                ATTRIBUTE,
            ),
            case("9 attributes", with((0..9).map(|n| odd(n, nested(0))).collect()), ATTRIBUTE),
            case("challengePassword", with(vec![password]), ATTRIBUTE).with_secret(SECRET),
            case("deeply nested: 17 levels", with(vec![odd(1, nested(17))]), ENCODING),
            case("deeply nested: 1,000 levels", with(vec![odd(1, nested(1_000))]), ENCODING),
            Case::csr(
                ca,
                "huge field",
                pem(&with(vec![odd(1, vec![5; 16_000])]).der()),
                "CSR_TOO_LARGE",
            ),
        ]
    })
    .await;
}
