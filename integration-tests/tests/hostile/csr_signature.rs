//! Family "CSR signature".

use integration_tests::untrusted::csr::{CsrDraft, der, pem, sequence};
use trust::der::{Reader, Writer, oid, tag};

use crate::{Case, fixture, judge_family};

const INVALID: &str = "CSR_SIGNATURE_INVALID";
const WEAK: &str = "CSR_ALGORITHM_WEAK";
const MISMATCH: &str = "CSR_ALGORITHM_MISMATCH";
/// Order of the P-256 group (SEC 2 §2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The numbers of an ECDSA signature, as they stand in it.
fn numbers(signature: &[u8]) -> [Vec<u8>; 2] {
    let mut inner = Reader::new(signature).sequence().unwrap();
    [(); 2].map(|()| inner.element().unwrap().content.to_vec())
}

fn joined(r: &[u8], s: &[u8]) -> Vec<u8> {
    sequence(&[r, s].map(|number| der(|w| w.primitive(tag::INTEGER, number))))
}

#[tokio::test(flavor = "multi_thread")]
async fn csrs_without_proof_of_possession_are_refused() {
    judge_family(async |ca| {
        let (draft, other) = (CsrDraft::new(), CsrDraft::new());
        let good = draft.signature_over(&draft.info());
        let [r, s] = numbers(&good);
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let signed = |heading, signature: &[u8]| {
            Case::csr(ca, heading, pem(&draft.with_signature(signature)), INVALID)
        };
        let case = |heading, csr: CsrDraft, reason| Case::csr(ca, heading, csr.pem(), reason);
        let padded = |number: &[u8]| [&[0], number].concat();
        let order = padded(&ORDER);
        let rsa = sequence(&[der(|w| w.oid(oid::RSA_SHA256)), der(Writer::null)]);
        let sha1 = sequence(&[der(|w| w.oid(oid::ECDSA_SHA1))]);
        vec![
            signed("wrong", &wrong),
            signed("none", &[]),
            signed("over other bytes", &draft.signature_over(b"other bytes")),
            signed("by another key", &other.signature_over(&draft.info())),
            case("of another key", CsrDraft::new().spki(other.spki.clone()), INVALID),
            case("algorithm != key, RSA", CsrDraft::new().algorithm(&rsa), MISMATCH),
            case(
                "algorithm != key, Ed25519",
                CsrDraft::new().algorithm(trust::SignatureAlgorithm::Ed25519.der()),
                MISMATCH,
            ),
            case("SHA-1 by name", CsrDraft::new().algorithm(&sha1), WEAK),
            Case::csr(ca, "SHA-1, ECDSA", fixture!("p256-sha1"), WEAK),
            Case::csr(ca, "SHA-1, RSA", fixture!("rsa-sha1"), WEAK),
            Case::csr(ca, "MD5", fixture!("rsa-md5"), WEAK),
            Case::csr(
                ca,
                "PSS signature",
                fixture!("rsa-signature-pss"),
                "CSR_ALGORITHM_UNSUPPORTED",
            ),
            signed("degenerate: r = 0", &joined(&[0], &s)),
            signed("degenerate: s = 0", &joined(&r, &[0])),
            signed("degenerate: r = s = 0", &joined(&[0], &[0])),
            signed("degenerate: r = order", &joined(&order, &s)),
            signed("degenerate: s = order", &joined(&r, &order)),
            signed("non-minimal r", &joined(&padded(&r), &s)),
            signed("non-minimal s", &joined(&r, &padded(&s))),
            signed("bytes behind the numbers", &[good.as_slice(), &[0]].concat()),
        ]
    })
    .await;
}
