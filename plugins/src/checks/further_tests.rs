//! Each wrong further root is refused for what is wrong with it, and takes no other with it.

use rcgen::{BasicConstraints, IsCa, SanType};
use trust::{Root, RootId, Timestamp, TrustDomain};

use super::forge::{self, ForgeKey, NOW};
use super::*;
use crate::authority::RootSet;

fn check(
    own: &[&[u8]],
    further: &[&[u8]],
    known: &[Root],
) -> Result<(Vec<Root>, Vec<FurtherFault>), Unsafe> {
    let ders = |ders: &[&[u8]]| ders.iter().map(|der| der.to_vec()).collect::<Vec<_>>();
    let set = RootSet::new(ders(own), None, 1).with_further(ders(further));
    let trust_domain = TrustDomain::parse("example.org").expect("domain");
    check_further(
        &set,
        &FurtherExpectation { trust_domain: &trust_domain, now: Timestamp::from_secs(NOW), known },
    )
}

fn root(name: &str) -> Vec<u8> {
    forge::root(&forge::params(name), &ForgeKey::new())
}

/// What is wrong with one of two further roots; the other one passes all the same.
fn fault(own: &[&[u8]], wrong: &[u8], known: &[Root]) -> &'static str {
    let good = root("good");
    let (passed, faults) = check(own, &[wrong, &good], known).expect("an answer");
    assert_eq!(passed.iter().map(Root::id).collect::<Vec<_>>(), [RootId::of(&good)]);
    let [fault] = &faults[..] else { panic!("one fault: {faults:?}") };
    assert_eq!(fault.id, RootId::of(wrong));
    fault.problem.reason()
}

#[test]
fn a_root_of_others_needs_room_for_one_ca_alone() {
    let with_room = |room| {
        let mut params = forge::params("other cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(room));
        forge::root(&params, &ForgeKey::new())
    };
    let (passed, faults) =
        check(&[&root("own")], &[&with_room(1), &root("third")], &[]).expect("an answer");
    assert_eq!((passed.len(), faults), (2, Vec::new()));
    // As everybody who reads a bundle has it.
    assert_eq!(fault(&[&root("own")], &with_room(0), &[]), "NOT_A_ROOT");
}

#[test]
fn each_wrong_one_is_told_by_itself() {
    let spoilt = |spoil: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = forge::params("wrong");
        spoil(&mut params);
        forge::root(&params, &ForgeKey::new())
    };
    let own = root("own");
    assert_eq!(fault(&[&own], b"no certificate", &[]), "CERTIFICATE_MALFORMED");
    assert_eq!(
        fault(&[&own], &spoilt(&|params| params.is_ca = IsCa::ExplicitNoCa), &[]),
        "NOT_A_CA"
    );
    let ended = spoilt(&|params| forge::set_validity(params, NOW - 7_200, NOW - 3_600));
    assert_eq!(fault(&[&own], &ended, &[]), "ENDS_TOO_EARLY");
    let other_domain = spoilt(&|params| {
        params.subject_alt_names =
            vec![SanType::URI("spiffe://other.test".try_into().expect("a name"))];
    });
    assert_eq!(fault(&[&own], &other_domain, &[]), "OTHER_TRUST_DOMAIN");
    assert_eq!(fault(&[&own], &own, &[]), "ROOT_DUPLICATE");
    let twice = root("twice");
    let (passed, faults) = check(&[&own], &[&twice, &twice], &[]).expect("an answer");
    assert_eq!((passed.len(), faults.len()), (1, 1));
}

#[test]
fn another_certificate_for_a_key_and_name_of_ours_is_refused_and_one_of_others_is_not() {
    let key = ForgeKey::new();
    let mut later = forge::params("renewed");
    later.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let (first, second) = (forge::root(&forge::params("renewed"), &key), forge::root(&later, &key));
    assert_ne!(first, second);
    assert_eq!(
        fault(&[&first], &second, &[]),
        "FURTHER_ROOT_IS_A_TWIN",
        "of one that it announces"
    );
    let known = [Root::parse(&first).expect("root")];
    assert_eq!(
        fault(&[&root("own")], &second, &known),
        "FURTHER_ROOT_IS_A_TWIN",
        "of one in the record"
    );
    let (passed, faults) = check(&[&root("own")], &[&first, &second], &[]).expect("an answer");
    assert_eq!((passed.len(), faults), (2, Vec::new()), "two of others: they renew theirs");
}

#[test]
fn there_are_bounds() {
    let many: Vec<_> = (0..=FURTHER_MAX).map(|number| root(&format!("cluster {number}"))).collect();
    let many: Vec<_> = many.iter().map(Vec::as_slice).collect();
    assert_eq!(check(&[], &many, &[]), Err(Unsafe::TooManyFurther { count: FURTHER_MAX + 1 }));
    let huge = vec![0; MAX_ANSWER_LEN + 1];
    assert!(matches!(check(&[], &[&huge], &[]), Err(Unsafe::TooLarge { .. })));
}
