//! Servers of two releases together.
//!
//! With `BANYAN_FORMER_SERVER` in the environment the program with that path, `replica_under_test` of a former release, is what
//! servers are upgraded from and taken back to; without it both releases are this one.

use std::path::PathBuf;

use integration_tests::replicas::{Plan, Trio};
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn servers_are_replaced_one_after_another_in_a_rotation_and_back_and_nothing_waits_for_them(
    plan: Plan,
) -> anyhow::Result<()> {
    let new = plan.server.clone();
    let former =
        std::env::var_os("BANYAN_FORMER_SERVER").map_or_else(|| new.clone(), PathBuf::from);
    let mut trio = Trio::start(&Plan { server: former.clone(), ..plan }).await?;
    let since = Instant::now();
    trio.rotate(1, "among-upgrades").await?;
    trio.phase("distributing").await?;
    for program in [&new, &former, &new] {
        for index in 0..3 {
            let server = trio.server(index)?;
            server.stop().await?;
            server.set_program(program);
            server.start()?;
            server.ready().await?;
        }
    }
    trio.over("among-upgrades", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
