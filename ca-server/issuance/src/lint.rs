//! The lint: reads to-be-signed bytes back and compares each field with what was decided.
//!
//! The template wrote these bytes a moment ago; the lint shares no code with it, so a mistake in either is found before
//! the bytes are signed. It uses the strict reader and not a general X.509 parser, because those forgive: wrong tags,
//! odd booleans and dates that other peers would refuse. A second parser and a TLS verifier see the first leaf of every
//! snapshot, see [`crate::sign`].

use trust::der::{DerError, Reader, oid, tag};
use trust::{Timestamp, Validity};

use crate::template::{LeafFields, ip_octets};

/// A field of the to-be-signed bytes that is not what was decided. Always a defect of this program, never of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the leaf's {0} is not what was decided; nothing was signed, report this as a defect")]
pub struct LintFinding(pub &'static str);

/// Times and fields that the bytes must show.
pub(crate) struct Expected<'a> {
    pub(crate) fields: &'a LeafFields<'a>,
    pub(crate) validity: Validity,
}

/// Compares the bytes with what was decided.
pub(crate) fn lint(tbs: &[u8], expected: &Expected<'_>) -> Result<(), LintFinding> {
    let fields = expected.fields;
    let encoding = |_: DerError| LintFinding("encoding");
    let mut all = Reader::new(tbs);
    let mut tbs = all.sequence().map_err(encoding)?;
    all.finish().map_err(encoding)?;
    let mut field =
        |name, holds: &dyn Fn(&mut Reader<'_>) -> Result<bool, DerError>| match holds(&mut tbs) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(LintFinding(name)),
        };
    field("version", &is_version_3)?;
    field("serial number", &|tbs| Ok(tbs.unsigned()? == fields.serial.as_bytes()))?;
    field("signature algorithm", &|tbs| Ok(tbs.element()?.raw == fields.algorithm.der()))?;
    field("issuer name", &|tbs| Ok(tbs.element()?.raw == fields.issuer_name))?;
    field("validity", &|tbs| is_validity(tbs, &expected.validity))?;
    field("subject", &|tbs| Ok(tbs.sequence()?.is_empty()))?;
    field("public key", &|tbs| Ok(tbs.element()?.raw == fields.spki))?;
    let mut outside = tbs.enter(tag::context(3)).map_err(encoding)?;
    tbs.finish().map_err(encoding)?;
    let list = outside.sequence().map_err(encoding)?;
    outside.finish().map_err(encoding)?;
    extensions(list, fields)
}

fn is_version_3(tbs: &mut Reader<'_>) -> Result<bool, DerError> {
    let mut version = tbs.enter(tag::context(0))?;
    let is_3 = version.unsigned()? == [2];
    version.finish()?;
    Ok(is_3)
}

fn is_validity(tbs: &mut Reader<'_>, expected: &Validity) -> Result<bool, DerError> {
    let mut validity = tbs.sequence()?;
    let same = is_time(&mut validity, expected.not_before())?
        && is_time(&mut validity, expected.not_after())?;
    validity.finish()?;
    Ok(same)
}

/// RFC 5280 §4.1.2.5: two digits of the year in `UTCTime` until 2049, four in `GeneralizedTime` from 2050.
fn is_time(reader: &mut Reader<'_>, expected: Timestamp) -> Result<bool, DerError> {
    let element = reader.element()?;
    let civil = expected.civil();
    let (form, year_digits, year) = match civil.year {
        1950..=2049 => (tag::UTC_TIME, 2, civil.year % 100),
        year => (tag::GENERALIZED_TIME, 4, year),
    };
    let Some((digits, b"Z")) = element.content.split_at_checked(year_digits + 10) else {
        return Ok(false);
    };
    let Some((year_read, rest)) = digits.split_at_checked(year_digits) else { return Ok(false) };
    let expected = [civil.month, civil.day, civil.hour, civil.minute, civil.second];
    let same_rest = rest.chunks(2).map(number).eq(expected.into_iter().map(Some));
    Ok(element.tag == form && number(year_read) == Some(year) && same_rest)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(sum * 10 + i64::from(digit))
    })
}

/// The extensions in the template's order: exactly these, each once.
fn extensions(mut list: Reader<'_>, fields: &LeafFields<'_>) -> Result<(), LintFinding> {
    extension(&mut list, "key usage", oid::KEY_USAGE, true, |value| {
        Ok(value.named_bits()? == fields.key_usage)
    })?;
    extension(&mut list, "extended key usage", oid::EXTENDED_KEY_USAGE, false, |value| {
        let mut purposes = value.sequence()?;
        let both = purposes.oid()? == oid::SERVER_AUTH && purposes.oid()? == oid::CLIENT_AUTH;
        Ok(both && purposes.is_empty())
    })?;
    extension(&mut list, "basic constraints", oid::BASIC_CONSTRAINTS, true, |value| {
        Ok(value.sequence()?.is_empty())
    })?;
    extension(&mut list, "subject key id", oid::SUBJECT_KEY_ID, false, |value| {
        Ok(value.value(tag::OCTET_STRING)? == fields.subject_key_id)
    })?;
    extension(&mut list, "authority key id", oid::AUTHORITY_KEY_ID, false, |value| {
        let mut parts = value.sequence()?;
        let same = parts.value(tag::context_primitive(0))? == fields.authority_key_id;
        Ok(same && parts.is_empty())
    })?;
    extension(&mut list, "subject alternative name", oid::SUBJECT_ALT_NAME, true, |value| {
        are_names(value.sequence()?, fields)
    })?;
    if fields.no_rev_avail {
        extension(&mut list, "noRevAvail", oid::NO_REV_AVAIL, false, |value| {
            Ok(value.value(tag::NULL)?.is_empty())
        })?;
    }
    list.finish().map_err(|_| LintFinding("list of extensions"))
}

fn extension(
    list: &mut Reader<'_>,
    name: &'static str,
    id: &[u8],
    critical: bool,
    holds: impl FnOnce(&mut Reader<'_>) -> Result<bool, DerError>,
) -> Result<(), LintFinding> {
    let read = || {
        let mut extension = list.sequence()?;
        let same_form = extension.oid()? == id && extension.default_false()? == critical;
        let octets = extension.value(tag::OCTET_STRING)?;
        extension.finish()?;
        let mut value = extension.inside(octets)?;
        let same_value = holds(&mut value)?;
        value.finish()?;
        Ok::<_, DerError>(same_form && same_value)
    };
    match read() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(LintFinding(name)),
    }
}

fn are_names(mut found: Reader<'_>, fields: &LeafFields<'_>) -> Result<bool, DerError> {
    let mut same = found.value(tag::context_primitive(6))? == fields.identity.as_bytes();
    for name in fields.names.dns() {
        same &= found.value(tag::context_primitive(2))? == name.as_bytes();
    }
    for address in fields.names.ips() {
        same &= found.value(tag::context_primitive(7))? == ip_octets(address);
    }
    Ok(same && found.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use trust::der::DerTime;
    use trust::{SeededRandomness, Serial, SignatureAlgorithm, Validity};

    use super::*;
    use crate::fixture::{self, CaMaterial, NOW};
    use crate::request::ServingNames;
    use crate::template::to_be_signed;

    fn with_fields(
        names: &ServingNames,
        no_rev_avail: bool,
        test: impl FnOnce(&LeafFields<'_>, Validity),
    ) {
        let (ca, csr) = (CaMaterial::new(), fixture::csr());
        let validity = Validity::new(NOW, NOW.plus(Duration::from_secs(3600))).unwrap();
        let fields = LeafFields {
            serial: Serial::random(&SeededRandomness::new(1)),
            algorithm: SignatureAlgorithm::EcdsaP256Sha256,
            issuer_name: ca.signer().issuer_name().to_vec().leak(),
            not_before: DerTime::new(validity.not_before()).unwrap(),
            not_after: DerTime::new(validity.not_after()).unwrap(),
            spki: csr.public_key().spki_der(),
            identity: "spiffe://example.org/ns/a/sa/b",
            names,
            key_usage: 1,
            subject_key_id: &[7; 20],
            authority_key_id: &[8; 20],
            no_rev_avail,
        };
        test(&fields, validity);
    }

    fn names() -> ServingNames {
        let ips: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        ServingNames::new(vec!["localhost".to_owned(), "ca.example.org".to_owned()], ips).unwrap()
    }

    #[test]
    fn what_the_template_writes_is_accepted() {
        for names in [ServingNames::default(), names()] {
            for no_rev_avail in [false, true] {
                with_fields(&names, no_rev_avail, |fields, validity| {
                    assert_eq!(lint(&to_be_signed(fields), &Expected { fields, validity }), Ok(()));
                });
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        with_fields(&names(), true, |fields, validity| {
            let good = to_be_signed(fields);
            let mut missed = Vec::new();
            for place in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[place / 8] ^= 1 << (place % 8);
                if lint(&bad, &Expected { fields, validity }).is_ok() {
                    missed.push((place / 8, place % 8));
                }
            }
            assert_eq!(missed, [], "bytes and bits whose change was not found");
        });
    }

    #[test]
    fn each_wrong_field_is_named() {
        with_fields(&ServingNames::default(), true, |fields, validity| {
            let tbs = to_be_signed(fields);
            let other = names();
            let named =
                |changed: LeafFields<'_>| lint(&tbs, &Expected { fields: &changed, validity });
            let serial = Serial::random(&SeededRandomness::new(2));
            let base = || fields.clone();
            for (changed, name) in [
                (LeafFields { serial, ..base() }, "serial number"),
                (
                    LeafFields { algorithm: SignatureAlgorithm::Ed25519, ..base() },
                    "signature algorithm",
                ),
                (LeafFields { issuer_name: &[0x30, 0], ..base() }, "issuer name"),
                (LeafFields { spki: &[0x30, 0], ..base() }, "public key"),
                (LeafFields { key_usage: 5, ..base() }, "key usage"),
                (LeafFields { subject_key_id: &[9; 20], ..base() }, "subject key id"),
                (LeafFields { authority_key_id: &[9; 20], ..base() }, "authority key id"),
                (
                    LeafFields { identity: "spiffe://example.org/x", ..base() },
                    "subject alternative name",
                ),
                (LeafFields { names: &other, ..base() }, "subject alternative name"),
                (LeafFields { no_rev_avail: false, ..base() }, "list of extensions"),
            ] {
                assert_eq!(named(changed), Err(LintFinding(name)));
            }
            let later =
                Validity::new(validity.not_before(), NOW.plus(Duration::from_secs(3601))).unwrap();
            let found = lint(&tbs, &Expected { fields, validity: later });
            assert_eq!(found, Err(LintFinding("validity")));
        });
    }
}
