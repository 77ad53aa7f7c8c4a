//! Servers of two releases together.
//!
//! With `BANYAN_FORMER_SERVER` in the environment the program with that path, `banyan` of a former release, is what servers are
//! upgraded from and taken back to (`cargo xtask upgrade`); without it both releases are this one.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host::RealDisk;
use integration_tests::replicas::{Plan, Trio};
use integration_tests::support::eventually;
use ledger::Record;
use tokio::time::Instant;

use super::ROTATION_MAX;

pub(crate) async fn servers_are_replaced_one_after_another_in_a_rotation_and_back_and_nothing_waits_for_them(
    plan: Plan,
) -> anyhow::Result<()> {
    let (new, former) = (plan.server.clone(), former(&plan));
    let mut trio = started(&Plan { server: former.clone(), ..plan }).await?;
    let since = Instant::now();
    trio.rotate(1, "among-upgrades").await?;
    trio.phase("distributing").await?;
    for program in [&new, &former, &new] {
        replaced(&mut trio, program).await?;
    }
    trio.over("among-upgrades", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn servers_are_replaced_and_taken_back_and_the_former_release_reads_all_that_the_new_one_wrote(
    plan: Plan,
) -> anyhow::Result<()> {
    let (new, former) = (plan.server.clone(), former(&plan));
    let mut trio = started(&Plan { server: former.clone(), ..plan }).await?;
    trio.rotate(2, "among-upgrades").await?;
    trio.phase("distributing").await?;
    replaced(&mut trio, &new).await?;
    trio.over("among-upgrades", Instant::now(), ROTATION_MAX).await?;
    // Leaves are issued for those of a server that is dead: the audit of the others has that, which the former release did not
    // know. By now agents have leaves of the server that they use, under a root that is not distrusted.
    let dead = in_use(&trio).await?;
    trio.server(dead)?.kill().await?;
    let noted = || async { unmatched(&trio).is_ok_and(|noted| noted > 0) };
    eventually("a leaf is issued unmatched", noted).await?;
    trio.server(dead)?.start()?;
    trio.ready(dead).await?;
    trio.rotate(0, "among-servers-that-go-back").await?;
    trio.phase("distributing").await?;
    replaced(&mut trio, &former).await?;
    trio.over("among-servers-that-go-back", Instant::now(), ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}

/// The program of the former release.
fn former(plan: &Plan) -> PathBuf {
    let given = std::env::var_os("BANYAN_FORMER_SERVER");
    given.map_or_else(|| plan.server.clone(), PathBuf::from)
}

/// Servers that are started one after another: those of a former release that start at once may end.
async fn started(plan: &Plan) -> anyhow::Result<Trio> {
    let mut trio = Trio::seated(plan, |_| Ok(())).await?;
    for server in &mut trio.servers {
        server.start()?;
        server.ready().await?;
    }
    trio.populated(plan).await?;
    Ok(trio)
}

/// One after another is stopped in order, and started with this program.
async fn replaced(trio: &mut Trio, program: &Path) -> anyhow::Result<()> {
    for index in 0..trio.servers.len() {
        let server = trio.server(index)?;
        server.stop().await?;
        server.set_program(program);
        server.start()?;
        trio.ready(index).await?;
    }
    Ok(())
}

/// The server that an agent uses now.
async fn in_use(trio: &Trio) -> anyhow::Result<usize> {
    let agent = trio.agents().first().context("no agent")?;
    agent.until("connected", |status| status.connected).await?;
    let address = agent.in_use()?.context("it uses no server")?;
    let mut servers = trio.servers.iter();
    let found = servers.position(|server| server.address().to_string() == address);
    found.with_context(|| format!("no server is at {address}"))
}

/// How many leaves were issued for those of another server by their chain alone.
fn unmatched(trio: &Trio) -> anyhow::Result<usize> {
    let mut noted = 0;
    for server in &trio.servers {
        for file in ledger::reader::read(&RealDisk, &server.data().join("ledger"))? {
            let entries = file?.entries.into_iter();
            noted +=
                entries.filter(|entry| matches!(entry.record, Record::Unmatched { .. })).count();
        }
    }
    Ok(noted)
}
