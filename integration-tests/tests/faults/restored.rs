//! A data directory restored from a backup that is older than the mesh: said, fenced, and led on, while everybody talks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ca_server::Running;
use integration_tests::faults::{CaDir, Door, Member as Joiner, reason};
use integration_tests::mesh::{
    Gate, Member, Proxy, TRUST_DOMAIN, TestAgent, Traffic, admin_channel, eventually,
};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::state_service_client::StateServiceClient;
use proto::banyan::admin::v1::{
    ContinueStateRequest, CreateTokenRequest, DismissAgentWordRequest, GetRotationRequest,
    RecordState, Rotation, ShowStateRequest, StartRotationRequest, StatusRequest, StatusResponse,
};

/// Short lives: a rotation waits for leaves whose rows were lost.
const LIMITS: &str = "[leaf]\nttl_default = \"20s\"\nttl_max = \"20s\"\nttl_min = \"5s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                      [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n";
/// Each gate a leaf's life, the horizon's step and twice the skew, on a machine that is busy.
const ROTATION_MAX: Duration = Duration::from_secs(240);

/// A CA that can be stopped, restored and started again, and agents that find it at the same address.
struct Mesh {
    ca_dir: CaDir,
    gate: Gate,
    running: Option<Running>,
    agents: Vec<TestAgent>,
    proxies: Vec<Arc<Proxy>>,
}

impl Mesh {
    async fn start(agents: usize) -> anyhow::Result<Self> {
        let ca_dir = CaDir::new(LIMITS)?;
        let running = ca_dir.start().await?;
        let gate = Gate::before(running.grpc_addr).await?;
        let mut mesh =
            Self { ca_dir, gate, running: Some(running), agents: Vec::new(), proxies: Vec::new() };
        for number in 1..=agents {
            let (name, identity) =
                (format!("host-{number}"), format!("spiffe://{TRUST_DOMAIN}/app/{number}"));
            let request = CreateTokenRequest {
                agent: name.clone(),
                identities: vec![identity.clone()],
                ttl_seconds: 0,
                ..Default::default()
            };
            let token = AdminServiceClient::new(mesh.channel())
                .create_token(request)
                .await?
                .into_inner()
                .token;
            let agent = TestAgent::of(mesh.gate.address())?
                .with_token(&token)?
                .with_own_workload(&identity);
            let agent = agent.joined().await?;
            mesh.proxies.push(Arc::new(Proxy::follow(&name, agent.socket())));
            mesh.agents.push(agent);
        }
        Ok(mesh)
    }

    fn channel(&self) -> tonic::transport::Channel {
        admin_channel(&self.running.as_ref().unwrap().admin_socket)
    }

    fn states(&self) -> StateServiceClient<tonic::transport::Channel> {
        StateServiceClient::new(self.channel())
    }

    async fn status(&self) -> anyhow::Result<StatusResponse> {
        Ok(AdminServiceClient::new(self.channel()).status(StatusRequest {}).await?.into_inner())
    }

    async fn rotate(&self, request_id: &str, mode: &str) -> Result<(), tonic::Status> {
        let (request_id, mode) = (request_id.to_owned(), mode.to_owned());
        let request = StartRotationRequest { request_id, mode, ..StartRotationRequest::default() };
        RotationServiceClient::new(self.channel()).start_rotation(request).await.map(drop)
    }

    async fn rotation(&self) -> anyhow::Result<Rotation> {
        let mut client = RotationServiceClient::new(self.channel());
        Ok(client.get_rotation(GetRotationRequest {}).await?.into_inner())
    }

    /// A whole rotation.
    async fn rotates(&self, request_id: &str) -> anyhow::Result<()> {
        self.rotate(request_id, "auto").await?;
        let over = async {
            loop {
                let rotation = self.rotation().await?;
                if rotation.phase == "steady" && rotation.done.iter().any(|done| done == request_id)
                {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(ROTATION_MAX, over).await?
    }

    async fn show(&self) -> anyhow::Result<RecordState> {
        Ok(self.states().show_state(ShowStateRequest {}).await?.into_inner())
    }

    async fn stop_ca(&mut self) -> anyhow::Result<()> {
        CaDir::stop(self.running.take().unwrap()).await
    }

    async fn start_ca(&mut self) -> anyhow::Result<()> {
        let running = self.ca_dir.start().await?;
        self.gate.lead_to(running.grpc_addr);
        self.running = Some(running);
        Ok(())
    }

    async fn until_agents_hold(&self, sequence: u64) -> anyhow::Result<()> {
        for agent in &self.agents {
            agent.until("the bundle is stored", |status| status.sequence >= sequence).await?;
        }
        Ok(())
    }

    fn put_back(&self, backup: &Path) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.ca_dir.data())?;
        CaDir::copy(backup, &self.ca_dir.data())
    }

    /// A backup at bundle 1, a rotation to bundle 2, and the backup put back.
    async fn goes_back_in_time(&mut self) -> anyhow::Result<()> {
        let backup = self.ca_dir.beside("backup");
        self.stop_ca().await?;
        CaDir::copy(&self.ca_dir.data(), &backup)?;
        self.start_ca().await?;
        self.rotate("lost", "manual").await?;
        self.until_agents_hold(2).await?;
        self.stop_ca().await?;
        self.put_back(&backup)?;
        self.start_ca().await
    }

    /// The verb with these words, beside the configuration.
    async fn banyan(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_banyan_under_test"));
        command.args(words).current_dir(self.ca_dir.directory());
        let said = command.env_remove("BANYAN_ADMIN_SOCKET").kill_on_drop(true).output().await?;
        let text = String::from_utf8_lossy(&said.stderr);
        anyhow::ensure!(said.status.success(), "{words:?}: {text}");
        Ok(())
    }

    async fn until_it_names(&self, words: &str) -> anyhow::Result<String> {
        eventually("it is not healthy and says why", || async {
            let status = self.status().await.ok();
            status.is_some_and(|status| {
                !status.healthy && status.conditions.iter().any(|text| text.contains(words))
            })
        })
        .await?;
        let status = self.status().await?;
        Ok(status.conditions.into_iter().find(|text| text.contains(words)).unwrap_or_default())
    }
}

fn go_on(above: u64) -> ContinueStateRequest {
    let (request_id, by) = ("go-on".to_owned(), "ada".to_owned());
    ContinueStateRequest {
        request_id,
        above,
        by,
        reason: "restored after a lost disk".to_owned(),
        now: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_changes_nothing_until_it_goes_on_above_what_agents_saw()
-> anyhow::Result<()> {
    let mut mesh = Mesh::start(2).await?;
    let traffic =
        Traffic::among(&mesh.proxies.iter().cloned().map(Member::Proxy).collect::<Vec<_>>());
    eventually("they talk", || async { traffic.handshakes() > 10 }).await?;
    mesh.goes_back_in_time().await?;

    let told = mesh.until_it_names("holds bundle 2").await?;
    assert!(told.contains("host-") && told.contains("banyan state continue --above 2"), "{told}");
    assert!(told.contains("latest is bundle 1 (digest "), "{told}");
    let refused = mesh.rotate("early", "auto").await.unwrap_err();
    assert!(refused.message().contains("banyan state continue --above 2"), "{refused}");
    assert!(mesh.states().continue_state(go_on(1)).await.is_err(), "that is where it was");

    // A restart forgets nothing, even if nobody says it again.
    mesh.gate.set_open(false);
    mesh.stop_ca().await?;
    mesh.start_ca().await?;
    assert!(!mesh.status().await?.healthy);
    mesh.gate.set_open(true);

    let early = ContinueStateRequest { now: false, ..go_on(2) };
    let refused = mesh.states().continue_state(early).await.unwrap_err();
    assert!(refused.message().contains("--above 2 --now"), "{refused}");
    let state = mesh.states().continue_state(go_on(2)).await?.into_inner();
    assert_eq!((state.sequence, state.sightings.len(), state.explained), (3, 0, 2));
    mesh.until_agents_hold(3).await?;
    mesh.rotates("whole").await?;
    mesh.until_agents_hold(5).await?;
    let status = mesh.status().await?;
    assert_eq!((status.sequence, status.healthy), (5, true), "{:?}", status.conditions);
    let talk = traffic.stop().await?;
    assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    mesh.stop_ca().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_that_no_agent_trusts_says_that_none_comes_and_a_new_token_leads_one_back()
-> anyhow::Result<()> {
    let mut mesh = Mesh::start(1).await?;
    let backup = mesh.ca_dir.beside("backup");
    mesh.stop_ca().await?;
    CaDir::copy(&mesh.ca_dir.data(), &backup)?;
    mesh.start_ca().await?;
    mesh.rotates("lost").await?;
    mesh.until_agents_hold(3).await?;
    mesh.stop_ca().await?;
    mesh.put_back(&backup)?;
    mesh.start_ca().await?;
    let told =
        mesh.until_it_names("no registered agent has connected since this server started").await?;
    assert!(
        told.contains("1 agent was seen shortly before")
            && told.contains("refused this server's certificate"),
        "{told}"
    );

    let identity = format!("spiffe://{TRUST_DOMAIN}/app/1");
    let request = CreateTokenRequest {
        agent: "host-1".to_owned(),
        identities: vec![identity],
        ttl_seconds: 0,
        ..CreateTokenRequest::default()
    };
    let token =
        AdminServiceClient::new(mesh.channel()).create_token(request).await?.into_inner().token;
    let agent = mesh.agents.first_mut().unwrap();
    agent.write_token(&token)?;
    agent.stop().await;
    std::fs::rename(agent.path("state/bundle.json"), agent.path("bundle.json"))?;
    agent.start().await?;
    agent.until("a member again", |status| status.member.is_some() && status.connected).await?;
    let conditions = mesh.status().await?.conditions;
    assert!(!conditions.iter().any(|text| text.contains("no registered agent")), "{conditions:?}");
    mesh.stop_ca().await
}

/// By the verbs, with the ledger and the keys of the server still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_restored_by_command_lets_nobody_in_below_what_members_hold_and_goes_on_above_it()
-> anyhow::Result<()> {
    let mut mesh = Mesh::start(2).await?;
    let traffic =
        Traffic::among(&mesh.proxies.iter().cloned().map(Member::Proxy).collect::<Vec<_>>());
    eventually("they talk", || async { traffic.handshakes() > 10 }).await?;
    mesh.banyan(&["state", "backup", "old", "--config", "ca.toml"]).await?;
    mesh.rotate("lost", "manual").await?;
    mesh.until_agents_hold(2).await?;
    mesh.stop_ca().await?;
    std::fs::rename(mesh.ca_dir.data().join("state.redb"), mesh.ca_dir.beside("lost"))?;
    mesh.banyan(&["state", "restore", "old", "--config", "ca.toml"]).await?;
    mesh.start_ca().await?;

    let shown = mesh.show().await?;
    assert!(shown.unknown_until > 0, "nobody had to say that it was restored: {shown:?}");
    mesh.until_it_names("banyan state continue --above 2").await?;
    let door = Door::of(mesh.running.as_ref().unwrap())?;
    let refused = Joiner::join(&door, "late").await.unwrap_err();
    assert_eq!(reason(&refused), "STATE_BEHIND", "{refused}");
    assert!(refused.message().contains("banyan state continue"), "{refused}");

    let state = mesh.states().continue_state(go_on(2)).await?.into_inner();
    assert_eq!((state.sequence, state.sightings.len()), (3, 0));
    mesh.until_agents_hold(3).await?;
    Joiner::join(&door, "later").await?;
    mesh.rotates("whole").await?;
    let status = mesh.status().await?;
    assert!(status.healthy, "{:?}", status.conditions);
    let talk = traffic.stop().await?;
    assert!(talk.handshakes > 100, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    mesh.banyan(&["journal", "verify", "--config", "ca.toml"]).await?;
    mesh.stop_ca().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_that_lies_is_dismissed_and_stops_nothing_from_then_on() -> anyhow::Result<()> {
    let mut mesh = Mesh::start(1).await?;
    mesh.goes_back_in_time().await?;
    mesh.until_it_names("holds bundle 2").await?;
    let dismiss = DismissAgentWordRequest {
        request_id: "d".to_owned(),
        agent: "host-1".to_owned(),
        by: "ada".to_owned(),
        reason: "a machine that is not ours".to_owned(),
    };
    let unexplained = DismissAgentWordRequest { reason: String::new(), ..dismiss.clone() };
    assert!(mesh.states().dismiss_agent_word(unexplained).await.is_err(), "somebody will ask why");
    mesh.states().dismiss_agent_word(dismiss).await?;
    let shown = mesh.show().await?;
    assert_eq!((shown.sightings.len(), shown.dismissed), (0, vec!["host-1".to_owned()]));
    mesh.gate.set_open(false);
    mesh.gate.set_open(true);
    eventually("it says so again", || async {
        mesh.status().await.is_ok_and(|status| status.agents.iter().any(|agent| agent.connected))
    })
    .await?;
    assert!(mesh.status().await?.healthy);
    mesh.rotate("next", "manual").await?;
    mesh.stop_ca().await
}
