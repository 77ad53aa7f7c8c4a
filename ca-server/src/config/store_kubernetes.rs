//! Section `[store]` with `engine = "kubernetes"`: which cluster, and where in it.

use std::path::{Path, PathBuf};

use stores_kubernetes::{Access, InvalidSettings, Settings};
use trust::TrustDomain;

use super::reader::Section;

/// Objects in a namespace of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    settings: Settings,
    place: String,
    kubeconfig: Option<PathBuf>,
}

impl KubernetesConfig {
    /// What the engine must be told.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How people call it: namespace and instance.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The file that says how to reach the cluster. It may hold a token or a key: only this user may read it.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }
}

pub(super) fn kubernetes(
    section: &mut Section<'_>,
    domain: Option<&TrustDomain>,
    directory: &Path,
) -> Option<KubernetesConfig> {
    let namespace: Option<String> =
        section.required("namespace", "the name of a namespace, such as \"banyan\"");
    let instance: Option<String> =
        section.optional("instance", "a name within the namespace, such as \"example.org\"");
    let kubeconfig: Option<PathBuf> = section.optional("kubeconfig", "the path of a file");
    let kubeconfig = kubeconfig.map(|path| directory.join(path));
    let context: Option<String> = section.optional("context", "the name of a context");
    let access = match (&kubeconfig, context) {
        (Some(path), context) => Access::Kubeconfig { path: path.clone(), context },
        (None, Some(_)) => {
            section.problem("context", "is one of a kubeconfig: name the file with kubeconfig");
            return None;
        }
        (None, None) => Access::Pod,
    };
    let namespace = namespace?;
    let instance = instance.map_or_else(|| domain.map(ToString::to_string), Some)?;
    let settings = match Settings::new(access, &namespace, &instance) {
        Ok(settings) => settings,
        Err(error) => {
            section.problem(key_of(&error), error);
            return None;
        }
    };
    let place = format!("Kubernetes, namespace {namespace}, instance {instance}");
    Some(KubernetesConfig { settings, place, kubeconfig })
}

const fn key_of(error: &InvalidSettings) -> &'static str {
    match error {
        InvalidSettings::Namespace(_) => "namespace",
        InvalidSettings::Instance(_) => "instance",
    }
}

#[cfg(test)]
mod tests {
    use plugins::ConfigProblem;

    use super::super::store::{StoreConfig, store};
    use super::*;

    fn read(lines: &str) -> Result<KubernetesConfig, Vec<String>> {
        let table: toml::Table = format!("engine = \"kubernetes\"\n{lines}").parse().unwrap();
        let (domain, mut problems) = (TrustDomain::parse("example.org").unwrap(), Vec::new());
        let read = store(&table, Some(&domain), Path::new("/etc/banyan"), &mut problems);
        let said: Vec<String> = problems.iter().map(ConfigProblem::to_string).collect();
        match read {
            Some(StoreConfig::Kubernetes(config)) if said.is_empty() => Ok(*config),
            _ => Err(said),
        }
    }

    #[test]
    fn a_cluster_is_a_namespace_and_in_a_pod_nothing_more() {
        let config = read("namespace = \"banyan\"").unwrap();
        assert_eq!(config.place(), "Kubernetes, namespace banyan, instance example.org");
        assert_eq!(config.kubeconfig(), None);
        let lines = "namespace = \"n\"\ninstance = \"i\"\nkubeconfig = \"kube\"\ncontext = \"c\"";
        let config = read(lines).unwrap();
        assert_eq!(config.place(), "Kubernetes, namespace n, instance i");
        assert_eq!(config.kubeconfig(), Some(Path::new("/etc/banyan/kube")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        for (lines, key) in [
            ("", "store.namespace"),
            ("namespace = \"N\"", "store.namespace"),
            ("namespace = \"n\"\ninstance = \"a/b\"", "store.instance"),
            ("namespace = \"n\"\ncontext = \"c\"", "store.context"),
            ("namespace = \"n\"\nendpoints = []", "store.endpoints"),
        ] {
            let said = read(lines).unwrap_err();
            assert!(said.iter().any(|said| said.contains(key)), "{lines}: {said:?}");
        }
    }
}
