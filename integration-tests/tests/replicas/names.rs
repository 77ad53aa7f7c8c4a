//! Two servers under one name.

use anyhow::ensure;
use integration_tests::replicas::{Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn a_second_server_under_a_taken_name_is_told_where_the_first_is_which_goes_on(
    plan: Plan,
) -> anyhow::Result<()> {
    let trio = Trio::start(&plan).await?;
    let (first, since) = (trio.at(0)?, Instant::now());
    let before = first.sees("ca-1").await?;
    trio.rotate(1, "among-faults").await?;
    let (ended, said) = first.a_second_one().await?;
    ensure!(!ended.success(), "{said}");
    let address = first.grpc().to_string();
    ensure!(said.contains("ca-1") && said.contains(&address), "it does not say {address}: {said}");
    let after = first.sees("ca-1").await?;
    ensure!(after.segment == before.segment && after.leads, "{after:?}, before {before:?}");
    let seen = trio.at(1)?.sees("ca-1").await?;
    ensure!(seen.standing == "serving" && seen.leads, "{seen:?}");
    trio.over("among-faults", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
