//! The driver dies between any two durable steps.

use std::time::Duration;

use anyhow::ensure;
use integration_tests::replicas::{Deaths, Plan, Trio};
use tokio::time::Instant;

/// Steps of a rotation that somebody died after, at least.
const STEPS: usize = 12;
/// As without deaths, and for each a start.
const ROTATION_MAX: Duration = Duration::from_secs(170);

pub(crate) async fn whoever_takes_a_durable_step_of_a_rotation_dies_right_after_it_and_the_next_one_goes_on(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let folder = tempfile::tempdir()?;
    let deaths = Deaths::at(folder.path());
    for index in 0..3 {
        let server = trio.server(index)?;
        server.hooks().dies_at(&deaths)?;
        server.stop().await?;
        server.start()?;
    }
    let mut killed = trio.tended().await?;
    let since = Instant::now();
    // Its server may die before it answers.
    let _ = trio.rotate(1, "among-deaths").await;
    loop {
        killed += trio.tend()?;
        let over = trio.over("among-deaths", Instant::now(), Duration::from_millis(500)).await;
        if over.is_ok() {
            break;
        }
        ensure!(
            since.elapsed() < ROTATION_MAX,
            "{over:?} after {:?}: {:#?}",
            since.elapsed(),
            deaths.all()?
        );
    }
    trio.over("among-deaths", since, ROTATION_MAX).await?;
    killed += trio.tended().await?;
    let steps = deaths.all()?;
    deaths.end()?;
    println!("{killed} servers died after {} steps: {steps:#?}", steps.len());
    ensure!(steps.len() >= STEPS && killed >= STEPS, "{killed} died after {steps:#?}");
    trio.judged().await.map(drop)
}
