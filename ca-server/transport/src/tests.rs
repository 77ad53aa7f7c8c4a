//! Who keeps a place and who loses it, on paused time.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::conduct::{Conduct, Exchange};
use crate::crowd::{Crowd, Place};
use crate::cut::Cut;
use crate::guard::Guard;
use crate::meter::Meter;
use crate::peer::Peer;
use crate::rejection::{Rejection, RejectionHandler};
use crate::rules::{Rules, TICK, ticks};
use crate::watched::Watched;

mod floods;

const DEADLINE: Duration = Duration::from_secs(4);
const IDLE: Duration = Duration::from_secs(60);

fn rules() -> Rules {
    Rules {
        port: "grpc",
        places: 100,
        half_open: 4,
        per_network: 50,
        untrusted_streams: 2,
        budget: 1_000_000,
        handshake: ticks(DEADLINE),
        first_request: ticks(DEADLINE),
        idle: ticks(IDLE),
        untrusted_idle: ticks(IDLE / 2),
        answer: ticks(DEADLINE),
        all_known: false,
        busy_go_too: false,
    }
}

/// A fake of a server's counters: why connections were cut.
#[derive(Debug, Default)]
struct FakeMeter(Mutex<Vec<&'static str>>);

impl FakeMeter {
    fn cut(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl Meter for FakeMeter {
    fn connection_cut(&self, reason: &'static str) {
        self.0.lock().unwrap().push(reason);
    }

    fn unsent_bytes(&self, _: &'static str) -> Gauge {
        Gauge::default()
    }

    fn exposition(&self) -> String {
        String::new()
    }
}

fn crowd(rules: Rules) -> (Arc<Crowd>, Arc<FakeMeter>) {
    let meter = Arc::new(FakeMeter::default());
    (Crowd::new(rules, meter.clone(), CancellationToken::new()), meter)
}

fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 1000))
}

/// A connection that has shaken hands.
fn arrived(crowd: &Arc<Crowd>, from: u8) -> Place {
    let place = crowd.admit(Some(client(from))).unwrap();
    place.shaken();
    place
}

fn asks(place: &Place) -> Arc<Exchange> {
    place.conduct().begin(100)
}

fn is_cut(place: &Place) -> Option<Cut> {
    place.conduct().cut_for()
}

/// Lets a time pass, tick by tick, and the watch look after each.
async fn pass(time: Duration) {
    for _ in 0..ticks(time) {
        tokio::time::sleep(TICK).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_nothing_is_cut_and_who_asked_may_rest() {
    let (crowd, meter) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    let half_open = crowd.admit(Some(client(1))).unwrap();
    let silent = arrived(&crowd, 1);
    let untrusted = arrived(&crowd, 1);
    let known = arrived(&crowd, 1);
    drop((asks(&untrusted), asks(&known)));
    known.conduct().believed();
    let busy = arrived(&crowd, 1);
    let long = asks(&busy);

    pass(DEADLINE * 2).await;
    assert_eq!((is_cut(&half_open), is_cut(&silent)), (Some(Cut::HalfOpen), Some(Cut::Silent)));
    assert_eq!((is_cut(&untrusted), is_cut(&known), is_cut(&busy)), (None, None, None));
    half_open.conduct().is_cut().await;
    silent.conduct().is_cut().await;

    pass(IDLE / 2).await;
    assert!(untrusted.conduct().ending.is_cancelled(), "an idle untrusted client is asked to end");
    assert!(!known.conduct().ending.is_cancelled(), "a member may rest longer");
    pass(IDLE).await;
    assert!(known.conduct().ending.is_cancelled());
    assert_eq!(is_cut(&untrusted), Some(Cut::Idle), "and is cut when it does not");
    assert!(!busy.conduct().ending.is_cancelled(), "a stream under way is no idle connection");
    drop(long);
    assert_eq!(meter.cut().iter().filter(|why| **why == "silent").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_port_makes_room_at_the_cost_of_idle_untrusted_clients_of_the_busiest_address() {
    let (crowd, _) = crowd(Rules { places: 8, half_open: 100, ..rules() });
    tokio::spawn(Arc::clone(&crowd).watch());
    let lone = arrived(&crowd, 9);
    pass(TICK).await;
    let member = arrived(&crowd, 1);
    member.conduct().believed();
    let busy = arrived(&crowd, 1);
    let request = asks(&busy);
    let first = arrived(&crowd, 1);
    pass(TICK).await;
    let second = arrived(&crowd, 1);
    crowd.make_room();
    crowd.found_room();
    assert_eq!(is_cut(&first), Some(Cut::Evicted), "the oldest of those that sit idle");
    for stays in [&lone, &member, &busy, &second] {
        assert_eq!(is_cut(stays), None);
    }
    crowd.make_room();
    pass(TICK * 2).await;
    assert_eq!(is_cut(&second), Some(Cut::Evicted));
    assert_eq!(is_cut(&lone), Some(Cut::Evicted), "nobody else is left");
    assert_eq!(
        (is_cut(&member), is_cut(&busy)),
        (None, None),
        "members and requests under way stay"
    );
    drop(request);
    pass(TICK).await;
    assert_eq!(is_cut(&busy), Some(Cut::Evicted), "it is tried until there is room");
}

#[tokio::test(start_paused = true)]
async fn many_half_open_connections_of_an_address_get_little_time_and_those_that_wait_for_the_server_all()
 {
    let (crowd, _) = crowd(Rules { half_open: 16, ..rules() });
    tokio::spawn(Arc::clone(&crowd).watch());
    let few: Vec<_> = (0..2).map(|_| crowd.admit(Some(client(7))).unwrap()).collect();
    let flood: Vec<_> = (0..40).map(|_| crowd.admit(Some(client(1))).unwrap()).collect();
    let computing = crowd.admit(Some(client(1))).unwrap();
    computing.computes(true);
    pass(DEADLINE / 2).await;
    assert!(flood.iter().all(|place| is_cut(place) == Some(Cut::HalfOpen)));
    assert_eq!(is_cut(&computing), None);
    assert!(few.iter().all(|place| is_cut(place).is_none()), "another address has its time");
    drop(flood);
    let herd: Vec<_> = (10..30).map(|number| crowd.admit(Some(client(number))).unwrap()).collect();
    pass(DEADLINE / 2).await;
    assert!(
        herd.iter().all(|place| is_cut(place).is_none()),
        "many addresses with one each are no flood"
    );
}

#[tokio::test]
async fn an_address_has_a_share_and_ipv6_counts_by_its_first_half() {
    let (crowd, meter) = crowd(Rules { half_open: 100, per_network: 2, ..rules() });
    let v6 = |text: &str| Some(SocketAddr::new(text.parse().unwrap(), 1));
    let (one, two) =
        (crowd.admit(v6("2001:db8::1")).unwrap(), crowd.admit(v6("2001:db8::2")).unwrap());
    one.conduct().believed();
    two.conduct().believed();
    assert!(crowd.admit(v6("2001:db8::ffff:3")).is_none(), "both places are used by members");
    assert!(crowd.admit(v6("2001:db8:0:1::1")).is_some(), "another network");
    assert_eq!(meter.cut().iter().filter(|why| **why == "address").count(), 1);
    drop(one);
    let three = crowd.admit(v6("2001:db8::3")).unwrap();
    let four = crowd.admit(v6("2001:db8::4")).unwrap();
    assert_eq!(
        (is_cut(&three), is_cut(&four)),
        (Some(Cut::Address), None),
        "idle untrusted clients give way"
    );
    let mapped = crowd.admit(v6("::ffff:192.0.2.1")).unwrap();
    assert_eq!(mapped.conduct().network, Some(super::conduct::Network::of(client(1))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_taken_ends_its_connection_and_one_that_is_sent_does_not() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    let (slow, good, full) = (arrived(&crowd, 1), arrived(&crowd, 2), arrived(&crowd, 3));
    let (waits, streams) = (asks(&slow), asks(&good));
    drop(asks(&full));
    full.conduct().way_is(true);
    let piece = waits.wait(1_000);
    for _ in 0..12 {
        let sent = streams.wait(1_000);
        pass(DEADLINE / 4).await;
        streams.waited(1_000, sent);
        if is_cut(&slow).is_some() {
            break;
        }
    }
    assert_eq!(is_cut(&slow), Some(Cut::AnswerNotTaken));
    assert_eq!(is_cut(&full), Some(Cut::AnswerNotTaken), "nothing could be written");
    assert_eq!(is_cut(&good), None);
    waits.waited(1_000, piece);
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_at_least_its_time() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    for lead in 0..8 {
        pass(TICK * lead).await;
        let slow = arrived(&crowd, 1);
        let waits = asks(&slow);
        let piece = waits.wait(1);
        pass(DEADLINE).await;
        assert_eq!(is_cut(&slow), None, "after {lead} ticks");
        pass(DEADLINE).await;
        assert_eq!(is_cut(&slow), Some(Cut::AnswerNotTaken), "after {lead} ticks");
        waits.waited(1, piece);
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_came_together_and_take_no_answer_go_one_after_the_other() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    let all: Vec<_> = (0..40).map(|_| arrived(&crowd, 1)).collect();
    let held: Vec<_> = all.iter().map(|place| (asks(place), asks(place).wait(1))).collect();
    let cut = || all.iter().filter(|place| is_cut(place) == Some(Cut::AnswerNotTaken)).count();
    let mut most = 0;
    for _ in 0..100 {
        let before = cut();
        pass(TICK).await;
        most = most.max(cut() - before);
    }
    assert_eq!((cut(), most), (40, 8));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_budget_of_unsent_bytes_costs_whoever_holds_most_of_it() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    pass(TICK).await;
    let (glutton, modest, member) = (arrived(&crowd, 1), arrived(&crowd, 2), arrived(&crowd, 3));
    member.conduct().believed();
    let (big, small, own) = (asks(&glutton), asks(&modest), asks(&member));
    let pieces = (small.wait(10_000), own.wait(600_000), big.wait(300_000));
    assert!(!asks(&modest).is_too_many());
    let more = big.wait(300_000);
    assert!(asks(&modest).is_too_many(), "untrusted clients wait for better times");
    assert!(!asks(&member).is_too_many(), "members do not");
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(is_cut(&glutton), Some(Cut::Budget), "at once, not at the next tick");
    assert_eq!((is_cut(&modest), is_cut(&member)), (None, None));
    small.waited(10_000, pieces.0);
    own.waited(600_000, pieces.1);
    big.waited(300_000, pieces.2);
    big.waited(300_000, more);
}

#[tokio::test(start_paused = true)]
async fn what_ended_connections_still_hold_costs_nobody_else_a_place() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    pass(TICK).await;
    let (glutton, modest) = (arrived(&crowd, 1), arrived(&crowd, 2));
    let (big, small) = (asks(&glutton), asks(&modest));
    let pieces = (small.wait(10_000), big.wait(2_000_000));
    pass(TICK).await;
    assert_eq!((is_cut(&glutton), is_cut(&modest)), (Some(Cut::Budget), None));
    // Its tasks have not come round to ending yet, its connection has.
    drop(glutton);
    pass(TICK * 4).await;
    assert_eq!(is_cut(&modest), None);
    small.waited(10_000, pieces.0);
    big.waited(2_000_000, pieces.1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_credential_with_many_requests_ends_itself_over_the_budget() {
    let (crowd, _) = crowd(Rules { untrusted_streams: 64, ..rules() });
    let (glutton, many, few) = (arrived(&crowd, 1), arrived(&crowd, 2), arrived(&crowd, 3));
    let big = asks(&glutton);
    let piece = big.wait(2_000_000);
    let one = (asks(&few), asks(&few));
    let held: Vec<_> = (0..17).map(|_| asks(&many)).collect();
    assert_eq!(is_cut(&many), Some(Cut::Budget), "nobody has looked at the crowd");
    assert_eq!(is_cut(&few), None);
    big.waited(2_000_000, piece);
    drop((one, held));
}

#[tokio::test]
async fn a_connection_without_a_credential_has_few_streams_until_somebody_is_believed() {
    let (crowd, _) = crowd(rules());
    let place = arrived(&crowd, 1);
    let held = (asks(&place), asks(&place));
    assert!(asks(&place).is_too_many());
    place.conduct().believed();
    assert!(!asks(&place).is_too_many());
    drop(held);
}

#[derive(Debug)]
struct NobodyIsRejected;

impl RejectionHandler for NobodyIsRejected {
    fn rejected(&self, rejection: Rejection, _peer: Option<&Peer>) -> tonic::Status {
        panic!("{rejection:?}")
    }
}

#[tokio::test]
async fn requests_of_a_connection_without_a_credential_take_turns_until_somebody_is_believed() {
    let (crowd, _) = crowd(Rules { untrusted_streams: 64, ..rules() });
    let place = arrived(&crowd, 1);
    let (running, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (begun, ends) = (Arc::clone(&running), Arc::clone(&done));
    let work = move || async move {
        begun.fetch_add(1, Relaxed);
        ends.acquire().await.unwrap().forget();
    };
    let routes = Routes::from(axum::Router::new().route("/work", axum::routing::post(work)));
    let guard = Guard::new(routes, 100, DEADLINE, Arc::new(NobodyIsRejected)).for_connection();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let mut request = http::Request::post("/work").body(tonic::body::Body::empty()).unwrap();
        request.extensions_mut().insert(asks(&place));
        all.spawn(guard.clone().oneshot(request));
    }
    let begun = async || {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        running.load(Relaxed)
    };
    assert_eq!(begun().await, 2);
    place.conduct().believed();
    done.add_permits(2);
    assert_eq!(begun().await, 10, "whoever waited goes on at once");
    done.add_permits(8);
    assert_eq!(all.join_all().await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn streams_of_members_that_last_count_only_for_what_waits_on_them() {
    let (crowd, _) = crowd(rules());
    tokio::spawn(Arc::clone(&crowd).watch());
    let members: Vec<_> = (0..40).map(|_| arrived(&crowd, 1)).collect();
    let streams: Vec<_> = members.iter().map(asks).collect();
    for (member, stream) in members.iter().zip(&streams) {
        member.conduct().believed();
        stream.answered();
        assert_eq!(member.conduct().held(), 0);
    }
    // A new bundle waits for all of them at once: more than the budget.
    let pieces: Vec<_> = streams.iter().map(|stream| stream.wait(50_000)).collect();
    pass(TICK).await;
    assert!(members.iter().all(|member| is_cut(member).is_none()));
    let more: Vec<_> = streams.iter().map(|stream| stream.wait(60_000)).collect();
    pass(TICK).await;
    let cut = members.iter().filter(|member| is_cut(member) == Some(Cut::Budget)).count();
    assert!((1..10).contains(&cut), "four budgets are the most: {cut}");
    for ((stream, piece), more) in streams.iter().zip(pieces).zip(more) {
        stream.waited(50_000, piece);
        stream.waited(60_000, more);
    }
}
