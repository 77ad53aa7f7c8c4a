//! A whole mesh under traffic: a CA with short lives, agents with a proxy each, and clients that only send CSRs.

use std::sync::Arc;
use std::time::Duration;

use ca_server::Embedding;
use host::SystemClock;
use trust::RootId;

use super::{CsrClient, Door, Gate, Member, MeshCa, Proxy, Talk, TestAgent, TestClock, Traffic};
use crate::support::{SOON, eventually};
use crate::tokens::TokenIssuer;

/// Life of leaves in a mesh that waits for leaves to end.
const SHORT_LIFE: u64 = 12;
/// Longest time of a rotation that waits for leaves to end: each gate a leaf's life, the horizon's step, twice the skew
/// and settle.
const ROTATION_MAX: Duration = Duration::from_secs(120);

/// What a mesh shall be.
#[derive(Clone, Debug, Default)]
pub struct MeshPlan {
    /// Life of leaves, in seconds.
    pub life: u64,
    /// Agents, each with a proxy.
    pub agents: usize,
    /// Clients without agent.
    pub clients: usize,
    /// Addresses of the CA that each agent has beside the first.
    pub further_ways: usize,
    /// Further sections of the CA's configuration.
    pub sections: String,
    /// Further lines of its section on rotations.
    pub rotation: String,
    /// Whether each proxy has a listener that its agent knows.
    pub listeners: bool,
}

/// A mesh that talks.
#[derive(Debug)]
pub struct LiveMesh {
    /// The CA.
    pub ca: MeshCa,
    /// Ways to it beside its own gate.
    pub further_ways: Vec<Gate>,
    /// Agents, each with the proxy and the clock of the same index.
    pub agents: Vec<TestAgent>,
    /// The agents' clocks.
    pub clocks: Vec<Arc<TestClock>>,
    /// Proxies.
    pub proxies: Vec<Arc<Proxy>>,
    /// Their listeners, if they have any.
    pub doors: Vec<Door>,
    /// Clients without agent.
    pub clients: Vec<Arc<CsrClient>>,
    traffic: Traffic,
}

impl LiveMesh {
    /// Starts everything, and waits until all have talked.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn start(
        agents: usize,
        clients: usize,
        embedding: &dyn Embedding,
    ) -> anyhow::Result<Self> {
        Self::with_leaves_of(SHORT_LIFE, agents, clients, embedding).await
    }

    /// As [`start`](Self::start), with leaves that live so many seconds.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn with_leaves_of(
        life: u64,
        agents: usize,
        clients: usize,
        embedding: &dyn Embedding,
    ) -> anyhow::Result<Self> {
        Self::of(&MeshPlan { life, agents, clients, ..MeshPlan::default() }, embedding).await
    }

    /// Starts what was planned, and waits until all have talked.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn of(plan: &MeshPlan, embedding: &dyn Embedding) -> anyhow::Result<Self> {
        let MeshPlan { life, agents, clients, further_ways, ref sections, ref rotation, listeners } =
            *plan;
        let tokens = Arc::new(TokenIssuer::of_mesh());
        let extra = format!("{}{rotation}{}{sections}", limits(life), TokenIssuer::SECTION);
        let files = [(TokenIssuer::KEY_SET_FILE, tokens.key_set())];
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let ca =
            MeshCa::start_embedded("", &extra, &files, Arc::new(SystemClock), embedding).await?;
        let mut mesh = Self {
            further_ways: Vec::new(),
            ca,
            agents: Vec::new(),
            clocks: Vec::new(),
            proxies: Vec::new(),
            doors: Vec::new(),
            clients: Vec::new(),
            traffic: Traffic::among(&[]),
        };
        for _ in 0..further_ways {
            let way = Gate::before(mesh.ca.running().grpc_addr).await?;
            mesh.further_ways.push(way);
        }
        for number in 1..=agents {
            mesh.join(number, listeners).await?;
        }
        for number in 1..=clients {
            let (address, name) = (mesh.ca.gate().address(), format!("csr-{number}"));
            let roots =
                mesh.ca.running().bundle().roots().iter().map(|root| root.der().to_vec()).collect();
            let client = CsrClient::join(address, roots, Arc::clone(&tokens), &name).await?;
            mesh.clients.push(Arc::new(client));
        }
        mesh.traffic = Traffic::among(&mesh.members());
        let all = mesh.members().len() as u64;
        eventually("everybody talks", || async { mesh.traffic.handshakes() > all * all }).await?;
        Ok(mesh)
    }

    /// Every way to the CA.
    pub fn ways(&self) -> impl Iterator<Item = &Gate> {
        std::iter::once(self.ca.gate()).chain(&self.further_ways)
    }

    /// All who talk.
    pub fn members(&self) -> Vec<Member> {
        let proxies = self.proxies.iter().cloned().map(Member::Proxy);
        proxies.chain(self.clients.iter().cloned().map(Member::Csr)).collect()
    }

    /// The name of the agent with this index, as the CA knows it.
    pub fn agent_name(index: usize) -> String {
        format!("host-{}", index + 1)
    }

    /// The identity of the workload with this index.
    pub fn identity(index: usize) -> String {
        format!("spiffe://{}/app/{}", super::TRUST_DOMAIN, index + 1)
    }

    /// Rotates the root and waits until it is over.
    ///
    /// # Errors
    /// When the server refuses, or it takes longer than any rotation may.
    pub async fn rotate(&self, request_id: &str) -> anyhow::Result<()> {
        self.ca.rotate(request_id).await?;
        self.over(request_id).await
    }

    /// Waits until a rotation is over.
    ///
    /// # Errors
    /// When it takes longer than any rotation may.
    pub async fn over(&self, request_id: &str) -> anyhow::Result<()> {
        let over = |rotation: &proto::banyan::admin::v1::Rotation| {
            rotation.phase == "steady" && rotation.done.iter().any(|done| done == request_id)
        };
        self.ca.until_rotation("the rotation is over", ROTATION_MAX, over).await?;
        Ok(())
    }

    /// Waits until every proxy has a leaf of this root. One whose leaf ended before its agent had the next is waited for.
    ///
    /// # Errors
    /// When one has not in time.
    pub async fn lives_under(&self, root: RootId) -> anyhow::Result<()> {
        let proxies = &self.proxies;
        let all = || async { proxies.iter().all(|proxy| proxy.holding().root() == Some(root)) };
        eventually("every leaf is of this root", all).await
    }

    /// Waits until everybody has shaken hands with everybody, several times from now on.
    ///
    /// # Errors
    /// When they have not in time.
    pub async fn all_meet(&self) -> anyhow::Result<()> {
        let enough = self.traffic.handshakes() + 100;
        eventually("everybody meets everybody", || async { self.traffic.handshakes() > enough })
            .await
    }

    /// Ends the traffic and everything else.
    ///
    /// # Errors
    /// When a part does not end in time.
    pub async fn stop(self) -> anyhow::Result<Talk> {
        let Self { ca, further_ways: _open, agents, clocks: _, proxies, doors, clients, traffic } =
            self;
        let talk = traffic.stop().await?;
        drop((proxies, doors, clients));
        for mut agent in agents {
            agent.stop().await;
        }
        tokio::time::timeout(SOON, ca.stop()).await??;
        Ok(talk)
    }

    async fn join(&mut self, number: usize, listens: bool) -> anyhow::Result<()> {
        let (name, identity) = (Self::agent_name(number - 1), Self::identity(number - 1));
        let clock = Arc::new(TestClock::default());
        let ways: Vec<_> = self.ways().map(Gate::address).collect();
        let agent = TestAgent::of_several(&ways)?
            .with_clock(Arc::clone(&clock) as Arc<dyn trust::Clock>)
            .with_patience("2s")
            .with_token(&self.ca.token(&name, &[&identity]).await?)?
            .with_own_workload(&identity);
        let door = match listens {
            true => Some(Door::bind().await?),
            false => None,
        };
        let agent = match &door {
            Some(door) => agent.with_listener(door.address()),
            None => agent,
        };
        let agent = agent.joined().await?;
        let proxy = Arc::new(Proxy::follow(&name, agent.socket()));
        if let Some(door) = &door {
            door.belongs_to(&proxy);
        }
        self.doors.extend(door);
        eventually("the proxy has its leaf", || async {
            proxy.holding().is_live(trust::Clock::now(&SystemClock))
        })
        .await?;
        self.agents.push(agent);
        self.clocks.push(clock);
        self.proxies.push(proxy);
        Ok(())
    }
}

/// Limits that let a rotation happen while a test watches: clocks 2 s apart, settle 1 s.
fn limits(life: u64) -> String {
    format!(
        "[leaf]\nttl_default = \"{life}s\"\nttl_max = \"{life}s\"\nttl_min = \"5s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
         [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n"
    )
}
