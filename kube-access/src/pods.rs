//! Pods as the API has them, as far as anybody here reads them, and where they are listed and watched.

use http::StatusCode;
use serde::Deserialize;

/// Largest page of a list of Pods, in bytes.
pub const POD_PAGE_BYTES: usize = 64 * 1024 * 1024;
/// How many are asked for at a time.
const PAGE: usize = 250;
/// Seconds after which the server ends a watch in order.
const WATCH_LASTS: u32 = 290;

/// A Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PodObject {
    pub metadata: PodMeta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

/// What is known of every object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PodMeta {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// Where it runs, and as whom.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PodSpec {
    pub node_name: String,
    pub service_account_name: String,
}

/// How it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PodStatus {
    pub phase: String,
}

impl PodStatus {
    /// Whether all of its containers have ended for good.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        ["Succeeded", "Failed"].contains(&self.phase.as_str())
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PodList {
    pub metadata: PodListMeta,
    pub items: Vec<PodObject>,
}

/// From where the list goes on, if it does, and where a watch begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PodListMeta {
    pub resource_version: String,
    pub r#continue: String,
}

/// Path of a page of the Pods of one node, or of all; `from` is where the page before says that the list goes on.
#[must_use]
pub fn pods_listed(node: Option<&str>, from: &str) -> String {
    let more = if from.is_empty() { String::new() } else { format!("&continue={}", encoded(from)) };
    format!("/api/v1/pods?limit={PAGE}{}{more}", of_node(node))
}

/// Path of a watch of the same from a version on. The server ends it after some minutes.
#[must_use]
pub fn pods_watched(node: Option<&str>, version: &str) -> String {
    format!(
        "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_LASTS}&resourceVersion={}{}",
        encoded(version),
        of_node(node)
    )
}

fn of_node(node: Option<&str>) -> String {
    node.map(|node| format!("&fieldSelector=spec.nodeName%3D{}", encoded(node))).unwrap_or_default()
}

/// Whether a watch's status says that only a list helps: what it goes by is forgotten (410), or yet to come (504), as where a
/// cluster was restored from a backup and counts on from before.
#[must_use]
pub const fn is_expired(code: u16) -> bool {
    code == StatusCode::GONE.as_u16() || code == StatusCode::GATEWAY_TIMEOUT.as_u16()
}

/// Text as a value of a query.
#[must_use]
pub fn encoded(value: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_bounded_and_a_value_is_never_another_parameter() {
        assert_eq!(pods_listed(None, ""), "/api/v1/pods?limit=250");
        assert_eq!(
            pods_listed(Some("a&b"), "x=/+"),
            "/api/v1/pods?limit=250&fieldSelector=spec.nodeName%3Da%26b&continue=x%3D%2F%2B"
        );
        assert_eq!(
            pods_watched(Some("n1"), "7"),
            "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=7&fieldSelector=spec.nodeName%3Dn1"
        );
    }
}
