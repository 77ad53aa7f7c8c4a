//! What an answer means for what was asked, and how it is told.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::call::{Call, Verb};

/// How much of an answer is shown that is none of the API of Kubernetes.
const SHOWN_MAX: usize = 120;

/// An answer, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who gave it.
    pub(crate) server: String,
    pub(crate) status: StatusCode,
    /// Seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Bytes,
}

/// What became of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The object is not there.
    Absent,
    /// There is one already.
    Exists,
    /// It is another writing of it that is there.
    Stale,
    /// It was refused: nothing was done.
    Refused,
    /// It was done or not.
    Unknown,
}

/// A refusal in the words of the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    kind: String,
    message: String,
    reason: String,
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    name: String,
    kind: String,
}

impl Answer {
    /// A refusal that was read already.
    pub(crate) fn refusal(server: &str, status: &kube::core::Status) -> Self {
        let body = json!({
            "kind": "Status", "message": status.message, "reason": status.reason,
        });
        Self {
            server: server.to_owned(),
            status: StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            retry_after: None,
            body: body.to_string().into(),
        }
    }

    fn said(&self) -> Option<Status> {
        let status: Status = serde_json::from_slice(&self.body).ok()?;
        (status.kind == "Status").then_some(status)
    }

    pub(crate) fn outcome(&self, call: &Call) -> Outcome {
        if self.status.is_success() {
            return Outcome::Done;
        }
        let said = self.said();
        let reason = said.as_ref().map_or("", |said| &said.reason);
        match self.status {
            // Only the API itself says of an object that it is not there: not a proxy, nor another server.
            StatusCode::NOT_FOUND => match said {
                Some(said)
                    if reason == "NotFound" && Some(&said.details.name) == call.name.as_ref() =>
                {
                    Outcome::Absent
                }
                _ => Outcome::Refused,
            },
            StatusCode::CONFLICT if reason == "AlreadyExists" => Outcome::Exists,
            StatusCode::CONFLICT => Outcome::Stale,
            // A proxy says it of a request whose answer it did not wait for.
            StatusCode::REQUEST_TIMEOUT => Outcome::Unknown,
            status if status.is_client_error() => Outcome::Refused,
            // Also where the etcd below is full: the write that crosses its quota is done, and refused.
            _ => Outcome::Unknown,
        }
    }

    /// The etcd below takes nothing more.
    fn is_full(&self) -> bool {
        self.said().is_some_and(|said| said.message.contains("database space exceeded"))
    }

    /// What the server said, with what can be done about it.
    pub(crate) fn told(&self, call: &Call, namespace: &str) -> String {
        let (server, code) = (&self.server, self.status.as_u16());
        let (verb, plural) = (call.verb.name(), call.kind.plural());
        let Some(said) = self.said() else {
            let text = String::from_utf8_lossy(&self.body);
            let text: String = text.chars().take(SHOWN_MAX).collect();
            return format!(
                "{server} answered {code} to {verb} {plural}, and not as the API of Kubernetes does ({text:?}): check that it is the address of the API"
            );
        };
        let advice = self.advice(call, namespace, &said);
        format!("{server} answered {code} to {verb} {plural}: {}{advice}", said.message)
    }

    fn advice(&self, call: &Call, namespace: &str, said: &Status) -> String {
        let (verb, plural) = (call.verb.name(), call.kind.plural());
        match self.status {
            StatusCode::FORBIDDEN if said.message.contains("cannot ") => format!(
                "; its Role in namespace {namespace} lacks the verb {verb} on {plural}: it needs get, list, watch, create, update and delete on configmaps and secrets (docs/stores.md has the Role)"
            ),
            StatusCode::FORBIDDEN if said.message.contains("exceeded quota") => {
                format!("; raise the ResourceQuota of namespace {namespace}")
            }
            StatusCode::UNAUTHORIZED => {
                "; its credentials are not believed (any more): see the token file, or the user of the kubeconfig".to_owned()
            }
            StatusCode::NOT_FOUND if call.verb == Verb::Create && said.details.kind == "namespaces" => {
                format!("; make it: `kubectl create namespace {namespace}`")
            }
            StatusCode::TOO_MANY_REQUESTS => self.retry_after.map_or_else(String::new, |seconds| {
                format!("; it has too much to do, and asks to wait for {seconds} s")
            }),
            _ if self.is_full() => {
                "; the cluster's etcd is full: its administrator must compact and defragment it, raise --quota-backend-bytes, then `etcdctl alarm disarm`".to_owned()
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Kind;

    fn answer(code: u16, reason: &str, message: &str) -> Answer {
        let body = json!({
            "kind": "Status", "reason": reason, "message": message,
            "details": { "name": "x", "kind": "configmaps" },
        });
        Answer {
            server: "https://k:1".to_owned(),
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: None,
            body: body.to_string().into(),
        }
    }

    fn call(verb: Verb) -> Call {
        Call::new(verb, Kind::ConfigMap, Some("x".to_owned()))
    }

    #[test]
    fn each_answer_says_whether_something_was_done_and_what_nobody_knows_is_unknown() {
        for (code, reason, message, outcome) in [
            (200, "", "", Outcome::Done),
            (201, "", "", Outcome::Done),
            (404, "NotFound", "", Outcome::Absent),
            (409, "AlreadyExists", "", Outcome::Exists),
            (409, "Conflict", "", Outcome::Stale),
            (400, "BadRequest", "", Outcome::Refused),
            (401, "Unauthorized", "", Outcome::Refused),
            (403, "Forbidden", "", Outcome::Refused),
            (413, "RequestEntityTooLarge", "", Outcome::Refused),
            (422, "Invalid", "", Outcome::Refused),
            (429, "TooManyRequests", "", Outcome::Refused),
            (500, "", "etcdserver: mvcc: database space exceeded", Outcome::Unknown),
            (500, "InternalError", "etcdserver: leader changed", Outcome::Unknown),
            (500, "InternalError", "etcdserver: request timed out", Outcome::Unknown),
            (503, "ServiceUnavailable", "", Outcome::Unknown),
            (504, "Timeout", "", Outcome::Unknown),
            (408, "", "", Outcome::Unknown),
            (302, "", "", Outcome::Unknown),
        ] {
            let answer = answer(code, reason, message);
            assert_eq!(answer.outcome(&call(Verb::Update)), outcome, "{code} {reason} {message}");
        }
    }

    #[test]
    fn what_another_server_does_not_have_is_not_missing() {
        let mut other = answer(404, "NotFound", "");
        other.body = "<html>Not Found</html>".into();
        assert_eq!(other.outcome(&call(Verb::Get)), Outcome::Refused);
        let told = other.told(&call(Verb::Get), "ns");
        assert!(told.contains("https://k:1") && told.contains("<html>"), "{told}");
        // A namespace that is not there, say.
        let mut another = call(Verb::Get);
        another.name = Some("y".to_owned());
        assert_eq!(answer(404, "NotFound", "").outcome(&another), Outcome::Refused);
    }

    #[test]
    fn a_missing_right_is_told_apart_from_a_refusal_of_the_cluster() {
        let message = "configmaps is forbidden: User \"ca\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"ns\"";
        let told = answer(403, "Forbidden", message).told(&call(Verb::Create), "ns");
        assert!(told.contains("lacks the verb create on configmaps"), "{told}");
        let quota = "exceeded quota: q, requested: count/configmaps=1";
        let told = answer(403, "Forbidden", quota).told(&call(Verb::Create), "ns");
        assert!(
            !told.contains("lacks the verb") && told.contains("raise the ResourceQuota"),
            "{told}"
        );
    }
}
