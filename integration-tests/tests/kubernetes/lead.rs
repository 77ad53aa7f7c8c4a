//! Several processes, one of which works.

use std::time::Duration;

use integration_tests::support::eventually;
use kubernetes::Running;
use tokio::time::Instant;

use super::support::{MESH, World, until_says};

fn leads(running: &Running) -> bool {
    running.board().lines().get("lead").is_some_and(|line| line.text.starts_with("has the Lease"))
}

/// A process of this name at a Lease of its own duration.
fn sections(name: &str, duration: &str) -> String {
    format!(
        "{MESH}[lead]\nnamespace = \"banyan\"\nduration = \"{duration}\"\nidentity = \"{name}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_works_and_the_other_goes_on_at_once_when_it_ends() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps", "banyan-lead"]).await?;
    let first = world.beside(&sections("first", "10m")).await?;
    world.until_confirmed("mesh").await?;
    let second = world.beside(&sections("second", "30s")).await?;
    until_says(&second, "publish/mesh", true, "first has the Lease").await?;
    assert!(leads(&first) && !leads(&second));
    // In order: the Lease is given back, ten minutes before its end.
    first.shutdown().await;
    let given_back = Instant::now();
    eventually("the second works", || async { leads(&second) }).await?;
    let waited = given_back.elapsed();
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    world.api.add_namespace("late").await?;
    world.until_published("late").await?;
    tokio::time::timeout(Duration::from_secs(5), second.shutdown()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_dies_the_other_goes_on_once_the_lease_is_over() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps", "banyan-lead"]).await?;
    let first = world.beside(&sections("first", "3s")).await?;
    world.until_confirmed("mesh").await?;
    let second = world.beside(&sections("second", "3s")).await?;
    until_says(&second, "publish/mesh", true, "first has the Lease").await?;
    drop(first);
    eventually("the second works", || async { leads(&second) }).await?;
    world.api.add_namespace("later").await?;
    world.until_published("later").await?;
    second.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_again_in_its_pod_goes_on_at_once_and_in_another_waits() -> anyhow::Result<()>
{
    let world = World::start(&["banyan-publish-config-maps", "banyan-lead"]).await?;
    let first = world.beside(&sections("pod-0_1", "10m")).await?;
    world.until_confirmed("mesh").await?;
    let other = world.beside(&sections("pod-1_1", "10m")).await?;
    until_says(&other, "publish/mesh", true, "pod-0_1 has the Lease").await?;
    // The Lease is over 15 s after this, by which time the other one may work, too.
    drop(first);
    let died = Instant::now();
    let again = world.beside(&sections("pod-0_2", "10m")).await?;
    eventually("it works", || async { leads(&again) }).await?;
    let waited = died.elapsed();
    assert!(waited < Duration::from_secs(15), "{waited:?}");
    assert!(!leads(&other));
    world.api.add_namespace("later").await?;
    world.until_published("later").await?;
    again.shutdown().await;
    other.shutdown().await;
    Ok(())
}
