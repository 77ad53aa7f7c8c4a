//! The settings of the plugin.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_access::Access;
use plugins::{ConfigProblem, ConfigTable};

/// How often it is looked who signs, unless it is set; and the bounds of that.
const LOOK_EVERY: &str = "1h";
const LOOK_EVERY_LEAST: Duration = Duration::from_secs(10);
const LOOK_EVERY_MOST: Duration = Duration::from_secs(86_400);

/// Where requests are made, of which issuer, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `kubeconfig`, `context`: how the cluster is reached. Default: as a Pod, by its service account.
    pub(crate) access: Access,
    /// `namespace`: of the requests, and of an `Issuer`. Required.
    pub(crate) namespace: String,
    /// `issuer`: its name. Required.
    pub(crate) issuer: String,
    /// `issuer_kind`. Default `Issuer`.
    pub(crate) issuer_kind: String,
    /// `issuer_group`. Default `cert-manager.io`.
    pub(crate) issuer_group: String,
    /// `roots_file`: the only roots that count, in PEM. Default: what the issuer answers with.
    pub(crate) roots_file: Option<PathBuf>,
    /// `look_every`: how often a short certificate is asked for, to see under which root the issuer signs. Default 1 h.
    pub(crate) look_every: Duration,
    /// `exclusive`: whether nobody else issues under these roots. Default false.
    pub(crate) exclusive: bool,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let kubeconfig: Option<PathBuf> = fields.optional("kubeconfig");
        let context: Option<String> = fields.optional("context");
        let namespace: Option<String> = fields.required("namespace");
        let issuer: Option<String> = fields.required("issuer");
        let issuer_kind = fields.optional("issuer_kind").unwrap_or_else(|| "Issuer".to_owned());
        let issuer_group: Option<String> = fields.optional("issuer_group");
        let issuer_group = issuer_group.unwrap_or_else(|| "cert-manager.io".to_owned());
        let roots_file: Option<PathBuf> = fields.optional("roots_file");
        let look_every: Option<String> = fields.optional("look_every");
        let exclusive = fields.optional("exclusive").unwrap_or(false);

        let access = match (kubeconfig, context) {
            (Some(path), context) => Access::Kubeconfig { path: base.join(path), context },
            (None, None) => Access::Pod,
            (None, Some(_)) => {
                fields.problem("context", "says nothing without `kubeconfig`: leave it out");
                Access::Pod
            }
        };
        let names = [("namespace", namespace.as_deref()), ("issuer", issuer.as_deref())];
        for (field, name) in names.into_iter().chain([("issuer_group", Some(&*issuer_group))]) {
            if name.is_some_and(|name| !is_name(name)) {
                fields.problem(
                    field,
                    "is no name in Kubernetes: write a-z, 0-9, - and ., with a letter or digit at both ends",
                );
            }
        }
        if issuer_kind.is_empty() || !issuer_kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            fields.problem("issuer_kind", "is no kind: write one such as \"ClusterIssuer\"");
        }
        let look_every = look_every.as_deref().unwrap_or(LOOK_EVERY);
        let look_every = humantime::parse_duration(look_every).unwrap_or_default();
        if !(LOOK_EVERY_LEAST..=LOOK_EVERY_MOST).contains(&look_every) {
            fields.problem(
                "look_every",
                "is no time from \"10s\" to \"1d\": write one such as \"1h\"",
            );
        }
        let value = namespace.zip(issuer).map(|(namespace, issuer)| Self {
            access,
            namespace,
            issuer,
            issuer_kind,
            issuer_group,
            roots_file: roots_file.map(|file| base.join(file)),
            look_every,
            exclusive,
        });
        fields.finish(value)
    }

    /// The issuer, for messages.
    pub(crate) fn issuer(&self) -> String {
        format!("{} {}", self.issuer_kind, self.issuer)
    }
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.iter().copied().all(inner)
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.len() < 254
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<ConfigProblem>> {
        Settings::read(&text.parse().expect("toml"), Path::new("/etc/banyan"))
    }

    #[test]
    fn a_namespace_and_an_issuer_are_enough() {
        let settings = read("namespace = 'ca'\nissuer = 'root'").expect("reads");
        assert_eq!(settings.access, Access::Pod);
        assert_eq!(settings.issuer(), "Issuer root");
        assert_eq!(settings.issuer_group, "cert-manager.io");
        assert_eq!((settings.look_every, settings.exclusive), (Duration::from_secs(3_600), false));
        let text = "namespace = 'ca'\nissuer = 'root'\nroots_file = 'roots.pem'\nkubeconfig = 'k'";
        let settings = read(text).expect("reads");
        assert_eq!(settings.roots_file.as_deref(), Some(Path::new("/etc/banyan/roots.pem")));
        let path = PathBuf::from("/etc/banyan/k");
        assert_eq!(settings.access, Access::Kubeconfig { path, context: None });
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = "namespace = 'A'\ncontext = 'c'\nissuer_kind = 'a b'\nlook_every = '1s'\nexclusive = 3\nttl = 1";
        let problems = read(text).expect_err("problems");
        let mut fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        fields.sort_unstable();
        let all =
            ["context", "exclusive", "issuer", "issuer_kind", "look_every", "namespace", "ttl"];
        assert_eq!(fields, all);
    }
}
