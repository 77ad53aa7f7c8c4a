//! A SPIRE server and an agent of it, as processes of a test: each in a folder of its own, killed when dropped.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// The trust domain of every server here.
pub(crate) const TRUST_DOMAIN: &str = "example.org";
/// The node that agents attest as.
const NODE: &str = "spiffe://example.org/node";
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Thirty seconds.
const POLLS_MAX: u32 = 600;

/// A running server.
pub(crate) struct Server {
    home: TempDir,
    pub(crate) port: u16,
    process: Option<Process>,
}

/// A running agent.
pub(crate) struct Agent {
    home: TempDir,
    _process: Process,
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let output = fs::File::options().create(true).append(true).open(&log).expect("log");
        let errors = output.try_clone().expect("log");
        let child =
            command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().expect("starts");
        Self { child, log }
    }

    /// Polls until the condition holds; panics with the log if the process ends or takes too long.
    fn wait_until(&mut self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..POLLS_MAX {
            if holds() {
                return;
            }
            if self.child.try_wait().expect("status").is_some() {
                break;
            }
            std::thread::sleep(POLL_EVERY);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        panic!("{what}: it is not, or not in time:\n{log}");
    }
}

impl Server {
    /// Starts a server whose authorities last so long, such as `8760h`.
    pub(crate) fn start(ca_ttl: &str) -> Self {
        let home = TempDir::new().expect("folder");
        // SPIRE takes no port 0. What was free a moment ago is nearly always free still, and the start would fail loudly.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("address").port();
        drop(free);
        let at = home.path().display();
        let config = format!(
            r#"server {{
                bind_address = "127.0.0.1"
                bind_port = "{port}"
                socket_path = "{at}/api.sock"
                trust_domain = "{TRUST_DOMAIN}"
                data_dir = "{at}"
                log_level = "DEBUG"
                ca_ttl = "{ca_ttl}"
            }}
            plugins {{
                DataStore "sql" {{
                    plugin_data {{
                        database_type = "sqlite3"
                        connection_string = "{at}/datastore.sqlite3"
                    }}
                }}
                NodeAttestor "join_token" {{ plugin_data {{}} }}
                KeyManager "disk" {{ plugin_data {{ keys_path = "{at}/keys.json" }} }}
            }}"#
        );
        fs::write(home.path().join("server.conf"), config).expect("configuration");
        let mut server = Self { home, port, process: None };
        server.resume();
        server
    }

    /// Kills the server; its data stays.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Starts the server again, with the data that it had.
    pub(crate) fn resume(&mut self) {
        let path = self.home.path();
        let mut command = Command::new(program("spire-server"));
        command.arg("run").arg("-config").arg(path.join("server.conf"));
        let mut process = Process::start(&mut command, path.join("server.log"));
        process.wait_until("the SPIRE server is up", || self.try_verb(&["healthcheck"]).is_ok());
        self.process = Some(process);
    }

    /// Runs a verb of the server's command line, such as `bundle show`, and gives what it prints.
    pub(crate) fn verb(&self, arguments: &[&str]) -> String {
        self.try_verb(arguments).unwrap_or_else(|said| panic!("spire-server {arguments:?}: {said}"))
    }

    fn try_verb(&self, arguments: &[&str]) -> Result<String, String> {
        // Flags come before what a verb takes, and after the verb's words.
        let words = arguments.iter().take_while(|word| !word.starts_with('-')).count();
        let (words, flags) = arguments.split_at(words);
        let mut command = Command::new(program("spire-server"));
        command.args(words).arg("-socketPath").arg(self.home.path().join("api.sock")).args(flags);
        let output = command.stdin(Stdio::null()).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Registers an identity of processes of this user on the node of the agents.
    pub(crate) fn register(&self, id: &str, downstream: bool) {
        let uid = Command::new("id").arg("-u").output().expect("id").stdout;
        let selector = format!("unix:uid:{}", String::from_utf8_lossy(&uid).trim());
        let mut arguments =
            vec!["entry", "create", "-spiffeID", id, "-parentID", NODE, "-selector", &selector];
        arguments.extend(downstream.then_some("-downstream"));
        self.verb(&arguments);
    }

    /// Writes `svid.pem`, `key.pem` and `bundle.pem` of an identity into a folder, as a helper on a node would.
    pub(crate) fn mint(&self, id: &str, folder: &Path) {
        self.verb(&["x509", "mint", "-spiffeID", id, "-write", folder.to_str().expect("path")]);
    }

    /// Makes another authority, which signs nothing yet.
    pub(crate) fn prepare_authority(&self) -> String {
        authority_id(&self.verb(&["localauthority", "x509", "prepare"]))
    }

    /// Makes the prepared authority the one that signs.
    pub(crate) fn activate_authority(&self, id: &str) {
        self.verb(&["localauthority", "x509", "activate", "-authorityID", id]);
    }

    /// Removes the authority that signed before.
    pub(crate) fn revoke_old_authority(&self) {
        let shown = self.verb(&["localauthority", "x509", "show"]);
        let old = shown.split("Old X.509 authority").nth(1).expect("an old authority");
        let id = authority_id(old);
        self.verb(&["localauthority", "x509", "taint", "-authorityID", &id]);
        self.verb(&["localauthority", "x509", "revoke", "-authorityID", &id]);
    }
}

fn authority_id(shown: &str) -> String {
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("Authority ID:"));
    line.unwrap_or_else(|| panic!("no authority in: {shown}")).trim().to_owned()
}

impl Agent {
    /// Starts an agent that attests by a join token, and trusts the server's present bundle.
    pub(crate) fn start(server: &Server) -> Self {
        let home = TempDir::new().expect("folder");
        let path = home.path();
        fs::write(path.join("bundle.pem"), server.verb(&["bundle", "show"])).expect("bundle");
        let printed = server.verb(&["token", "generate", "-spiffeID", NODE]);
        let token = printed.trim().strip_prefix("Token:").expect("a token").trim();
        let (at, port) = (path.display(), server.port);
        let config = format!(
            r#"agent {{
                data_dir = "{at}"
                log_level = "DEBUG"
                server_address = "127.0.0.1"
                server_port = "{port}"
                socket_path = "{at}/agent.sock"
                trust_bundle_path = "{at}/bundle.pem"
                trust_domain = "{TRUST_DOMAIN}"
            }}
            plugins {{
                NodeAttestor "join_token" {{ plugin_data {{}} }}
                KeyManager "memory" {{ plugin_data {{}} }}
                WorkloadAttestor "unix" {{ plugin_data {{}} }}
            }}"#
        );
        fs::write(path.join("agent.conf"), config).expect("configuration");
        let mut command = Command::new(program("spire-agent"));
        command.arg("run").arg("-config").arg(path.join("agent.conf")).args(["-joinToken", token]);
        let mut process = Process::start(&mut command, path.join("agent.log"));
        let socket = path.join("agent.sock");
        process.wait_until("the SPIRE agent is up", || socket.exists());
        Self { home, _process: process }
    }

    /// Its Workload API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("agent.sock")
    }
}

fn program(name: &str) -> PathBuf {
    host::peers::binary(name, name).unwrap_or_else(|missing| panic!("{missing}"))
}
