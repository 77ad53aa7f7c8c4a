//! `agent.toml`: read, checked, all problems told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use trust::{SpiffeId, TrustDomain};

mod file;
mod node;
mod settings;

pub use settings::{AdminAddress, AgentConfig, Attestation, Limits, NodeConfig, WorkloadConfig};
pub(crate) use settings::{CaAddress, Entitlements, EnvoyOf, Process};

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl AgentConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem in it, or with why the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            problems: vec![format!("cannot read {}: {error}", path.display())],
        })?;
        Self::parse(&text)
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem in it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: file::File = toml::from_str(text)
            .map_err(|error| ConfigError { problems: vec![error.to_string()] })?;
        raw.check().map_err(|problems| ConfigError { problems })
    }

    /// The trust domain that this agent is of.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Path of the socket that secrets are served at.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The configured workloads.
    pub fn workloads(&self) -> &[WorkloadConfig] {
        &self.workloads
    }

    /// The processes of each identity that has any with listeners. What is configured of a workload's listeners is all of them.
    pub(crate) fn processes(&self) -> BTreeMap<SpiffeId, Vec<Process>> {
        let mut all: BTreeMap<SpiffeId, BTreeSet<Process>> = BTreeMap::new();
        let entitlements = self.entitlements();
        for workload in &self.workloads {
            let WorkloadConfig { uid, spiffe_id, listeners, envoy_admin, .. } = workload;
            let of = uid.map_or(entitlements.of_anybody(), |uid| entitlements.of(uid));
            let by_default = of.first() == Some(spiffe_id);
            let envoy =
                |admin: &AdminAddress| Process::Envoy(EnvoyOf { admin: admin.clone(), by_default });
            let processes: Vec<Process> = match listeners {
                Some(listeners) => listeners.iter().cloned().map(Process::Listener).collect(),
                None => envoy_admin.iter().map(envoy).collect(),
            };
            if !processes.is_empty() {
                all.entry(spiffe_id.clone()).or_default().extend(processes);
            }
        }
        all.into_iter().map(|(identity, all)| (identity, all.into_iter().collect())).collect()
    }

    /// The admin endpoints of the Envoys of each identity that has any.
    pub(crate) fn envoy_admins(&self) -> BTreeMap<SpiffeId, Vec<AdminAddress>> {
        let mut all: BTreeMap<SpiffeId, Vec<AdminAddress>> = BTreeMap::new();
        for workload in self.workloads.iter().filter(|workload| !workload.envoy_admin.is_empty()) {
            let known = all.entry(workload.spiffe_id.clone()).or_default();
            known.extend(workload.envoy_admin.iter().cloned());
            known.sort_unstable();
            known.dedup();
        }
        all
    }

    /// The identities that user ids may have.
    pub(crate) fn entitlements(&self) -> Entitlements {
        Entitlements::of_workloads(&self.workloads)
    }
}

impl ConfigError {
    /// An error, if there are problems.
    pub(crate) fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// The problems, one line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the agent's configuration has problems:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: &str = r#"
        trust_domain = "example.org"
        ca_address = "ca.example.org:15012"
        state_dir = "/var/lib/banyan-agent"
        socket = "/run/banyan/agent.sock"
        join_token_file = "/etc/banyan/token"
        [leaf]
        ttl = "1h"
        [[workload]]
        uid = 1000
        spiffe_id = "spiffe://example.org/ns/shop/sa/cart"
        [[workload]]
        uid = 1000
        spiffe_id = "spiffe://example.org/ns/shop/sa/stock"
        prewarm = true
    "#;

    #[test]
    fn a_good_file_is_taken_with_its_defaults() {
        let config = AgentConfig::parse(GOOD).unwrap();
        let told = [("ca.example.org:15012", "ca.example.org")];
        assert_eq!(addresses(&config), told);
        assert_eq!(
            config.attestation,
            Some(Attestation::JoinTokenFile("/etc/banyan/token".into()))
        );
        assert_eq!(config.leaf_ttl, Some(Duration::from_secs(3600)));
        assert_eq!(
            config.limits,
            Limits { connections: 1024, streams: 4096, processes: 1024, issuing: 8 }
        );
        assert_eq!(config.socket_mode, 0o666);
        let entitled = config.entitlements();
        assert_eq!(entitled.of(1000)[0].as_str(), "spiffe://example.org/ns/shop/sa/cart");
        assert!(config.workloads()[1].prewarm);
    }

    #[test]
    fn admin_endpoints_are_addresses_or_sockets_and_each_is_named_once() {
        let with =
            |list: &str| AgentConfig::parse(&format!("{GOOD}\n        envoy_admin = {list}"));
        let config = with(r#"["127.0.0.1:9901", "unix:/run/envoy/admin.sock"]"#).unwrap();
        let admins = config.envoy_admins();
        assert_eq!(admins.len(), 1, "the last workload has them");
        let told: Vec<String> = admins.values().flatten().map(ToString::to_string).collect();
        assert_eq!(told, ["127.0.0.1:9901", "unix:/run/envoy/admin.sock"]);
        for (list, why) in [
            (r#"["9901"]"#, "neither `host:port` nor `unix:/path`"),
            (r#"["unix:admin.sock"]"#, "neither `host:port` nor `unix:/path`"),
            (r#"["http://127.0.0.1:9901/stats"]"#, "neither `host:port` nor `unix:/path`"),
            (r#"["[::1]:9901", "[::1]:9901"]"#, "is listed twice"),
        ] {
            let said = with(list).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("workload 2: envoy_admin"), "{said}");
        }
    }

    #[test]
    fn where_an_envoy_listens_is_asked_of_it_unless_the_configuration_says_it() {
        let with = |lines: &str| AgentConfig::parse(&format!("{GOOD}\n        {lines}")).unwrap();
        let admin = r#"envoy_admin = ["127.0.0.1:9901"]"#;
        let of = |lines: &str| with(lines).processes().into_values().flatten().collect::<Vec<_>>();
        let envoy = AdminAddress::Tcp("127.0.0.1:9901".to_owned());
        assert_eq!(of(admin), [Process::Envoy(EnvoyOf { admin: envoy, by_default: false })]);
        assert_eq!(
            of(&format!("{admin}\n listeners = [\"127.0.0.1:8443\"]")),
            [Process::Listener("127.0.0.1:8443".to_owned())]
        );
        assert_eq!(of(&format!("{admin}\n listeners = []")), [], "nobody shall be knocked at");
        let second = "\n[[workload]]\nuid = 1001\nspiffe_id = \"spiffe://example.org/ns/z/sa/z\"\n";
        let further = of(&format!("{second}{admin}"));
        assert!(
            matches!(&further[..], [Process::Envoy(EnvoyOf { by_default: true, .. })]),
            "`default` is its first identity: {further:?}"
        );
    }

    #[test]
    fn any_user_id_may_be_meant_and_then_no_other_is() {
        let any = GOOD.replace("uid = 1000", "uid = \"any\"");
        let entitled = AgentConfig::parse(&any).unwrap().entitlements();
        assert_eq!(entitled.of(7)[0].as_str(), "spiffe://example.org/ns/shop/sa/cart");
        assert_eq!(entitled.of(7).len(), 2);
        assert!(entitled.shares(64).is_entitled(&crate::shares::Owner::User(7)));
        let mixed = GOOD.replacen("uid = 1000", "uid = \"any\"", 1);
        let said = AgentConfig::parse(&mixed).unwrap_err().to_string();
        assert!(said.contains("uid = \"any\" stands beside uid = 1000"), "{said}");
        let said = AgentConfig::parse(&GOOD.replace("uid = 1000", "uid = \"all\"")).unwrap_err();
        assert!(said.to_string().contains("a number, or \"any\""), "{said}");
    }

    fn addresses(config: &AgentConfig) -> Vec<(&str, &str)> {
        let all = config.ca_addresses.iter();
        all.map(|one| (one.address.as_str(), one.server_name.as_str())).collect()
    }

    #[test]
    fn one_address_or_several_are_taken_and_each_problem_of_the_list_is_told() {
        let with = |line: &str| {
            AgentConfig::parse(&GOOD.replace("ca_address = \"ca.example.org:15012\"", line))
        };
        let several = ["a.example.org:1", "[::1]:2"];
        for key in ["ca_address", "ca_addresses"] {
            let config = with(&format!("{key} = {several:?}")).unwrap();
            assert_eq!(
                addresses(&config),
                [("a.example.org:1", "a.example.org"), ("[::1]:2", "::1")]
            );
        }
        let named = with("ca_addresses = [\"a:1\", \"b:1\"]\nca_server_name = \"ca\"").unwrap();
        assert_eq!(addresses(&named), [("a:1", "ca"), ("b:1", "ca")]);
        let many: Vec<String> = (1..=17).map(|port| format!("ca:{port}")).collect();
        for (line, told) in [
            ("".to_owned(), "ca_address is missing"),
            ("ca_addresses = []".to_owned(), "ca_addresses: 0 addresses"),
            (format!("ca_addresses = {many:?}"), "17 addresses"),
            ("ca_addresses = [\"a:1\", \"b\"]".to_owned(), "ca_addresses: `b` is not"),
            ("ca_addresses = [\"a:1\", \"a:1\"]".to_owned(), "listed twice"),
            ("ca_address = \"a:1\"\nca_addresses = [\"b:1\"]".to_owned(), "only one of"),
        ] {
            let error = with(&line).unwrap_err().to_string();
            assert!(error.contains(told), "{line}: {error}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = r#"
            trust_domain = "Example.org"
            ca_address = "ca.example.org"
            state_dir = "state"
            socket = "/run/x"
            socket_mode = "0777x"
            join_token_file = "/a"
            jwt_file = "/b"
            [leaf]
            ttl = "never"
            [limits]
            streams = 0
            [[workload]]
            uid = 1
            spiffe_id = "spiffe://example.org/banyan/ca/x"
        "#;
        let error = AgentConfig::parse(text).unwrap_err();
        for word in [
            "trust_domain",
            "ca_address",
            "state_dir",
            "socket_mode",
            "jwt_file",
            "ttl",
            "streams",
            "reserved",
        ] {
            assert!(
                error.problems().iter().any(|problem| problem.contains(word)),
                "{word}: {error}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = AgentConfig::parse(&format!("colour = 1\n{GOOD}")).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
        let error = AgentConfig::parse(&format!("{GOOD}\ncolour = 1")).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
    }

    #[test]
    fn another_trust_domain_and_a_repeated_entry_are_refused() {
        let text = GOOD.replace("sa/stock", "sa/cart");
        assert!(AgentConfig::parse(&text).unwrap_err().to_string().contains("twice"));
        let text = GOOD.replace(
            "spiffe://example.org/ns/shop/sa/stock",
            "spiffe://other.org/ns/shop/sa/stock",
        );
        assert!(AgentConfig::parse(&text).unwrap_err().to_string().contains("trust domain"));
    }

    #[test]
    fn no_way_to_know_the_ca_is_no_problem_when_the_state_may_already_know_it() {
        let text = GOOD.replace("join_token_file = \"/etc/banyan/token\"", "");
        assert_eq!(AgentConfig::parse(&text).unwrap().attestation, None);
    }

    #[test]
    fn a_jwt_needs_a_trust_bundle_because_it_pins_no_ca() {
        let text = GOOD.replace("join_token_file", "jwt_file");
        assert!(AgentConfig::parse(&text).unwrap_err().to_string().contains("trust_bundle"));
        let text = format!("trust_bundle = \"/etc/banyan/roots.pem\"\n{text}");
        assert!(AgentConfig::parse(&text).is_ok());
    }

    #[test]
    fn an_agent_of_a_node_is_told_its_node_and_has_no_workloads() {
        let of = |lines: &str| {
            let text =
                GOOD.split("[[workload]]").next().unwrap().replace("join_token_file", "jwt_file");
            let text = text.replace("[leaf]", "trust_bundle = \"/etc/banyan/ca.crt\"\n[leaf]");
            AgentConfig::parse(&format!("{text}\n[kubernetes]\n{lines}"))
        };
        let good = of("node = \"worker-1\"").unwrap();
        assert_eq!(good.node.unwrap().name().unwrap(), "worker-1");
        let unset = of("node_env = \"NO_SUCH_VARIABLE_OF_A_NODE\"").unwrap().node.unwrap();
        assert!(unset.name().unwrap_err().contains("NO_SUCH_VARIABLE_OF_A_NODE"));
        for (lines, words) in [
            ("", "kubernetes.node is missing"),
            ("node = \"A b\"", "is no name of a node"),
            ("node = \"a\"\nnode_env = \"B\"", "only one of node and node_env"),
            ("node = \"a\"\ncgroup_root = \"kubelet\"", "kubernetes.cgroup_root"),
            ("node = \"a\"\napi_server = \"https://k:1\"", "go together"),
            (
                "node = \"a\"\napi_server = \"k:1\"\ntoken_file = \"/t\"\nca_file = \"/c\"",
                "https://",
            ),
            ("node = \"a\"\nnodes = 1", "nodes"),
        ] {
            let told = of(lines).unwrap_err().to_string();
            assert!(told.contains(words), "{lines}: {told}");
        }
        let told = AgentConfig::parse(&format!("{GOOD}\n[kubernetes]\nnode = \"a\"")).unwrap_err();
        assert_eq!(told.problems().len(), 2, "{told}");
    }
}
