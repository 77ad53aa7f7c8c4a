//! Many pods that begin at once.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use host::SystemClock;
use integration_tests::untrusted::TestClient;
use trust::Clock as _;

use crate::place::{NODE_A, Place, is_well, with_token};

/// Pods, each of which asks twice at once, as one does that was not answered soon enough.
const PODS: usize = 600;
const ASKED_EACH: usize = 2;
/// Connections that they share, so that none has more requests than a connection may.
const CONNECTIONS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_new_pods_are_reviewed_once_each_and_none_is_refused() {
    let place = Place::start().await;
    let ca = place.ca("timeout = \"30s\"\n[limits]\nrequest_timeout = \"60s\"\nleaves_per_second = 1000\nrequests_in_flight = 4096").await;
    let made = stream::iter(0..PODS).map(|pod| {
        let place = &place;
        async move {
            let pod = place.pod(&format!("cart-{pod}"), "cart", NODE_A).await;
            with_token(&place.token(&pod).await)
        }
    });
    let attempts: Vec<_> = made.buffer_unordered(8).collect().await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(TestClient::connect(&ca).await);
    }
    let began = SystemClock.uptime();
    let asked = (0..PODS * ASKED_EACH).map(|at| {
        let (client, attempt) =
            (clients[at % CONNECTIONS].clone(), attempts[at / ASKED_EACH].clone());
        tokio::spawn(async move {
            let answer = client.create(&attempt).await;
            (answer.map(drop), SystemClock.uptime().saturating_sub(began))
        })
    });
    let mut took = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        let (answer, after) = asked.await.unwrap();
        answer.expect("every pod gets its leaf");
        took.push(after);
    }
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100];
    println!(
        "{PODS} pods, each twice: p50 {:?}, p99 {:?}, last {:?}",
        at(50),
        at(99),
        took.last().unwrap()
    );
    assert!(at(99) < Duration::from_secs(30), "{:?}", at(99));
    let metrics = ca.metrics().await;
    let counted = |name: &str| -> usize {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
    };
    let seconds = metrics.lines().filter(|line| line.starts_with("banyan_token_review_seconds"));
    println!("{}", seconds.collect::<Vec<_>>().join("\n"));
    let reviews = "banyan_token_reviews_total{cluster=\"one\",result=";
    assert_eq!(counted(&format!("{reviews}\"good\"}}")), PODS, "one review each");
    assert_eq!(counted(reviews), PODS, "none was refused or given up");
    assert_eq!(counted("banyan_token_reviews_saved_total"), PODS * (ASKED_EACH - 1));
    is_well(&ca).await;
    ca.stop().await;
}
