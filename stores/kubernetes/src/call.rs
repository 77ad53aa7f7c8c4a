//! What is asked: one request for objects of one kind.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use kube_access::encoded;

use crate::names::Kind;

const JSON: &str = "application/json";
/// The metadata of objects alone: nobody reads a secret who only wants to know where to look.
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
pub(crate) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What a right is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Delete,
}

impl Verb {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    const fn method(self) -> Method {
        match self {
            Self::Get | Self::List | Self::Watch => Method::GET,
            Self::Create => Method::POST,
            Self::Update => Method::PUT,
            Self::Delete => Method::DELETE,
        }
    }

    pub(crate) const fn is_reading(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A request for objects of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) kind: Kind,
    /// An object, or all of them.
    pub(crate) name: Option<String>,
    /// `name=value`, encoded, each.
    pub(crate) query: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) accept: &'static str,
    /// Largest answer that is taken.
    pub(crate) answer_bytes_max: usize,
}

impl Call {
    pub(crate) fn new(verb: Verb, kind: Kind, name: Option<String>) -> Self {
        let (query, body) = (Vec::new(), Vec::new());
        // An object is 1 MiB at most, as base64 a third more.
        let answer_bytes_max = 4 * 1024 * 1024;
        Self { verb, kind, name, query, body, accept: JSON, answer_bytes_max }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.query.push(format!("{name}={}", encoded(value)));
        self
    }

    #[must_use]
    pub(crate) fn accepting(self, accept: &'static str, answer_bytes_max: usize) -> Self {
        Self { accept, answer_bytes_max, ..self }
    }

    #[must_use]
    pub(crate) fn sending(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    pub(crate) fn request<B: From<Vec<u8>>>(&self, namespace: &str) -> Result<Request<B>, String> {
        let mut path = format!("/api/v1/namespaces/{namespace}/{}", self.kind.plural());
        if let Some(name) = &self.name {
            path.push('/');
            path.push_str(name);
        }
        if !self.query.is_empty() {
            path.push('?');
            path.push_str(&self.query.join("&"));
        }
        let request = Request::builder().method(self.verb.method()).uri(path);
        let request = request.header(ACCEPT, self.accept).header(CONTENT_TYPE, JSON);
        request.body(B::from(self.body.clone())).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_object_and_encodes_its_query() {
        let call = Call::new(Verb::List, Kind::Secret, None)
            .with("labelSelector", "a.io/b=c,d=e")
            .with("continue", "ab+/=");
        let request: Request<Vec<u8>> = call.request("ns").unwrap();
        assert_eq!(
            request.uri(),
            "/api/v1/namespaces/ns/secrets?labelSelector=a.io%2Fb%3Dc%2Cd%3De&continue=ab%2B%2F%3D"
        );
        let call = Call::new(Verb::Delete, Kind::ConfigMap, Some("x.y".to_owned()));
        let request: Request<Vec<u8>> = call.request("ns").unwrap();
        assert_eq!(request.uri(), "/api/v1/namespaces/ns/configmaps/x.y");
        assert_eq!(request.method(), Method::DELETE);
    }
}
