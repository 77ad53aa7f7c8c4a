//! The rights that a configuration needs, and which of them the account lacks: what docs/kubernetes.md lists, as questions to the
//! API server.

use std::collections::BTreeMap;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};

use crate::api::{ApiError, asked};
use crate::config::{ChannelConfig, ChannelKind, Config, LeadConfig, Namespaces, ObjectKind};

const CERTIFICATES: &str = "certificates.k8s.io";

/// One kind of object, what is to be done with it, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    /// Section of the configuration.
    section: String,
    /// Name of the role on the page.
    role: &'static str,
    group: &'static str,
    /// With a subresource behind a slash.
    resource: &'static str,
    /// Empty for all of them.
    name: String,
    /// Empty for the whole cluster.
    namespace: String,
    verbs: &'static [&'static str],
}

/// What each section needs, by name of its role on the page.
fn needs(config: &Config) -> Vec<Need> {
    let mut all: Vec<Need> = config.channels.iter().flat_map(of_channel).collect();
    all.extend(config.lead.iter().flat_map(of_lead));
    let signed = [
        ("csr", "banyan-sign-csr", &config.sign.csr, CSR),
        ("pod_certificates", "banyan-sign-pod-certificates", &config.sign.pod_certificates, PODS),
    ];
    for (section, role, signers, resources) in signed {
        let need = Need::of(format!("sign.{section}"), role, CERTIFICATES);
        if !signers.is_empty() {
            all.extend(resources.iter().map(|(resource, verbs)| need.to(resource, verbs)));
        }
        all.extend(signers.iter().map(|signer| need.to("signers", &["sign"]).named(signer)));
    }
    if config.sign.cert_manager.is_some() {
        let need = Need::of("sign.cert_manager".to_owned(), "banyan-sign-cert-manager", "");
        all.extend(CERT_MANAGER.iter().map(|(group, resource, verbs)| {
            let need = Need { group, ..need.clone() };
            need.to(resource, verbs)
        }));
    }
    if let Some(resources) = &config.resources {
        let need = Need::of("resources".to_owned(), "banyan-resources", "banyan.dev");
        let need = need.within(&resources.namespace);
        all.extend(KINDS.iter().map(|(resource, verbs)| need.to(resource, verbs)));
        let events = Need { group: "events.k8s.io", ..need.to("events", &["create", "patch"]) };
        all.push(events);
    }
    all
}

type Verbs = &'static [&'static str];

const CSR: &[(&str, Verbs)] = &[
    ("certificatesigningrequests", &["get", "list", "watch"]),
    ("certificatesigningrequests/status", &["update"]),
];
const PODS: &[(&str, Verbs)] = &[
    ("podcertificaterequests", &["get", "list", "watch"]),
    ("podcertificaterequests/status", &["update"]),
];
const CERT_MANAGER: &[(&str, &str, Verbs)] = &[
    ("cert-manager.io", "certificaterequests", &["get", "list", "watch"]),
    ("cert-manager.io", "certificaterequests/status", &["update"]),
    ("banyan.dev", "banyanissuers", &["get", "list", "watch"]),
    ("banyan.dev", "banyanissuers/status", &["update"]),
    ("banyan.dev", "banyanclusterissuers", &["get", "list", "watch"]),
    ("banyan.dev", "banyanclusterissuers/status", &["update"]),
];
const KINDS: &[(&str, Verbs)] = &[
    ("rootrotations", &["list", "watch"]),
    ("rootrotations/status", &["update"]),
    ("trustdomains", &["list", "watch", "create"]),
    ("trustdomains/status", &["update"]),
    ("rootauthorities", &["list", "watch", "create", "delete"]),
    ("rootauthorities/status", &["update"]),
    ("waivers", &["list", "watch"]),
    ("waivers/status", &["update"]),
    ("federatedtrustdomains", &["list", "watch"]),
    ("federatedtrustdomains/status", &["update"]),
];
const WRITTEN: Verbs = &["list", "watch", "create", "patch"];

fn of_channel(channel: &ChannelConfig) -> Vec<Need> {
    let section = format!("publish.{}", channel.name);
    let mut all = of_kind(section.clone(), channel);
    if channel.gateways.is_some() {
        let need = Need::of(section, "banyan-publish-gateways", "gateway.networking.k8s.io");
        let kinds = ["backendtlspolicies", "gateways", "gatewayclasses"];
        all.extend(kinds.iter().map(|kind| need.to(kind, &["list"])));
    }
    all
}

fn of_kind(section: String, channel: &ChannelConfig) -> Vec<Need> {
    match &channel.kind {
        ChannelKind::PerNamespace { object, name, namespaces, .. } => {
            let (resource, role) = match (object, name.as_str()) {
                (ObjectKind::Secret, _) => ("secrets", "banyan-publish-secret"),
                (_, "istio-ca-root-cert") => ("configmaps", "banyan-publish-istio"),
                _ => ("configmaps", "banyan-publish-config-maps"),
            };
            let need = Need::of(section, role, "");
            let object = need.to(resource, WRITTEN).named(name);
            match namespaces {
                Namespaces::Selected(_) => vec![need.to("namespaces", &["list", "watch"]), object],
                Namespaces::Named(named) => named.iter().map(|one| object.within(one)).collect(),
            }
        }
        ChannelKind::Webhook { name, .. } => {
            let need =
                Need::of("inject".to_owned(), "banyan-inject", "admissionregistration.k8s.io");
            vec![need.to("mutatingwebhookconfigurations", &["list", "watch", "patch"]).named(name)]
        }
        ChannelKind::ClusterTrustBundle { signer, .. } => {
            let need = Need::of(section, "banyan-publish-cluster-trust-bundles", CERTIFICATES);
            let verbs = &["list", "watch", "create", "patch", "delete"];
            vec![
                need.to("clustertrustbundles", verbs),
                need.to("signers", &["attest"]).named(signer),
            ]
        }
    }
}

fn of_lead(lead: &LeadConfig) -> [Need; 2] {
    let need = Need::of("lead".to_owned(), "banyan-lead", "coordination.k8s.io");
    let need = need.within(&lead.namespace);
    [need.to("leases", &["get", "update"]).named(&lead.lease), need.to("leases", &["create"])]
}

impl Need {
    fn of(section: String, role: &'static str, group: &'static str) -> Self {
        let (name, namespace) = (String::new(), String::new());
        Self { section, role, group, resource: "", name, namespace, verbs: &[] }
    }

    fn to(&self, resource: &'static str, verbs: Verbs) -> Self {
        Self { resource, verbs, ..self.clone() }
    }

    fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// What the account may not, and what to give it.
    fn told(&self, verbs: &[&str]) -> String {
        let Self { section, role, group, resource, .. } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let name = match self.name.as_str() {
            "" => String::new(),
            name => format!(" {name:?}"),
        };
        let place = match self.namespace.as_str() {
            "" => "the cluster".to_owned(),
            namespace => format!("namespace {namespace}"),
        };
        format!(
            "{section}: this account may not {} {resource}{dot}{group}{name} in {place}: give it these rights as {role} of docs/kubernetes.md has them",
            verbs.join(", ")
        )
    }
}

/// What the account lacks of what the configuration needs, one sentence for each kind of object.
pub(crate) async fn missing(client: &Client, config: &Config) -> Result<Vec<String>, ApiError> {
    let (mut answers, mut told) = (BTreeMap::new(), Vec::new());
    for need in needs(config) {
        let mut lacks = Vec::new();
        for verb in need.verbs {
            let question = [need.group, need.resource, &need.name, &need.namespace, verb];
            let question = question.map(str::to_owned);
            let may = match answers.get(&question) {
                Some(may) => *may,
                None => may(client, &need, verb).await?,
            };
            answers.insert(question, may);
            if !may {
                lacks.push(*verb);
            }
        }
        if !lacks.is_empty() {
            told.push(need.told(&lacks));
        }
    }
    Ok(told)
}

async fn may(client: &Client, need: &Need, verb: &str) -> Result<bool, ApiError> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (resource, subresource) = need.resource.split_once('/').unwrap_or((need.resource, ""));
    let attributes = ResourceAttributes {
        group: some(need.group),
        resource: some(resource),
        subresource: some(subresource),
        name: some(&need.name),
        namespace: some(&need.namespace),
        verb: some(verb),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let question = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = asked(api.create(&PostParams::default(), &question)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every section, with the names of the page.
    const ALL: &str = "admin_socket = \"s\"\n[publish.mesh]\nkind = \"config-map\"\ngateway_api = true\n\
        [publish.istio]\nkind = \"config-map\"\nistio = true\n\
        [publish.ingress]\nkind = \"secret\"\nnamespaces = [\"ingress\"]\n\
        [publish.pods]\nkind = \"cluster-trust-bundle\"\nsigner = \"example.org/mesh\"\n\
        [lead]\nnamespace = \"banyan\"\n[resources]\nnamespace = \"banyan\"\n\
        [inject]\nnamespace = \"banyan\"\nimage = \"banyan\"\n\
        [sign.csr]\nsigner_names = [\"example.org/mesh\"]\n\
        [sign.pod_certificates]\nsigner_names = [\"example.org/mesh\"]\n[sign.cert_manager]\n";
    const PAGE: &str = include_str!("../../docs/kubernetes.md");

    /// One right: role, group, resource, name, verb.
    type Right = [String; 5];

    fn asked_for() -> BTreeSet<Right> {
        let config = Config::parse(Path::new("kubernetes.toml"), ALL).unwrap();
        let of_one = |need: Need| {
            let Need { role, group, resource, name, verbs, .. } = need;
            let one = move |verb: &&str| [role, group, resource, &name, verb].map(str::to_owned);
            verbs.iter().map(one).collect::<Vec<_>>()
        };
        needs(&config).into_iter().flat_map(of_one).collect()
    }

    /// The items of a list such as `verbs: [get, list]` in a rule.
    fn listed(rule: &str, key: &str) -> Vec<String> {
        let line =
            rule.lines().find_map(|line| line.trim_start_matches("- ").trim().strip_prefix(key));
        let list = line.unwrap_or_default().trim().trim_matches(['[', ']']);
        list.split(',').map(|one| one.trim().trim_matches('"').to_owned()).collect()
    }

    fn on_the_page() -> BTreeSet<Right> {
        let blocks = PAGE.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
        let mut all = BTreeSet::new();
        for block in blocks.filter(|block| block.contains("\nrules:\n")) {
            let role = block.lines().find_map(|line| line.strip_prefix("  name: ")).unwrap();
            for rule in block.split("\n- ").skip(1) {
                let [group, resources, names, verbs] =
                    ["apiGroups:", "resources:", "resourceNames:", "verbs:"]
                        .map(|key| listed(rule, key));
                for resource in &resources {
                    let right = |verb| [role, &group[0], resource, &names[0], verb];
                    all.extend(verbs.iter().map(|verb| right(verb).map(str::to_owned)));
                }
            }
        }
        all
    }

    #[test]
    fn what_is_asked_about_is_what_the_page_lists() {
        assert_eq!(asked_for(), on_the_page());
    }

    #[test]
    fn what_is_missing_is_told_with_its_section_and_its_role() {
        let config = Config::parse(Path::new("kubernetes.toml"), ALL).unwrap();
        let told: Vec<_> = needs(&config).iter().map(|need| need.told(need.verbs)).collect();
        for sentence in [
            "publish.mesh: this account may not list, watch, create, patch configmaps \"banyan-trust-bundle\" in the cluster: give it these rights as banyan-publish-config-maps of docs/kubernetes.md has them",
            "lead: this account may not create leases.coordination.k8s.io in namespace banyan: give it these rights as banyan-lead of docs/kubernetes.md has them",
        ] {
            assert!(told.iter().any(|told| told == sentence), "{told:#?}");
        }
    }
}
