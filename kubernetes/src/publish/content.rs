//! What the objects of a channel shall hold.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Map, Value, json};
use trust::digest::sha256;

use crate::ca::Trust;
use crate::config::{ChannelConfig, ChannelKind, ObjectKind};

/// Which CA wrote an object: an annotation.
pub(crate) const CA: &str = "banyan.dev/ca";
/// The sequence of the bundle in it.
pub(crate) const SEQUENCE: &str = "banyan.dev/sequence";
/// The digest of that bundle.
pub(crate) const DIGEST: &str = "banyan.dev/bundle";

/// Most bytes that an object may have. The API server takes 1 MiB of values in a ConfigMap or Secret, and its store not much
/// more in all.
pub(crate) const OBJECT_BYTES_MAX: usize = 1024 * 1024;

/// Webhooks of `[inject]` in their configuration: of namespaces with our label, and of Pods with it elsewhere.
pub(crate) const WEBHOOKS: [&str; 2] = ["namespace.inject.banyan.dev", "pod.inject.banyan.dev"];

/// Digits of a root's fingerprint in the name of its ClusterTrustBundle.
const ID_DIGITS: usize = 16;

/// What tells whether fields of ours are as they should be: SHA-256 of them as JSON.
pub(crate) type Print = [u8; 32];

/// What one object shall hold, in whatever namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// `data` or `spec`.
    pub(crate) body: Map<String, Value>,
    pub(crate) print: Print,
}

/// How objects of a channel look: which of their fields are ours.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    config: ChannelConfig,
}

impl Shape {
    pub(crate) const fn new(config: ChannelConfig) -> Self {
        Self { config }
    }

    /// What there is to write, by name of the object. The error is what is in the way.
    pub(crate) fn contents(&self, trust: &Trust) -> Result<BTreeMap<String, Content>, String> {
        let bundle = &trust.bundle;
        let annotations = BTreeMap::from([
            (CA.to_owned(), trust.trust_domain.clone()),
            (SEQUENCE.to_owned(), bundle.sequence().to_string()),
            (DIGEST.to_owned(), bundle.digest().to_string()),
        ]);
        let content = |body: Value| {
            let body = match body {
                Value::Object(body) => body,
                _ => Map::new(),
            };
            let labels = self.config.labels.clone();
            let print = print(&labels, &annotations, &body);
            Content { labels, annotations: annotations.clone(), body, print }
        };
        let contents: BTreeMap<_, _> = match &self.config.kind {
            ChannelKind::PerNamespace { object, name, keys, also, .. } => {
                let others = also.iter().filter(|root| !bundle.contains(&root.id()));
                let others = others.map(|root| root.certificate().pem());
                let pem: String = [bundle.pem().to_string()].into_iter().chain(others).collect();
                let value = match object {
                    ObjectKind::ConfigMap => pem,
                    ObjectKind::Secret => STANDARD.encode(pem.as_bytes()),
                };
                let data: Map<_, _> =
                    keys.iter().map(|key| (key.clone(), json!(value.clone()))).collect();
                BTreeMap::from([(name.clone(), content(json!({ "data": data })))])
            }
            ChannelKind::Webhook { name, .. } => {
                let bundle = STANDARD.encode(bundle.pem().as_bytes());
                let one = |webhook: &&str| json!({ "name": webhook, "clientConfig": { "caBundle": bundle } });
                let webhooks: Vec<_> = WEBHOOKS.iter().map(one).collect();
                BTreeMap::from([(name.clone(), content(json!({ "webhooks": webhooks })))])
            }
            ChannelKind::ClusterTrustBundle { signer, .. } => {
                let one = |root: &trust::Root| {
                    let id: String = root.id().to_string().chars().take(ID_DIGITS).collect();
                    let (name, pem) = (format!("{}{id}", self.begins()), root.certificate().pem());
                    (name, content(json!({ "spec": { "signerName": signer, "trustBundle": pem } })))
                };
                bundle.roots().iter().map(one).collect()
            }
        };
        for (name, content) in &contents {
            let bytes = Value::Object(content.body.clone()).to_string().len();
            if bytes > OBJECT_BYTES_MAX {
                return Err(format!(
                    "bundle {} makes {name} {bytes} bytes long, and the API server takes {OBJECT_BYTES_MAX}: nothing is written; withdraw roots that are no longer needed, or set fewer keys",
                    bundle.sequence()
                ));
            }
        }
        Ok(contents)
    }

    /// Fields of ours in an object as it is.
    pub(crate) fn print_of(&self, object: &DynamicObject) -> Print {
        let metadata = &object.metadata;
        let chosen = |from: Option<&BTreeMap<String, String>>,
                      keys: &mut dyn Iterator<Item = &str>| {
            keys.filter_map(|key| Some((key.to_owned(), from?.get(key)?.clone()))).collect()
        };
        let labels =
            chosen(metadata.labels.as_ref(), &mut self.config.labels.keys().map(String::as_str));
        let annotations =
            chosen(metadata.annotations.as_ref(), &mut [CA, SEQUENCE, DIGEST].into_iter());
        let held = |part: &str, keys: &mut dyn Iterator<Item = &str>| {
            let field =
                |key: &str| Some((key.to_owned(), object.data.get(part)?.get(key)?.clone()));
            let held = keys.filter_map(field).collect();
            Map::from_iter([(part.to_owned(), Value::Object(held))])
        };
        let body = match &self.config.kind {
            ChannelKind::PerNamespace { keys, .. } => {
                held("data", &mut keys.iter().map(String::as_str))
            }
            ChannelKind::Webhook { .. } => believed(&object.data),
            ChannelKind::ClusterTrustBundle { .. } => {
                held("spec", &mut ["signerName", "trustBundle"].into_iter())
            }
        };
        print(&labels, &annotations, &body)
    }

    /// How names of our ClusterTrustBundles begin: a name of the signer's, as the API server asks for it.
    pub(crate) fn begins(&self) -> String {
        match &self.config.kind {
            ChannelKind::PerNamespace { name, .. } | ChannelKind::Webhook { name, .. } => {
                name.clone()
            }
            ChannelKind::ClusterTrustBundle { signer, prefix } => {
                format!("{}:{prefix}", signer.replace('/', ":"))
            }
        }
    }

    /// Whether an object whose content is no longer wanted is one to delete.
    pub(crate) fn deletes(&self, name: &str) -> bool {
        match &self.config.kind {
            ChannelKind::PerNamespace { .. } | ChannelKind::Webhook { .. } => false,
            ChannelKind::ClusterTrustBundle { .. } => name.starts_with(&self.begins()),
        }
    }

    /// Why an object that is not there is not made, where others have to make it.
    pub(crate) fn made_by_others(&self) -> Option<String> {
        match &self.config.kind {
            ChannelKind::Webhook { name, .. } => Some(format!(
                "there is no MutatingWebhookConfiguration {name}: apply the one of the chart or of docs/kubernetes.md, or remove [inject]"
            )),
            ChannelKind::PerNamespace { .. } | ChannelKind::ClusterTrustBundle { .. } => None,
        }
    }

    /// The kind of object, where it is the same in every cluster.
    pub(crate) fn resource(&self) -> Option<ApiResource> {
        let (group, kind) = match &self.config.kind {
            ChannelKind::PerNamespace { object: ObjectKind::ConfigMap, .. } => ("", "ConfigMap"),
            ChannelKind::PerNamespace { object: ObjectKind::Secret, .. } => ("", "Secret"),
            ChannelKind::Webhook { .. } => {
                ("admissionregistration.k8s.io", "MutatingWebhookConfiguration")
            }
            ChannelKind::ClusterTrustBundle { .. } => return None,
        };
        Some(ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)))
    }

    /// The settings.
    pub(crate) const fn config(&self) -> &ChannelConfig {
        &self.config
    }
}

/// What the webhooks of ours are believed by, as it is.
fn believed(data: &Value) -> Map<String, Value> {
    let webhooks = data.get("webhooks").and_then(Value::as_array);
    let one = |name: &&str| {
        let found = webhooks?.iter().find(|webhook| webhook.get("name") == Some(&json!(name)))?;
        let bundle = found.get("clientConfig")?.get("caBundle")?;
        Some(json!({ "name": name, "clientConfig": { "caBundle": bundle } }))
    };
    let held: Vec<_> = WEBHOOKS.iter().filter_map(one).collect();
    Map::from_iter([("webhooks".to_owned(), Value::Array(held))])
}

fn print(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    body: &Map<String, Value>,
) -> Print {
    sha256(json!([labels, annotations, body]).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trust::{Bundle, Root, Sequence, TrustDomain};

    use super::*;
    use crate::config::Namespaces;

    fn root(name: usize) -> Root {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        // Large, as a certificate with long names is.
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "x".repeat(12_000));
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("root {name}"));
        let key = rcgen::KeyPair::generate().unwrap();
        Root::parse(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn trust(roots: usize) -> Trust {
        let domain = TrustDomain::parse("example.org").unwrap();
        let roots = (0..roots).map(root).collect();
        Trust {
            bundle: Bundle::new(domain, Sequence(7), roots).unwrap(),
            trust_domain: "ca".to_owned(),
            roots: Vec::new(),
            status: Default::default(),
            rotation: Default::default(),
        }
    }

    fn shape(keys: &[&str]) -> Shape {
        Shape::new(ChannelConfig {
            name: "mesh".to_owned(),
            kind: ChannelKind::PerNamespace {
                object: ObjectKind::ConfigMap,
                name: "bundle".to_owned(),
                keys: keys.iter().map(ToString::to_string).collect(),
                namespaces: Namespaces::Selected(None),
                also: Vec::new(),
            },
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            staleness: Duration::from_secs(1),
            covers: Vec::new(),
            gateways: None,
        })
    }

    #[test]
    fn a_bundle_that_makes_an_object_too_large_is_not_written_and_it_says_so() {
        let (small, large) = (shape(&["ca.crt"]), shape(&["a", "b", "c"]));
        let trust = trust(18);
        assert!(small.contents(&trust).is_ok());
        let told = large.contents(&trust).unwrap_err();
        assert!(
            told.contains("bundle 7 makes bundle") && told.contains("nothing is written"),
            "{told}"
        );
    }

    #[test]
    fn other_cas_stand_behind_the_bundle_and_none_twice() {
        let (trust, other) = (trust(2), root(9));
        let mut shape = shape(&["ca.crt"]);
        let ChannelKind::PerNamespace { also, .. } = &mut shape.config.kind else { panic!() };
        also.extend([trust.bundle.roots()[0].clone(), other.clone()]);
        let content = shape.contents(&trust).unwrap().remove("bundle").unwrap();
        let held = content.body["data"]["ca.crt"].as_str().unwrap();
        assert_eq!(held, format!("{}{}", trust.bundle.pem(), other.certificate().pem()));
    }

    #[test]
    fn of_a_webhook_only_what_it_is_believed_by_is_ours() {
        let (name, holder) = ("hook".to_owned(), "/ns/a/sa/b".to_owned());
        let kind = ChannelKind::Webhook { name, holder };
        let shape = Shape::new(ChannelConfig { kind, ..shape(&[]).config().clone() });
        let content = shape.contents(&trust(1)).unwrap().remove("hook").unwrap();
        let mut object = DynamicObject::new("hook", &shape.resource().unwrap());
        object.metadata.labels = Some(content.labels.clone());
        object.metadata.annotations = Some(content.annotations.clone());
        let mut webhooks = content.body["webhooks"].as_array().unwrap().clone();
        webhooks[0]["failurePolicy"] = json!("Fail");
        webhooks[1]["clientConfig"]["service"] = json!({ "name": "s" });
        webhooks.reverse();
        object.data = json!({ "webhooks": webhooks });
        assert_eq!(shape.print_of(&object), content.print, "the rest is its maker's");
        object.data["webhooks"][0]["clientConfig"]["caBundle"] = json!("eA==");
        assert_ne!(shape.print_of(&object), content.print);
        object.data["webhooks"].as_array_mut().unwrap().remove(0);
        assert_ne!(shape.print_of(&object), content.print);
        assert!(shape.made_by_others().is_some());
    }

    #[test]
    fn an_object_is_right_while_the_fields_of_ours_are_whatever_else_it_has() {
        let shape = shape(&["ca.crt"]);
        let content = shape.contents(&trust(1)).unwrap().remove("bundle").unwrap();
        let object = |change: &dyn Fn(&mut DynamicObject)| {
            let kind = shape.resource().unwrap();
            let mut object = DynamicObject::new("bundle", &kind);
            object.metadata.labels = Some(content.labels.clone());
            object.metadata.annotations = Some(content.annotations.clone());
            object.data = Value::Object(content.body.clone());
            change(&mut object);
            shape.print_of(&object)
        };
        assert_eq!(object(&|_| {}), content.print);
        let other = object(&|object| {
            object.data["data"]["other"] = json!("theirs");
            object.metadata.labels.as_mut().unwrap().insert("c".to_owned(), "d".to_owned());
        });
        assert_eq!(other, content.print);
        assert_ne!(object(&|object| object.data["data"]["ca.crt"] = json!("x")), content.print);
        assert_ne!(object(&|object| object.metadata.labels = None), content.print);
        assert_ne!(object(&|object| object.metadata.annotations = None), content.print);
    }
}
