//! The controllers of a Kubernetes cluster: what deletes namespaces, collects what has no owner any more, and makes Pods of sets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::kube::{ApiServer, Token};
use crate::process::{Process, free};

/// Those that need no node. Others would take the nodes of tests, which have no kubelet that says it is alive, for dead.
const CONTROLLERS: [&str; 9] = [
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "deployment-controller",
];

/// A kube-controller-manager that runs until it is dropped.
#[derive(Debug)]
pub struct ControllerManager(Process);

impl ControllerManager {
    /// Starts one for a cluster, each controller with its own account.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(api: &ApiServer) -> anyhow::Result<Self> {
        let mut address = free()?;
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        let mut process = Process::new("kube-controller-manager", address)?;
        let kubeconfig = api.kubeconfig(api.address(), Token::Admin)?;
        // It serves health and metrics under a certificate of its own making, to nobody.
        fs::create_dir(process.path("certificates"))?;
        let own = process.path("kubeconfig");
        fs::copy(&kubeconfig, &own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o600))?;
        let key = api.accounts_key();
        let file = |option: &str, path: &std::path::Path| format!("--{option}={}", path.display());
        process.set_arguments(vec![
            file("kubeconfig", &own),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", address.port()),
            file("cert-dir", &process.path("certificates")),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            file("service-account-private-key-file", &key),
            file("root-ca-file", &api.pki().path("ca.pem")),
            format!("--controllers={}", CONTROLLERS.join(",")),
        ]);
        process.spawn()?;
        process.wait_until_it_listens()?;
        Ok(Self(process))
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.log()
    }
}
