use super::*;
use host::RealDisk;

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn counter() -> impl FnMut() -> SubscriptionId {
    let mut next = 0;
    move || {
        next += 1;
        SubscriptionId(next)
    }
}

fn one_holder() -> (ProcessId, Holder, HeldLeaf) {
    let identity = SpiffeId::parse("spiffe://example.org/ns/a/sa/b").unwrap();
    let leaf = HeldLeaf {
        serial: Serial::from_bytes(&[0x41; 16]).unwrap(),
        root: RootId::of(b"root"),
        not_after: Timestamp::from_secs(77),
        born: Sequence(3),
        promised: true,
    };
    let mut holder = Holder::new(1000, Duration::ZERO);
    holder.pod = PodUid::parse("u-1");
    let name = |text: &str, kind| SecretName { text: text.to_owned(), kind };
    holder.subscribe(SubscriptionId(1), name("ROOTCA", SecretKind::Roots), Duration::ZERO);
    holder.subscribe(
        SubscriptionId(2),
        name("default", SecretKind::Leaf(identity)),
        Duration::ZERO,
    );
    holder.installed.leaves.get_mut(&SubscriptionId(2)).unwrap().note(leaf);
    (ProcessId { pid: 7, start: 9 }, holder, leaf)
}

#[test]
fn the_account_survives_and_says_what_each_holder_may_present() {
    let dir = tempfile::tempdir().unwrap();
    let file = HolderFile::new(Arc::new(RealDisk), dir.path(), "boot".to_owned());
    let (process, holder, leaf) = one_holder();
    let bytes = file.encode(&Holders::from([(process, holder)]), Timestamp::from_secs(55));
    file.disk.replace(&file.path, &bytes, 0o600).unwrap();
    let Account { holders, silent_until } =
        file.read(&domain(), Duration::ZERO, counter()).unwrap();
    assert_eq!(silent_until, Timestamp::from_secs(55));
    let restored = &holders[&process];
    assert_eq!((restored.uid, &restored.pod), (1000, &PodUid::parse("u-1")));
    assert_eq!(restored.may_hold().collect::<Vec<_>>(), [&leaf]);
    assert_eq!(restored.installed.trust.len(), 1, "the validation secret is still reckoned with");
    assert!(!restored.installed.trust_expected && !restored.connected());
}

#[test]
fn no_holder_survives_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    let file = HolderFile::new(Arc::new(RealDisk), dir.path(), "before".to_owned());
    let (process, holder, _) = one_holder();
    let never = Timestamp::from_secs(i64::MAX);
    let fresh = file.read(&domain(), Duration::ZERO, counter()).unwrap();
    assert_eq!(
        (fresh.holders.len(), fresh.silent_until),
        (0, never),
        "nothing is known of a time before"
    );
    let bytes = file.encode(&Holders::from([(process, holder)]), Timestamp::default());
    file.disk.replace(&file.path, &bytes, 0o600).unwrap();
    let after = HolderFile::new(Arc::new(RealDisk), dir.path(), "after".to_owned());
    assert!(after.read(&domain(), Duration::ZERO, counter()).unwrap().holders.is_empty());
}

#[test]
fn a_damaged_account_is_an_error_and_not_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = HolderFile::new(Arc::new(RealDisk), dir.path(), "boot".to_owned());
    let (process, holder, _) = one_holder();
    let good = file.encode(&Holders::from([(process, holder)]), Timestamp::default());
    let good = String::from_utf8(good).unwrap();
    for bad in
        ["", "{", &good.replace("41414141", "zz"), &good.replace("\"format\": 1", "\"format\": 2")]
    {
        std::fs::write(&file.path, bad).unwrap();
        let error = file.read(&domain(), Duration::ZERO, counter()).unwrap_err();
        assert!(matches!(error, HolderFileError::Damaged { .. }), "{bad}");
    }
}
