//! A network of its own: the test is in the middle, etcd and each server at an end of their own, and ways between them can be cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Set in the process that is inside.
const INSIDE: &str = "BANYAN_TEST_IS_INSIDE_A_NETWORK_OF_ITS_OWN";
const NEEDS: &str = "allow user namespaces to this user, and install the operating system's packages `util-linux` and `iproute2`";
/// The network. Nothing outside can see it.
const NETWORK: [u8; 3] = [10, 77, 0];
/// Who is where in it.
const TEST: u8 = 1;
const STORE: u8 = 2;
const FIRST_SERVER: u8 = 11;
const ETCD_PORTS: [u16; 2] = [2379, 2380];

/// The network that this process is in.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    _made: (),
}

impl Net {
    /// Whether this process is in a network of its own.
    #[must_use]
    pub fn is_inside() -> bool {
        std::env::var_os(INSIDE).is_some()
    }

    /// Runs this program again in a network of its own, with these arguments, and waits for it.
    ///
    /// # Errors
    /// If it cannot be run, or fails.
    pub fn run_inside(program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--mount"])
            .arg(program)
            .args(arguments)
            .env(INSIDE, "1")
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot run unshare: {NEEDS}"))?;
        ensure!(
            status.success(),
            "{arguments:?} in a network of its own: {status}; if it did not come to run: {NEEDS}"
        );
        Ok(())
    }

    /// Lays the network, with an end for etcd and for so many servers.
    ///
    /// # Errors
    /// If it cannot be laid; [`run_inside`](Self::run_inside) is first.
    pub fn lay(servers: u8) -> anyhow::Result<Self> {
        run("mount -t tmpfs ends /run")?;
        run("ip link set lo up")?;
        run("ip link add middle type bridge")?;
        run(&format!("ip address add {}/24 dev middle", ip(TEST)))?;
        run("ip link set middle up")?;
        let servers = FIRST_SERVER..FIRST_SERVER.saturating_add(servers);
        for end in [STORE].into_iter().chain(servers) {
            run(&format!("ip netns add end-{end}"))?;
            run(&format!("ip link add way-{end} type veth peer name eth0 netns end-{end}"))?;
            run(&format!("ip link set way-{end} master middle up"))?;
            run(&format!("ip -n end-{end} address add {}/24 dev eth0", ip(end)))?;
            run(&format!("ip -n end-{end} link set eth0 up"))?;
            run(&format!("ip -n end-{end} link set lo up"))?;
        }
        Ok(Self { _made: () })
    }

    /// What stands before etcd's program so that it runs at its end.
    #[must_use]
    pub fn before_store(&self) -> Vec<String> {
        at(STORE)
    }

    /// Where clients and members find etcd.
    #[must_use]
    pub fn store(&self) -> [SocketAddr; 2] {
        ETCD_PORTS.map(|port| SocketAddr::new(ip(STORE), port))
    }

    /// What stands before the program of the server with this index so that it runs at its end.
    #[must_use]
    pub fn before_server(&self, index: u8) -> Vec<String> {
        at(FIRST_SERVER.saturating_add(index))
    }

    /// Where the server with this index is.
    #[must_use]
    pub fn server(&self, index: u8) -> IpAddr {
        ip(FIRST_SERVER.saturating_add(index))
    }

    /// Where this process is.
    #[must_use]
    pub fn test(&self) -> IpAddr {
        ip(TEST)
    }

    /// Cuts the way from a server to somebody, or mends it. Nothing that is sent comes through, and nobody is told.
    ///
    /// # Errors
    /// If it cannot be cut.
    pub fn cut(&self, index: u8, from: IpAddr, is_cut: bool) -> anyhow::Result<()> {
        let (end, verb) =
            (FIRST_SERVER.saturating_add(index), if is_cut { "add" } else { "delete" });
        // A route that drops what is sent, at both ends: neither hears of the other.
        run(&format!("ip -n end-{end} route {verb} blackhole {from}/32"))
    }
}

fn ip(last: u8) -> IpAddr {
    let [a, b, c] = NETWORK;
    IpAddr::V4(Ipv4Addr::new(a, b, c, last))
}

fn at(end: u8) -> Vec<String> {
    ["ip", "netns", "exec"].map(str::to_owned).into_iter().chain([format!("end-{end}")]).collect()
}

fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output()
        .with_context(|| format!("cannot run `{line}`: {NEEDS}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}`: {}: {said}; {NEEDS}", output.status);
    Ok(())
}
