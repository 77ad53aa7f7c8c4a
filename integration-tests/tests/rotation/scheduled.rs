//! Rotations that nobody asks for, by a schedule; and issuers that are replaced by their age. A real server, whose clock is put forward.

use std::sync::Arc;
use std::time::Duration;

use integration_tests::mesh::{MeshCa, TestClock, eventually};
use trust::{Clock as _, Timestamp};

const LEAF: &str = "[leaf]\nttl_default = \"20s\"\nttl_max = \"20s\"\nttl_min = \"8s\"\nbackdate = \"2s\"\nskew = \"2s\"\n";
/// From the request to the end of it; the schedule is looked at every ten seconds.
const ROTATION_MAX: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The next time at which it is three o'clock, at least two hours away, and the request of that due time.
fn three_o_clock(now: Timestamp) -> (Timestamp, String) {
    let secs = now.as_secs();
    let mut due = secs - secs.rem_euclid(86_400) + 3 * 3_600;
    while due < secs + 2 * 3_600 {
        due += 86_400;
    }
    let due = Timestamp::from_secs(due);
    (due, named_after(due))
}

fn named_after(due: Timestamp) -> String {
    let text = due.to_string();
    format!("schedule-{}T0300Z", text[..10].replace('-', ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_due_time_brings_one_rotation_that_names_its_cause_and_a_freeze_holds_it()
-> anyhow::Result<()> {
    let clock = Arc::new(TestClock::default());
    let (due, first) = three_o_clock(clock.now());
    let moment = |time: Timestamp| time.to_string()[..16].to_owned();
    let sections = format!(
        "{LEAF}[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"5s\"\n[rotation.schedule]\ncron = \"0 3 * * *\"\n\
         [[rotation.schedule.freeze]]\nname = \"sale\"\nfrom = \"{}\"\nuntil = \"{}\"\n",
        moment(due.minus(HOUR)),
        moment(due.plus(HOUR))
    );
    let ca = MeshCa::start_with("", &sections, &[], Arc::<TestClock>::clone(&clock)).await?;
    let root = ca.running().bundle().roots()[0].id();

    clock.advance(due.since(clock.now()) + Duration::from_secs(60));
    eventually("it waits for the end of the freeze", async || {
        let status = ca.status().await.unwrap_or_default();
        status.healthy && status.waiting.iter().any(|text| text.contains("freeze sale holds"))
    })
    .await?;
    assert_eq!(ca.running().bundle().roots()[0].id(), root);

    clock.advance(HOUR);
    let rotation = ca
        .until_rotation("the freeze is over", ROTATION_MAX, |rotation| {
            rotation.phase == "steady" && rotation.last_request_id == first
        })
        .await?;
    assert_eq!((rotation.cause.as_str(), rotation.last_ending.as_str()), ("schedule", "completed"));
    assert_ne!(ca.running().bundle().roots()[0].id(), root);

    clock.advance(DAY);
    let second = named_after(due.plus(DAY));
    let rotation = ca
        .until_rotation("the next due time", ROTATION_MAX, |rotation| {
            rotation.phase == "steady" && rotation.last_request_id == second
        })
        .await?;
    let by_schedule = rotation.done.iter().filter(|id| id.starts_with("schedule-"));
    assert_eq!(by_schedule.collect::<Vec<_>>(), [&first, &second], "one for each due time");
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_replaced_at_its_age_and_no_bundle_changes() -> anyhow::Result<()> {
    let clock = Arc::new(TestClock::default());
    let sections = format!("[root]\nissuer_renew_every = \"30d\"\n{LEAF}");
    let ca = MeshCa::start_with("", &sections, &[], Arc::<TestClock>::clone(&clock)).await?;
    let active = async || {
        let roots = ca.roots().await.unwrap_or_default();
        let issuers = roots.into_iter().flat_map(|root| root.issuers);
        issuers.filter(|issuer| issuer.active).map(|issuer| issuer.id).collect::<Vec<_>>()
    };
    let (first, bundle) = (active().await, ca.running().bundle());
    assert_eq!(first.len(), 1);
    clock.advance(DAY * 29);
    eventually("the server has a leaf of this day", async || {
        ca.status().await.is_ok_and(|status| status.healthy)
    })
    .await?;
    assert_eq!(active().await, first, "it is not that old");
    clock.advance(DAY * 2);
    eventually("another issuer signs", async || {
        let now = active().await;
        now.len() == 1 && now != first
    })
    .await?;
    assert_eq!(ca.running().bundle(), bundle, "nobody is told of it");
    ca.stop().await
}
