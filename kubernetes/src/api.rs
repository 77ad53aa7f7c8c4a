//! The API of the cluster: a client, and what its failures mean to whoever reads about them.

use std::time::Duration;

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind, Status};

/// Longest wait for one answer.
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(10);

/// What a call came to that brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Another write came first, or the object is there already: read it again.
    #[error("the object changed meanwhile: {0}")]
    Changed(String),
    /// Other field managers own fields that we would write.
    #[error("{0}: stop that writer, and then delete the object")]
    Owned(String),
    /// There is no such object, or none of this kind.
    #[error("not found: {0}")]
    Gone(String),
    /// We are not believed.
    #[error(
        "{0}: the token of this account is not believed (any more); see [cluster] and the file of the token"
    )]
    Unknown(String),
    /// We may not do that.
    #[error("{0}; give this account the right that docs/kubernetes.md lists for it")]
    Forbidden(String),
    /// The object is refused, and will be again.
    #[error("the API server refused it: {0}")]
    Invalid(String),
    /// Nobody answered, or not in time; it is not known whether it was done.
    #[error("the API server gives no answer: {0}")]
    Away(String),
}

impl ApiError {
    /// Whether trying again later may help without anybody's doing.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Changed(_))
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => of_status(&status),
            other => Self::Away(kube_access::cause(&other)),
        }
    }
}

fn of_status(status: &Status) -> ApiError {
    let said = status.message.clone();
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    let owners: Vec<_> = causes
        .unwrap_or_default()
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| format!("{} ({})", cause.message, cause.field))
        .collect();
    let ends =
        causes.unwrap_or_default().iter().any(|cause| cause.reason == "NamespaceTerminating");
    match status.code {
        403 if ends => ApiError::Gone(said),
        409 if !owners.is_empty() => ApiError::Owned(owners.join(", ")),
        409 => ApiError::Changed(said),
        404 | 410 => ApiError::Gone(said),
        401 => ApiError::Unknown(said),
        403 => ApiError::Forbidden(said),
        400 | 413 | 415 | 422 => ApiError::Invalid(said),
        _ => ApiError::Away(said),
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn asked<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL_WITHIN, call).await {
        Ok(answer) => answer.map_err(ApiError::from),
        Err(_) => Err(ApiError::Away(format!("none within {} s", CALL_WITHIN.as_secs()))),
    }
}

/// The first of these versions in which the cluster has a resource: its group, kind and plural.
pub(crate) async fn best(
    client: &Client,
    [group, kind, plural]: [&str; 3],
    versions: &[&str],
) -> Result<Option<ApiResource>, ApiError> {
    for version in versions {
        let versioned = format!("{group}/{version}");
        match asked(client.list_api_group_resources(&versioned)).await {
            Ok(list) if list.resources.iter().any(|one| one.name == plural) => {
                let kind = GroupVersionKind::gvk(group, version, kind);
                return Ok(Some(ApiResource::from_gvk_with_plural(&kind, plural)));
            }
            Ok(_) | Err(ApiError::Gone(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_of_owners_is_told_from_a_write_that_came_first() {
        let status = |text: &str| of_status(&serde_json::from_str(text).unwrap());
        let owned = status(
            r#"{"status":"Failure","code":409,"message":"Apply failed","details":{"causes":[{"reason":"FieldManagerConflict",
            "message":"conflict with \"pilot-discovery\" using v1","field":".data.root-cert.pem"}]}}"#,
        );
        assert_eq!(
            owned.to_string(),
            "conflict with \"pilot-discovery\" using v1 (.data.root-cert.pem): stop that writer, and then delete the object"
        );
        let changed = status(r#"{"status":"Failure","code":409,"message":"modified"}"#);
        assert_eq!(changed, ApiError::Changed("modified".to_owned()));
        let forbidden = status(r#"{"status":"Failure","code":403,"message":"u may not"}"#);
        assert!(forbidden.to_string().contains("docs/kubernetes.md") && !forbidden.is_passing());
        let unknown = status(r#"{"status":"Failure","code":401,"message":"Unauthorized"}"#);
        assert!(unknown.to_string().contains("is not believed") && !unknown.is_passing());
        assert!(status(r#"{"status":"Failure","code":503,"message":"later"}"#).is_passing());
    }
}
