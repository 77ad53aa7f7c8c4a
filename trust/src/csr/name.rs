//! The names that a CSR asks for: its subject and its subject alternative names.

use std::net::IpAddr;

use super::error::{CsrError, NameFault};
use super::wanted::{NAMES_MAX, RequestedNames};
use crate::der::{self, Reader, oid, tag};
use crate::spiffe_id::SpiffeId;

/// Longest text of the subject in bytes. RFC 5280 appendix A has 64 characters for most, up to four bytes each.
const SUBJECT_TEXT_LEN_MAX: usize = 256;
/// Longest DNS name in bytes (RFC 1035 §2.3.4, in text without the final dot).
const DNS_LEN_MAX: usize = 253;
/// Longest e-mail address in bytes (RFC 5321 §4.5.3.1.3, without the brackets).
const EMAIL_LEN_MAX: usize = 254;

/// Tags of a GeneralName (RFC 5280 §4.2.1.6).
const EMAIL: u8 = tag::context_primitive(1);
const DNS: u8 = tag::context_primitive(2);
const URI: u8 = tag::context_primitive(6);
const IP: u8 = tag::context_primitive(7);

/// Reads the members of a `Name`. Empty texts are taken, since pilot-agent sends an empty organisation; an empty
/// common name is not.
pub(super) fn read_subject(
    mut subject: Reader<'_>,
    names: &mut RequestedNames,
) -> Result<(), CsrError> {
    while !subject.is_empty() {
        let mut relative = subject.enter(tag::SET)?;
        der::check_set_order(relative.clone())?;
        loop {
            let mut attribute = relative.sequence()?;
            let kind = attribute.oid()?;
            let value = attribute.element()?;
            attribute.finish()?;
            let text = subject_text(&value)?;
            if kind == oid::COMMON_NAME {
                if text.is_empty() {
                    return Err(NameFault::Malformed.into());
                }
                if names.common_name.replace(text.to_owned()).is_some() {
                    return Err(NameFault::SecondCommonName.into());
                }
            } else if kind == oid::EMAIL_ADDRESS {
                push(&mut names.emails, email(text.as_bytes())?)?;
            }
            if relative.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Reads the members of `GeneralNames`; there is at least one.
pub(super) fn read_alternatives(
    mut general: Reader<'_>,
    names: &mut RequestedNames,
) -> Result<(), CsrError> {
    loop {
        let name = general.element()?;
        match name.tag {
            URI if names.spiffe_id.is_some() => return Err(NameFault::SecondUri.into()),
            URI => names.spiffe_id = Some(spiffe_id(name.content)?),
            DNS => push(&mut names.dns, dns(name.content)?)?,
            IP => push(&mut names.ips, ip(name.content)?)?,
            EMAIL => push(&mut names.emails, email(name.content)?)?,
            _ => return Err(NameFault::UnsupportedType.into()),
        }
        if general.is_empty() {
            return Ok(());
        }
    }
}

fn push<T>(list: &mut Vec<T>, name: T) -> Result<(), NameFault> {
    if list.len() == NAMES_MAX {
        return Err(NameFault::TooMany);
    }
    list.push(name);
    Ok(())
}

fn subject_text<'a>(value: &der::Element<'a>) -> Result<&'a str, NameFault> {
    let is_ascii_only = match value.tag {
        tag::UTF8_STRING => false,
        tag::PRINTABLE_STRING | tag::IA5_STRING => true,
        _ => return Err(NameFault::TextType),
    };
    let text = std::str::from_utf8(value.content).map_err(|_| NameFault::Malformed)?;
    let is_sound = text.len() <= SUBJECT_TEXT_LEN_MAX
        && !text.chars().any(char::is_control)
        && (!is_ascii_only || text.is_ascii());
    if is_sound { Ok(text) } else { Err(NameFault::Malformed) }
}

fn spiffe_id(content: &[u8]) -> Result<SpiffeId, NameFault> {
    let text = std::str::from_utf8(content).map_err(|_| NameFault::Malformed)?;
    Ok(SpiffeId::parse(text)?)
}

/// A host name, perhaps with a wildcard; labels are not judged one by one, since names are only ever compared.
fn dns(content: &[u8]) -> Result<String, NameFault> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_*".contains(byte);
    visible(content, DNS_LEN_MAX, is_allowed)
}

fn email(content: &[u8]) -> Result<String, NameFault> {
    visible(content, EMAIL_LEN_MAX, u8::is_ascii_graphic)
}

fn visible(
    content: &[u8],
    len_max: usize,
    allowed: impl Fn(&u8) -> bool,
) -> Result<String, NameFault> {
    if content.is_empty() || content.len() > len_max || !content.iter().all(allowed) {
        return Err(NameFault::Malformed);
    }
    String::from_utf8(content.to_vec()).map_err(|_| NameFault::Malformed)
}

fn ip(content: &[u8]) -> Result<IpAddr, NameFault> {
    if let Ok(octets) = <[u8; 4]>::try_from(content) {
        return Ok(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(content).map(IpAddr::from).map_err(|_| NameFault::Malformed)
}
