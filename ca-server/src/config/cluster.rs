//! Sections `[cluster.NAME]`: clusters of Kubernetes whose service accounts are believed, and who asks for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use auth::authn::jwt::IssuerSettings;
use clusters::{ClusterSettings, Judged, KeySetAddress};
use kube_access::{Access, InCluster};
use plugins::ConfigProblem;
use trust::TrustDomain;

use super::reader::Section;

/// Longest name of a cluster, in bytes.
const NAME_MAX: usize = 128;

/// What a section needs to know of the rest of the file.
pub(super) struct Around<'a> {
    pub(super) domain: Option<&'a TrustDomain>,
    pub(super) skew: Option<Duration>,
    pub(super) directory: &'a Path,
}

#[derive(Clone, Copy)]
enum Review {
    Token,
    Offline,
}

/// Reads the sections. One of several may be the default; an only one is.
pub(super) fn clusters(
    table: &toml::Table,
    around: &Around<'_>,
    jwt: Option<&[IssuerSettings]>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<Vec<ClusterSettings>> {
    let mut clusters: Vec<ClusterSettings> = Vec::new();
    for (name, section) in table {
        let path = format!("cluster.{name}");
        let Some(section) = section.as_table() else {
            let problem = format!("is no table; write a table [{path}]");
            problems.push(ConfigProblem::new(path, problem));
            continue;
        };
        let mut section = Section::open(&path, section, problems);
        let read = one(name, &mut section, around);
        section.close();
        let Some(read) = read else { continue };
        let is_also_file =
            |issuer: &String| jwt.unwrap_or_default().iter().any(|other| other.issuer == *issuer);
        if let Some(issuer) = read.issuer.as_ref().filter(|issuer| is_also_file(issuer)) {
            let problem = format!(
                "{issuer:?} has a section [[jwt]] too, and which of them judges its tokens must be clear: remove one"
            );
            problems.push(ConfigProblem::new(format!("{path}.issuer"), problem));
        }
        if read.is_default
            && let Some(other) = clusters.iter().find(|other| other.is_default)
        {
            let problem =
                format!("is true for cluster {} too: only one is the default", other.name);
            problems.push(ConfigProblem::new(format!("{path}.default"), problem));
        }
        clusters.push(read);
    }
    Some(clusters)
}

fn one(name: &str, section: &mut Section<'_>, around: &Around<'_>) -> Option<ClusterSettings> {
    let is_name = (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if !is_name {
        section.problem(
            "default",
            format_args!("{name:?} is no name of a cluster: write 1 to {NAME_MAX} visible characters of ASCII, as clients send them in clusterid"),
        );
    }
    let is_default = section.optional("default", "true or false").unwrap_or(false);
    let access = access(section, around.directory);
    let reviews = [("token-review", Review::Token), ("offline", Review::Offline)];
    let review = section.choice("review", Review::Token, &reviews);
    let issuer: Option<String> = section.optional("issuer", "the exact value of the claim \"iss\"");
    if issuer.as_deref() == Some("") {
        section.problem("issuer", "is empty; write the exact value of the claim \"iss\"");
    }
    let judged = judged(section, review, around.directory);
    if matches!(review, Some(Review::Offline)) && issuer.is_none() {
        let problem = "is missing: tokens are judged offline, so write the exact value of the claim \"iss\" (`kubectl get --raw /.well-known/openid-configuration`)";
        section.problem("issuer", problem);
    }
    let audiences: Vec<String> = section
        .optional("audiences", "a list such as [\"istio-ca\"]")
        .unwrap_or_else(|| vec!["istio-ca".to_owned()]);
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        section.problem("audiences", "is empty; write at least one, such as [\"istio-ca\"]");
    }
    let node_accounts = node_accounts(section);
    let bearers_in_ledger = section.optional("bearers_in_ledger", "true or false").unwrap_or(false);
    let token_life_max = section.duration("token_life_max", "24h", ["1m", "8760h"]);
    let cache_age = section.duration("cache_age", "30s", ["0s", "5m"]);
    let key_set_age = section.duration("key_set_age", "1h", ["1m", "24h"]);
    let timeout = section.duration("timeout", "4s", ["100ms", "30s"]);
    let reviews_at_a_time = section.count("reviews_at_a_time", 32, 1..=1_024);
    Some(ClusterSettings {
        name: name.to_owned(),
        is_default,
        access: access?,
        judged: judged?,
        issuer,
        audiences,
        token_life_max: token_life_max?,
        node_accounts,
        bearers_in_ledger,
        cache_age: cache_age?,
        key_set_age: key_set_age?,
        timeout: timeout?,
        reviews_at_a_time: reviews_at_a_time?.try_into().ok()?,
        skew: around.skew?,
        trust_domain: around.domain?.clone(),
    })
}

/// A Pod's own service account, a server with a token and a CA, or a kubeconfig.
fn access(section: &mut Section<'_>, directory: &Path) -> Option<Access> {
    let server: Option<String> =
        section.optional("api_server", "such as \"https://10.0.0.1:6443\"");
    let [ca_file, token_file, kubeconfig] = ["ca_file", "token_file", "kubeconfig"].map(|key| {
        let path: Option<PathBuf> = section.optional(key, "the path of a file");
        path.map(|path| directory.join(path))
    });
    let context: Option<String> = section.optional("context", "the name of a context");
    if kubeconfig.is_none() && context.is_some() {
        section.problem("context", "is one of a kubeconfig: name the file with kubeconfig");
        return None;
    }
    match (server, ca_file, token_file, kubeconfig) {
        (None, None, None, None) => Some(Access::Pod),
        (None, None, None, Some(path)) => Some(Access::Kubeconfig { path, context }),
        (Some(server), Some(ca_file), Some(token_file), None) => {
            if !server.starts_with("https://") {
                section.problem("api_server", "is not https: write https://HOST:PORT");
                return None;
            }
            Some(Access::InCluster(InCluster { server, token_file, ca_file }))
        }
        (server, ca_file, _, None) => {
            let key = match (server, ca_file) {
                (None, _) => "api_server",
                (_, None) => "ca_file",
                _ => "token_file",
            };
            section.problem(key, "is missing: api_server, ca_file and token_file go together");
            None
        }
        (_, _, _, Some(_)) => {
            let problem = "says how the cluster is reached, and so do api_server, ca_file or token_file: leave out one or the other";
            section.problem("kubeconfig", problem);
            None
        }
    }
}

fn judged(section: &mut Section<'_>, review: Option<Review>, directory: &Path) -> Option<Judged> {
    let url: Option<String> = section.optional("jwks_url", "https://HOST/PATH of a key set");
    let ca_file: Option<PathBuf> = section.optional("jwks_ca_file", "the path of a file");
    match (review?, url, ca_file) {
        (Review::Token, None, None) => Some(Judged::ByReview),
        (Review::Offline, None, None) => Some(Judged::ByKeySet),
        (Review::Offline, Some(url), Some(ca_file)) => {
            match KeySetAddress::new(&url, &directory.join(ca_file)) {
                Ok(address) => Some(Judged::ByKeySetAt(address)),
                Err(refused) => {
                    section.problem("jwks_url", refused);
                    None
                }
            }
        }
        (Review::Offline, url, _) => {
            let key = if url.is_none() { "jwks_url" } else { "jwks_ca_file" };
            section.problem(key, "is missing: jwks_url and jwks_ca_file go together");
            None
        }
        (Review::Token, url, _) => {
            let key = if url.is_some() { "jwks_url" } else { "jwks_ca_file" };
            section
                .problem(key, "is for review = \"offline\": with token reviews no key set is read");
            None
        }
    }
}

fn node_accounts(section: &mut Section<'_>) -> Vec<String> {
    let write = "a list such as [\"system:serviceaccount:istio-system:ztunnel\"]";
    let accounts: Vec<String> = section.optional("node_accounts", write).unwrap_or_default();
    for account in &accounts {
        let parts: Vec<&str> = account.split(':').collect();
        let is_account = matches!(
            parts.as_slice(),
            ["system", "serviceaccount", namespace, name] if !namespace.is_empty() && !name.is_empty()
        );
        if !is_account {
            section.problem(
                "node_accounts",
                format_args!("{account:?} is no service account; write system:serviceaccount:NAMESPACE:ACCOUNT"),
            );
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const GOOD: &str =
        "trust_domain = \"example.org\"\ndata_dir = \"d\"\n[keys]\npassphrase_env = \"P\"\n";

    fn read(lines: &str) -> Result<Vec<ClusterSettings>, String> {
        let config = Config::parse(&format!("{GOOD}{lines}"), Path::new("/etc/banyan"));
        config.map(|config| config.clusters().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn in_a_pod_a_cluster_is_its_name_and_nothing_more() {
        let clusters = read("[cluster.Kubernetes]").unwrap();
        let [one] = clusters.as_slice() else { panic!("{clusters:?}") };
        assert_eq!((one.name.as_str(), &one.access), ("Kubernetes", &Access::Pod));
        assert_eq!(one.judged, Judged::ByReview);
        assert_eq!(one.audiences, ["istio-ca"]);
        assert!(one.node_accounts.is_empty() && !one.is_default && !one.bearers_in_ledger);
        assert_eq!((one.cache_age.as_secs(), one.timeout.as_secs()), (30, 4));
        assert_eq!(read("").unwrap().len(), 0);
    }

    #[test]
    fn a_cluster_elsewhere_is_a_server_a_ca_and_a_token_or_a_kubeconfig() {
        let files = "api_server = \"https://k:6443\"\nca_file = \"ca.pem\"\ntoken_file = \"/t\"";
        let clusters = read(&format!(
            "[cluster.a]\n{files}\ndefault = true\n[cluster.b]\nkubeconfig = \"kube\"\ncontext = \"c\"\nreview = \"offline\"\nissuer = \"i\"\n\
             jwks_url = \"https://i.example/k\"\njwks_ca_file = \"i.pem\""
        ))
        .unwrap();
        let Access::InCluster(reached) = &clusters[0].access else { panic!("{clusters:?}") };
        assert_eq!(reached.ca_file, Path::new("/etc/banyan/ca.pem"));
        assert!(
            matches!(&clusters[1].judged, Judged::ByKeySetAt(address) if address.ca_file() == Path::new("/etc/banyan/i.pem"))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let away = "api_server = \"http://k\"\nca_file = \"c\"\ntoken_file = \"t\"";
        let jwt = "[[jwt]]\nissuer = \"i\"\njwks_file = \"k\"\nidentity = \"kubernetes\"\n[cluster.a]\nissuer = \"i\"";
        for (lines, key) in [
            ("[cluster.a]\napi_server = \"https://k\"", "cluster.a.ca_file"),
            ("[cluster.a]\nca_file = \"c\"", "cluster.a.api_server"),
            (&format!("[cluster.a]\n{away}"), "cluster.a.api_server"),
            ("[cluster.a]\ncontext = \"c\"", "cluster.a.context"),
            ("[cluster.a]\nkubeconfig = \"k\"\nca_file = \"c\"", "cluster.a.kubeconfig"),
            ("[cluster.a]\nreview = \"offline\"", "cluster.a.issuer"),
            ("[cluster.a]\nreview = \"maybe\"", "cluster.a.review"),
            ("[cluster.a]\njwks_url = \"https://i/k\"", "cluster.a.jwks_url"),
            (
                "[cluster.a]\nreview = \"offline\"\nissuer = \"i\"\njwks_url = \"http://i/k\"\njwks_ca_file = \"c\"",
                "cluster.a.jwks_url",
            ),
            (
                "[cluster.a]\nreview = \"offline\"\nissuer = \"i\"\njwks_url = \"https://i/k\"",
                "cluster.a.jwks_ca_file",
            ),
            ("[cluster.a]\nnode_accounts = [\"ztunnel\"]", "cluster.a.node_accounts"),
            ("[cluster.a]\naudiences = []", "cluster.a.audiences"),
            ("[cluster.a]\ncache_age = \"10m\"", "cluster.a.cache_age"),
            ("[cluster.a]\ncolour = 1", "cluster.a.colour"),
            ("[cluster.\"a b\"]", "cluster.a b.default"),
            ("[cluster]\na = 1", "cluster.a"),
            ("[cluster.a]\ndefault = true\n[cluster.b]\ndefault = true", "cluster.b.default"),
            (jwt, "cluster.a.issuer"),
        ] {
            let said = read(lines).unwrap_err();
            assert!(said.contains(&format!("`{key}`")), "{lines}: {said}");
        }
    }
}
