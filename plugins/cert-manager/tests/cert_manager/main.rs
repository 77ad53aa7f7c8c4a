//! The plugin against cert-manager's own controllers at a real API server: `cargo xtask peers cert-manager kube-apiserver etcd`.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use plugins::state::MemoryState;
use plugins::{HealthState, Outcome, PluginError};
use plugins_conformance::authority::{Subject, run};
use world::{CaSecret, DAY, World, asked, context, domain, id, request};

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_suite_with_exactly_the_rights_of_the_page() {
    let world = World::start(&CaSecret::new("mesh", 1)).await.unwrap();
    let (settings, state) = (world.settings(""), Arc::new(MemoryState::new()));
    let open = move || world::opened(&settings, Arc::clone(&state));
    let subject = Subject::new(open, domain(), Arc::new(host::SystemClock));
    let report = run(&subject.answering_within(Duration::from_secs(60))).await;
    report.assert_conforms();
    for rule in [
        "issuer-is-safe",
        "issuer-at-once-same-bytes",
        "answers-survive-a-restart",
        "check-is-well",
    ] {
        assert!(report.passed().contains(&rule), "{rule} was not tried\n{report}");
    }
    world.withdrawn().await.unwrap();
    let (unused, forbidden) = world.rights().unwrap();
    assert_eq!((unused, forbidden), (Vec::new(), Vec::new()), "superfluous, missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_a_ca_under_the_announced_root_and_goes_on_when_the_root_changes() {
    let (old, new) = (CaSecret::new("old", 1), CaSecret::new("new", 1));
    let world = World::start(&old).await.unwrap();
    let authority = world.open("look_every = \"10s\"\n");
    assert!(!authority.describe().exclusive, "others ask this issuer too");
    let first = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((first.roots.len(), first.signing), (1, Some(id(&old))));
    assert_eq!(first.above, Some(Vec::new()));
    let chain = asked(authority.as_ref(), "first", id(&old), 30 * DAY).await.unwrap();
    let [issuer] = chain.as_slice() else { panic!("{chain:?}") };
    let extensions = issuer.extensions();
    let constraints = extensions.basic_constraints.unwrap();
    assert_eq!((constraints.critical, constraints.ca), (true, true));
    let usage = extensions.key_usage.unwrap();
    assert_eq!((usage.key_cert_sign, usage.digital_signature), (true, false));

    world.put_secret(&new).await.unwrap();
    let both = world::eventually_signs(authority.as_ref(), id(&new)).await;
    assert_eq!(both.roots.len(), 2, "added before one is removed");
    let after = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((after.roots.len(), after.signing), (1, Some(id(&new))));
    let refused = asked(authority.as_ref(), "late", id(&old), DAY).await.unwrap_err();
    assert!(refused.to_string().contains("not under"), "{refused}");
    assert!(asked(authority.as_ref(), "second", id(&new), DAY).await.is_ok());
    let kept = world.requests("banyan.dev/look").await.unwrap();
    assert!(kept.len() <= 2, "former looks are deleted: {kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_gives_a_ticket_that_any_server_takes_and_can_be_taken_back() {
    let ca = CaSecret::new("mesh", 1);
    let world = World::start(&ca).await.unwrap();
    let authority = world.open("");
    authority.roots(&context("roots")).await.unwrap();
    world.remove_issuer().await.unwrap();
    let wanted = request(id(&ca), DAY).await;
    let pending = authority.sign_issuer(&context("one"), &wanted).await.unwrap();
    let Outcome::Pending { ticket, .. } = pending else { panic!("{pending:?}") };
    let other = request(id(&ca), DAY).await;
    let reused = authority.sign_issuer(&context("one"), &other).await.unwrap_err();
    assert!(matches!(reused, PluginError::Denied { .. }), "{reused:?}");
    let given_up = authority.sign_issuer(&context("two"), &other).await.unwrap();
    assert!(matches!(given_up, Outcome::Pending { .. }), "{given_up:?}");
    let withdrawing = authority.withdrawing().unwrap();
    let open = withdrawing.open_requests(&context("open")).await.unwrap();
    assert_eq!(open.len(), 2);
    withdrawing.withdraw(&context("open"), &context("two").request_id).await.unwrap();
    let open = withdrawing.open_requests(&context("open")).await.unwrap();
    assert_eq!(open, [context("one").request_id]);
    world.add_issuer().await.unwrap();
    // By a server that knows nothing but the ticket.
    let elsewhere = world.open("");
    let answer = loop {
        match elsewhere.poll(&context("poll"), &ticket).await.unwrap() {
            Outcome::Ready(chain) => break chain,
            Outcome::Pending { .. } => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let again = elsewhere.sign_issuer(&context("one"), &wanted).await.unwrap();
    assert_eq!(again, Outcome::Ready(answer), "the same bytes");
    let never = plugins::Ticket::new("never given");
    assert!(elsewhere.poll(&context("poll"), &never).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_anybody_signs() {
    let root = CaSecret::new("mesh", 1);
    let ca = root.below("leaves only", 0);
    let world = World::start(&ca).await.unwrap();
    let authority = world.open("");
    let set = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((set.signing, set.above.map(|above| above.len())), (Some(id(&root)), Some(1)));
    let health = authority.check(&context("check")).await;
    assert_eq!(health.state, HealthState::Down);
    assert!(health.detail.contains("path length 0, and 1 is needed"), "{}", health.detail);
    let refused = asked(authority.as_ref(), "one", id(&root), DAY).await.unwrap_err();
    assert!(refused.to_string().contains("path length 0"), "{refused}");
    world.put_secret(&root).await.unwrap();
    let other = world.open("look_every = \"10s\"\n");
    world::eventually_signs(other.as_ref(), id(&root)).await;
    let refused = asked(other.as_ref(), "one", id(&root), 3_660 * DAY).await.unwrap_err();
    assert!(matches!(refused, PluginError::Outlives { .. }), "{refused:?}");
    assert_eq!(world.requests("banyan.dev/issuer").await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_roots_says_which_count() {
    let (ca, stranger) = (CaSecret::new("mesh", 1), CaSecret::new("stranger", 1));
    let world = World::start(&ca).await.unwrap();
    let roots = world.path("roots.pem");
    let authority = world.open(&format!("roots_file = {roots:?}\n"));
    std::fs::write(&roots, stranger.pem()).unwrap();
    let refused = authority.roots(&context("roots")).await.unwrap_err();
    let is_field =
        matches!(&refused, PluginError::Misconfigured { field, .. } if field == "roots_file");
    assert!(is_field && refused.to_string().contains("does not lead to a root"), "{refused:?}");
    // The one that comes is there before it signs.
    std::fs::write(&roots, [ca.pem(), stranger.pem()].concat()).unwrap();
    let set = authority.roots(&context("roots")).await.unwrap();
    assert_eq!((set.roots.len(), set.signing), (2, Some(id(&ca))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_is_down_and_comes_back() {
    let ca = CaSecret::new("mesh", 1);
    let mut world = World::start(&ca).await.unwrap();
    let authority = world.open("");
    authority.roots(&context("roots")).await.unwrap();
    let before = request(id(&ca), DAY).await;
    let first = authority.sign_issuer(&context("before"), &before).await.unwrap();
    world.stop();
    assert_eq!(authority.check(&context("check")).await.state, HealthState::Down);
    let error = authority.roots(&context("roots")).await.unwrap_err();
    assert!(error.may_be_repeated(), "{error:?}");
    let again = authority.sign_issuer(&context("before"), &before).await.unwrap();
    assert_eq!(first, again, "what was answered is answered without it");
    world.run().await.unwrap();
    // It serves the kinds of others a moment after it is ready.
    world::eventually_well(authority.as_ref()).await;
    assert!(asked(authority.as_ref(), "after", id(&ca), DAY).await.is_ok());
}
