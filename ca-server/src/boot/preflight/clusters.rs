//! The files that clusters are reached with.

use std::path::Path;

use clusters::{ClusterSettings, Judged};
use kube_access::{Access, POD_TOKEN};

use super::Found;
use crate::config::Config;

impl Found {
    /// Looks at the files of every cluster.
    pub(super) fn clusters(&mut self, config: &Config) {
        config.clusters().iter().for_each(|cluster| self.cluster(cluster));
    }

    fn cluster(&mut self, cluster: &ClusterSettings) {
        let key = |key: &str| format!("cluster.{}.{key}", cluster.name);
        match &cluster.access {
            Access::Pod => {
                if !Path::new(POD_TOKEN).exists() {
                    let problem = format!(
                        "is not set, and this is no Pod with a service account: {POD_TOKEN} is missing"
                    );
                    self.tell(&key("api_server"), problem);
                }
            }
            Access::InCluster(files) => {
                self.file(&key("token_file"), &files.token_file);
                self.file(&key("ca_file"), &files.ca_file);
            }
            Access::Kubeconfig { path, .. } => {
                self.secret(&key("kubeconfig"), path);
            }
        }
        if let Judged::ByKeySetAt(address) = &cluster.judged {
            self.file(&key("jwks_ca_file"), address.ca_file());
        }
    }
}
