use auth::authz::NameMismatch;

use super::*;

const GOOD: &str = r#"
trust_domain = "example.org"
data_dir = "data"
[keys]
passphrase_env = "BANYAN_PASSPHRASE"
"#;

fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, Path::new("/etc/banyan")) {
        Err(ConfigError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn a_short_file_gets_documented_defaults() {
    let config = Config::parse(GOOD, Path::new("/etc/banyan")).unwrap();
    assert_eq!(config.data_dir(), Path::new("/etc/banyan/data"));
    assert_eq!(config.replica(), "ca-1");
    assert_eq!(config.listen().grpc().to_string(), "127.0.0.1:15012");
    assert_eq!(config.listen().admin_socket(), Path::new("/etc/banyan/data/admin.sock"));
    assert!(!config.listen().reflection());
    assert_eq!(config.leaf().ttl_default().as_secs(), 86_400);
    assert_eq!(config.leaf().above_max(), AboveMax::Cap);
    assert_eq!(config.leaf().name_mismatch(), NameMismatch::Refuse);
    assert_eq!(config.root().authorities()["main"].plugin(), "self-signed");
    assert_eq!(config.limits().transport().handshake_timeout.as_secs(), 5);
}

#[test]
fn every_problem_is_told_at_once_with_its_key_and_what_to_write() {
    let said = problems(
        r#"
trust_domain = "Example.org"
replcia = "x"
[listen]
grpc = "15012"
[leaf]
ttl_max = "24"
skew = "5m"
above_max = "shrink"
[limits]
connections = 0
[root]
authority = "vault"
[[jwt]]
issuer = "https://issuer.example"
identity = "spiffe://example.org/banyan/ca/{sub}"
[admin]
identities = ["example.org"]
"#,
    );
    for field in [
        "trust_domain",
        "data_dir",
        "replcia",
        "listen.grpc",
        "leaf.ttl_max",
        "leaf.backdate",
        "leaf.above_max",
        "limits.connections",
        "root.authority",
        "keys.passphrase_file",
        "jwt[0].jwks_file",
        "jwt[0].identity",
        "admin.identities",
    ] {
        let found = said.iter().find(|line| line.starts_with(&format!("`{field}`")));
        assert!(found.is_some(), "{field} is not among {said:#?}");
    }
    let wrong_type: Vec<_> = said.iter().filter(|line| line.contains("write")).collect();
    assert!(wrong_type.len() >= 10, "{said:#?}");
}

#[test]
fn file_keys_without_a_passphrase_say_how_to_give_one() {
    let said = problems("trust_domain = \"example.org\"\ndata_dir = \"d\"");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("passphrase_env"), "{said:#?}");
}

#[test]
fn keys_in_memory_need_the_dangerous_switch() {
    let file = |extra: &str| {
        format!(
            "trust_domain = \"example.org\"\ndata_dir = \"d\"\n[keys]\nbackend = \"memory\"\n{extra}"
        )
    };
    assert!(problems(&file(""))[0].contains("dangerously_keep_keys_in_memory"));
    let config =
        Config::parse(&file("dangerously_keep_keys_in_memory = true"), Path::new("")).unwrap();
    assert!(matches!(config.keys(), KeysConfig::Memory));
}

#[test]
fn a_duration_is_told_as_it_was_written() {
    let said = problems(&format!("{GOOD}[leaf]\nttl_max = \"100d\""));
    assert!(
        said[0].contains(": 100d is out of bounds; write a duration from \"10s\" to \"90d\""),
        "{said:?}"
    );
}

#[test]
fn lifetimes_that_do_not_fit_each_other_are_refused() {
    let leaf = |lines: &str| problems(&format!("{GOOD}[leaf]\n{lines}"));
    assert!(leaf("ttl_max = \"1h\"\nttl_default = \"2h\"")[0].contains("ttl_min and ttl_max"));
    assert!(leaf("ttl_min = \"2m\"")[0].contains("twice leaf.backdate"));
    let root = problems(&format!("{GOOD}[root]\nissuer_lifetime = \"48h\""));
    assert!(root[0].contains("four times leaf.ttl_max; write at least 4d"), "{root:#?}");
    let root = problems(&format!("{GOOD}[root]\nlifetime = \"30d\"\nissuer_lifetime = \"20d\""));
    assert!(root[0].contains("half of root.lifetime; write at most 15d"), "{root:#?}");
}

#[test]
fn identity_templates_take_a_claim_as_a_whole_segment() {
    let jwt = |identity: &str| {
        format!("{GOOD}[[jwt]]\nissuer = \"i\"\njwks_file = \"k\"\nidentity = \"{identity}\"")
    };
    for good in
        ["kubernetes", "spiffe://example.org/user/{sub}", "spiffe://example.org/{team}/{sub}/x"]
    {
        Config::parse(&jwt(good), Path::new("")).unwrap();
    }
    for bad in [
        "spiffe://example.org/user/u-{sub}",
        "spiffe://example.org/user/{sub",
        "spiffe://example.org/user/{}",
        "spiffe://example.org/user",
        "spiffe://other.org/{sub}",
        "spiffe://example.org/banyan/{sub}",
    ] {
        assert_eq!(problems(&jwt(bad)).len(), 1, "{bad}");
    }
}

#[test]
fn no_agent_is_forgotten_while_it_may_come_back() {
    let parsed =
        |text: &str| Config::parse(&format!("{GOOD}{text}"), Path::new("/etc/banyan")).unwrap();
    let day = 86_400;
    assert_eq!(parsed("").agents().limits().forget_after.as_secs(), 31 * day);
    let shorter = parsed(
        "[rotation]\nreturn_within = \"1h\"\n[leaf]\nttl_max = \"2h\"\nttl_default = \"1h\"\n",
    );
    assert_eq!(shorter.agents().limits().forget_after.as_secs(), 3 * 3_600);
    let said = problems(&format!("{GOOD}[agents]\nforget_after = \"30d\"\nmax = 5\n"));
    assert!(said[1].contains("agents.forget_after") && said[1].contains("\"31d\""), "{said:?}");
    assert!(said[0].contains("agents.max") && said[0].contains("10 to 1000000"), "{said:?}");
}

#[test]
fn a_replica_has_a_name_in_either_form_and_a_lease_within_bounds() {
    let of = |replica: &str| {
        let text = GOOD.replace("[keys]", &format!("{replica}\n[keys]"));
        Config::parse(&text, Path::new("/etc/banyan"))
    };
    let section =
        "[replica]\nname = \"ca-2\"\naddress = \"ca-2.example.org:15012\"\nlease = \"9s\"";
    let config = of(section).unwrap();
    assert_eq!(config.replica(), "ca-2");
    assert_eq!(config.replica_section().address(), Some("ca-2.example.org:15012"));
    assert_eq!(config.replica_section().lease().as_secs(), 9);
    assert_eq!(of("replica = \"ca-3\"").unwrap().replica(), "ca-3");
    // A variable that cargo sets for every test.
    let shared =
        of("[replica]\nname_env = \"CARGO_PKG_NAME\"\naddress = \"{name}.banyan:15012\"").unwrap();
    assert_eq!(shared.replica(), "ca-server");
    assert_eq!(shared.replica_section().address(), Some("ca-server.banyan:15012"));
    for (wrong, key) in [
        ("replica = 3", "replica"),
        ("replica = \"a/b\"", "replica.name"),
        ("[replica]\naddress = \"ca-2\"", "replica.address"),
        ("[replica]\nlease = \"1s\"", "replica.lease"),
        (
            "[replica]\nname = \"a\"\nname_env = \"CARGO_PKG_NAME\"",
            "`replica.name_env`: stands beside",
        ),
        ("[replica]\nname_env = \"BANYAN_NO_SUCH_VARIABLE\"", "BANYAN_NO_SUCH_VARIABLE holds \"\""),
    ] {
        let said = of(wrong).unwrap_err().to_string();
        assert!(said.contains(key), "{wrong}: {said}");
    }
}
