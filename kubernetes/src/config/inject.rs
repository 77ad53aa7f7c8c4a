//! Section `[inject]`: the webhook that gives Pods their agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::problems::{Problems, is_subdomain};
use super::publish::{ChannelConfig, ChannelKind};

/// Where the webhook is served unless it is set.
const LISTEN: &str = "0.0.0.0:15027";
/// Name of its channel, by which the API server believes it.
pub(super) const CHANNEL: &str = "inject";
/// How long an API server may go by a former version of its webhooks unless it is set.
const STALENESS: &str = "1m";

/// The webhook, and what it gives to Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectConfig {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Namespace of its Service.
    pub namespace: String,
    /// Name of its Service.
    pub service: String,
    /// The service account that its certificate is for.
    pub account: String,
    /// Name of the MutatingWebhookConfiguration.
    pub webhook: String,
    /// Image of the agent.
    pub image: String,
    /// Where agents reach the CA.
    pub ca_address: String,
    /// ConfigMap of each namespace with whom agents believe at first contact, and its key.
    pub bundle: String,
    /// Key of the bundle in it.
    pub bundle_key: String,
    /// What the tokens of agents are for.
    pub audience: String,
    /// How long an API server may be late.
    pub staleness: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInject {
    listen: Option<String>,
    namespace: String,
    #[serde(default = "service")]
    service: String,
    #[serde(default = "account")]
    account: String,
    #[serde(default = "service")]
    webhook: String,
    image: String,
    ca_address: Option<String>,
    #[serde(default = "bundle")]
    bundle: String,
    #[serde(default = "bundle_key")]
    bundle_key: String,
    #[serde(default = "audience")]
    audience: String,
    staleness: Option<String>,
}

fn service() -> String {
    "banyan-inject".to_owned()
}

fn account() -> String {
    "banyan".to_owned()
}

fn bundle() -> String {
    "banyan-trust-bundle".to_owned()
}

fn bundle_key() -> String {
    "ca.crt".to_owned()
}

fn audience() -> String {
    "istio-ca".to_owned()
}

impl RawInject {
    pub(super) fn checked(self, problems: &mut Problems) -> Option<InjectConfig> {
        let listen = self.listen.as_deref().unwrap_or(LISTEN);
        let listen = listen.parse().map_err(|_| {
            problems.add(
                "inject.listen",
                format_args!("{listen:?} is no address: write one such as {LISTEN:?}"),
            );
        });
        for (key, name) in [
            ("inject.namespace", &self.namespace),
            ("inject.service", &self.service),
            ("inject.account", &self.account),
            ("inject.webhook", &self.webhook),
            ("inject.bundle", &self.bundle),
        ] {
            problems.name(key, name);
        }
        for (key, name) in
            [("inject.namespace", &self.namespace), ("inject.service", &self.service)]
        {
            if is_subdomain(name) && (name.contains('.') || name.len() > 63) {
                problems
                    .add(key, format_args!("{name:?} is part of a DNS name: no dots, 63 at most"));
            }
        }
        let ca_address =
            self.ca_address.unwrap_or_else(|| format!("banyan.{}.svc:15012", self.namespace));
        for (key, text) in [
            ("inject.image", &self.image),
            ("inject.ca_address", &ca_address),
            ("inject.bundle_key", &self.bundle_key),
            ("inject.audience", &self.audience),
        ] {
            let is_word = |byte: u8| byte.is_ascii_graphic() && !b"\"\\'".contains(&byte);
            if text.is_empty() || !text.bytes().all(is_word) {
                problems.add(key, format_args!("{text:?} is not one word without quotes"));
            }
        }
        let staleness = self.staleness.as_deref().unwrap_or(STALENESS);
        let staleness = problems.duration("inject.staleness", staleness, ["1s", "1h"])?;
        Some(InjectConfig {
            listen: listen.ok()?,
            namespace: self.namespace,
            service: self.service,
            account: self.account,
            webhook: self.webhook,
            image: self.image,
            ca_address,
            bundle: self.bundle,
            bundle_key: self.bundle_key,
            audience: self.audience,
            staleness,
        })
    }
}

impl InjectConfig {
    /// The name that the API server calls it by.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Path of the identity that it serves with.
    #[must_use]
    pub fn holder(&self) -> String {
        format!("/ns/{}/sa/{}", self.namespace, self.account)
    }

    /// By which the API server believes it.
    pub(super) fn channel(&self) -> ChannelConfig {
        ChannelConfig {
            name: CHANNEL.to_owned(),
            kind: ChannelKind::Webhook { name: self.webhook.clone(), holder: self.holder() },
            labels: BTreeMap::new(),
            staleness: self.staleness,
            covers: Vec::new(),
            gateways: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    fn read(lines: &str) -> Result<Config, String> {
        let text = format!("admin_socket = \"s\"\n{lines}");
        Config::parse(Path::new("kubernetes.toml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_namespace_and_an_image_are_enough_and_bring_a_channel() {
        let config = read("[inject]\nnamespace = \"mesh\"\nimage = \"banyan:1\"").unwrap();
        let inject = config.inject.unwrap();
        assert_eq!(inject.dns_name(), "banyan-inject.mesh.svc");
        assert_eq!(inject.ca_address, "banyan.mesh.svc:15012");
        let channel = &config.channels[0];
        assert_eq!((channel.name.as_str(), channel.staleness), ("inject", Duration::from_secs(60)));
        let ChannelKind::Webhook { name, holder } = &channel.kind else { panic!() };
        assert_eq!((name.as_str(), holder.as_str()), ("banyan-inject", "/ns/mesh/sa/banyan"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let all = "[inject]\nnamespace = \"mesh\"\nimage = \"banyan:1\"\n";
        for (lines, told) in [
            ("[inject]\nnamespace = \"mesh\"\n".to_owned(), "missing field `image`"),
            (
                "[inject]\nnamespace = \"m.n\"\nimage = \"i\"".to_owned(),
                "inject.namespace: \"m.n\"",
            ),
            (format!("{all}listen = \"here\""), "inject.listen: \"here\" is no address"),
            (format!("{all}webhook = \"A\""), "inject.webhook: \"A\""),
            (format!("{all}ca_address = \"a b\""), "inject.ca_address: \"a b\""),
            (format!("{all}staleness = \"0s\""), "inject.staleness: 0s is out of bounds"),
            (format!("{all}colour = 1"), "unknown field `colour`"),
            (
                format!("{all}[publish.inject]\nkind = \"config-map\""),
                "publish.inject: is the channel of [inject]",
            ),
        ] {
            let error = read(&lines).unwrap_err();
            assert!(error.contains(told), "{lines}: {error}");
        }
    }
}
