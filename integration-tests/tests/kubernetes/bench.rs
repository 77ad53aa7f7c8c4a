//! What bundles in many namespaces cost: requests, bytes and memory of the process that writes them, by the account of a real API
//! server and from outside. `cargo xtask kubernetes --bench` runs it with many.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use stores_peers::{Relay, free};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::support::{MESH, World};

/// Namespaces unless the environment says otherwise.
const NAMESPACES: usize = 60;
/// How long nothing may be asked in the end.
const QUIET: Duration = Duration::from_secs(10);
/// The longest wait for anything.
const LONG: Duration = Duration::from_secs(1_200);

/// What was counted up to a moment.
#[derive(Clone, Copy)]
struct Counted {
    at: Instant,
    requests: usize,
    patches: usize,
    bytes: u64,
}

/// What a part of it cost.
struct Cost {
    took: Duration,
    requests: usize,
    bytes: u64,
}

impl Counted {
    fn now(world: &World, relay: &Relay) -> anyhow::Result<Self> {
        let all = world.api.requests()?;
        let ours = all.iter().filter(|asked| asked.user == "ca");
        let (requests, patches) = ours.fold((0, 0), |(requests, patches), asked| {
            (
                requests + usize::from(asked.verb != "watch"),
                patches + usize::from(asked.verb == "patch"),
            )
        });
        Ok(Self { at: Instant::now(), requests, patches, bytes: relay.passed() })
    }

    fn since(self, before: Self) -> Cost {
        Cost {
            took: self.at - before.at,
            requests: self.requests - before.requests,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl Cost {
    fn told(&self, what: &str) -> String {
        let millis = self.took.as_millis().max(1);
        let rate = self.requests as u128 * 1_000 / millis;
        format!(
            "{what} milliseconds {millis}, {what} requests {}, {what} requests per second {rate}, {what} bytes {}",
            self.requests, self.bytes
        )
    }
}

/// What `/readyz` of a process says.
async fn lines(address: SocketAddr) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn until_it_says(address: SocketAddr, words: &str) -> anyhow::Result<()> {
    let mut said = String::new();
    let poll = async {
        while !said.contains(words) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            said = lines(address).await.unwrap_or_default();
        }
    };
    let waited = tokio::time::timeout(LONG, poll).await;
    waited.with_context(|| format!("it does not say {words:?}: {said}"))
}

/// A figure of a process in KiB, as the kernel counts it.
fn memory(process: &Child, field: &str) -> anyhow::Result<u64> {
    let id = process.id().context("it has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    Ok(number.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_one_request_for_each_namespace_and_nothing_is_asked_while_nothing_changes()
-> anyhow::Result<()> {
    let set = std::env::var("BANYAN_BENCH_NAMESPACES").ok().map(|set| set.parse()).transpose()?;
    let namespaces: usize = set.unwrap_or(NAMESPACES);
    let world = World::start(&["banyan-publish-config-maps"]).await?;
    let names = stream::iter(0..namespaces).map(|number| {
        let (api, name) = (&world.api, format!("n{number}"));
        async move { api.add_namespace(&name).await }
    });
    names.buffer_unordered(16).try_collect::<()>().await?;
    let list = world.api.ask("GET", "/api/v1/namespaces", None).await?;
    let all = list["items"].as_array().map_or(0, Vec::len);

    let relay = Relay::start(world.api.address()).await?;
    let health = free()?;
    let config = world.config(&world.ca.running().admin_socket, relay.address(), MESH)?;
    let text = std::fs::read_to_string(&config)?.replace("127.0.0.1:0", &health.to_string());
    std::fs::write(&config, text)?;
    let begun = Counted::now(&world, &relay)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_banyan_under_test"));
    command.args(["kubernetes", "run", "--config"]).arg(&config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn()?;

    until_it_says(health, "readers have it").await?;
    let first = Counted::now(&world, &relay)?;
    assert_eq!(first.patches, all, "each once");
    until_it_says(health, ", confirmed").await?;
    let before = Counted::now(&world, &relay)?;
    world.ca.rotate("one").await?;
    let over = world.ca.until_rotation("it is over", LONG, |rotation| {
        rotation.done.iter().any(|done| done == "one")
    });
    over.await?;
    let sequence = world.ca.running().bundle().sequence().0;
    until_it_says(health, &format!("with bundle {sequence}, confirmed")).await?;
    let rotated = Counted::now(&world, &relay)?;
    assert_eq!(rotated.patches, 3 * all, "each once with both roots, and once with the new one");
    tokio::time::sleep(QUIET).await;
    let quiet = Counted::now(&world, &relay)?.since(rotated);
    assert_eq!(quiet.requests, 0, "something is asked while nothing changes");
    println!(
        "figures of bundles: namespaces {all}, {}, {}, {}, memory KiB {}, memory at most KiB {}",
        first.since(begun).told("first publish"),
        rotated.since(before).told("rotation"),
        quiet.told("steady state"),
        memory(&process, "VmRSS:")?,
        memory(&process, "VmHWM:")?,
    );
    process.kill().await?;
    Ok(())
}
