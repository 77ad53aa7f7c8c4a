//! Three servers, the store that they share, and members that talk.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use host::SystemClock;
use proto::banyan::admin::v1::{
    CreateTokenRequest, ListRootsRequest, Rotation, StartRotationRequest,
};
use stores_peers::Etcd;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use trust::{Certificate, Clock as _, RootId, Timestamp};

use super::account::{Account, Figures};
use super::balancer::Balancer;
use super::hammer::Hammer;
use super::plan::{Plan, seat};
use super::server::{LEASE, Server};
use crate::mesh::{CsrClient, Member, Proxy, Received, TestAgent, Traffic};
use crate::support::{SOON, TRUST_DOMAIN, eventually, write_private};
use crate::tokens::TokenIssuer;

const SERVERS: u8 = 3;
/// Handshakes in flight at a time: several of these run on few cores.
const LANES: usize = 1;
/// Everybody meets everybody several times in so many handshakes.
const MEETINGS: u64 = 24;
const POLL: Duration = Duration::from_millis(50);

/// All of it. Dropping it ends it.
#[derive(Debug)]
pub struct Trio {
    /// The servers; the first has the least name, and leads while it lives.
    pub servers: Vec<Server>,
    /// The store.
    pub etcd: Etcd,
    /// What clients were given.
    pub received: Received,
    name: &'static str,
    home: tempfile::TempDir,
    tokens: Arc<TokenIssuer>,
    balancer: Option<Balancer>,
    agents: Vec<TestAgent>,
    members: Vec<Member>,
    noting: Vec<AbortOnDropHandle<()>>,
    traffic: Traffic,
    account: Account,
    rotated: Mutex<Duration>,
}

impl Trio {
    /// Starts what was planned, and waits until all have talked.
    ///
    /// # Errors
    /// If a part does not come up.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        Self::start_over(plan, |_| Ok(())).await
    }

    /// As [`start`](Self::start), over an etcd that is made ready first.
    ///
    /// # Errors
    /// As [`start`](Self::start), and as it is made ready.
    pub async fn start_over(
        plan: &Plan,
        prepare: impl FnOnce(&Etcd) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut trio = Self::seated(plan, prepare).await?;
        for server in &mut trio.servers {
            server.start()?;
        }
        for server in &mut trio.servers {
            server.ready().await?;
        }
        trio.populated(plan).await?;
        Ok(trio)
    }

    /// The store, and the places of servers that do not run yet.
    ///
    /// # Errors
    /// As [`start_over`](Self::start_over).
    pub async fn seated(
        plan: &Plan,
        prepare: impl FnOnce(&Etcd) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let setup = match plan.net {
            Some(net) => {
                let [client, peer] = net.store();
                plan.etcd.clone().within(net.before_store(), client, peer)
            }
            None => plan.etcd.clone(),
        };
        let etcd = Etcd::start(&setup)?;
        prepare(&etcd)?;
        let home = tempfile::tempdir()?;
        write_private(&home.path().join("passphrase"), "correct horse battery staple")?;
        let tokens = Arc::new(TokenIssuer::of_mesh());
        let mut servers = Vec::new();
        for index in 0..SERVERS {
            servers.push(seat(plan, &home, &etcd, index, &tokens).await?);
        }
        let account = Account::of(servers.iter().map(|one| one.data().join("ledger")).collect());
        Ok(Self {
            servers,
            etcd,
            received: Received::default(),
            name: plan.name,
            home,
            tokens,
            balancer: None,
            agents: Vec::new(),
            members: Vec::new(),
            noting: Vec::new(),
            traffic: Traffic::among(&[]),
            account,
            rotated: Mutex::default(),
        })
    }

    /// Has members join, and talk.
    ///
    /// # Errors
    /// If they do not.
    pub async fn populated(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.populate(plan).await?;
        self.traffic = Traffic::in_lanes(&self.members, LANES);
        self.all_meet().await
    }

    async fn populate(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for number in 1..=plan.agents {
            self.join(number).await?;
        }
        for number in 1..=plan.clients {
            let balancer = match self.balancer.take() {
                Some(balancer) => balancer,
                None => Balancer::before(self.servers.iter().map(Server::grpc).collect()).await?,
            };
            let (address, tokens) = (balancer.address(), Arc::clone(&self.tokens));
            self.balancer = Some(balancer);
            let (name, roots) = (format!("csr-{number}"), self.roots().await?);
            let client =
                CsrClient::join_noting(address, roots, tokens, &name, &self.received).await?;
            self.members.push(Member::Csr(Arc::new(client)));
        }
        Ok(())
    }

    async fn join(&mut self, number: usize) -> anyhow::Result<()> {
        let (name, identity) =
            (format!("host-{number}"), format!("spiffe://{TRUST_DOMAIN}/app/{number}"));
        let ways: Vec<_> = self.servers.iter().map(Server::address).collect();
        let token = self.token(&name, &identity).await?;
        let agent = TestAgent::of_several(&ways)?
            .with_token(&token)?
            .with_own_workload(&identity)
            .joined()
            .await?;
        let proxy = Arc::new(Proxy::follow_noting(&name, agent.socket(), &self.received));
        eventually("the proxy has its leaf", || async {
            proxy.holding().is_live(SystemClock.now())
        })
        .await?;
        let (mut changes, received) = (agent.changes()?, self.received.clone());
        self.noting.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let own = changes.borrow_and_update().member.clone();
                if let Some(own) = own {
                    received.note_own(&own.serial, &own.spiffe_id);
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        })));
        self.agents.push(agent);
        self.members.push(Member::Proxy(proxy));
        Ok(())
    }

    /// A join token, of whichever server gives one.
    ///
    /// # Errors
    /// If none does.
    pub async fn token(&self, agent: &str, identity: &str) -> anyhow::Result<String> {
        let request = CreateTokenRequest {
            agent: agent.to_owned(),
            identities: vec![identity.to_owned()],
            ttl_seconds: 0,
            ..Default::default()
        };
        let first = self.servers.first().context("no server")?;
        Ok(first.admin().create_token(request).await?.into_inner().token)
    }

    async fn roots(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let first = self.servers.first().context("no server")?;
        let listed = first.admin().list_roots(ListRootsRequest::default()).await?.into_inner();
        Ok(listed.roots.into_iter().map(|root| root.der).collect())
    }

    /// The server with this index.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn server(&mut self, index: usize) -> anyhow::Result<&mut Server> {
        self.servers.get_mut(index).context("no such server")
    }

    /// The server with this index, to be asked.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn at(&self, index: usize) -> anyhow::Result<&Server> {
        self.servers.get(index).context("no such server")
    }

    /// Reads rows now: a server is about to lose them.
    pub async fn count_rows(&self) {
        self.account.read().await;
    }

    /// Waits until no agent is connected to the server with this index, and all are to others.
    ///
    /// # Errors
    /// If one is.
    pub async fn agents_leave(&self, index: usize) -> anyhow::Result<()> {
        let address = self.at(index)?.address();
        for agent in &self.agents {
            agent.until_away_from(address).await?;
        }
        Ok(())
    }

    /// Agents.
    #[must_use]
    pub fn agents(&self) -> &[TestAgent] {
        &self.agents
    }

    /// Asks a server for leaves without pause.
    ///
    /// # Errors
    /// If there is no such server.
    pub fn hammer(&self, index: usize) -> anyhow::Result<Hammer> {
        let server = self.servers.get(index).context("no such server")?;
        Ok(Hammer::on(server.grpc(), server.plain(), server.socket(), &self.received))
    }

    /// The rotation as the server sees it that has seen most.
    pub async fn rotation(&self) -> Option<Rotation> {
        let asked = self.servers.iter().map(Server::rotation);
        let seen = futures::future::join_all(asked).await;
        seen.into_iter().filter_map(Result::ok).max_by_key(|rotation| rotation.generation)
    }

    /// Asks the server with this index for a rotation.
    ///
    /// # Errors
    /// As it refuses.
    pub async fn rotate(&self, index: usize, request_id: &str) -> anyhow::Result<()> {
        let server = self.servers.get(index).context("no such server")?;
        let request =
            StartRotationRequest { request_id: request_id.to_owned(), ..Default::default() };
        server.rotations().start_rotation(request).await?;
        Ok(())
    }

    /// Waits until the rotation stands as wanted. Meanwhile the account learns which roots are withdrawn.
    ///
    /// # Errors
    /// If it does not within `most`; the error shows where it stands.
    pub async fn until(
        &self,
        what: &str,
        most: Duration,
        holds: impl Fn(&Rotation) -> bool,
    ) -> anyhow::Result<Rotation> {
        let mut last = None;
        let poll = async {
            loop {
                if let Some(rotation) = self.rotation().await {
                    self.note_withdrawn(&rotation).await;
                    if holds(&rotation) {
                        return rotation;
                    }
                    last = Some(rotation);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let found = tokio::time::timeout(most, poll).await;
        found.map_err(|_| {
            self.print_logs();
            anyhow::anyhow!("{}: not within {most:?}: {what}: {last:#?}", self.name)
        })
    }

    /// Waits until a phase has come.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn phase(&self, phase: &str) -> anyhow::Result<Rotation> {
        self.until(phase, SOON, |rotation| rotation.phase == phase).await
    }

    /// Waits until a rotation is over, counted from `since`.
    ///
    /// # Errors
    /// If it takes longer than `most`.
    pub async fn over(
        &self,
        request_id: &str,
        since: Instant,
        most: Duration,
    ) -> anyhow::Result<()> {
        let over = |rotation: &Rotation| {
            rotation.phase == "steady" && rotation.done.iter().any(|done| done == request_id)
        };
        self.until("the rotation is over", most.saturating_sub(since.elapsed()), over).await?;
        let mut rotated = self.rotated.lock().unwrap_or_else(PoisonError::into_inner);
        *rotated = (*rotated).max(since.elapsed());
        Ok(())
    }

    async fn note_withdrawn(&self, rotation: &Rotation) {
        let at = SystemClock.now();
        if rotation.phase != "withdrawing" || rotation.rolled_back {
            return;
        }
        for server in &self.servers {
            let mut admin = server.admin();
            let asked = admin.list_roots(ListRootsRequest::default());
            let Ok(Ok(listed)) = tokio::time::timeout(LEASE, asked).await else { continue };
            for root in listed.into_inner().roots {
                let parsed = Certificate::parse(&root.der);
                if let (true, Ok(parsed)) =
                    (RootId::of(&root.der).as_bytes().as_slice() == rotation.from_root, parsed)
                {
                    self.account.withdrawn(parsed.subject_der().to_vec(), at);
                }
            }
            return;
        }
    }

    /// Waits until everybody has shaken hands with everybody, several times from now on.
    ///
    /// # Errors
    /// If they have not in time.
    pub async fn all_meet(&self) -> anyhow::Result<()> {
        let enough = self.traffic.handshakes() + MEETINGS;
        let met = || async { self.traffic.handshakes() > enough };
        eventually("everybody meets everybody", met).await
    }

    /// Waits until nothing is wrong with any server; starts those again that ended.
    ///
    /// # Errors
    /// If something is.
    pub async fn all_ready(&mut self) -> anyhow::Result<()> {
        self.tend()?;
        let readying = self.servers.iter_mut().map(Server::ready);
        let ready = futures::future::join_all(readying).await;
        let ready: anyhow::Result<()> = ready.into_iter().collect();
        if ready.is_err() {
            self.print_logs();
        }
        ready
    }

    /// Waits until this server serves and nothing is wrong with it.
    ///
    /// # Errors
    /// If it does not in time, or ends.
    pub async fn ready(&mut self, index: usize) -> anyhow::Result<()> {
        let ready = self.server(index)?.ready().await;
        if ready.is_err() {
            self.print_logs();
        }
        ready
    }

    /// What one server is not can have its reason at another.
    fn print_logs(&self) {
        for server in &self.servers {
            println!("log of {}:\n{}", server.name(), server.log_tail());
        }
    }

    /// Waits until one server sees that another does this.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn until_seen(&self, by: usize, name: &str, standing: &str) -> anyhow::Result<()> {
        let by = self.at(by)?;
        let seen =
            || async { by.sees(name).await.is_ok_and(|replica| replica.standing == standing) };
        eventually(&format!("{name} is {standing}"), seen).await
    }

    /// Starts those servers again that end, until nothing is wrong with any.
    ///
    /// # Errors
    /// If something is.
    pub async fn tended(&mut self) -> anyhow::Result<usize> {
        let (mut ended, since) = (0, Instant::now());
        loop {
            ended += self.tend()?;
            let seen = futures::future::join_all(self.servers.iter().map(Server::status)).await;
            if seen.iter().all(|status| status.as_ref().is_ok_and(|status| status.healthy)) {
                return Ok(ended);
            }
            ensure!(since.elapsed() < SOON, "not all are well: {seen:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts servers again that ended by themselves; answers how many.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn tend(&mut self) -> anyhow::Result<usize> {
        let mut ended = 0;
        for server in &mut self.servers {
            if !server.is_running() {
                server.start()?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// Ends it, and judges: everybody has met under the root that signs, nothing is wrong with any server, the journal leads to
    /// the record at each, no handshake failed, and every certificate is in a row.
    ///
    /// # Errors
    /// Names what is not so.
    pub async fn judged(mut self) -> anyhow::Result<Figures> {
        self.all_ready().await?;
        let signs = self.rotation().await.context("no server answers")?.from_root;
        self.all_meet().await?;
        let members = &self.members;
        eventually("every leaf is of the root that signs", || async {
            members.iter().all(|member| {
                let root = member.holding().root();
                root.is_some_and(|root| root.as_bytes().as_slice() == signs)
            })
        })
        .await?;
        self.all_meet().await?;
        let mut roots = BTreeSet::new();
        for server in &self.servers {
            let record = server.verified().await.with_context(|| server.name().to_owned())?;
            roots.insert(record.roots.len());
        }
        ensure!(roots.len() == 1, "servers know different roots: {roots:?}");
        let talk = self.traffic.stop().await?;
        drop((self.members, self.noting));
        for mut agent in self.agents {
            agent.stop().await;
        }
        for server in &mut self.servers {
            server.stop().await?;
        }
        let rotation = *self.rotated.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = Figures {
            handshakes: talk.handshakes,
            failed: talk.failed.len(),
            rotation,
            ..self.account.compare(&self.received).await
        };
        for failed in &talk.failed {
            println!("{failed:?}");
        }
        println!("figures of {}: {figures}", self.name);
        drop((self.etcd, self.home));
        figures.verdict()?;
        Ok(figures)
    }

    /// Now, as all clocks but those that a test sets tell it.
    #[must_use]
    pub fn now() -> Timestamp {
        SystemClock.now()
    }
}
