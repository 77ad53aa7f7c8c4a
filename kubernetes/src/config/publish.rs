//! Sections `[publish.NAME]`: channels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use trust::{Cover, Root};

use super::also;
use super::problems::{Problems, is_signer_name, is_subdomain};

/// Name of the objects of a namespace unless it is set.
const OBJECT: &str = "banyan-trust-bundle";
/// Key of the bundle in them unless it is set: where the Gateway API looks.
const KEY: &str = "ca.crt";
/// Istio's name, key and label.
const ISTIO: [&str; 4] = ["istio-ca-root-cert", "root-cert.pem", "istio.io/config", "true"];
/// Most namespaces that are named one by one, each of which is watched by itself.
const NAMESPACES_MAX: usize = 32;
/// Identities that one channel covers at most, as the CA takes them.
const COVERS_MAX: usize = 256;
/// How long readers of a ConfigMap or Secret may be late unless it is set: a kubelet's sync, and some time to spare.
const STALENESS: &str = "2m";
/// The same for a ClusterTrustBundle, and the least there: a kubelet may hold what it read for 5 minutes, and then a sync.
const STALENESS_BUNDLE: &str = "6m";
const STALENESS_MAX: &str = "7d";

/// A place where the bundle is published, which is a relying party of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Its name; as a relying party it is `kubernetes/NAME`.
    pub name: String,
    /// What is written.
    pub kind: ChannelKind,
    /// Labels of each object.
    pub labels: BTreeMap<String, String>,
    /// How long readers may hold what was there before.
    pub staleness: Duration,
    /// Identities whose holders take their trust from it.
    pub covers: Vec<Cover>,
    /// Controllers of the Gateway API whose readers of it take every certificate; `None` if its readers are not looked at.
    pub gateways: Option<BTreeSet<String>>,
}

/// What a channel writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// One ConfigMap or Secret in each of some namespaces.
    PerNamespace {
        /// Which of the two.
        object: ObjectKind,
        /// Its name.
        name: String,
        /// Keys of the bundle in it.
        keys: BTreeSet<String>,
        /// Which namespaces.
        namespaces: Namespaces,
        /// CAs whose certificates stand behind the bundle.
        also: Vec<Root>,
    },
    /// The CA that the API server believes the webhook of `[inject]` by, in its MutatingWebhookConfiguration.
    Webhook {
        /// Its name.
        name: String,
        /// Path of the identity that the webhook serves with.
        holder: String,
    },
    /// One ClusterTrustBundle for each root.
    ClusterTrustBundle {
        /// Name of the signer.
        signer: String,
        /// Beginning of the names, after that of the signer.
        prefix: String,
    },
}

/// An object with keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// Some namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// Those with labels, as a selector of Kubernetes; all without one.
    Selected(Option<String>),
    /// These.
    Named(BTreeSet<String>),
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum RawChannel {
    ConfigMap(RawObjects),
    Secret(RawObjects),
    ClusterTrustBundle(RawBundles),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawObjects {
    name: Option<String>,
    keys: Option<BTreeSet<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    istio: bool,
    namespace_selector: Option<String>,
    namespaces: Option<BTreeSet<String>>,
    also: Option<String>,
    staleness: Option<String>,
    #[serde(default)]
    covers: Vec<String>,
    #[serde(default)]
    gateway_api: bool,
    gateway_controllers: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBundles {
    signer: String,
    #[serde(default = "prefix")]
    prefix: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    staleness: Option<String>,
    #[serde(default)]
    covers: Vec<String>,
}

fn prefix() -> String {
    "banyan-".to_owned()
}

/// Every channel; two of them never write the same objects.
pub(super) fn channels(
    raw: BTreeMap<String, RawChannel>,
    problems: &mut Problems,
) -> Vec<ChannelConfig> {
    let mut channels: Vec<ChannelConfig> = Vec::new();
    for (name, raw) in raw {
        let at = format!("publish.{name}");
        if name.is_empty() || name.len() > 63 || name.contains('.') || !is_subdomain(&name) {
            problems.add(&at, "the name of a channel has 1 to 63 of a-z, 0-9 and -");
        }
        let checked = match raw {
            RawChannel::ConfigMap(raw) => raw.checked(&name, ObjectKind::ConfigMap, problems),
            RawChannel::Secret(raw) => raw.checked(&name, ObjectKind::Secret, problems),
            RawChannel::ClusterTrustBundle(raw) => raw.checked(&name, problems),
        };
        let Some(channel) = checked else { continue };
        if let Some(other) = channels.iter().find(|other| other.kind.meets(&channel.kind)) {
            problems.add(
                &at,
                format_args!(
                    "writes the same objects as publish.{}: give them another name or prefix",
                    other.name
                ),
            );
        }
        channels.push(channel);
    }
    channels
}

impl ChannelKind {
    /// Whether both would write objects of the same names.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::PerNamespace { object, name, .. },
                Self::PerNamespace { object: other, name: named, .. },
            ) => object == other && name == named,
            (
                Self::ClusterTrustBundle { signer, prefix },
                Self::ClusterTrustBundle { signer: other, prefix: begins },
            ) => {
                signer == other
                    && (prefix.starts_with(begins.as_str()) || begins.starts_with(prefix.as_str()))
            }
            _ => false,
        }
    }
}

impl RawObjects {
    fn checked(
        self,
        channel: &str,
        object: ObjectKind,
        problems: &mut Problems,
    ) -> Option<ChannelConfig> {
        let at = |key: &str| format!("publish.{channel}.{key}");
        let [name, key, label, value] = ISTIO;
        let mut labels = self.labels;
        let name = if self.istio {
            if object != ObjectKind::ConfigMap || self.name.is_some() || self.keys.is_some() {
                problems.add(
                    &at("istio"),
                    "sets name and key of a ConfigMap: leave name and keys out, or leave istio out",
                );
            }
            labels.insert(label.to_owned(), value.to_owned());
            name.to_owned()
        } else {
            self.name.unwrap_or_else(|| OBJECT.to_owned())
        };
        problems.name(&at("name"), &name);
        let standard = || BTreeSet::from([if self.istio { key } else { KEY }.to_owned()]);
        let keys = self.keys.unwrap_or_else(standard);
        if keys.is_empty() {
            problems.add(
                &at("keys"),
                format_args!("is empty: write the keys of the bundle, such as [{KEY:?}]"),
            );
        }
        for key in keys.iter().filter(|key| !is_key(key)) {
            problems.add(
                &at("keys"),
                format_args!("{key:?} is no key: write 1 to 253 of letters, digits, -, _ and ."),
            );
        }
        let namespaces = match (self.namespaces, self.namespace_selector) {
            (Some(_), Some(_)) => {
                problems.add(
                    &at("namespaces"),
                    "is not taken together with namespace_selector: write one of the two",
                );
                return None;
            }
            (Some(named), None) => {
                named.iter().for_each(|name| problems.name(&at("namespaces"), name));
                if named.is_empty() || named.len() > NAMESPACES_MAX {
                    problems.add(&at("namespaces"), format_args!("names {} namespaces: write 1 to {NAMESPACES_MAX}, or a namespace_selector", named.len()));
                }
                Namespaces::Named(named)
            }
            (None, selector) if object == ObjectKind::ConfigMap => Namespaces::Selected(selector),
            (None, _) => {
                problems.add(&at("namespaces"), "is missing: a Secret is written in the namespaces that are named, so that no right to the Secrets of all is needed");
                return None;
            }
        };
        labelled(&at("labels"), &labels, problems);
        let staleness = self.staleness.as_deref().unwrap_or(STALENESS);
        let staleness = problems.duration(&at("staleness"), staleness, ["1s", STALENESS_MAX])?;
        let covers = covers(&at("covers"), &self.covers, problems);
        let gateways = match (self.gateway_api, self.gateway_controllers) {
            (true, controllers) => Some(controllers.unwrap_or_default()),
            (false, None) => None,
            (false, Some(_)) => {
                let text = "is of use with gateway_api = true alone: set that too";
                problems.add(&at("gateway_controllers"), text);
                None
            }
        };
        if gateways.is_some() && object != ObjectKind::ConfigMap {
            let text = "is of a config-map alone, which is what the Gateway API reads";
            problems.add(&at("gateway_api"), text);
        }
        let also = self.also.map(|text| also::read(&at("also"), &text, problems));
        let also = also.unwrap_or_default();
        let kind = ChannelKind::PerNamespace { object, name, keys, namespaces, also };
        let name = channel.to_owned();
        Some(ChannelConfig { name, kind, labels, staleness, covers, gateways })
    }
}

impl RawBundles {
    fn checked(self, channel: &str, problems: &mut Problems) -> Option<ChannelConfig> {
        let at = |key: &str| format!("publish.{channel}.{key}");
        if !is_signer_name(&self.signer) {
            problems.add(
                &at("signer"),
                format_args!(
                    "{:?} is no name of a signer: write one such as \"example.org/mesh\"",
                    self.signer
                ),
            );
        }
        if !is_subdomain(&format!("{}0", self.prefix)) || self.prefix.len() > 63 {
            problems.add(
                &at("prefix"),
                format_args!(
                    "{:?} is no beginning of a name: write up to 63 of a-z, 0-9, - and .",
                    self.prefix
                ),
            );
        }
        labelled(&at("labels"), &self.labels, problems);
        let staleness = self.staleness.as_deref().unwrap_or(STALENESS_BUNDLE);
        let bounds = [STALENESS_BUNDLE, STALENESS_MAX];
        let staleness = problems.duration(&at("staleness"), staleness, bounds)?;
        let covers = covers(&at("covers"), &self.covers, problems);
        let (name, labels) = (channel.to_owned(), self.labels);
        let kind = ChannelKind::ClusterTrustBundle { signer: self.signer, prefix: self.prefix };
        Some(ChannelConfig { name, kind, labels, staleness, covers, gateways: None })
    }
}

fn is_key(key: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !key.is_empty()
        && key.len() <= 253
        && key != "."
        && !key.starts_with("..")
        && key.bytes().all(fits)
}

fn labelled(key: &str, labels: &BTreeMap<String, String>, problems: &mut Problems) {
    let word = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        text.len() <= 63
            && text.bytes().all(inner)
            && ends(text.as_bytes().first())
            && ends(text.as_bytes().last())
    };
    for (label, value) in labels {
        let name = match label.split_once('/') {
            Some((domain, name)) => is_subdomain(domain) && word(name),
            None => word(label),
        };
        if !name || !(value.is_empty() || word(value)) {
            problems.add(key, format_args!("{label:?} = {value:?} is no label of Kubernetes"));
        }
    }
}

fn covers(key: &str, texts: &[String], problems: &mut Problems) -> Vec<Cover> {
    if texts.len() > COVERS_MAX {
        problems
            .add(key, format_args!("names {} identities: write at most {COVERS_MAX}, and one with /* behind it for all below it", texts.len()));
    }
    let mut ids = Vec::new();
    for text in texts {
        match Cover::parse(text) {
            Ok(cover) => ids.push(cover),
            Err(error) => problems.add(
                key,
                format_args!(
                    "{text:?} is no SPIFFE id, nor one with /* behind it for all below it: {error}"
                ),
            ),
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    fn read(lines: &str) -> Result<Vec<ChannelConfig>, String> {
        let text = format!("admin_socket = \"s\"\n{lines}");
        let read = Config::parse(Path::new("kubernetes.toml"), &text);
        read.map(|config| config.channels).map_err(|error| error.to_string())
    }

    #[test]
    fn a_kind_is_enough_and_istios_name_is_taken_by_word_alone() {
        let own = read("[publish.mesh]\nkind = \"config-map\"").unwrap().remove(0);
        let ChannelKind::PerNamespace { name, keys, namespaces, .. } = own.kind else { panic!() };
        assert_eq!((name.as_str(), keys.first().unwrap().as_str()), (OBJECT, KEY));
        assert_eq!(namespaces, Namespaces::Selected(None));
        assert!(own.labels.is_empty());
        let istio = read("[publish.i]\nkind = \"config-map\"\nistio = true").unwrap().remove(0);
        let ChannelKind::PerNamespace { name, keys, .. } = istio.kind else { panic!() };
        assert_eq!((name.as_str(), keys.first().unwrap().as_str()), (ISTIO[0], ISTIO[1]));
        assert_eq!(istio.labels[ISTIO[2]], "true");
    }

    #[test]
    fn a_cluster_trust_bundle_waits_six_minutes_at_least() {
        let bundle =
            "[publish.pods]\nkind = \"cluster-trust-bundle\"\nsigner = \"example.org/mesh\"\n";
        assert_eq!(read(bundle).unwrap().remove(0).staleness, Duration::from_secs(360));
        let short = read(&format!("{bundle}staleness = \"5m\"")).unwrap_err();
        assert!(
            short.contains("publish.pods.staleness: 5m is out of bounds: write 6m to"),
            "{short}"
        );
    }

    #[test]
    fn what_cannot_be_published_is_told_with_its_key() {
        for (lines, told) in [
            ("[publish.Mesh]\nkind = \"config-map\"", "publish.Mesh: the name of a channel"),
            ("[publish.a]\nkind = \"file\"", "unknown variant `file`"),
            ("[publish.a]\nkind = \"config-map\"\ncolour = 1", "unknown field `colour`"),
            ("[publish.a]\nkind = \"config-map\"\nkeys = [\"a/b\"]", "publish.a.keys: \"a/b\""),
            (
                "[publish.a]\nkind = \"config-map\"\nlabels = { \"a b\" = \"c\" }",
                "publish.a.labels",
            ),
            ("[publish.a]\nkind = \"config-map\"\nistio = true\nname = \"x\"", "publish.a.istio"),
            ("[publish.a]\nkind = \"config-map\"\ncovers = [\"x\"]", "publish.a.covers"),
            (
                "[publish.a]\nkind = \"config-map\"\ngateway_controllers = [\"x\"]",
                "publish.a.gateway_controllers",
            ),
            (
                "[publish.a]\nkind = \"secret\"\nnamespaces = [\"a\"]\ngateway_api = true",
                "publish.a.gateway_api",
            ),
            (
                "[publish.a]\nkind = \"config-map\"\nalso = \"x\"",
                "publish.a.also: has no certificate",
            ),
            ("[publish.a]\nkind = \"secret\"", "publish.a.namespaces: is missing"),
            ("[publish.a]\nkind = \"cluster-trust-bundle\"\nsigner = \"mesh\"", "publish.a.signer"),
            (
                "[publish.a]\nkind = \"config-map\"\n[publish.b]\nkind = \"config-map\"",
                "publish.b: writes the same objects as publish.a",
            ),
        ] {
            let error = read(lines).unwrap_err();
            assert!(error.contains(told), "{lines}: {error}");
        }
    }
}
