//! Ceremonies that take days, that nobody waits for any more, and that begin anew.

use std::fs;
use std::sync::Arc;

use host::SystemClock;
use plugin_manual::Folder;
use plugins::{HealthState, Outcome, RequestId};
use trust::RootId;

use crate::human::{bring, commands, requests};
use crate::world::{DAY, World, context, issuer_request, opened, pending};

#[tokio::test]
async fn days_and_restarts_do_no_harm() {
    let mut world = World::new();
    let root_name = pending(world.stage("one.root").await);
    for day in 0..5 {
        world.clock.advance(DAY);
        world.restart();
        assert_eq!(pending(world.stage("one.root").await), root_name, "day {day}");
        assert_eq!(requests(&world.folder).len(), 1, "nothing is asked twice");
        fs::remove_file(world.request(&root_name)).unwrap();
        assert_eq!(pending(world.stage("one.root").await), root_name);
        assert!(world.request(&root_name).exists(), "a text that was lost goes out again");
    }
    // The offline machine's clock is the real one, five days behind by now.
    let signed = world.vault.follow(&world.request(&root_name));
    bring(&world.folder, &root_name, &signed);
    world.restart();
    let Outcome::Ready(root) = world.stage("one.root").await else {
        panic!("{}", world.said().await)
    };
    let request = issuer_request(RootId::of(&root)).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let polled = |world: &World| {
        let (authority, ticket) =
            (Arc::clone(&world.authority), plugins::Ticket::new(name.clone()));
        async move { authority.poll(&context("poll"), &ticket).await.unwrap() }
    };
    world.clock.advance(3 * DAY);
    world.restart();
    assert_eq!(pending(polled(&world).await), name);
    world.vault.run(&format!("cp {} {name}.txt", world.request(&name).display()));
    let longer =
        commands(&world.vault.read(&format!("{name}.txt"))).replace("-days 31", "-days 45");
    world.vault.run(&longer);
    bring(&world.folder, &name, &world.vault.read(&format!("{name}.pem")));
    let Outcome::Ready(chain) = polled(&world).await else { panic!("{}", world.said().await) };
    world.restart();
    assert_eq!(world.sign("one.issuer", &request).await, Outcome::Ready(chain.clone()));
    assert_eq!(polled(&world).await, Outcome::Ready(chain), "the ticket is good for ever");
    assert_eq!(world.stage("one.root").await, Outcome::Ready(root));
}

#[tokio::test]
async fn an_abandoned_ceremony_is_not_complained_about() {
    let world = World::new();
    let first = pending(world.stage("one.root").await);
    assert!(world.said().await.contains(&first));
    let second = pending(world.stage("two.root").await);
    let said = world.said().await;
    assert!(said.contains(&second) && !said.contains(&first), "{said}");
    let waits = world.authority.check(&context("check")).await;
    assert!(
        waits.waits && waits.state == HealthState::Ok,
        "a person is waited for, and nothing is wrong: {waits:?}"
    );
    world.clock.advance(DAY);
    assert_eq!(
        world.authority.check(&context("check")).await.state,
        HealthState::Ok,
        "nobody asked for a day"
    );
    let shared = &world.authority.describe();
    assert!(!shared.exclusive, "others may issue under an offline root");
    let own = opened(&world.folder, &world.state, Arc::new(SystemClock), "exclusive = true");
    assert!(own.describe().exclusive);
}

#[tokio::test]
async fn a_request_that_is_taken_back_leaves_the_outbox_and_may_be_asked_again() {
    let world = World::new();
    let root = world.root("one.root").await;
    let request = issuer_request(root).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let withdrawing = world.authority.withdrawing().unwrap();
    let open = withdrawing.open_requests(&context("look")).await.unwrap();
    assert_eq!(
        open,
        [RequestId::parse("one.issuer").unwrap()],
        "the root was brought, and waits for nobody"
    );
    for id in ["one.issuer", "one.issuer", "one.root", "never.asked"] {
        withdrawing.withdraw(&context("withdraw"), &RequestId::parse(id).unwrap()).await.unwrap();
    }
    assert!(
        !world.request(&name).exists() && Folder::at(&world.folder).waiting().unwrap().is_empty()
    );
    assert_eq!(world.said().await, "", "nobody is asked for anything");
    assert!(world.folder.join("done").join(format!("{name}.withdrawn.txt")).exists(), "it is kept");
    assert_eq!(
        pending(world.sign("one.issuer", &request).await),
        name,
        "asked again it begins anew"
    );
    assert!(world.request(&name).exists());
}

#[tokio::test]
async fn a_root_whose_rotation_was_given_up_may_be_brought_again() {
    let world = World::new();
    let first = pending(world.stage("one.root").await);
    let answer = world.vault.follow(&world.request(&first));
    bring(&world.folder, &first, &answer);
    let Outcome::Ready(der) = world.stage("one.root").await else {
        panic!("{}", world.said().await)
    };
    let second = pending(world.stage("two.root").await);
    bring(&world.folder, &second, &answer);
    let again = world.stage("two.root").await;
    assert_eq!(again, Outcome::Ready(der.clone()), "{}", world.said().await);
    assert_eq!(
        world.authority.roots(&context("roots")).await.unwrap().roots,
        [der],
        "it is announced once"
    );
}
