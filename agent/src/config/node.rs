//! The section `[kubernetes]`: an agent of a node, which serves the Pods that run there.

use std::path::PathBuf;

use kube_access::{Access, InCluster};
use serde::Deserialize;

use super::settings::{NodeConfig, NodeName, is_node_name};
use crate::pods::Layout;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    node: Option<String>,
    node_env: Option<String>,
    #[serde(default = "top")]
    cgroup_root: String,
    api_server: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

fn top() -> String {
    "/".to_owned()
}

impl Kubernetes {
    pub(super) fn check(&self, problems: &mut Vec<String>) -> Option<NodeConfig> {
        let before = problems.len();
        let name = self.name().map_err(|problem| problems.push(problem)).ok();
        let layout = Layout::below(&self.cgroup_root);
        if layout.is_none() {
            problems.push(format!(
                "kubernetes.cgroup_root: {:?} is no path of a cgroup such as \"/\" or \"/kubelet\"; a dash in it is not supported",
                self.cgroup_root
            ));
        }
        let access = self.access().map_err(|problem| problems.push(problem)).ok();
        (problems.len() == before)
            .then(|| Some(NodeConfig { name: name?, access: access?, layout: layout? }))
            .flatten()
    }

    fn name(&self) -> Result<NodeName, String> {
        match (&self.node, &self.node_env) {
            (Some(node), None) if is_node_name(node) => Ok(NodeName::Given(node.clone())),
            (Some(node), None) => Err(format!("kubernetes.node: {node:?} is no name of a node")),
            (None, Some(variable)) => Ok(NodeName::Env(variable.clone())),
            (None, None) => Err(
                "kubernetes.node is missing: name the node that this agent is on, or set node_env to a variable that has it"
                    .to_owned(),
            ),
            (Some(_), Some(_)) => {
                Err("kubernetes: set only one of node and node_env".to_owned())
            }
        }
    }

    fn access(&self) -> Result<Access, String> {
        match (&self.api_server, &self.token_file, &self.ca_file) {
            (None, None, None) => Ok(Access::Pod),
            (Some(server), Some(token_file), Some(ca_file)) => {
                if !server.starts_with("https://") {
                    return Err(format!(
                        "kubernetes.api_server: {server:?} does not begin with https://"
                    ));
                }
                let (server, token_file, ca_file) =
                    (server.clone(), token_file.clone(), ca_file.clone());
                Ok(Access::InCluster(InCluster { server, token_file, ca_file }))
            }
            _ => Err(
                "kubernetes: api_server, token_file and ca_file go together; without them the agent asks as the Pod that it is"
                    .to_owned(),
            ),
        }
    }
}
