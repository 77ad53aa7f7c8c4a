//! How the cluster is reached, and as whom.

use std::path::PathBuf;

use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Where each Pod has its service account's token, and the CA of its cluster.
pub const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const POD_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// How the cluster is reached. Files are read anew for each connection, and when they are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a Pod, by its service account: where the cluster is say variables of the environment.
    Pod,
    /// By the token of a service account.
    InCluster(InCluster),
    /// As a kubeconfig says.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// A context of it, if not the current one.
        context: Option<String>,
    },
}

/// What a Pod knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// `https://HOST:PORT` of the API.
    pub server: String,
    /// The token of the service account. It is replaced long before it ends, and read again every minute.
    pub token_file: PathBuf,
    /// Certificates of the CAs that the server's certificate comes from; read again every minute.
    pub ca_file: PathBuf,
}

impl InCluster {
    /// What the environment says, by its variables.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |name: &str| {
            let found = variable(name).filter(|value| !value.is_empty());
            found.ok_or_else(|| {
                format!(
                    "{name} is not set, so this is no Pod: set kubeconfig to a file that says how to reach the cluster, or run in a Pod with a service account"
                )
            })
        };
        let (host, port) = (set(HOST)?, set(PORT)?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let server = format!("https://{host}:{port}");
        Ok(Self { server, token_file: POD_TOKEN.into(), ca_file: POD_CA.into() })
    }

    fn config(&self) -> Result<Config, String> {
        let server = self.server.parse().map_err(|_| {
            format!(
                "{:?} is no address of the API of Kubernetes: see {HOST} and {PORT}",
                self.server
            )
        })?;
        let token = std::fs::read_to_string(&self.token_file)
            .map_err(|error| format!("{}: {error}", self.token_file.display()))?;
        if token.trim().is_empty() {
            return Err(format!("{} is empty: it must hold a token", self.token_file.display()));
        }
        let ca = std::fs::read_to_string(&self.ca_file)
            .map_err(|error| format!("{}: {error}", self.ca_file.display()))?;
        if !ca.contains("BEGIN CERTIFICATE") {
            return Err(format!("{} holds no certificate", self.ca_file.display()));
        }
        let mut config = Config::new(server);
        config.root_cert_file = Some(self.ca_file.clone());
        // What is verified with while there is the file above; without any, the system's roots would be asked for.
        config.root_cert = Some(Vec::new());
        let token_file = Some(self.token_file.display().to_string());
        config.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
        Ok(config)
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub async fn config(&self) -> Result<Config, String> {
        match self {
            Self::Pod => InCluster::of(|name| std::env::var(name).ok())?.config(),
            Self::InCluster(cluster) => cluster.config(),
            Self::Kubeconfig { path, context } => {
                // Its errors tell the file that they are about, and not the one that names it.
                let named = |error: KubeconfigError| format!("{}: {error}", path.display());
                let file = Kubeconfig::read_from(path).map_err(named)?;
                let options = KubeConfigOptions { context: context.clone(), ..Default::default() };
                let config = Config::from_custom_kubeconfig(file, &options).await;
                let config = config.map_err(named)?;
                checked(config).map_err(|wrong| format!("{}: {wrong}", path.display()))
            }
        }
    }
}

/// That what goes there is read by nobody else, and that it is the cluster which answers.
fn checked(config: Config) -> Result<Config, String> {
    if config.accept_invalid_certs {
        return Err(
            "it has insecure-skip-tls-verify: keys and roots would be believed of whoever answers; name the server's CA with certificate-authority"
                .to_owned(),
        );
    }
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if config.cluster_url.scheme_str() != Some("https") && !here {
        return Err(format!(
            "{} would be reached without TLS over a network: write https://",
            config.cluster_url
        ));
    }
    if let Some(proxy) = &config.proxy_url {
        return Err(format!("it goes through the proxy {proxy}, which is not supported"));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: &str) -> (tempfile::TempDir, Access) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = format!(
            r#"{{"current-context":"c","contexts":[{{"name":"c","context":{{"cluster":"k","user":"u"}}}}],
            "clusters":[{{"name":"k","cluster":{cluster}}}],"users":[{{"name":"u","user":{{"token":"t"}}}}]}}"#
        );
        std::fs::write(&path, text).unwrap();
        (folder, Access::Kubeconfig { path, context: None })
    }

    #[tokio::test]
    async fn a_kubeconfig_that_gives_up_safety_is_refused_with_its_name() {
        for (cluster, wrong) in [
            (
                r#"{"server":"https://k:1","insecure-skip-tls-verify":true}"#,
                "insecure-skip-tls-verify",
            ),
            (r#"{"server":"http://10.0.0.1:8080"}"#, "without TLS"),
            (r#"{"server":"https://k:1","proxy-url":"http://proxy:3128"}"#, "proxy"),
            (r#"{"server":"https://k:1","certificate-authority":"/none.pem"}"#, "/none.pem"),
        ] {
            let (folder, access) = kubeconfig(cluster);
            let error = access.config().await.unwrap_err();
            let path = folder.path().join("config").display().to_string();
            assert!(error.contains(wrong) && error.contains(&path), "{error}");
        }
        let (_folder, access) = kubeconfig(r#"{"server":"http://127.0.0.1:8001"}"#);
        assert!(access.config().await.is_ok());
        let access = Access::Kubeconfig { path: "/none/config".into(), context: None };
        assert!(access.config().await.unwrap_err().contains("/none/config"));
    }

    #[test]
    fn a_pod_finds_its_cluster_and_what_is_no_pod_is_told_so() {
        let pod = |host: &'static str| {
            InCluster::of(move |name| {
                Some(if name == HOST { host.to_owned() } else { "443".to_owned() })
            })
        };
        assert_eq!(pod("10.0.0.1").unwrap().server, "https://10.0.0.1:443");
        assert_eq!(pod("fd00::1").unwrap().server, "https://[fd00::1]:443");
        assert_eq!(pod("10.0.0.1").unwrap().token_file, PathBuf::from(POD_TOKEN));
        let none = InCluster::of(|_| None).unwrap_err();
        assert!(none.contains(HOST) && none.contains("set kubeconfig"), "{none}");
    }
}
