//! CSRs that are taken.

use std::net::IpAddr;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use trust::csr::RequestedNames;
use trust::der::{Writer, oid, tag};
use trust::{KeyKind, SpiffeId};

use crate::draft::{
    Draft, IDENTITY, alternative_names, attribute, der, extension, pem, relative_name, uri,
};
use crate::{accept_der, accept_pem, fixture};

fn only_identity() -> RequestedNames {
    RequestedNames {
        spiffe_id: Some(SpiffeId::parse(IDENTITY).unwrap()),
        ..RequestedNames::default()
    }
}

#[test]
fn csrs_of_other_programs_are_taken() {
    for (pem, kind) in [
        (fixture!("rsa-2048-empty-organization"), KeyKind::Rsa { bits: 2048 }),
        (fixture!("rsa-2048-sha256"), KeyKind::Rsa { bits: 2048 }),
        (fixture!("rsa-3072-sha384"), KeyKind::Rsa { bits: 3072 }),
        (fixture!("rsa-4096-sha512"), KeyKind::Rsa { bits: 4096 }),
        (fixture!("p256-sha384"), KeyKind::P256),
        (fixture!("p384-sha256"), KeyKind::P384),
        (fixture!("ed25519"), KeyKind::Ed25519),
    ] {
        let csr = accept_pem(pem).unwrap_or_else(|refusal| panic!("{kind}: {refusal}"));
        assert_eq!(csr.public_key().kind(), kind);
        assert_eq!(*csr.names(), only_identity());
    }
}

#[test]
fn csrs_of_rcgen_are_taken_with_the_key_they_carry() {
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::P256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::P384),
        (&rcgen::PKCS_ED25519, KeyKind::Ed25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(IDENTITY.try_into().unwrap())];
        let csr = params.serialize_request(&key).unwrap();
        let verified = accept_pem(csr.pem().unwrap().as_bytes()).unwrap();
        assert_eq!(verified.public_key().kind(), kind);
        assert_eq!(verified.public_key().key_octets(), key.public_key_raw());
        assert_eq!(*verified.names(), only_identity());
    }
}

#[test]
fn every_kind_of_name_is_collected() {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "cart of the shop");
    params.subject_alt_names = vec![
        SanType::DnsName("cart.shop.svc".try_into().unwrap()),
        SanType::DnsName("*.cart.shop.svc".try_into().unwrap()),
        SanType::URI(IDENTITY.try_into().unwrap()),
        SanType::IpAddress(IpAddr::from([10, 0, 0, 7])),
        SanType::IpAddress("fd00::7".parse().unwrap()),
        SanType::Rfc822Name("cart@example.org".try_into().unwrap()),
    ];
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let expected = RequestedNames {
        spiffe_id: Some(SpiffeId::parse(IDENTITY).unwrap()),
        dns: vec!["cart.shop.svc".to_owned(), "*.cart.shop.svc".to_owned()],
        ips: vec![IpAddr::from([10, 0, 0, 7]), "fd00::7".parse().unwrap()],
        emails: vec!["cart@example.org".to_owned()],
        common_name: Some("cart of the shop".to_owned()),
    };
    assert_eq!(*accept_der(csr.der()).unwrap().names(), expected);
}

#[test]
fn an_email_address_in_the_subject_is_collected() {
    let subject = [relative_name(oid::EMAIL_ADDRESS, tag::IA5_STRING, b"cart@example.org")];
    let csr = accept_der(&Draft::new().subject(&subject).sign()).unwrap();
    assert_eq!(csr.names().emails, ["cart@example.org"]);
}

#[test]
fn a_csr_may_ask_for_nothing() {
    let csr = accept_der(&Draft::new().attributes(Vec::new()).sign()).unwrap();
    assert!(csr.names().is_empty());
    // Some clients leave the empty attributes out.
    let draft = Draft::new();
    let info = der(|w| {
        w.sequence(|w| {
            w.raw(&draft.version);
            w.raw(&draft.subject);
            w.raw(&draft.spki);
        });
    });
    let signature = rcgen::SigningKey::sign(&draft.key, &info).unwrap();
    let bare = der(|w| {
        w.sequence(|w| {
            w.raw(&info);
            w.raw(&draft.algorithm);
            w.bit_string(&signature);
        });
    });
    assert!(accept_der(&bare).unwrap().names().is_empty());
}

#[test]
fn a_spiffe_id_of_2048_bytes_is_taken() {
    let longest =
        format!("spiffe://example.org/{}", "a".repeat(2048 - "spiffe://example.org/".len()));
    let csr = accept_der(&Draft::new().names(&[uri(&longest)]).sign()).unwrap();
    assert_eq!(csr.names().spiffe_id.as_ref().unwrap().as_str(), longest);
}

#[test]
fn what_a_leaf_may_have_is_taken() {
    let purposes = der(|w| {
        w.sequence(|w| {
            w.oid(oid::SERVER_AUTH);
            w.oid(oid::CLIENT_AUTH);
        });
    });
    let csr = Draft::new().extensions(&[
        alternative_names(&[uri(IDENTITY)]),
        extension(oid::BASIC_CONSTRAINTS, true, &der(|w| w.sequence(|_| {}))),
        // digitalSignature, keyEncipherment, and decipherOnly in the second octet
        extension(oid::KEY_USAGE, true, &der(|w| w.named_bits(1 | 1 << 2 | 1 << 8))),
        extension(oid::EXTENDED_KEY_USAGE, false, &purposes),
        extension(oid::SUBJECT_KEY_ID, false, &der(|w| w.octet_string(&[7; 20]))),
    ]);
    assert_eq!(*accept_der(&csr.sign()).unwrap().names(), only_identity());
}

#[test]
fn up_to_eight_attributes_and_sixteen_extensions_are_taken() {
    let unknown = |n: u8| attribute(&[0x2b, 0x06, n], &[der(Writer::null)]);
    let eight = Draft::new().attributes((0..8).map(unknown).collect());
    assert!(accept_der(&eight.sign()).is_ok());
    let unknown = |n: u8| extension(&[0x2b, 0x06, n], false, &[]);
    let sixteen = Draft::new().extensions(&(0..16).map(unknown).collect::<Vec<_>>());
    assert!(accept_der(&sixteen.sign()).is_ok());
}

#[test]
fn white_space_and_line_ends_do_not_matter() {
    let pem = pem("NEW CERTIFICATE REQUEST", &Draft::new().sign());
    for text in [
        pem.clone(),
        pem.replace("\r\n", "\n"),
        format!("\n \t{pem}\r\n\n"),
        pem.trim_end().to_owned(),
    ] {
        assert!(accept_pem(text.as_bytes()).is_ok(), "{text:?}");
    }
}
