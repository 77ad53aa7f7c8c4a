//! What a test needs, and the places of servers.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use stores_peers::{Etcd, Pki, Relay, Setup, free};

use super::net::Net;
use super::server::{LEASE, Programs, Server};
use crate::mesh::Gate;
use crate::support::{TRUST_DOMAIN, write_private};
use crate::tokens::TokenIssuer;

/// Ports of a server in a network of its own: gRPC, health.
const PORTS: [u16; 2] = [15012, 15014];

/// What a test needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the test, for its figures.
    pub name: &'static str,
    /// `replica_under_test`.
    pub server: PathBuf,
    /// `banyan_under_test`.
    pub banyan: PathBuf,
    /// Agents, each with a proxy.
    pub agents: usize,
    /// Clients without agent.
    pub clients: usize,
    /// How etcd is started.
    pub etcd: Setup,
    /// Further keys of the section `[store]`.
    pub store: String,
    /// Files that it names, beside each configuration.
    pub store_files: Vec<(String, String)>,
    /// Further lines of the section on rotations.
    pub rotation: String,
    /// The network that all is in, if it is one of its own.
    pub net: Option<Net>,
}

impl Plan {
    /// The same over mTLS between servers and etcd.
    ///
    /// # Errors
    /// If files of the PKI cannot be read.
    pub fn over_tls(mut self, pki: &Pki) -> anyhow::Result<Self> {
        self.etcd = self.etcd.over_tls(pki);
        for (key, name) in
            [("ca_file", "ca.pem"), ("cert_file", "client.pem"), ("key_file", "client.key")]
        {
            let _ = writeln!(self.store, "{key} = \"{name}\"");
            self.store_files.push((name.to_owned(), fs::read_to_string(pki.path(name))?));
        }
        Ok(self)
    }
}

/// Makes the place of a server, with its configuration.
pub(super) async fn seat(
    plan: &Plan,
    home: &tempfile::TempDir,
    etcd: &Etcd,
    index: u8,
    tokens: &TokenIssuer,
) -> anyhow::Result<Server> {
    let name = format!("ca-{}", index + 1);
    let home = home.path().join(&name);
    fs::create_dir(&home)?;
    let (addresses, line) = match plan.net {
        Some(net) => (PORTS.map(|port| SocketAddr::new(net.server(index), port)), None),
        None => ([free()?, free()?], Some(Relay::start(etcd.address()).await?)),
    };
    let [grpc, plain] = addresses;
    let way = match plan.net {
        Some(_) => None,
        None => Some(Gate::before(grpc).await?),
    };
    let store = line.as_ref().map_or(etcd.address(), Relay::address);
    let further = &plan.store;
    let scheme = if further.contains("ca_file") { "https" } else { "http" };
    let config = format!(
        "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"data\"\n\
         [replica]\nname = \"{name}\"\naddress = \"{grpc}\"\nlease = \"{}s\"\n\
         [store]\nengine = \"etcd\"\nendpoints = [\"{scheme}://{store}\"]\n{further}\n\
         [keys]\npassphrase_file = \"../passphrase\"\n\
         [listen]\ngrpc = \"{grpc}\"\nplain = \"{plain}\"\nadmin_socket = \"admin.sock\"\n\
         dns_names = [\"localhost\"]\nip_addresses = [\"{}\"]\n\
         [leaf]\nttl_default = \"12s\"\nttl_max = \"12s\"\nttl_min = \"5s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
         [rotation]\nsettle = \"1s\"\nwithdrawal_max = \"30s\"\n{}{}",
        LEASE.as_secs(),
        grpc.ip(),
        plan.rotation,
        TokenIssuer::SECTION
    );
    fs::write(home.join("banyan.toml"), config)?;
    write_private(&home.join(TokenIssuer::KEY_SET_FILE), &tokens.key_set())?;
    let before = plan.net.map(|net| net.before_server(index)).unwrap_or_default();
    for (name, contents) in &plan.store_files {
        write_private(&home.join(name), contents)?;
    }
    let programs = Programs { server: plan.server.clone(), banyan: plan.banyan.clone() };
    Ok(Server { name, before, programs, home, grpc, plain, line, way, child: None })
}
