//! The agent as a Pod has it: its container, its volumes, its configuration.

use serde_json::{Value, json};

use crate::config::InjectConfig;

/// Name of the container.
pub(super) const AGENT: &str = "banyan-agent";
/// The volume with its socket, and where containers have it.
pub(super) const SOCKET: &str = "banyan-agent-socket";
pub(super) const SOCKET_AT: &str = "/run/banyan";
/// Its configuration, as an annotation that is projected into its container: so nobody needs a right to make objects.
pub(super) const SETTINGS: &str = "banyan.dev/agent.toml";
/// That a Pod has its agent from here.
pub(super) const INJECTED: &str = "banyan.dev/injected";

const CONFIG: &str = "banyan-agent-config";
const TRUST: &str = "banyan-agent-trust";
const TOKEN: &str = "banyan-agent-token";
const STATE: &str = "banyan-agent-state";
/// Every volume that it has.
pub(super) const VOLUMES: [&str; 5] = [CONFIG, TRUST, TOKEN, STATE, SOCKET];

/// The user of the image, for Pods that would run it as root.
const USER: u32 = 65532;

/// Its configuration, for a workload of this identity.
pub(super) fn settings(config: &InjectConfig, trust_domain: &str, identity: &str) -> String {
    format!(
        "trust_domain = \"{trust_domain}\"\nca_address = \"{}\"\nstate_dir = \"/var/lib/banyan-agent/state\"\n\
         socket = \"{SOCKET_AT}/agent.sock\"\njwt_file = \"/var/run/secrets/tokens/banyan\"\n\
         trust_bundle = \"/etc/banyan/trust/ca.crt\"\n\n[[workload]]\nuid = \"any\"\nspiffe_id = \"{identity}\"\nprewarm = true\n",
        config.ca_address
    )
}

/// Its container; `as_root` where the Pod says that its containers run so.
pub(super) fn container(config: &InjectConfig, as_root: bool) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if let Some(security) = security.as_object_mut().filter(|_| as_root) {
        security.insert("runAsUser".to_owned(), json!(USER));
    }
    json!({
        "name": AGENT,
        "image": config.image,
        "restartPolicy": "Always",
        "args": ["agent", "--config", "/etc/banyan/agent/agent.toml", "--log-format", "json"],
        "startupProbe": {
            "exec": { "command": ["/banyan", "agent", "status", "--socket", "/run/banyan/agent.sock"] },
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
        "securityContext": security,
        "resources": {
            "requests": { "cpu": "10m", "memory": "24Mi" },
            "limits": { "memory": "128Mi" },
        },
        "volumeMounts": [
            { "name": CONFIG, "mountPath": "/etc/banyan/agent", "readOnly": true },
            { "name": TRUST, "mountPath": "/etc/banyan/trust", "readOnly": true },
            { "name": TOKEN, "mountPath": "/var/run/secrets/tokens", "readOnly": true },
            { "name": STATE, "mountPath": "/var/lib/banyan-agent" },
            { "name": SOCKET, "mountPath": SOCKET_AT },
        ],
    })
}

/// One of its volumes.
pub(super) fn volume(config: &InjectConfig, name: &str) -> Value {
    let mut volume = match name {
        CONFIG => json!({ "downwardAPI": { "items": [{
            "path": "agent.toml",
            "fieldRef": { "fieldPath": format!("metadata.annotations['{SETTINGS}']") },
        }] } }),
        TRUST => json!({ "configMap": {
            "name": config.bundle,
            "items": [{ "key": config.bundle_key, "path": "ca.crt" }],
        } }),
        TOKEN => json!({ "projected": { "sources": [{ "serviceAccountToken": {
            "path": "banyan", "audience": config.audience, "expirationSeconds": 3600,
        } }] } }),
        _ => json!({ "emptyDir": {} }),
    };
    if let Some(volume) = volume.as_object_mut() {
        volume.insert("name".to_owned(), json!(name));
    }
    volume
}

/// Its socket in another container.
pub(super) fn mount() -> Value {
    json!({ "name": SOCKET, "mountPath": SOCKET_AT, "readOnly": true })
}
