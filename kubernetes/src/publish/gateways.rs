//! Readers of a channel through the Gateway API, which promises them one certificate of a ConfigMap and no more: a BackendTLSPolicy
//! for what is behind a gateway, a Gateway for its clients. With several roots in the bundle nobody knows which one they took.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use super::content::Shape;
use crate::api::{ApiError, asked, best};
use crate::world::World;

const GROUP: &str = "gateway.networking.k8s.io";
/// Versions of each kind, the best first.
const POLICIES: Kind = Kind {
    names: [GROUP, "BackendTLSPolicy", "backendtlspolicies"],
    versions: &["v1", "v1alpha3"],
};
const GATEWAYS: Kind = Kind { names: [GROUP, "Gateway", "gateways"], versions: &["v1", "v1beta1"] };
const CLASSES: Kind =
    Kind { names: [GROUP, "GatewayClass", "gatewayclasses"], versions: &["v1", "v1beta1"] };
/// Where they name what they read.
const REFERENCES: &str = "caCertificateRefs";
/// Objects that one request lists.
const PAGE: u32 = 500;
/// Readers that are named.
const NAMED_MAX: usize = 5;

/// A kind: its group, name and plural.
struct Kind {
    names: [&'static str; 3],
    versions: &'static [&'static str],
}

/// Why nothing is confirmed for its readers, if that is so: with several roots some may take one of them only.
pub(crate) async fn lacking(world: &World, shape: &Shape, roots: usize) -> Option<String> {
    let (config, name) = (shape.config(), shape.begins());
    let controllers = config.gateways.clone()?;
    let readers = Readers { client: world.client.clone(), name, controllers };
    match readers.unproven().await {
        Ok(unproven) => {
            world.metrics.unproven(&config.name, unproven.len());
            let lacking = !unproven.is_empty() && roots > 1;
            lacking.then(|| said(&config.name, &unproven))
        }
        Err(error) => Some(format!("readers through the Gateway API are not known: {error}")),
    }
}

/// Who reads a ConfigMap so.
struct Readers {
    client: Client,
    /// Name of the ConfigMaps.
    name: String,
    /// Controllers that take every certificate.
    controllers: BTreeSet<String>,
}

impl Readers {
    /// Those that are not known to take every certificate, by kind, namespace and name.
    async fn unproven(&self) -> Result<Vec<String>, ApiError> {
        let policies = self.list(POLICIES).await?;
        let gateways = self.list(GATEWAYS).await?;
        let classes = match gateways.is_empty() {
            true => Vec::new(),
            false => self.list(CLASSES).await?,
        };
        let classes: BTreeMap<_, _> = classes.iter().filter_map(controller_of).collect();
        let by_class = |gateway: &DynamicObject| {
            let class = text(gateway, "/spec/gatewayClassName")?;
            classes.get(class).map(|controller| BTreeSet::from([*controller]))
        };
        let policies = policies
            .iter()
            .filter(|policy| self.is_read_by(policy) && !self.take_all(&ancestors(policy)));
        let gateways = gateways.iter().filter(|gateway| {
            self.is_read_by(gateway) && !self.take_all(&by_class(gateway).unwrap_or_default())
        });
        let named = |kind: &str, object: &DynamicObject| {
            let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
            format!(
                "{kind} {}/{}",
                namespace.as_deref().unwrap_or_default(),
                name.as_deref().unwrap_or_default()
            )
        };
        let policies = policies.map(|policy| named("BackendTLSPolicy", policy));
        Ok(policies.chain(gateways.map(|gateway| named("Gateway", gateway))).collect())
    }

    async fn list(&self, kind: Kind) -> Result<Vec<DynamicObject>, ApiError> {
        let Some(kind) = best(&self.client, kind.names, kind.versions).await? else {
            return Ok(Vec::new());
        };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let (mut all, mut wanted) = (Vec::new(), ListParams::default().limit(PAGE));
        loop {
            let page = asked(api.list(&wanted)).await?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|more| !more.is_empty()) {
                Some(more) => wanted = ListParams::default().limit(PAGE).continue_token(&more),
                None => return Ok(all),
            }
        }
    }

    fn is_read_by(&self, object: &DynamicObject) -> bool {
        object.data.get("spec").is_some_and(|spec| names_map(spec, &self.name))
    }

    /// Whether all who act on it take every certificate; nobody is not all.
    fn take_all(&self, controllers: &BTreeSet<&str>) -> bool {
        !controllers.is_empty() && controllers.iter().all(|one| self.controllers.contains(*one))
    }
}

/// What is told of them.
fn said(channel: &str, unproven: &[String]) -> String {
    let named: Vec<_> = unproven.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = match unproven.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} through the Gateway API may take one certificate of the bundle only, and nothing is confirmed while it has several: \
         {}{more}; if their controllers take all of them write those into publish.{channel}.gateway_controllers, else see that \
         they trust both roots and say so with `banyan relying-party confirm kubernetes/{channel}`",
        trust::plain::counted(unproven.len(), "reader", "readers"),
        named.join(", ")
    )
}

fn controller_of(class: &DynamicObject) -> Option<(&str, &str)> {
    let name = class.metadata.name.as_deref()?;
    Some((name, text(class, "/spec/controllerName")?))
}

fn text<'a>(object: &'a DynamicObject, place: &str) -> Option<&'a str> {
    object.data.pointer(place)?.as_str()
}

/// The controllers that say they act on a policy.
fn ancestors(policy: &DynamicObject) -> BTreeSet<&str> {
    let ancestors = policy.data.pointer("/status/ancestors").and_then(Value::as_array);
    let named = |one| Value::get(one, "controllerName")?.as_str();
    ancestors.into_iter().flatten().filter_map(named).collect()
}

/// Whether any reference in it, wherever a version has it, is to a ConfigMap of this name.
fn names_map(value: &Value, name: &str) -> bool {
    let is_it = |one: &Value| {
        let is = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
        is("kind") == "ConfigMap" && is("name") == name && matches!(is("group"), "" | "core")
    };
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
            (key == REFERENCES && all.iter().any(is_it)) || names_map(value, name)
        }),
        Value::Array(all) => all.iter().any(|one| names_map(one, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_is_found_wherever_a_version_has_it_and_only_to_the_map_of_that_name() {
        let one = |group: &str, kind: &str, name: &str| json!([{ "group": group, "kind": kind, "name": name }]);
        let ours = one("", "ConfigMap", "trust");
        for spec in [
            json!({ "validation": { "caCertificateRefs": ours } }),
            json!({ "tls": { "frontend": { "default": { "validation": { "caCertificateRefs": ours } } } } }),
            json!({ "listeners": [{}, { "tls": { "frontendValidation": { "caCertificateRefs": ours } } }] }),
        ] {
            assert!(names_map(&spec, "trust") && !names_map(&spec, "other"), "{spec}");
        }
        for refs in [one("", "Secret", "trust"), one("a.b", "ConfigMap", "trust"), json!("trust")] {
            assert!(!names_map(&json!({ "validation": { "caCertificateRefs": refs } }), "trust"));
        }
        let elsewhere = json!({ "targetRefs": one("", "ConfigMap", "trust") });
        assert!(!names_map(&elsewhere, "trust"));
    }

    #[test]
    fn few_are_named_and_the_others_counted() {
        let many: Vec<_> = (0..7).map(|number| format!("Gateway a/{number}")).collect();
        let told = said("mesh", &many);
        assert!(told.starts_with("7 readers") && told.contains("Gateway a/4 and 2 more"), "{told}");
        assert!(!said("mesh", &many[..1]).contains("more;"));
    }
}
