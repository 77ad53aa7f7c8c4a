//! When holders have lists, and when they do without.

use rcgen::{
    CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::*;

const KEEP: u32 = 60;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The first of a month of 2030.
fn month(month: u8) -> Timestamp {
    Timestamp::from_secs(date_time_ymd(2030, month, 1).unix_timestamp())
}

/// A list that is valid in this month of 2030.
fn list(from: u8, until: u8) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2030, from, 1),
        next_update: date_time_ymd(2030, until, 1),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&Issuer::from_params(&params, &key)).unwrap().der().to_vec()
}

fn root(name: &[u8]) -> RootId {
    RootId::of(name)
}

fn said(number: u64, lists: Vec<Vec<u8>>, roots: &[RootId]) -> wire::RevocationLists {
    wire::RevocationLists {
        number,
        lists,
        roots: roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
        keep_seconds: KEEP,
        without: String::new(),
    }
}

fn known(number: u64, lists: Vec<Vec<u8>>, roots: &[RootId]) -> Known {
    let mut known = Known::at(at(0));
    known.hear(from_wire(said(number, lists, roots)).unwrap(), at(100)).unwrap();
    known
}

#[test]
fn lists_go_only_with_roots_that_they_are_complete_for() {
    let (a, b) = (root(b"a"), root(b"b"));
    let known = known(7, vec![list(1, 12), list(2, 11)], &[a]);
    let with = |roots: &[RootId]| {
        let roots = roots.iter().copied().collect();
        known.with(&roots, month(6), at(101)).map(|lists| lists.number)
    };
    assert_eq!(with(&[a]), Some(7));
    assert_eq!(with(&[a, b]), None, "leaves under the other root have no list here");
    let pem = &known.with(&BTreeSet::from([a]), month(6), at(101)).unwrap().pem;
    assert_eq!(pem.matches("-----BEGIN X509 CRL-----\n").count(), 2);
}

#[test]
fn holders_do_without_before_a_list_ends_and_before_it_begins_and_it_is_said_why() {
    let known = known(7, vec![list(1, 12), list(2, 11)], &[]);
    let trouble = |now: Timestamp| known.trouble(now, at(101)).unwrap_or_default();
    assert_eq!(trouble(month(2)), "");
    assert!(trouble(month(2).minus(at(1))).contains("they begin at"));
    assert_eq!(trouble(month(11).minus(at(61))), "", "the earliest end counts");
    let ended = trouble(month(11).minus(at(60)));
    assert!(ended.contains("they end at") && ended.contains("set the clock right"), "{ended}");
    assert!(known.with(&BTreeSet::new(), month(11), at(101)).is_none());
}

#[test]
fn a_ca_that_is_not_heard_for_long_leaves_holders_without_and_its_word_gives_them_back() {
    let mut known = known(7, vec![list(1, 12)], &[]);
    let has = |known: &Known, uptime| known.with(&BTreeSet::new(), month(6), uptime).is_some();
    assert!(has(&known, at(159)) && !has(&known, at(160)));
    let away = known.trouble(month(6), at(160)).unwrap();
    assert!(away.contains("not heard for 60 s") && away.contains("come back"), "{away}");
    known.hear(from_wire(said(7, Vec::new(), &[])).unwrap(), at(200)).unwrap();
    assert!(has(&known, at(259)) && known.trouble(month(6), at(259)).is_none());
    let other = known.hear(from_wire(said(8, Vec::new(), &[])).unwrap(), at(201));
    assert_eq!(other, Err(ListsRefused::Unknown(8)));
    let without =
        wire::RevocationLists { without: "others issue".to_owned(), ..Default::default() };
    known.hear(from_wire(without).unwrap(), at(202)).unwrap();
    assert!(!has(&known, at(203)));
    assert!(known.trouble(month(6), at(203)).unwrap().contains("others issue"));
}

#[test]
fn a_ca_that_says_nothing_of_lists_is_no_trouble_and_a_start_waits_for_its_word() {
    let known = Known::at(at(100));
    assert_eq!(known.trouble(month(6), at(1_000)), None);
    assert!(!known.is_settled(at(159)) && known.is_settled(at(160)));
}

#[test]
fn what_is_no_list_is_refused_as_a_whole() {
    for (lists, why) in [
        (vec![list(1, 2), b"no".to_vec()], "list 2 of 2"),
        (vec![Vec::new(); 257], "257 lists are more"),
    ] {
        let refused = from_wire(said(7, lists, &[])).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let mut short = said(7, vec![list(1, 2)], &[]);
    short.roots = vec![vec![1; 31]];
    assert_eq!(from_wire(short).unwrap_err(), ListsRefused::Root);
}
