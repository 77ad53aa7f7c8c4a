//! Each wrong cross certificate is refused for what is wrong with it.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyIdMethod, KeyUsagePurpose};
use trust::{Root, Timestamp, TrustDomain};

use super::cross::{CrossExpectation, check_cross_answer};
use super::forge::{self, ForgeKey, NOW, UNTIL};
use super::{Fault, Unsafe, Which};

/// An old root that signs, and a new one to be signed.
struct World {
    old_params: CertificateParams,
    old_key: ForgeKey,
    old: Root,
    new_key: ForgeKey,
    new: Root,
    path_len: u8,
}

impl World {
    fn new() -> Self {
        Self::with_old(forge::params("old"))
    }

    fn with_old(old_params: CertificateParams) -> Self {
        let (old_key, new_key) = (ForgeKey::new(), ForgeKey::new());
        let old = forge::parsed(&forge::root(&old_params, &old_key));
        let new = forge::parsed(&forge::root(&forge::params("new"), &new_key));
        Self { old_params, old_key, old, new_key, new, path_len: 1 }
    }

    /// What a good authority answers, spoilt.
    fn spoilt(&self, spoil: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = forge::params("new");
        let id = self.new.certificate().extensions().subject_key_id.clone();
        params.key_identifier_method = KeyIdMethod::PreSpecified(id.expect("a key id"));
        forge::set_validity(&mut params, NOW - 60, UNTIL);
        spoil(&mut params);
        forge::signed(&params, &self.new_key, (&self.old_params, &self.old_key))
    }

    fn check(&self, der: &[u8]) -> Result<(), Unsafe> {
        let expected = CrossExpectation {
            other: &self.new,
            signer: &self.old,
            trust_domain: &TrustDomain::parse("example.org").expect("domain"),
            path_len: self.path_len,
            now: Timestamp::from_secs(NOW),
            least: Timestamp::from_secs(UNTIL - 60),
            most: Timestamp::from_secs(UNTIL),
        };
        check_cross_answer(der, &expected).map(drop)
    }

    fn fault_of(&self, spoil: impl FnOnce(&mut CertificateParams)) -> Fault {
        match self.check(&self.spoilt(spoil)) {
            Err(Unsafe::Certificate { which: Which::Cross, fault }) => fault,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_good_one_passes_and_each_flaw_is_named() {
    let world = World::new();
    assert_eq!(world.check(&world.spoilt(|_| {})), Ok(()));
    let ends = |to: i64| move |params: &mut CertificateParams| forge::set_validity(params, NOW, to);
    for (fault, reason) in [
        (world.fault_of(|params| params.is_ca = IsCa::ExplicitNoCa), "NOT_A_CA"),
        (
            world.fault_of(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "NO_CERT_SIGN",
        ),
        (
            world.fault_of(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "PATH_LENGTH",
        ),
        (
            world.fault_of(|params| {
                params.distinguished_name.push(rcgen::DnType::OrganizationName, "other");
            }),
            "NOT_OF_ROOT",
        ),
        (
            world.fault_of(|params| {
                params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]);
            }),
            "NOT_OF_ROOT",
        ),
        (world.fault_of(ends(UNTIL - 61)), "ENDS_TOO_EARLY"),
        (world.fault_of(ends(UNTIL + 1)), "ENDS_TOO_LATE"),
        (world.fault_of(|params| forge::set_validity(params, NOW + 1, UNTIL)), "NOT_YET_VALID"),
        (
            world.fault_of(|params| {
                params.subject_alt_names = vec![forge::uri("spiffe://other.org")];
            }),
            "OTHER_TRUST_DOMAIN",
        ),
        (
            world.fault_of(|params| params.use_authority_key_identifier_extension = false),
            "AUTHORITY_KEY_ID",
        ),
    ] {
        assert_eq!(fault.reason(), reason, "{fault}");
    }
}

#[test]
fn an_extension_that_nobody_asked_for_is_refused_by_its_name() {
    let world = World::new();
    // Name constraints that permit the DNS names below `a`: leaves without them pass, others fail at peers.
    let permits_a = [0x30, 0x07, 0xa0, 0x05, 0x30, 0x03, 0x82, 0x01, b'a'];
    let fault = world.fault_of(|params| {
        params.custom_extensions = vec![forge::extension(&[2, 5, 29, 30], &permits_a, true)];
    });
    assert_eq!(fault, Fault::ForeignExtension("2.5.29.30".to_owned()));
    let fault = world.fault_of(|params| {
        params.custom_extensions = vec![forge::extension(&[1, 2, 3, 4], &[5, 0], false)];
    });
    assert_eq!(fault, Fault::ForeignExtension("1.2.3.4".to_owned()));
}

#[test]
fn another_key_or_another_signer_is_refused() {
    let world = World::new();
    let of_other_key =
        forge::signed(&forge::params("new"), &ForgeKey::new(), (&world.old_params, &world.old_key));
    let refused = world.check(&of_other_key);
    assert_eq!(refused, Err(Fault::NotOfRoot("key").of(Which::Cross)));
    let stranger = World { old_key: ForgeKey::new(), ..World::new() };
    let refused = stranger.check(&stranger.spoilt(|_| {}));
    assert_eq!(refused, Err(Fault::NotSignedByNext.of(Which::Cross)));
    let refused = world.check(world.new.der());
    assert_eq!(refused, Err(Fault::RootInChain.of(Which::Cross)), "the root itself");
    assert!(matches!(
        world.check(b"nothing"),
        Err(Unsafe::Certificate { which: Which::Cross, .. })
    ));
}

#[test]
fn a_root_whose_path_length_leaves_no_room_signs_no_other() {
    let mut params = forge::params("old");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let world = World::with_old(params);
    let refused = world.check(&world.spoilt(|_| {}));
    let narrow = Fault::PathLength { found: 1, needed: 2 }.of(Which::Root(world.old.id()));
    assert_eq!(refused, Err(narrow));
    let mut params = forge::params("old");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(2));
    let world = World::with_old(params);
    assert_eq!(world.check(&world.spoilt(|_| {})), Ok(()), "room for the issuer alone");
    let deeper = World { path_len: 2, ..world };
    assert!(deeper.check(&deeper.spoilt(|_| {})).is_err(), "an intermediate above the issuer");
}
