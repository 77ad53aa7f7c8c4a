//! Several servers of one CA: which one is used, when it is left, and that nothing is lost on the way.

use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::server_message::Message as Down;

use super::*;
use crate::fakes::ca::Misdeed;

const SECOND: &str = "spiffe://example.org/banyan/ca/ca-2";

impl Bench {
    /// Two servers, and an agent that is a member.
    async fn with_two() -> Self {
        let mut bench = Self::empty().await;
        bench.others.push(bench.ca.beside(SECOND).await);
        bench.start().await;
        let joined = |status: &Status| status.member.is_some() && status.connected;
        bench.until("a member", joined).await;
        // The one in use is `ca`, whichever was chosen.
        if bench.agent().status().ca_addresses[1].in_use {
            let Self { ca, others, .. } = &mut bench;
            std::mem::swap(ca, &mut others[0]);
        }
        bench
    }

    async fn until_at(&self, ca: &FakeCa) {
        let address = ca.address.to_string();
        let there = |status: &Status| {
            let mut in_use = status.ca_addresses.iter().filter(|row| row.in_use);
            status.connected && in_use.any(|row| row.address == address)
        };
        self.until(&format!("at {address}"), there).await;
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, poll).await.is_ok(), "{what}");
}

#[tokio::test]
async fn an_agent_whose_server_dies_goes_to_another_says_everything_again_there_and_stays() {
    let mut bench = Bench::with_two().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    leaf.next_acked().await;
    bench.until_heard("two rows are claimed", |desk| desk.claims().len() == 2).await;
    bench.ca.stop();
    bench.until_at(&bench.others[0]).await;
    let claimed = || bench.others[0].desk().claims().len() == 2;
    until("both rows are claimed again, at the other server", claimed).await;
    let status = bench.agent().status();
    let left = status.ca_addresses.iter().find(|row| !row.in_use).unwrap();
    assert!(left.left_because.as_ref().unwrap().contains(&left.address), "{left:?}");
    // The first one is back, and nobody goes there for that alone.
    bench.ca.desk().heard.clear();
    bench.ca.resume().await;
    let asked = bench.others[0].desk().asked;
    bench.clock.advance(Duration::from_secs(3600 * 56 / 100));
    leaf.next_acked().await;
    assert_eq!(bench.others[0].desk().asked, asked + 1);
    let first = bench.ca.desk();
    assert_eq!((first.hellos(), first.streams()), (0, 0));
}

#[tokio::test]
async fn a_server_that_answers_and_cannot_serve_is_left_by_calls_and_stream() {
    let bench = Bench::with_two().await;
    bench.ca.desk().misdeed = Misdeed::Away;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    leaf.next_acked().await;
    assert_eq!(bench.others[0].desk().asked, 1);
    bench.until_at(&bench.others[0]).await;
    until("the stream is left too", || bench.ca.desk().streams() == 0).await;
    let status = bench.agent().status();
    assert_eq!(
        status.workloads[0].last_error, None,
        "nobody waited: the next one was asked at once"
    );
    let left = status.ca_addresses.iter().find(|row| !row.in_use).unwrap();
    assert!(left.left_because.as_ref().unwrap().contains("cannot answer now: away"), "{left:?}");
}

#[tokio::test]
async fn a_refusal_is_the_cas_and_no_other_server_is_asked_for_it() {
    let bench = Bench::with_two().await;
    bench.ca.desk().misdeed = Misdeed::Banned;
    let _leaf = bench.subscribe("default").await;
    let told = |status: &Status| {
        status.workloads[0].last_error.as_ref().is_some_and(|error| error.contains("banned"))
    };
    bench.until("the ban is told", told).await;
    let other = bench.others[0].desk();
    assert_eq!((other.asked, other.hellos()), (0, 0));
}

#[tokio::test]
async fn when_no_server_can_serve_each_is_named_and_the_first_that_can_is_used() {
    let mut bench = Bench::with_two().await;
    bench.ca.stop();
    bench.others[0].stop();
    let named = |status: &Status| {
        let whole = status.conditions.iter().find(|text| text.starts_with("CA away"));
        whole.is_some_and(|text| {
            [&bench.ca, &bench.others[0]].iter().all(|ca| text.contains(&ca.address.to_string()))
        })
    };
    bench.until("both are named", named).await;
    bench.others[0].resume().await;
    bench.until_at(&bench.others[0]).await;
    assert_eq!(bench.agent().status().conditions, Vec::<String>::new());
}

fn drain(elsewhere: bool) -> Down {
    Down::Drain(wire::Drain { reconnect_after_ms: 60_000, spread_ms: 1, elsewhere })
}

#[tokio::test]
async fn an_agent_that_is_sent_elsewhere_is_there_before_it_leaves() {
    let bench = Bench::with_two().await;
    let since = bench.agent().status().connection_since;
    bench.clock.advance(Duration::from_secs(10));
    bench.ca.tell(&drain(true));
    bench.until_at(&bench.others[0]).await;
    until("the former stream ends", || bench.ca.desk().streams() == 0).await;
    assert_eq!(bench.agent().status().connection_since, since, "it was connected all the time");
    assert_eq!(bench.others[0].desk().hellos(), 1);
    let told = bench.agent().status();
    let left = told.ca_addresses.iter().find(|row| !row.in_use).unwrap();
    assert!(left.left_because.as_ref().unwrap().contains("sends agents elsewhere"), "{left:?}");
}

#[tokio::test]
async fn an_agent_with_one_address_that_is_sent_elsewhere_stays_until_the_stream_ends() {
    let bench = Bench::joined().await;
    bench.ca.tell(&drain(true));
    let next = bench.ca.desk().signer.bundle(2);
    bench.ca.publish(next);
    bench.until("the stream still brings bundles", |status| status.sequence == 2).await;
    // It rests on the new bundle now, in its own time.
    bench.until_heard("the next stream", |desk| desk.hellos() == 2).await;
    bench.until("connected", |status| status.connected).await;
}

#[tokio::test]
async fn a_server_elsewhere_that_does_not_take_the_agent_costs_no_connection() {
    let mut bench = Bench::with_two().await;
    bench.others[0].stop();
    bench.ca.tell(&drain(true));
    let address = bench.others[0].address.to_string();
    let tried = |status: &Status| {
        status.ca_addresses.iter().any(|row| row.address == address && row.left_because.is_some())
    };
    let status = bench.until("the other one was tried", tried).await;
    assert!(status.connected);
    let ca = bench.ca.desk().hellos();
    assert_eq!((ca, bench.ca.desk().streams()), (1, 1), "it is still on the same stream");
    bench.others[0].resume().await;
    bench.clock.advance(Duration::from_secs(120));
    bench.until_at(&bench.others[0]).await;
}

#[tokio::test]
async fn every_server_of_the_ca_takes_a_token_that_another_made() {
    let mut bench = Bench::empty().await;
    let second = bench.ca.beside(SECOND).await;
    bench.ca.stop();
    bench.ca = second;
    bench.start().await;
    bench.until("a member", |status| status.member.is_some() && status.connected).await;
    assert_eq!(bench.ca.desk().registered, 1);
}

#[tokio::test]
async fn nobody_of_another_trust_domain_and_no_leaf_of_the_mesh_is_taken_for_a_server_of_the_ca() {
    for id in [
        "spiffe://other.org/banyan/ca/ca-1",
        "spiffe://example.org/ns/a/sa/b",
        "spiffe://example.org/banyan/agent/host-1",
    ] {
        // At first contact, where the token pins the root that signed all of them.
        let mut bench = Bench::empty().await;
        let token = bench.ca.token();
        bench.ca = bench.ca.beside(id).await;
        bench.write_token(&token);
        bench.start().await;
        let told = |status: &Status| {
            status.conditions.iter().any(|text| text.contains("is no CA of `example.org`"))
        };
        bench.until("it is told who answered", told).await;
        assert_eq!(bench.ca.desk().registered, 0, "{id}");
        // And beside a server that an agent is a member of.
        let mut bench = Bench::empty().await;
        bench.others.push(bench.ca.beside(id).await);
        bench.start().await;
        bench.until("a member", |status| status.member.is_some() && status.connected).await;
        bench.ca.stop();
        bench.until("the CA is away", |status| !status.conditions.is_empty()).await;
        let address = bench.others[0].address.to_string();
        let tried = |status: &Status| {
            let mut rows = status.ca_addresses.iter();
            rows.any(|row| row.address == address && row.left_because.is_some())
        };
        bench.until("the impostor was tried", tried).await;
        assert_eq!(bench.others[0].desk().hellos(), 0, "{id}");
        bench.ca.resume().await;
        bench.until_at(&bench.ca).await;
    }
}

#[tokio::test]
async fn a_bundle_that_changed_unheard_is_found_at_whichever_server_is_left() {
    let mut bench = Bench::with_two().await;
    bench.stop().await;
    bench.ca.stop();
    let next = crate::fakes::bundle_of(
        &[&bench.ca.desk().signer.clone(), &crate::fakes::Pki::new("next")],
        2,
    );
    bench.others[0].publish_unheard(next);
    bench.start().await;
    bench.until("the bundle", |status| status.sequence == 2 && status.connected).await;
}
