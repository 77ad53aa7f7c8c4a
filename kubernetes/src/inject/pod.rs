//! What a Pod gets: pure.

use serde_json::{Map, Value, json};

use super::agent::{
    AGENT, INJECTED, SETTINGS, SOCKET, SOCKET_AT, VOLUMES, container, mount, settings, volume,
};
use crate::config::InjectConfig;

/// The label by which Pods, and namespaces, ask for an agent.
pub(super) const LABEL: &str = "banyan.dev/inject";

/// What comes of a Pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// These operations of a JSON patch.
    Injected(Vec<Value>),
    /// It has all of it.
    Complete,
    /// It gets none, for this reason.
    Left(&'static str),
    /// It asks for an agent that it cannot have.
    Refused(String),
}

/// A Pod that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) pod: &'a Value,
    pub(super) namespace: &'a str,
    pub(super) trust_domain: &'a str,
}

/// Judges it.
pub(super) fn judge(asked: Asked<'_>, config: &InjectConfig) -> Verdict {
    let Asked { pod, .. } = asked;
    if text(pod, "/metadata/labels/banyan.dev~1inject") == Some("disabled") {
        return Verdict::Left("its label banyan.dev/inject is disabled");
    }
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Verdict::Left("it is the mirror of a static Pod, which a kubelet runs as it is");
    }
    if text(pod, "/spec/os/name") == Some("windows") {
        return unfit(pod, "it runs on Windows, and the agent is for Linux");
    }
    let resolves = text(pod, "/spec/dnsPolicy") == Some("ClusterFirstWithHostNet");
    if pod.pointer("/spec/hostNetwork") == Some(&json!(true)) && !resolves {
        return unfit(
            pod,
            "it has hostNetwork and does not resolve names of the cluster, such as the CA's: set dnsPolicy to ClusterFirstWithHostNet",
        );
    }
    let injected = text(pod, "/metadata/annotations/banyan.dev~1injected") == Some("true");
    if let Some(wrong) = (!injected).then(|| taken(pod)).flatten().or_else(|| elsewhere(pod)) {
        return Verdict::Refused(wrong);
    }
    let patch = patch(asked, config);
    if patch.is_empty() { Verdict::Complete } else { Verdict::Injected(patch) }
}

/// Who asked by a label of its own is refused; who is in a namespace that asks for all goes without.
fn unfit(pod: &Value, why: &'static str) -> Verdict {
    match text(pod, "/metadata/labels/banyan.dev~1inject") == Some("enabled") {
        true => Verdict::Refused(format!("{why}; or take the label {LABEL} away")),
        false => Verdict::Left(why),
    }
}

/// A name of ours that the Pod has for something of its own.
fn taken(pod: &Value) -> Option<String> {
    let containers = ["/spec/initContainers", "/spec/containers"];
    if containers.iter().flat_map(|path| list(pod, path)).any(|one| named(one) == AGENT) {
        return Some(format!(
            "it has a container {AGENT} of its own: give that another name, or take the label {LABEL} away"
        ));
    }
    let volumes = list(pod, "/spec/volumes").map(named);
    if let Some(name) = volumes.into_iter().find(|name| VOLUMES.contains(name)) {
        return Some(format!("it has a volume {name} of its own: give that another name"));
    }
    let annotation = pod.pointer("/metadata/annotations/banyan.dev~1agent.toml");
    annotation
        .map(|_| format!("it has the annotation {SETTINGS}, which is written here: remove it"))
}

/// A container with something else where the socket has to be.
fn elsewhere(pod: &Value) -> Option<String> {
    let containers = ["/spec/initContainers", "/spec/containers"];
    let mut mounts = containers.iter().flat_map(|path| list(pod, path)).flat_map(|container| {
        list(container, "/volumeMounts").map(move |mount| (named(container), mount))
    });
    let found = mounts
        .find(|(_, mount)| text(mount, "/mountPath") == Some(SOCKET_AT) && named(mount) != SOCKET);
    found.map(|(container, mount)| {
        format!(
            "its container {container} mounts {} at {SOCKET_AT}, where the agent's socket is: mount it elsewhere",
            named(mount)
        )
    })
}

/// What it lacks.
fn patch(asked: Asked<'_>, config: &InjectConfig) -> Vec<Value> {
    let Asked { pod, namespace, trust_domain } = asked;
    let mut operations = Vec::new();
    let account = text(pod, "/spec/serviceAccountName").unwrap_or("default");
    let identity = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
    let written = settings(config, trust_domain, &identity);
    annotate(pod, &mut operations, &[(SETTINGS, &written), (INJECTED, "true")]);
    // Mounts first: what is put before them moves their places.
    for path in ["/spec/initContainers", "/spec/containers"] {
        for (place, container) in list(pod, path).enumerate() {
            let has = list(container, "/volumeMounts").any(|mount| named(mount) == SOCKET);
            if !has {
                append(
                    container,
                    &format!("{path}/{place}"),
                    "volumeMounts",
                    mount(),
                    &mut operations,
                );
            }
        }
    }
    let present: Vec<_> = list(pod, "/spec/volumes").map(named).collect();
    let missing: Vec<_> = VOLUMES
        .iter()
        .filter(|name| !present.contains(name))
        .map(|name| volume(config, name))
        .collect();
    put(pod, "/spec/volumes", missing, "-", &mut operations);
    if !list(pod, "/spec/initContainers").any(|one| named(one) == AGENT) {
        let as_root = pod.pointer("/spec/securityContext/runAsUser") == Some(&json!(0));
        let agent = container(config, as_root);
        // Before all others: they may need it, and it is there before the application starts.
        put(pod, "/spec/initContainers", vec![agent], "0", &mut operations);
    }
    operations
}

fn annotate(pod: &Value, operations: &mut Vec<Value>, annotations: &[(&str, &str)]) {
    let known = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let missing: Vec<_> = annotations
        .iter()
        .filter(|(key, value)| known.and_then(|known| known.get(*key)) != Some(&json!(value)))
        .collect();
    if known.is_none() {
        let all: Map<_, _> =
            missing.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        operations.push(add("/metadata/annotations", Value::Object(all)));
        return;
    }
    operations.extend(missing.into_iter().map(|(key, value)| {
        let key = key.replace('~', "~0").replace('/', "~1");
        add(&format!("/metadata/annotations/{key}"), json!(value))
    }));
}

/// Adds to a list in an object that is at `path`, or makes it.
fn append(object: &Value, path: &str, key: &str, value: Value, operations: &mut Vec<Value>) {
    match object.get(key).is_some_and(Value::is_array) {
        true => operations.push(add(&format!("{path}/{key}/-"), value)),
        false => operations.push(add(&format!("{path}/{key}"), json!([value]))),
    }
}

/// Puts values at a place of a list of the Pod, which is made if it is not there.
fn put(pod: &Value, path: &str, values: Vec<Value>, place: &str, operations: &mut Vec<Value>) {
    match pod.pointer(path).is_some_and(Value::is_array) {
        true => {
            operations
                .extend(values.into_iter().map(|value| add(&format!("{path}/{place}"), value)));
        }
        false if values.is_empty() => {}
        false => operations.push(add(path, Value::Array(values))),
    }
}

fn add(path: &str, value: Value) -> Value {
    json!({ "op": "add", "path": path, "value": value })
}

fn list<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn named(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path).and_then(Value::as_str)
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
