//! CertificateRequests of one namespace, over the API of the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use kube_access::{Answered, CallFailed, Connections, exchanged};
use plugins::PluginError;
use serde_json::Value;
use trust::Clock;

use crate::config::Settings;

/// Largest answer that is taken.
const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Characters of what the API server says that are told.
const WORDS_MAX: usize = 300;
/// What an operator reads of rights.
const RIGHTS: &str = "give this account the rights that docs/plugins/cert-manager.md lists";
/// How long a missing right may be one that was given and is not in force yet: an API server learns of it a moment later, and
/// behind one address there may be several.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(60);

/// The requests.
#[derive(Debug)]
pub(crate) struct Requests {
    connections: Connections,
    path: String,
    clock: Arc<dyn Clock>,
    forbidden: Forbidden,
}

/// What was forbidden when it was last asked for, by verb, and since when in uptime.
#[derive(Debug, Default)]
struct Forbidden(Mutex<BTreeMap<&'static str, Duration>>);

impl Forbidden {
    /// It is not any more.
    fn is_over(&self, verb: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(verb);
    }

    /// It is; answers whether that may pass by itself.
    fn is_so(&self, verb: &'static str, now: Duration) -> bool {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_sub(*since.entry(verb).or_insert(now)) < IN_FORCE_WITHIN
    }
}

impl Requests {
    pub(crate) fn of(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let path = format!(
            "/apis/cert-manager.io/v1/namespaces/{}/certificaterequests",
            settings.namespace
        );
        let connections = Connections::new(settings.access.clone());
        Self { connections, path, clock, forbidden: Forbidden::default() }
    }

    /// One of them; none if it is not there.
    pub(crate) async fn find(
        &self,
        name: &str,
        within: Duration,
    ) -> Result<Option<Value>, PluginError> {
        let path = format!("{}/{name}", self.path);
        let answer = self.ask("get", &path, None, within).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => self.read("get", &answer).map(Some),
        }
    }

    /// Those with a label.
    pub(crate) async fn labelled(
        &self,
        [label, value]: [&str; 2],
        within: Duration,
    ) -> Result<Vec<Value>, PluginError> {
        let path = format!("{}?labelSelector={label}%3D{value}", self.path);
        let answer = self.ask("list", &path, None, within).await?;
        if answer.status == StatusCode::NOT_FOUND {
            let detail = "the cluster has no CertificateRequest: install cert-manager".to_owned();
            return Err(PluginError::AuthorityDown { detail });
        }
        match self.read("list", &answer)?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Makes one; whether it was not there yet.
    pub(crate) async fn make(&self, object: &Value, within: Duration) -> Result<bool, PluginError> {
        let body = object.to_string().into_bytes();
        let answer = self.ask("create", &self.path, Some(body), within).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(false),
            StatusCode::NOT_FOUND => {
                let detail = "the cluster has no CertificateRequest, or not this namespace: install cert-manager, and compare `namespace`";
                Err(PluginError::AuthorityDown { detail: detail.to_owned() })
            }
            _ => self.read("create", &answer).map(|_| true),
        }
    }

    /// Deletes one, if it is there.
    pub(crate) async fn delete(&self, name: &str, within: Duration) -> Result<(), PluginError> {
        let path = format!("{}/{name}", self.path);
        let answer = self.ask("delete", &path, None, within).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            _ => self.read("delete", &answer).map(drop),
        }
    }

    async fn ask(
        &self,
        verb: &'static str,
        path: &str,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<Answered, PluginError> {
        let down = |detail: String| PluginError::AuthorityDown { detail };
        let method = match verb {
            "create" => Method::POST,
            "delete" => Method::DELETE,
            _ => Method::GET,
        };
        let asking = async {
            let connection = self.connections.one().await.map_err(down)?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/json")
                .body(body.unwrap_or_default().into())
                .map_err(|error| PluginError::Permanent { detail: format!("{path}: {error}") })?;
            let answered = exchanged(&connection, request, ANSWER_MAX).await;
            let refused = |answer: &Answered| answer.status == StatusCode::UNAUTHORIZED;
            // Its files are read anew for the next call.
            if answered.as_ref().map_or(true, refused) {
                self.connections.leave(&connection);
            }
            answered.map_err(|failed| match failed {
                CallFailed::NotSent(why) => down(why),
                CallFailed::NoAnswer(detail) => PluginError::Transient { detail },
                CallFailed::TooLarge => PluginError::Permanent {
                    detail: format!(
                        "{path} has more than {ANSWER_MAX} bytes: delete old CertificateRequests"
                    ),
                },
            })
        };
        let late = |_| down(format!("the cluster gave no answer within {} s", within.as_secs()));
        let answered = tokio::time::timeout(within, asking).await.map_err(late)??;
        if answered.status != StatusCode::FORBIDDEN {
            self.forbidden.is_over(verb);
        }
        Ok(answered)
    }

    /// What it says, unless that is a refusal.
    fn read(&self, verb: &'static str, answer: &Answered) -> Result<Value, PluginError> {
        let status = answer.status;
        if status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|error| PluginError::Transient {
                detail: format!(
                    "the cluster's answer is not as expected, at column {}",
                    error.column()
                ),
            });
        }
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let said = said.get("message").and_then(Value::as_str).unwrap_or_default();
        let said: String = said.chars().filter(|one| !one.is_control()).take(WORDS_MAX).collect();
        Err(match status {
            StatusCode::UNAUTHORIZED => PluginError::AuthorityDown {
                detail: "the cluster does not believe the token of this account".to_owned(),
            },
            StatusCode::FORBIDDEN if self.forbidden.is_so(verb, self.clock.uptime()) => {
                let detail = format!(
                    "{said}; {RIGHTS}, if they were not given a moment ago: that is in force a little later, and it is asked again"
                );
                PluginError::Transient { detail }
            }
            StatusCode::FORBIDDEN => PluginError::denied(format!("{said}; {RIGHTS}")),
            StatusCode::TOO_MANY_REQUESTS => PluginError::RateLimited {
                retry_after: Duration::from_secs(answer.retry_after.unwrap_or(1).into()),
            },
            status if status.is_server_error() => {
                PluginError::AuthorityDown { detail: format!("{status}: {said}") }
            }
            status => PluginError::denied(format!("{status}: {said}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_passes_for_one_that_comes_for_a_minute_and_each_verb_by_itself() {
        let (forbidden, at) = (Forbidden::default(), Duration::from_secs);
        assert!(forbidden.is_so("create", at(100)));
        assert!(forbidden.is_so("create", at(159)));
        // Another verb that is allowed says nothing of this one.
        forbidden.is_over("get");
        assert!(!forbidden.is_so("create", at(160)));
        assert!(forbidden.is_so("delete", at(160)));
        forbidden.is_over("create");
        assert!(forbidden.is_so("create", at(1_000)));
    }
}
