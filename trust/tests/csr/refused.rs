//! Content that is refused: extensions, attributes, names.

use trust::der::{Writer, oid, tag};

use crate::draft::{
    Draft, IDENTITY, alternative_names, attribute, common_name, der, extension, general_name,
    relative_name, uri,
};
use crate::{accept_der, assert_refused};

/// 2.5.29.37.0, the purpose that stands for all purposes.
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// 2.5.29.30, name constraints: of no use in a leaf.
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
/// 2.5.4.10, the organisation's name.
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

fn sequence(content: impl FnOnce(&mut Writer)) -> Vec<u8> {
    der(|w| w.sequence(content))
}

#[test]
fn hostile_extensions_are_refused() {
    const REFUSED: &str = "CSR_EXTENSION_REFUSED";
    const ENCODING: &str = "CSR_ENCODING_INVALID";
    let with = |oid: &[u8], value: Vec<u8>| Draft::new().extension(oid, true, &value).sign();
    let san = || alternative_names(&[uri(IDENTITY)]);
    let unknown = |n: u8| extension(&[0x2b, 0x06, n], false, &[]);
    let false_by_name = sequence(|w| {
        w.oid(&[0x2b, 0x06]);
        w.boolean(false);
        w.octet_string(&[]);
    });
    assert_refused(
        &[
            ("CA:TRUE", with(oid::BASIC_CONSTRAINTS, sequence(|w| w.boolean(true))), REFUSED),
            ("path length", with(oid::BASIC_CONSTRAINTS, sequence(|w| w.unsigned(&[0]))), REFUSED),
            (
                "CA:FALSE spelled out",
                with(oid::BASIC_CONSTRAINTS, sequence(|w| w.boolean(false))),
                ENCODING,
            ),
            (
                "CA:TRUE by 01",
                with(oid::BASIC_CONSTRAINTS, sequence(|w| w.primitive(tag::BOOLEAN, &[1]))),
                ENCODING,
            ),
            ("keyCertSign", with(oid::KEY_USAGE, der(|w| w.named_bits(1 | 1 << 5))), REFUSED),
            ("cRLSign", with(oid::KEY_USAGE, der(|w| w.named_bits(1 << 6))), REFUSED),
            ("keyCertSign behind zero bits", with(oid::KEY_USAGE, vec![3, 3, 0, 4, 0]), ENCODING),
            (
                "any purpose",
                with(oid::EXTENDED_KEY_USAGE, sequence(|w| w.oid(ANY_PURPOSE))),
                REFUSED,
            ),
            (
                "code signing",
                with(oid::EXTENDED_KEY_USAGE, sequence(|w| w.oid(CODE_SIGNING))),
                REFUSED,
            ),
            ("no purpose", with(oid::EXTENDED_KEY_USAGE, sequence(|_| {})), REFUSED),
            ("unknown critical extension", with(&[0x2b, 0x06, 0x01], vec![]), REFUSED),
            ("critical name constraints", with(NAME_CONSTRAINTS, sequence(|_| {})), REFUSED),
            ("duplicate extension", Draft::new().extensions(&[san(), san()]).sign(), REFUSED),
            (
                "duplicate unknown extension",
                Draft::new().extensions(&[unknown(1), unknown(1)]).sign(),
                REFUSED,
            ),
            (
                "17 extensions",
                Draft::new().extensions(&(0..17).map(unknown).collect::<Vec<_>>()).sign(),
                REFUSED,
            ),
            (
                "critical FALSE spelled out",
                Draft::new().extensions(&[false_by_name]).sign(),
                ENCODING,
            ),
            (
                "bytes behind an extension's value",
                with(oid::KEY_USAGE, vec![3, 2, 7, 128, 0]),
                ENCODING,
            ),
        ],
        accept_der,
    );
}

#[test]
fn hostile_attributes_are_refused() {
    const REFUSED: &str = "CSR_ATTRIBUTE_REFUSED";
    const ENCODING: &str = "CSR_ENCODING_INVALID";
    let with = |attributes| Draft::new().attributes(attributes).sign();
    let unknown = |n: u8| attribute(&[0x2b, 0x06, n], &[der(Writer::null)]);
    let no_extensions = || sequence(|_| {});
    let nested =
        |depth: u8| (0..depth).fold(der(Writer::null), |inner, _| sequence(|w| w.raw(&inner)));
    let mut unsorted = Draft::new();
    unsorted.attributes = vec![unknown(2), unknown(1)];
    assert_refused(
        &[
            (
                "challengePassword",
                with(vec![attribute(oid::CHALLENGE_PASSWORD, &[der(|w| w.utf8_string("secret"))])]),
                REFUSED,
            ),
            ("duplicate attribute", with(vec![unknown(1), unknown(1)]), REFUSED),
            (
                "two extension requests in one",
                with(vec![attribute(oid::EXTENSION_REQUEST, &[no_extensions(), no_extensions()])]),
                REFUSED,
            ),
            (
                "two extension requests",
                with(vec![
                    attribute(oid::EXTENSION_REQUEST, &[no_extensions()]),
                    attribute(oid::EXTENSION_REQUEST, &[no_extensions()]),
                ]),
                REFUSED,
            ),
            (
                "extension request without value",
                with(vec![attribute(oid::EXTENSION_REQUEST, &[])]),
                ENCODING,
            ),
            ("9 attributes", with((0..9).map(unknown).collect()), REFUSED),
            ("attributes out of order", unsorted.sign(), ENCODING),
            ("17 levels deep", with(vec![attribute(&[0x2b], &[nested(17)])]), ENCODING),
            ("1,000 levels deep", with(vec![attribute(&[0x2b], &[nested_deeply()])]), ENCODING),
            (
                "BER inside an unknown attribute",
                with(vec![attribute(&[0x2b], &[vec![0x30, 0x80, 0, 0]])]),
                ENCODING,
            ),
        ],
        accept_der,
    );
}

fn nested_deeply() -> Vec<u8> {
    (0..1_000).fold(der(Writer::null), |inner, _| sequence(|w| w.raw(&inner)))
}

#[test]
fn hostile_alternative_names_are_refused() {
    const NAME: &str = "CSR_NAME_INVALID";
    let with = |names: &[Vec<u8>]| Draft::new().names(names).sign();
    let uris = [
        ("URI of another scheme", "https://example.org/ns/shop/sa/cart".to_owned()),
        ("upper-case scheme", "SPIFFE://example.org/a".to_owned()),
        ("upper-case trust domain", "spiffe://Example.org/a".to_owned()),
        ("no trust domain", "spiffe:///a".to_owned()),
        ("port", "spiffe://example.org:8443/a".to_owned()),
        ("user", "spiffe://root@example.org/a".to_owned()),
        ("query", "spiffe://example.org/a?b=c".to_owned()),
        ("fragment", "spiffe://example.org/a#b".to_owned()),
        ("percent-encoding", "spiffe://example.org/%61".to_owned()),
        ("trailing slash", "spiffe://example.org/a/".to_owned()),
        ("empty segment", "spiffe://example.org//a".to_owned()),
        ("dot segment", "spiffe://example.org/./a".to_owned()),
        ("parent segment", "spiffe://example.org/ns/../a".to_owned()),
        ("NUL in a URI", "spiffe://example.org/a\0.evil".to_owned()),
        ("letters beyond ASCII", "spiffe://example.org/\u{e4}".to_owned()),
        ("empty URI", String::new()),
        ("trust domain of 256 bytes", format!("spiffe://{}/a", "a".repeat(256))),
        (
            "2049 bytes",
            format!("spiffe://example.org/{}", "a".repeat(2049 - "spiffe://example.org/".len())),
        ),
    ];
    let mut cases: Vec<_> =
        uris.iter().map(|(heading, text)| (*heading, with(&[uri(text)]), NAME)).collect();
    let many =
        (0..65).map(|n| general_name(2, format!("{n}.example.org").as_bytes())).collect::<Vec<_>>();
    let name = |number, content: &[u8]| with(&[uri(IDENTITY), general_name(number, content)]);
    cases.extend([
        ("two URIs", with(&[uri(IDENTITY), uri("spiffe://example.org/ns/shop/sa/admin")]), NAME),
        ("the same URI twice", with(&[uri(IDENTITY), uri(IDENTITY)]), NAME),
        ("URI that is not UTF-8", name(6, b"\xff\xfe"), NAME),
        ("NUL in a DNS name", name(2, b"example.org\0.evil.org"), NAME),
        ("DNS name beyond IA5", name(2, "ex\u{e4}mple.org".as_bytes()), NAME),
        ("DNS name with a space", name(2, b"example.org "), NAME),
        ("empty DNS name", name(2, b""), NAME),
        ("DNS name of 254 bytes", name(2, &[b'a'; 254]), NAME),
        ("NUL in an e-mail", name(1, b"a@example.org\0"), NAME),
        ("e-mail beyond IA5", name(1, "\u{e4}@example.org".as_bytes()), NAME),
        ("IP address of 5 bytes", name(7, &[10, 0, 0, 7, 0]), NAME),
        ("IP range", name(7, &[10, 0, 0, 0, 255, 0, 0, 0]), NAME),
        ("registered id", name(8, &[0x2b]), NAME),
        ("other name", with(&[der(|w| w.context(0, |w| w.oid(&[0x2b])))]), NAME),
        ("directory name", with(&[der(|w| w.context(4, |w| w.sequence(|_| {})))]), NAME),
        ("constructed URI", with(&[der(|w| w.context(6, |w| w.raw(IDENTITY.as_bytes())))]), NAME),
        ("65 DNS names", with(&many), NAME),
        ("no name at all", with(&[]), "CSR_ENCODING_INVALID"),
    ]);
    assert_refused(&cases, accept_der);
}

#[test]
fn hostile_subjects_are_refused() {
    const NAME: &str = "CSR_NAME_INVALID";
    const ENCODING: &str = "CSR_ENCODING_INVALID";
    let with = |names: &[Vec<u8>]| Draft::new().subject(names).sign();
    let text = |text_tag, text: &[u8]| with(&[relative_name(ORGANIZATION, text_tag, text)]);
    assert_refused(
        &[
            ("two common names", with(&[common_name("cart"), common_name("admin")]), NAME),
            ("empty common name", with(&[common_name("")]), NAME),
            ("NUL in a common name", with(&[common_name("cart\0admin")]), NAME),
            ("line end in a common name", with(&[common_name("cart\nlevel=info")]), NAME),
            ("C1 control in a common name", with(&[common_name("cart\u{9b}31m")]), NAME),
            ("common name of 257 bytes", with(&[common_name(&"a".repeat(257))]), NAME),
            ("organisation of 8 KiB", text(tag::UTF8_STRING, &[b'a'; 8192]), NAME),
            ("UTF8String that is not UTF-8", text(tag::UTF8_STRING, b"\xc0\x80"), NAME),
            (
                "PrintableString beyond ASCII",
                text(tag::PRINTABLE_STRING, "\u{e4}".as_bytes()),
                NAME,
            ),
            ("BMPString", text(0x1e, &[0, b'a']), NAME),
            ("TeletexString", text(0x14, b"a"), NAME),
            ("bits instead of a text", text(tag::BIT_STRING, &[0, 1]), NAME),
            (
                "e-mail with a space",
                with(&[relative_name(oid::EMAIL_ADDRESS, tag::IA5_STRING, b"a b")]),
                NAME,
            ),
            ("empty relative name", with(&[der(|w| w.set(|_| {}))]), ENCODING),
            ("sequence instead of a set", with(&[sequence(|_| {})]), ENCODING),
        ],
        accept_der,
    );
}
