//! A mesh that talks all the time moves to an offline root and away from it again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ca_server::Running;
use host::SystemClock;
use integration_tests::faults::{CaDir, Door};
use integration_tests::mesh::{Member, Proxy, SOON, TestAgent, Traffic, eventually};
use trust::{Certificate, Clock as _, RootId};

use super::offline::{OFFLINE, Offline, Operator, SELF_SIGNED};

const LIMITS: &str = "[leaf]\nttl_default = \"1h\"\nttl_max = \"1h\"\nttl_min = \"5s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                      [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n";
const ROTATION_MAX: Duration = Duration::from_secs(120);

async fn restarted(ca_dir: &CaDir, running: Running) -> anyhow::Result<Running> {
    // Where agents expect it.
    let (port, file) = (running.grpc_addr, ca_dir.config_path());
    let config = std::fs::read_to_string(&file)?
        .replace("grpc = \"127.0.0.1:0\"", &format!("grpc = \"{port}\""));
    std::fs::write(file, config)?;
    CaDir::stop(running).await?;
    ca_dir.start().await
}

async fn over(operator: &Operator, request_id: &str) -> anyhow::Result<()> {
    let ended = async {
        while !operator.is_over(request_id).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = tokio::time::timeout(ROTATION_MAX, ended).await;
    ended.with_context(|| format!("rotation {request_id} is not over"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_talking_mesh_moves_to_an_offline_root_over_restarts_and_away_again() -> anyhow::Result<()>
{
    let ca_dir =
        CaDir::new(&format!("ip_addresses = [\"127.0.0.1\"]\n{LIMITS}{SELF_SIGNED}{OFFLINE}"))?;
    let offline = Offline::of(&ca_dir)?;
    let mut running = ca_dir.start().await?;
    let (mut agents, mut proxies) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let (name, id) = (format!("host-{number}"), format!("spiffe://example.org/app/{number}"));
        let token = Door::of(&running)?.token(&name, &id).await?;
        let agent = TestAgent::of(running.grpc_addr)?
            .with_token(&token)?
            .with_own_workload(&id)
            .joined()
            .await?;
        let proxy = Arc::new(Proxy::follow(&name, agent.socket()));
        let live = || async { proxy.holding().is_live(SystemClock.now()) };
        eventually("the proxy has its leaf", live).await?;
        agents.push(agent);
        proxies.push(proxy);
    }
    let members: Vec<_> = proxies.iter().cloned().map(Member::Proxy).collect();
    let traffic = Traffic::among(&members);
    let first = running.bundle().roots().first().context("a root")?.id();

    let operator = Operator::at(&running.admin_socket);
    operator.rotate("out", "offline").await?;
    let root_ceremony = offline.ceremony("root").await?;
    operator.until_it_says("carry").await?;
    running = restarted(&ca_dir, running).await?;
    operator.until_it_says(&root_ceremony).await?;
    assert_eq!(offline.waiting(), [root_ceremony.as_str()], "a restart asks for nothing twice");

    // Somebody brings too much: it is refused, and the mesh does not notice.
    let root = offline.follow(&root_ceremony, |commands| commands).await?;
    let key = std::fs::read_to_string(offline.path(&format!("{root_ceremony}.key")))?;
    offline.bring(&root_ceremony, &format!("{root}{key}"))?;
    operator.until_it_says("holds a private key").await?;
    assert_eq!(operator.rotation().await?.phase, "staging");
    offline.bring(&root_ceremony, &root)?;

    let issuer_ceremony = offline.ceremony("issuer").await?;
    running = restarted(&ca_dir, running).await?;
    operator.until_it_says(&issuer_ceremony).await?;
    assert_eq!(offline.waiting(), [issuer_ceremony.as_str()]);
    let issuer = offline.follow(&issuer_ceremony, |commands| commands).await?;
    offline.bring(&issuer_ceremony, &issuer)?;
    over(&operator, "out").await?;

    let brought = RootId::of(pem::parse(&root)?.contents());
    let signs = |root: RootId| proxies.iter().all(|proxy| proxy.holding().root() == Some(root));
    assert!(signs(brought), "every leaf is of the root that was brought");
    let nobody_trusts =
        |root: RootId| proxies.iter().all(|proxy| !proxy.holding().trusted().contains(&root));
    eventually("nobody trusts the first root", || std::future::ready(nobody_trusts(first))).await?;
    assert_eq!(offline.waiting(), Vec::<String>::new());
    // The issuer in use is the very one that was signed offline.
    let leaf_above =
        proxies.iter().filter_map(|proxy| proxy.holding().chain.get(1).cloned()).next();
    let signed = Certificate::parse(pem::parse(&issuer)?.contents())?;
    assert_eq!(leaf_above.as_deref(), Some(signed.der()));

    operator.rotate("home", "main").await?;
    over(&operator, "home").await?;
    eventually("nobody trusts the offline root", || std::future::ready(nobody_trusts(brought)))
        .await?;

    let talk = traffic.stop().await?;
    println!("{} handshakes, {} failed", talk.handshakes, talk.failed.len());
    assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    for agent in &mut agents {
        tokio::time::timeout(SOON, agent.stop()).await?;
    }
    CaDir::stop(running).await
}
