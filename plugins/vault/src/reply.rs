//! What the server is asked, and what its refusals mean.

use std::time::Duration;

use plugin_http::{Answer, Method, StatusCode};
use plugins::PluginError;
use serde_json::Value;

/// Longest part of a server's own words in an error.
const WORDS_MAX: usize = 256;
/// How long to wait where the server does not say.
const WAIT: Duration = Duration::from_secs(5);

/// One request: a path below `/v1/`, without the slash in front.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
}

impl Ask {
    pub(crate) fn read(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    pub(crate) fn list(path: impl Into<String>) -> Self {
        Self::read(format!("{}?list=true", path.into()))
    }

    pub(crate) fn write(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body) }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: None }
    }

    fn is_list(&self) -> bool {
        self.path.ends_with("?list=true")
    }

    fn bare(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The line of a policy that permits this.
    pub(crate) fn policy(&self) -> String {
        let mut parts: Vec<&str> = self.bare().split('/').collect();
        let ids: Vec<usize> = (1..parts.len())
            .filter(|at| matches!(parts.get(at - 1), Some(&"issuer" | &"key")))
            .collect();
        for at in ids {
            if let Some(part) = parts.get_mut(at) {
                *part = "+";
            }
        }
        let capability = match self.method {
            Method::GET if self.is_list() => "list",
            Method::GET => "read",
            Method::DELETE => "delete",
            _ => "update",
        };
        format!("path \"{}\" {{ capabilities = [\"{capability}\"] }}", parts.join("/"))
    }
}

/// The data of an answer, or what its status means. A list of nothing is null; 403 is for the caller to explain.
pub(crate) fn judge(ask: &Ask, answer: &Answer) -> Result<Value, PluginError> {
    let words = words(&answer.body);
    let asked = format!("{} {}", ask.method, ask.bare());
    let told = || if words.is_empty() { "no reason given".to_owned() } else { words.clone() };
    let has = |text: &str| words.contains(text);
    match answer.status.as_u16() {
        200..=299 => Ok(answer.body.get("data").cloned().unwrap_or(Value::Null)),
        404 if has("namespace not found") => {
            Err(misconfigured("namespace", "does not exist on the server"))
        }
        404 if has("no handler for route") => Err(no_mount(ask)),
        404 if ask.is_list() && words.is_empty() => Ok(Value::Null),
        404 if has("unsupported path") => {
            let detail = format!(
                "{asked} is unknown there; is it a PKI secrets engine, and the server recent?"
            );
            Err(misconfigured("mount", &detail))
        }
        429 => Err(PluginError::RateLimited { retry_after: answer.retry_after.unwrap_or(WAIT) }),
        503 if has("sealed") => Err(PluginError::AuthorityDown { detail: sealed() }),
        502..=504 => Err(PluginError::AuthorityDown {
            detail: format!("{asked}: {} ({})", told(), answer.status),
        }),
        500 if has("unable to find PKI") => {
            Err(PluginError::denied(format!("{asked}: {}", told())))
        }
        400 | 404 | 405 => Err(PluginError::denied(format!("{asked}: {}", told()))),
        403 => Err(PluginError::denied(format!(
            "{asked} is not permitted; add to the policy: {}",
            ask.policy()
        ))),
        412 | 500..=599 => Err(PluginError::Transient {
            detail: format!("{asked}: {} ({})", told(), answer.status),
        }),
        _ => {
            let detail = format!(
                "{asked} was answered with {}: {}; is this an OpenBao or Vault?",
                answer.status,
                told()
            );
            Err(PluginError::Permanent { detail })
        }
    }
}

/// What a sealed server needs.
pub(crate) fn sealed() -> String {
    "the server is sealed; unseal it (`bao operator unseal`), and everything here goes on by itself"
        .to_owned()
}

/// What `sys/health` says against serving; nothing of an active server or a standby that passes requests on.
pub(crate) fn unfit(answer: &Answer) -> Option<String> {
    let is = |field: &str| answer.body.get(field).and_then(Value::as_bool);
    match answer.status {
        _ if is("initialized") == Some(false) => {
            Some("the server was never initialised; run `bao operator init`".to_owned())
        }
        _ if is("sealed") == Some(true) => Some(sealed()),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Some(format!("what stands before the server answers with {}", answer.status))
        }
        _ => None,
    }
}

/// The server's own words, in one short line.
pub(crate) fn words(body: &Value) -> String {
    let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten();
    let mut line = String::new();
    for error in errors.filter_map(Value::as_str) {
        let plain: String = error.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        let plain = plain.strip_prefix("1 error occurred: * ").unwrap_or(&plain);
        if !line.is_empty() {
            line.push_str("; ");
        }
        line.push_str(plain);
    }
    line.chars().take(WORDS_MAX).collect()
}

pub(crate) fn misconfigured(field: &str, detail: &str) -> PluginError {
    PluginError::Misconfigured { field: field.to_owned(), detail: detail.to_owned() }
}

fn no_mount(ask: &Ask) -> PluginError {
    match ask.bare().strip_prefix("auth/") {
        Some(rest) => {
            let path = rest.trim_end_matches("/login");
            misconfigured(
                "auth.path",
                &format!("nothing is mounted at auth/{path}; enable the method there"),
            )
        }
        None => {
            let detail = format!(
                "{} leads nowhere: nothing is mounted there; write the path of a PKI secrets engine, and its namespace",
                ask.bare()
            );
            misconfigured("mount", &detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: u16, errors: &[&str]) -> PluginError {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: json!({ "errors": errors }),
        };
        judge(&Ask::write("pki/issuer/0-1/sign-intermediate", json!({})), &answer).unwrap_err()
    }

    #[test]
    fn each_refusal_says_what_to_do_next() {
        assert!(
            matches!(judged(503, &["Vault is sealed"]), PluginError::AuthorityDown { detail } if detail.contains("unseal"))
        );
        assert!(matches!(judged(429, &[]), PluginError::RateLimited { .. }));
        assert!(
            matches!(judged(404, &["no handler for route \"pki/\""]), PluginError::Misconfigured { field, .. } if field == "mount")
        );
        assert!(
            matches!(judged(404, &["namespace not found"]), PluginError::Misconfigured { field, .. } if field == "namespace")
        );
        assert!(matches!(judged(500, &["x"]), PluginError::Transient { .. }));
        assert!(matches!(judged(400, &["x"]), PluginError::Denied { .. }));
        assert!(matches!(judged(418, &[]), PluginError::Permanent { .. }));
    }

    #[test]
    fn a_policy_line_permits_every_issuer_of_the_mount() {
        for (ask, line) in [
            (
                Ask::write("a/pki/issuer/0-1/sign-intermediate", json!({})),
                r#"path "a/pki/issuer/+/sign-intermediate" { capabilities = ["update"] }"#,
            ),
            (Ask::read("pki/issuer/default"), r#"path "pki/issuer/+" { capabilities = ["read"] }"#),
            (Ask::list("pki/issuers"), r#"path "pki/issuers" { capabilities = ["list"] }"#),
            (Ask::delete("pki/key/0-1"), r#"path "pki/key/+" { capabilities = ["delete"] }"#),
        ] {
            assert_eq!(ask.policy(), line);
        }
    }

    #[test]
    fn the_server_s_words_are_one_short_plain_line() {
        let body =
            json!({ "errors": ["1 error occurred:\n\t* a\u{1b}[31m b\n\n", "x".repeat(999)] });
        let line = words(&body);
        assert!(line.starts_with("a [31m b; xxx") && line.len() == WORDS_MAX, "{line}");
    }
}
