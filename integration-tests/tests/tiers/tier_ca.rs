//! One CA of several in tiers, restartable in its place, and a mesh over all of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ca_server::{Config, Embedding, HostDeps, Running, Server};
use host::SystemClock;
use integration_tests::mesh::{
    Member, Proxy, SOON, TRUST_DOMAIN, Talk, TestAgent, Traffic, admin_channel, eventually,
    until_rotation, write_private,
};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    CreateTokenRequest, DecideRotationRequest, GetRotationRequest, RemoveRelyingPartyRequest,
    Rotation, StartRotationRequest, StatusRequest, StatusResponse, Verb,
};
use proto::banyan::downstream::v1::downstream_admin_service_client::DownstreamAdminServiceClient;
use proto::banyan::downstream::v1::{
    AddDownstreamRequest, ListDownstreamsRequest, RemoveDownstreamRequest,
};
use tonic::transport::Channel;
use trust::{Bundle, Clock as _, RootId};

/// Longest time of a rotation through all tiers: leaves are renewed early, so nobody waits for one to end.
const ROTATION_MAX: Duration = Duration::from_secs(120);
/// Leaves outlive a test; clocks are 2 s apart.
const LIMITS: &str = "[leaf]\nttl_default = \"300s\"\nttl_max = \"300s\"\nttl_min = \"5s\"\nbackdate = \"2s\"\n\
                      skew = \"2s\"\n[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n";

/// A CA in a place of its own.
pub(crate) struct TierCa {
    home: tempfile::TempDir,
    /// What follows the section `[listen]`.
    extra: String,
    address: SocketAddr,
    embedding: Arc<dyn Embedding + Send + Sync>,
    running: Option<Running>,
}

impl TierCa {
    /// A CA with a root of its own.
    pub(crate) async fn top() -> anyhow::Result<Self> {
        Self::top_in(Arc::new(())).await
    }

    /// As [`top`](Self::top), embedded in something.
    pub(crate) async fn top_in(
        embedding: Arc<dyn Embedding + Send + Sync>,
    ) -> anyhow::Result<Self> {
        Self::start(tempfile::tempdir()?, "", embedding).await
    }

    /// A downstream CA of another.
    pub(crate) async fn below(upper: &Self, name: &str) -> anyhow::Result<Self> {
        Self::try_below(upper, &upper.add_downstream(name).await?, upper).await
    }

    /// A CA below another, with this token, that believes the roots of a third.
    pub(crate) async fn try_below(
        upper: &Self,
        token: &str,
        believed: &Self,
    ) -> anyhow::Result<Self> {
        let (home, address) = (tempfile::tempdir()?, upper.address);
        write_private(&home.path().join("upper.token"), token)?;
        std::fs::write(home.path().join("upper.pem"), believed.bundle().pem().as_bytes())?;
        let extra = format!(
            "[root]\nauthority = \"upper\"\nissuer_lifetime = \"30m\"\n[authority.upper]\nplugin = \"banyan\"\n\
             address = \"{address}\"\nca_file = \"upper.pem\"\ntoken_file = \"upper.token\"\n"
        );
        Self::start(home, &extra, Arc::new(())).await
    }

    /// Two CAs with roots of their own, each a neighbor of the other: `a` and `b`. `lines` go into the section of `b` at `a`.
    pub(crate) async fn neighbors(
        embedding: Arc<dyn Embedding + Send + Sync>,
        lines: &str,
    ) -> anyhow::Result<[Self; 2]> {
        let (mut a, mut b) = (Self::top_in(embedding).await?, Self::top().await?);
        let tokens = [a.add_neighbor("b").await?, b.add_neighbor("a").await?];
        let (at_a, at_b) = (a.as_neighbor("b"), b.as_neighbor("a"));
        for (ca, other, token, lines) in
            [(&mut a, at_b, &tokens[1], lines), (&mut b, at_a, &tokens[0], "")]
        {
            ca.meet(other, token, lines)?;
            ca.down().await?;
            ca.up().await?;
        }
        for ca in [&a, &b] {
            ca.trusts(2).await?;
        }
        Ok([a, b])
    }

    /// What another one has to know of this one, which will call that one `caller`.
    fn as_neighbor(&self, caller: &str) -> Known {
        let name = if caller == "a" { "b" } else { "a" };
        let pem = self.bundle().pem().to_string();
        Known { name: name.to_owned(), address: self.address, pem }
    }

    fn meet(&mut self, other: Known, token: &str, lines: &str) -> anyhow::Result<()> {
        let Known { name, address, pem } = other;
        write_private(&self.home.path().join(format!("{name}.token")), token)?;
        std::fs::write(self.home.path().join(format!("{name}.pem")), pem)?;
        self.extra.push_str(&format!(
            "[neighbor.{name}]\naddress = \"{address}\"\nca_file = \"{name}.pem\"\ntoken_file = \"{name}.token\"\n{lines}"
        ));
        Ok(())
    }

    /// Adds a neighbor and answers with its token.
    pub(crate) async fn add_neighbor(&self, name: &str) -> anyhow::Result<String> {
        let request =
            AddDownstreamRequest { name: name.to_owned(), neighbor: true, ..Default::default() };
        Ok(self.tiers().add_downstream(request).await?.into_inner().token)
    }

    /// Waits until so many roots are trusted.
    pub(crate) async fn trusts(&self, roots: usize) -> anyhow::Result<()> {
        eventually(&format!("{roots} roots are trusted"), || async {
            self.bundle().roots().len() == roots
        })
        .await
    }

    /// The root that signs.
    pub(crate) async fn signing(&self) -> anyhow::Result<RootId> {
        let status = self.status().await?;
        let id = status.active_root;
        RootId::from_bytes(&id).context("no root signs")
    }

    /// Waits until `status` says so.
    pub(crate) async fn says(&self, words: &str) -> anyhow::Result<()> {
        eventually(words, || async {
            let status = self.status().await;
            status.is_ok_and(|status| status.conditions.iter().any(|said| said.contains(words)))
        })
        .await
    }

    /// Waits until nothing is wrong.
    pub(crate) async fn is_well(&self) -> anyhow::Result<()> {
        let well = eventually("nothing is wrong", || async {
            self.status().await.is_ok_and(|status| status.healthy)
        });
        let well = well.await;
        let conditions = self.status().await?.conditions;
        well.with_context(|| format!("{conditions:#?}"))
    }

    async fn status(&self) -> anyhow::Result<StatusResponse> {
        let mut client = AdminServiceClient::new(self.channel());
        Ok(client.status(StatusRequest {}).await?.into_inner())
    }

    /// A copy of its data as they are, while it is down.
    pub(crate) fn copied(&self) -> anyhow::Result<tempfile::TempDir> {
        let copy = tempfile::tempdir()?;
        copy_all(&self.home.path().join("data"), &copy.path().join("data"))?;
        Ok(copy)
    }

    /// Puts a copy in the place of its data, while it is down.
    pub(crate) fn restore(&self, copy: &tempfile::TempDir) -> anyhow::Result<()> {
        let data = self.home.path().join("data");
        std::fs::remove_dir_all(&data)?;
        copy_all(&copy.path().join("data"), &data)
    }

    async fn start(
        home: tempfile::TempDir,
        extra: &str,
        embedding: Arc<dyn Embedding + Send + Sync>,
    ) -> anyhow::Result<Self> {
        write_private(&home.path().join("passphrase"), "correct horse battery staple")?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut ca = Self { home, extra: extra.to_owned(), address, embedding, running: None };
        ca.up().await?;
        Ok(ca)
    }

    /// Starts the server on its data and, after the first start, its port.
    pub(crate) async fn up(&mut self) -> anyhow::Result<()> {
        let Self { extra, address, .. } = self;
        let text = format!(
            "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"data\"\n[keys]\npassphrase_file = \"passphrase\"\n\
             [listen]\ngrpc = \"{address}\"\nplain = \"127.0.0.1:0\"\ndns_names = [\"localhost\"]\n\
             ip_addresses = [\"127.0.0.1\"]\n{extra}{LIMITS}"
        );
        let config = Config::parse(&text, self.home.path())?;
        let running =
            Box::pin(Server::start_with(config, HostDeps::system(), self.embedding.as_ref()))
                .await?;
        self.address = running.grpc_addr;
        self.running = Some(running);
        Ok(())
    }

    /// Starts the server on its data at another address.
    pub(crate) async fn up_at(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.address = address;
        self.up().await
    }

    /// Waits until a neighbor's report says so.
    pub(crate) async fn neighbor_waits(&self, name: &str, words: &str) -> anyhow::Result<()> {
        eventually(words, || async {
            let listed = self.tiers().list_downstreams(ListDownstreamsRequest {}).await;
            let listed = listed.map(|listed| listed.into_inner().downstreams).unwrap_or_default();
            let told = listed.iter().filter(|one| one.neighbor && one.name == name);
            told.flat_map(|one| &one.waits_for).any(|said| said.contains(words))
        })
        .await
    }

    pub(crate) async fn remove_relying_party(&self, name: &str) -> Result<(), tonic::Status> {
        let request = RemoveRelyingPartyRequest { name: name.to_owned(), ..Default::default() };
        RotationServiceClient::new(self.channel()).remove_relying_party(request).await.map(drop)
    }

    /// Stops the server.
    pub(crate) async fn down(&mut self) -> anyhow::Result<()> {
        let running = self.running.take().context("it is down")?;
        tokio::time::timeout(SOON, running.shutdown(Duration::from_secs(1)))
            .await
            .context("it does not end")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server is up")
    }

    pub(crate) fn bundle(&self) -> Bundle {
        self.running().bundle()
    }

    /// The only root of the bundle.
    pub(crate) fn root(&self) -> RootId {
        let bundle = self.bundle();
        assert_eq!(bundle.roots().len(), 1, "one root is trusted");
        bundle.roots().first().unwrap().id()
    }

    fn channel(&self) -> Channel {
        admin_channel(&self.running().admin_socket)
    }

    fn tiers(&self) -> DownstreamAdminServiceClient<Channel> {
        DownstreamAdminServiceClient::new(self.channel())
    }

    /// Adds a downstream CA and answers with its token.
    pub(crate) async fn add_downstream(&self, name: &str) -> anyhow::Result<String> {
        let added = self
            .tiers()
            .add_downstream(AddDownstreamRequest { name: name.to_owned(), ..Default::default() })
            .await?
            .into_inner();
        assert!(!format!("{added:?}").contains(&added.token), "a token is not shown");
        Ok(added.token)
    }

    pub(crate) async fn remove_downstream(&self, name: &str) -> anyhow::Result<()> {
        self.tiers()
            .remove_downstream(RemoveDownstreamRequest {
                name: name.to_owned(),
                ..Default::default()
            })
            .await?;
        Ok(())
    }

    pub(crate) async fn rotate(&self, request_id: &str, mode: &str) -> Result<(), tonic::Status> {
        let (request_id, mode) = (request_id.to_owned(), mode.to_owned());
        let request = StartRotationRequest { request_id, mode, ..StartRotationRequest::default() };
        RotationServiceClient::new(self.channel()).start_rotation(request).await.map(drop)
    }

    pub(crate) async fn decide(&self, request_id: &str, verb: Verb) -> Result<(), tonic::Status> {
        let request = DecideRotationRequest {
            request_id: request_id.to_owned(),
            verb: verb.into(),
            ..Default::default()
        };
        RotationServiceClient::new(self.channel()).decide_rotation(request).await.map(drop)
    }

    pub(crate) async fn rotation(&self) -> anyhow::Result<Rotation> {
        let mut client = RotationServiceClient::new(self.channel());
        Ok(client.get_rotation(GetRotationRequest {}).await?.into_inner())
    }

    /// Waits until the rotation stands as wanted; the error shows where it stands.
    pub(crate) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&Rotation) -> bool,
    ) -> anyhow::Result<Rotation> {
        until_rotation(RotationServiceClient::new(self.channel()), what, ROTATION_MAX, holds).await
    }

    pub(crate) async fn in_phase(&self, phase: &str) -> anyhow::Result<Rotation> {
        self.until(phase, |rotation| rotation.phase == phase).await
    }

    /// Waits until this CA is steady with this root alone.
    pub(crate) async fn settled(&self, root: RootId) -> anyhow::Result<()> {
        let alone = |rotation: &Rotation| {
            let roots: Vec<_> = self.bundle().roots().iter().map(trust::Root::id).collect();
            rotation.phase == "steady" && roots == [root]
        };
        self.until("steady on the one root", alone).await.map(drop)
    }
}

/// What a neighbor has to know of another one.
struct Known {
    name: String,
    address: SocketAddr,
    pem: String,
}

fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = std::process::Command::new("cp");
    let status = copy.args(["--archive"]).arg(from).arg(to).status()?;
    anyhow::ensure!(status.success(), "cp: {status}");
    Ok(())
}

/// Members of all tiers that talk to each other.
pub(crate) struct Mesh {
    agents: Vec<TestAgent>,
    pub(crate) proxies: Vec<Arc<Proxy>>,
    traffic: Option<Traffic>,
}

impl Mesh {
    /// One member at each ca, in this order; all talk when it answers.
    pub(crate) async fn over(sites: &[&TierCa]) -> anyhow::Result<Self> {
        let mut mesh = Self { agents: Vec::new(), proxies: Vec::new(), traffic: None };
        for (number, ca) in sites.iter().enumerate() {
            mesh.join(ca, number).await?;
        }
        let members: Vec<_> = mesh.proxies.iter().cloned().map(Member::Proxy).collect();
        let (traffic, enough) = (Traffic::among(&members), (members.len() * members.len()) as u64);
        eventually("everybody talks", || async { traffic.handshakes() > enough }).await?;
        mesh.traffic = Some(traffic);
        Ok(mesh)
    }

    pub(crate) fn identity(number: usize) -> String {
        format!("spiffe://{TRUST_DOMAIN}/app/{number}")
    }

    async fn join(&mut self, ca: &TierCa, number: usize) -> anyhow::Result<()> {
        let (name, identity) = (format!("host-{number}"), Self::identity(number));
        let request = CreateTokenRequest {
            agent: name.clone(),
            identities: vec![identity.clone()],
            ttl_seconds: 0,
            ..Default::default()
        };
        let token =
            AdminServiceClient::new(ca.channel()).create_token(request).await?.into_inner().token;
        let agent = TestAgent::of(ca.address())?
            .with_token(&token)?
            .with_own_workload(&identity)
            .joined()
            .await?;
        let proxy = Arc::new(Proxy::follow(&name, agent.socket()));
        eventually("the proxy has its leaf", || async {
            proxy.holding().is_live(SystemClock.now())
        })
        .await?;
        self.agents.push(agent);
        self.proxies.push(proxy);
        Ok(())
    }

    /// Handshakes so far.
    pub(crate) fn handshakes(&self) -> u64 {
        self.traffic.as_ref().map_or(0, Traffic::handshakes)
    }

    /// Every proxy has a leaf of this root and trusts nothing else.
    pub(crate) async fn lives_under(&self, root: RootId) -> anyhow::Result<()> {
        eventually("everybody lives under the one root", || async {
            self.proxies.iter().all(|proxy| {
                let holding = proxy.holding();
                holding.root() == Some(root) && holding.trusted() == [root]
            })
        })
        .await
    }

    /// Ends the traffic, in which nothing may have failed.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Talk { handshakes, failed } = self.talk().await?;
        assert!(handshakes > 50, "only {handshakes} handshakes");
        assert!(
            failed.is_empty(),
            "{} of {handshakes} failed: {:#?}",
            failed.len(),
            failed.first()
        );
        Ok(())
    }

    /// Ends the traffic, and says what came of it.
    pub(crate) async fn talk(mut self) -> anyhow::Result<Talk> {
        let talk = self.traffic.take().context("it talks")?.stop().await?;
        for agent in &mut self.agents {
            agent.stop().await;
        }
        Ok(talk)
    }
}
