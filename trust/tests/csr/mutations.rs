//! Damage: whatever is done to a good CSR, it does not pass, and nothing panics.

use proptest::prelude::*;

use crate::draft::{Draft, pem};
use crate::{accept_der, accept_pem, fixture};

/// One CSR of each kind of key, in PEM.
fn good() -> [(&'static str, Vec<u8>); 4] {
    [
        ("P-256", pem("CERTIFICATE REQUEST", &Draft::new().sign()).into_bytes()),
        ("P-384", fixture!("p384-sha256").to_vec()),
        ("Ed25519", fixture!("ed25519").to_vec()),
        ("RSA-2048", fixture!("rsa-2048-empty-organization").to_vec()),
    ]
}

fn der_of(pem: &[u8]) -> Vec<u8> {
    pem::parse(pem).unwrap().into_contents()
}

#[test]
fn every_flipped_bit_of_the_der_is_refused() {
    for (kind, pem) in good() {
        let der = der_of(&pem);
        assert!(accept_der(&der).is_ok(), "{kind}");
        for bit in 0..der.len() * 8 {
            let mut flipped = der.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(accept_der(&flipped).is_err(), "{kind}: bit {bit}");
        }
    }
}

#[test]
fn every_flipped_bit_of_the_pem_is_refused() {
    for (kind, pem) in good() {
        let pem = pem.trim_ascii_end();
        for bit in 0..pem.len() * 8 {
            let mut flipped = pem.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(accept_pem(&flipped).is_err(), "{kind}: bit {bit}");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for (kind, pem) in good() {
        let (pem, der) = (pem.trim_ascii_end(), der_of(&pem));
        for length in 0..pem.len() {
            assert!(accept_pem(&pem[..length]).is_err(), "{kind}: {length} bytes of PEM");
        }
        for length in 0..der.len() {
            assert!(accept_der(&der[..length]).is_err(), "{kind}: {length} bytes of DER");
            assert!(
                accept_der(&der[length + 1..]).is_err(),
                "{kind}: without the first {length} bytes of DER"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(accept_der(&bytes).is_err());
        prop_assert!(accept_pem(&bytes).is_err());
    }

    /// Replaces, removes and inserts at once, which keeps more of the structure whole than one flip does.
    #[test]
    fn a_csr_edited_after_its_signature_is_refused(
        from in any::<prop::sample::Index>(),
        removed in 0_usize..8,
        inserted in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let good = der_of(fixture!("p384-sha256"));
        let start = from.index(good.len());
        let end = (start + removed).min(good.len());
        let mut edited = good.clone();
        edited.splice(start..end, inserted);
        prop_assume!(edited != good);
        prop_assert!(accept_der(&edited).is_err());
    }

    /// Signed by its key all the same: such a CSR may pass, but only with the key that signed it.
    #[test]
    fn a_csr_edited_before_its_signature_never_verifies_for_another_key(
        from in any::<prop::sample::Index>(),
        inserted in prop::collection::vec(any::<u8>(), 1..4),
    ) {
        let mut draft = Draft::new();
        let key = draft.spki.clone();
        let spki = &mut draft.spki;
        let start = from.index(spki.len());
        let end = (start + inserted.len()).min(spki.len());
        spki.splice(start..end, inserted);
        if let Ok(csr) = accept_der(&draft.sign()) {
            prop_assert_eq!(csr.public_key().spki_der(), key.as_slice());
        }
    }
}
