//! The leaf template: the one shape of to-be-signed bytes that this CA signs for others (RFC 5280 §4.1, X509-SVID §4).
//!
//! The template is written straight in DER and not built by a library: the issuer's name is copied byte for byte from
//! the issuer's certificate (a rebuilt name breaks the chain in silence), and nothing is in a leaf that is not here.

use std::net::IpAddr;

use trust::der::{DerTime, Writer, oid};
use trust::{Serial, SignatureAlgorithm};

use crate::request::ServingNames;

/// Tag number of a DNS name in GeneralName.
const GENERAL_NAME_DNS: u8 = 2;
/// Tag number of a URI in GeneralName.
const GENERAL_NAME_URI: u8 = 6;
/// Tag number of an IP address in GeneralName.
const GENERAL_NAME_IP: u8 = 7;

/// Everything that goes into a leaf, each value decided before.
#[derive(Clone)]
pub(crate) struct LeafFields<'a> {
    pub(crate) serial: Serial,
    pub(crate) algorithm: SignatureAlgorithm,
    /// DER Name, copied from the issuer's certificate.
    pub(crate) issuer_name: &'a [u8],
    pub(crate) not_before: DerTime,
    pub(crate) not_after: DerTime,
    pub(crate) spki: &'a [u8],
    pub(crate) identity: &'a str,
    pub(crate) names: &'a ServingNames,
    pub(crate) key_usage: u16,
    pub(crate) subject_key_id: &'a [u8],
    pub(crate) authority_key_id: &'a [u8],
    pub(crate) no_rev_avail: bool,
}

/// Writes the TBSCertificate.
pub(crate) fn to_be_signed(fields: &LeafFields<'_>) -> Vec<u8> {
    let mut writer = Writer::with_capacity(1024);
    writer.sequence(|tbs| {
        tbs.context(0, |version| version.unsigned(&[2]));
        tbs.unsigned(fields.serial.as_bytes());
        tbs.raw(fields.algorithm.der());
        tbs.raw(fields.issuer_name);
        tbs.sequence(|validity| {
            validity.time(&fields.not_before);
            validity.time(&fields.not_after);
        });
        tbs.sequence(|_empty_subject| {});
        tbs.raw(fields.spki);
        tbs.context(3, |explicit| explicit.sequence(|list| extensions(list, fields)));
    });
    writer.into_der()
}

/// Puts a certificate, or a revocation list, together from signed bytes, algorithm and signature.
pub(crate) fn certificate(tbs: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(tbs.len() + signature.len() + 64);
    writer.sequence(|certificate| {
        certificate.raw(tbs);
        certificate.raw(algorithm.der());
        certificate.bit_string(signature);
    });
    writer.into_der()
}

/// The address bytes of an IP name: 4 or 16, in network order.
pub(crate) fn ip_octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn extensions(list: &mut Writer, fields: &LeafFields<'_>) {
    extension(list, oid::KEY_USAGE, true, |value| value.named_bits(fields.key_usage));
    extension(list, oid::EXTENDED_KEY_USAGE, false, |value| {
        value.sequence(|purposes| {
            purposes.oid(oid::SERVER_AUTH);
            purposes.oid(oid::CLIENT_AUTH);
        });
    });
    // An empty sequence is CA:FALSE: DER leaves defaults out.
    extension(list, oid::BASIC_CONSTRAINTS, true, |value| value.sequence(|_| {}));
    extension(list, oid::SUBJECT_KEY_ID, false, |value| value.octet_string(fields.subject_key_id));
    extension(list, oid::AUTHORITY_KEY_ID, false, |value| {
        value.sequence(|parts| parts.context_primitive(0, fields.authority_key_id));
    });
    // Critical, because the subject is empty (RFC 5280 §4.2.1.6).
    extension(list, oid::SUBJECT_ALT_NAME, true, |value| {
        value.sequence(|names| {
            names.context_primitive(GENERAL_NAME_URI, fields.identity.as_bytes());
            for name in fields.names.dns() {
                names.context_primitive(GENERAL_NAME_DNS, name.as_bytes());
            }
            for address in fields.names.ips() {
                names.context_primitive(GENERAL_NAME_IP, &ip_octets(address));
            }
        });
    });
    if fields.no_rev_avail {
        extension(list, oid::NO_REV_AVAIL, false, Writer::null);
    }
}

/// Writes one extension.
pub(crate) fn extension(
    list: &mut Writer,
    id: &[u8],
    critical: bool,
    value: impl FnOnce(&mut Writer),
) {
    list.sequence(|extension| {
        extension.oid(id);
        if critical {
            extension.boolean(true);
        }
        extension.octet_string_of(value);
    });
}
