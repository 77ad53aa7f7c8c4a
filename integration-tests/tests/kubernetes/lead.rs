//! Several processes, one of which works.

use std::time::Duration;

use integration_tests::support::eventually;
use kubernetes::Running;

use super::support::{MESH, World, until_says};

fn leads(running: &Running) -> bool {
    running.board().lines().get("lead").is_some_and(|line| line.text.starts_with("has the Lease"))
}

fn sections(name: &str) -> String {
    format!("{MESH}[lead]\nnamespace = \"banyan\"\nduration = \"3s\"\nidentity = \"{name}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_works_and_the_other_goes_on_when_it_ends_or_dies() -> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-config-maps", "banyan-lead"]).await?;
    let first = world.beside(&sections("first")).await?;
    world.until_confirmed("mesh").await?;
    let second = world.beside(&sections("second")).await?;
    until_says(&second, "publish/mesh", true, "first has the Lease").await?;
    assert!(leads(&first) && !leads(&second));
    // In order: the Lease is given back.
    first.shutdown().await;
    eventually("the second works", || async { leads(&second) }).await?;
    world.api.add_namespace("late").await?;
    world.until_published("late").await?;
    // At once: the Lease is waited for.
    let third = world.beside(&sections("third")).await?;
    until_says(&third, "publish/mesh", true, "second has the Lease").await?;
    drop(second);
    eventually("the third works", || async { leads(&third) }).await?;
    world.api.add_namespace("later").await?;
    world.until_published("later").await?;
    tokio::time::timeout(Duration::from_secs(5), third.shutdown()).await?;
    Ok(())
}
