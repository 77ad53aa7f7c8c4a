//! When it is sent, and what is kept of it.

use plugins::KeyBackend as _;
use plugins::ca_certificate::{RootProfile, build_root};
use plugins::memory::MemoryKeys;
use rotation::{
    BundleChange, Der, Distributing, Draining, Mode, RootEntry, RootState, Rotation, Withdrawing,
};
use stores::fake::FakeStore;
use trust::{Generation, SeededRandomness, Sequence, Serial, TrustDomain, Validity};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn id(name: &str) -> RootId {
    RootId::of(name.as_bytes())
}

fn entry(name: &str, state: RootState) -> RootEntry {
    RootEntry {
        state,
        tainted: false,
        taint: None,
        authority: "main".parse().unwrap(),
        exclusive: true,
        der: Der::from(name.as_bytes()),
        not_after: NOW.plus(HOUR * 10_000),
        horizon: None,
        staged_horizon: None,
        probed_until: None,
        issuers: Default::default(),
        active_issuer: None,
        signers: Default::default(),
        renewal: None,
        renewals: Default::default(),
        renewal_cancelled_at: None,
        renewals_cancelled: Default::default(),
    }
}

fn rotation() -> Rotation {
    Rotation {
        request_id: "one".parse().unwrap(),
        authority: "main".parse().unwrap(),
        mode: Mode::Auto,
        requested_at: NOW,
        stage_again: None,
        canary: None,
        held_since: None,
    }
}

fn bundle() -> BundleChange {
    BundleChange { sequence: Sequence(2), generation: Generation(10) }
}

fn draining(from: &str, to: &str, rolled_back: bool) -> State {
    let phase = Phase::Draining(Draining {
        rotation: rotation(),
        from: id(from),
        to: id(to),
        bundle: bundle(),
        switched: Generation(15),
        rolled_back,
        since: NOW,
        settling: None,
        observer: None,
    });
    state(phase, [(from, RootState::Draining), (to, RootState::Active)])
}

fn distributing() -> State {
    let phase = Phase::Distributing(Distributing {
        rotation: rotation(),
        from: id("old"),
        to: id("new"),
        bundle: bundle(),
        since: NOW,
        settling: None,
        observer: None,
    });
    state(phase, [("old", RootState::Active), ("new", RootState::Published)])
}

fn withdrawing() -> State {
    let phase = Phase::Withdrawing(Withdrawing {
        rotation: rotation(),
        from: id("old"),
        to: id("new"),
        bundle: bundle(),
        since: NOW,
        ending: Default::default(),
    });
    state(phase, [("old", RootState::Retired), ("new", RootState::Active)])
}

fn state(phase: Phase, roots: [(&str, RootState); 2]) -> State {
    let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
    state.phase = phase;
    state.roots = roots.iter().map(|(name, is)| (id(name), entry(name, *is))).collect();
    state
}

fn tainted(mut state: State, name: &str) -> State {
    state.roots.get_mut(&id(name)).unwrap().tainted = true;
    state
}

/// Any certificate that ends then: what it says is judged elsewhere.
async fn certificate(ends: Timestamp) -> Certificate {
    let keys = MemoryKeys::new();
    let request = plugins::RequestId::parse("root").unwrap();
    let key = keys.generate(&request, plugins::KeySpec::P256).await.unwrap();
    let profile = RootProfile {
        trust_domain: TrustDomain::parse("example.org").unwrap(),
        serial: Serial::random(&SeededRandomness::new(1)),
        validity: Validity::new(NOW.minus(HOUR), ends).unwrap(),
    };
    build_root(&keys, &key, &profile).await.unwrap().certificate().clone()
}

async fn kept(ends: Timestamp) -> Kept {
    let rehearsed = "rehearsed in 6 handshakes by a verifier".to_owned();
    Kept { by: id("old"), certificate: certificate(ends).await, rehearsed, version: None }
}

fn net(store: &Arc<FakeStore>, is_wanted: bool) -> CrossNet {
    let store: Arc<dyn SharedStore> = Arc::<FakeStore>::clone(store);
    CrossNet::new(is_wanted, ProfileSettings::default(), store)
}

#[tokio::test]
async fn it_is_sent_while_its_old_root_drains_and_in_no_other_state() {
    let store = Arc::new(FakeStore::new());
    let net = net(&store, true);
    net.keep(id("new"), kept(NOW.plus(HOUR * 72)).await, None).await.unwrap();
    let sent = |state: &State| net.sent(state, NOW).map(|(root, _)| root);
    assert_eq!(sent(&draining("old", "new", false)), Some(id("new")));
    for (why, state) in [
        ("the new root does not sign yet", distributing()),
        ("the old root is withdrawn", withdrawing()),
        ("it was rolled back", draining("new", "old", true)),
        ("the old root is distrusted", tainted(draining("old", "new", false), "old")),
        ("the new root is distrusted", tainted(draining("old", "new", false), "new")),
        ("another root drains", draining("third", "new", false)),
        ("another root signs", draining("old", "third", false)),
    ] {
        assert_eq!(sent(&state), None, "{why}");
    }
    assert!(pair(&distributing()).is_some(), "it is asked for before the new root signs");
    let drains = draining("old", "new", false);
    let near = NOW.plus(HOUR * 72).minus(net.useful());
    assert!(net.sent(&drains, near).is_some());
    let nearer = near.plus(Duration::from_secs(1));
    assert!(net.sent(&drains, nearer).is_none(), "it would cost leaves half of their life");
    assert!(net.said(&drains, nearer, None)[0].contains("so leaves go out without it"));
    net.unfit(id("new"), net.kept(&pair(&drains).unwrap()).unwrap().certificate.id(), "no");
    assert_eq!(sent(&drains), None, "it does not hold here");
}

#[tokio::test]
async fn what_is_kept_is_there_after_a_restart_and_for_whoever_does_not_want_it_not_sent() {
    let store = Arc::new(FakeStore::new());
    let ends = NOW.plus(HOUR * 72);
    net(&store, true).keep(id("new"), kept(ends).await, None).await.unwrap();
    let drains = draining("old", "new", false);
    let again = net(&store, true);
    assert!(again.sent(&drains, NOW).is_none(), "nothing was read yet");
    again.read().await.unwrap();
    let (_, found) = again.sent(&drains, NOW).unwrap();
    assert_eq!(found.certificate.validity().not_after(), ends);
    let shown = |shown| again.said(&drains, NOW, shown);
    assert!(shown(Some(found.certificate.id()))[0].contains("more in each handshake"));
    assert!(shown(None)[0].contains("will go out with it"), "said only once it is so");
    let unwanted = net(&store, false);
    unwanted.read().await.unwrap();
    assert!(unwanted.sent(&drains, NOW).is_none() && unwanted.said(&drains, NOW, None).is_empty());
    // Whoever writes second takes what is there.
    let second = again.keep(id("new"), kept(ends.plus(HOUR)).await, None).await;
    assert!(second.is_err(), "{second:?}");
    let former = again.former(&id("new"));
    again.keep(id("new"), kept(ends.plus(HOUR)).await, former.as_ref()).await.unwrap();
}

#[tokio::test]
async fn an_edited_one_is_refused_by_name_and_an_ended_one_is_forgotten() {
    let store = Arc::new(FakeStore::new());
    let (net, ends) = (net(&store, true), NOW.plus(HOUR));
    net.keep(id("new"), kept(ends).await, None).await.unwrap();
    net.tidy(ends).await;
    let mut left = settle::all(store.as_ref(), CROSS_CERTIFICATES).await.unwrap();
    let one = left.pop().expect("clocks may be behind");
    let key = CROSS_CERTIFICATES.key(one.id).unwrap();
    let edited =
        String::from_utf8(one.value.clone()).unwrap().replace("rehearsed in 6", "rehearsed in 9");
    let version = store.put(&key, edited.as_bytes(), &one.version).await.unwrap();
    let refused = net.read().await.expect_err("it was edited").to_string();
    assert!(refused.contains("cross-certificates/"), "{refused}");
    assert!(net.kept(&Pair { new: id("new"), old: id("old") }).is_some(), "what was read stays");
    store.put(&key, &one.value, &version).await.unwrap();
    net.read().await.unwrap();
    net.tidy(ends.plus(HOUR)).await;
    assert!(settle::all(store.as_ref(), CROSS_CERTIFICATES).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_distrusted_root_that_is_still_vouched_for_is_a_condition_until_that_ends() {
    let store = Arc::new(FakeStore::new());
    let (net, ends) = (net(&store, true), NOW.plus(HOUR));
    net.keep(id("new"), kept(ends).await, None).await.unwrap();
    let fine = draining("old", "new", false);
    assert!(net.conditions(&fine, NOW).is_empty());
    let bad = tainted(draining("new", "old", true), "new");
    let said = net.conditions(&bad, NOW);
    assert!(said.len() == 1 && said[0].contains("banyan rotate start"), "{said:?}");
    assert!(net.conditions(&bad, ends).is_empty(), "nobody believes it any more");
}
