//! What a list looks like to a reader that shares no code with what wrote it.

use std::time::Duration;

use super::*;
use crate::fixture::{CaMaterial, NOW, ready};

const DAY: Duration = Duration::from_secs(86_400);

fn serial(number: u8) -> Serial {
    Serial::from_bytes(&[0x40 | number; 16]).unwrap()
}

fn list(ca: &CaMaterial, revoked: &[(Serial, Revoked)]) -> Vec<u8> {
    let SignerParts { keys, key, mut chain, .. } = ca.parts();
    let issuer = ready(ListIssuer::new(keys, key, chain.remove(0))).unwrap();
    let (this_update, next_update) = (NOW, NOW.plus(DAY));
    ready(issuer.sign(ListFields { number: 1_800_000_000, this_update, next_update, revoked }))
        .unwrap()
}

use crate::SignerParts;

#[test]
fn a_list_says_what_it_was_told_and_names_its_issuer() {
    let ca = CaMaterial::new();
    let one = |reason| Revoked { at: NOW.minus(DAY), reason, until: NOW.plus(DAY) };
    let der = list(
        &ca,
        &[
            (serial(1), one(RevocationReason::Unknown)),
            (serial(2), one(RevocationReason::KeyCompromise)),
            (serial(3), one(RevocationReason::PrivilegeWithdrawn)),
        ],
    );
    let (rest, read) = CertificateRevocationList::from_der(&der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(read.tbs_cert_list.version.map(|version| version.0), Some(1), "version 2");
    assert_eq!(read.last_update().timestamp(), NOW.as_secs());
    assert_eq!(read.next_update().unwrap().timestamp(), NOW.plus(DAY).as_secs());
    assert_eq!(read.crl_number().unwrap().to_string(), "1800000000");
    let entries: Vec<_> = read
        .iter_revoked_certificates()
        .map(|entry| {
            let reason = entry.reason_code().map(|(_, reason)| reason.0);
            (entry.raw_serial().to_vec(), entry.revocation_date.timestamp(), reason)
        })
        .collect();
    let expected = [(1, None), (2, Some(1)), (3, Some(9))].map(|(number, reason)| {
        (serial(number).as_bytes().to_vec(), NOW.minus(DAY).as_secs(), reason)
    });
    assert_eq!(entries, expected);
    let issuer = ca.parts().chain.remove(0);
    assert_eq!(read.tbs_cert_list.issuer.as_raw(), issuer.subject_der());
    assert!(read.extensions().iter().all(|extension| !extension.critical));
}

#[test]
fn a_list_of_nobody_has_no_entries_at_all_and_one_of_another_issuer_is_another() {
    let (ca, other) = (CaMaterial::new(), CaMaterial::new());
    let der = list(&ca, &[]);
    let (_, read) = CertificateRevocationList::from_der(&der).unwrap();
    assert_eq!(read.iter_revoked_certificates().count(), 0);
    let key = |ca: &CaMaterial| ca.parts().chain.remove(0).spki_der().to_vec();
    for (ca, verifies) in [(&ca, true), (&other, false)] {
        let spki = key(ca);
        let (_, spki) = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        assert_eq!(read.verify_signature(&spki).is_ok(), verifies);
    }
    let SignerParts { keys, key, .. } = ca.parts();
    let foreign = ready(ListIssuer::new(keys, key, other.parts().chain.remove(0)));
    assert!(matches!(foreign, Err(ListError::OtherKey)), "{foreign:?}");
}
