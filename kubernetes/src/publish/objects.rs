//! The objects of a channel at the API server: listed, watched, written, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions, ValidationDirective,
};
use kube::core::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_objects};
use serde_json::{Map, Value, json};

use super::content::{Content, Shape};
use super::seen::{Key, Seen};
use crate::api::{self, ApiError, asked};
use crate::config::{ChannelKind, Namespaces};

/// Who owns the fields that are written here.
const MANAGER: &str = "banyan";
/// A version that no object has: who names it writes only what is not there.
const ABSENT: &str = "1";
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Versions of ClusterTrustBundle, the best first.
const BUNDLE_VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const BUNDLES: [&str; 3] = ["certificates.k8s.io", "ClusterTrustBundle", "clustertrustbundles"];

/// Where a channel's objects are.
pub(crate) struct Objects {
    client: Client,
    resource: ApiResource,
    scopes: Vec<Scope>,
    shape: Arc<Shape>,
}

/// What one list or watch is about.
struct Scope {
    api: Api<DynamicObject>,
    fields: String,
}

/// What a watch says.
#[derive(Debug)]
pub(crate) enum News {
    /// A list of a scope begins.
    Begins(usize),
    /// An object is there.
    Object(usize, Key, Seen),
    /// The list of a scope is complete.
    Complete(usize),
    /// An object is gone; what it was at the end.
    Gone(Key, Seen),
    /// A list of namespaces begins.
    NamespacesBegin,
    /// A namespace is there, and objects may be made in it or not.
    Namespace(String, bool),
    /// That list is complete.
    NamespacesComplete,
    /// A namespace is gone, or no longer one of those.
    NamespaceGone(String),
    /// It was lost, and is tried again.
    Lost(String),
}

impl Objects {
    /// Finds out which version of them this cluster has.
    pub(crate) async fn find(client: Client, shape: Arc<Shape>) -> Result<Self, ApiError> {
        let resource = match shape.resource() {
            Some(resource) => resource,
            None => bundles(&client).await?,
        };
        let all = || Api::<DynamicObject>::all_with(client.clone(), &resource);
        let scopes = match &shape.config().kind {
            ChannelKind::PerNamespace { name, namespaces, .. } => {
                let fields = format!("metadata.name={name}");
                match namespaces {
                    Namespaces::Selected(_) => vec![Scope { api: all(), fields }],
                    Namespaces::Named(named) => named
                        .iter()
                        .map(|namespace| Scope {
                            api: Api::namespaced_with(client.clone(), namespace, &resource),
                            fields: fields.clone(),
                        })
                        .collect(),
                }
            }
            ChannelKind::Webhook { name, .. } => {
                vec![Scope { api: all(), fields: format!("metadata.name={name}") }]
            }
            ChannelKind::ClusterTrustBundle { signer, .. } => {
                vec![Scope { api: all(), fields: format!("spec.signerName={signer}") }]
            }
        };
        Ok(Self { client, resource, scopes, shape })
    }

    /// What each list and watch of objects is about: one namespace, or all.
    pub(crate) fn scopes(&self) -> Vec<Option<String>> {
        self.scopes.iter().map(|scope| scope.api.namespace().map(str::to_owned)).collect()
    }

    /// Namespaces by their labels, where a channel has such.
    fn selector(&self) -> Option<Option<String>> {
        match &self.shape.config().kind {
            ChannelKind::PerNamespace { namespaces: Namespaces::Selected(selector), .. } => {
                Some(selector.clone())
            }
            _ => None,
        }
    }

    /// Namespaces that are named; the cluster itself for objects of no namespace.
    pub(crate) fn fixed(&self) -> Option<BTreeSet<String>> {
        match &self.shape.config().kind {
            ChannelKind::PerNamespace { namespaces: Namespaces::Named(named), .. } => {
                Some(named.clone())
            }
            ChannelKind::PerNamespace { .. } => None,
            ChannelKind::Webhook { .. } | ChannelKind::ClusterTrustBundle { .. } => {
                Some(BTreeSet::from([String::new()]))
            }
        }
    }

    /// Everything that happens to them, and to the namespaces; it goes on after it was lost.
    pub(crate) fn watch(&self) -> SelectAll<BoxStream<'static, News>> {
        let mut all = SelectAll::new();
        for (number, scope) in self.scopes.iter().enumerate() {
            let config = watcher::Config::default().fields(&scope.fields);
            let shape = Arc::clone(&self.shape);
            let seen = move |object: &DynamicObject| (Key::of(object), Seen::of(object, &shape));
            let news = watch_objects(scope.api.clone(), config).default_backoff();
            let news = news.map(move |event| match event {
                Ok(Event::Init) => News::Begins(number),
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    let (key, seen) = seen(&object);
                    News::Object(number, key, seen)
                }
                Ok(Event::InitDone) => News::Complete(number),
                Ok(Event::Delete(object)) => {
                    let (key, seen) = seen(&object);
                    News::Gone(key, seen)
                }
                Err(error) => News::Lost(lost(error).to_string()),
            });
            all.push(news.boxed());
        }
        if let Some(selector) = self.selector() {
            let config = watcher::Config { label_selector: selector, ..Default::default() };
            let namespaces = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
            let news = watch_objects(namespaces, config).default_backoff();
            let news = news.map(|event| match event {
                Ok(Event::Init) => News::NamespacesBegin,
                Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => {
                    let (name, open) = namespace_of(namespace.metadata);
                    News::Namespace(name, open)
                }
                Ok(Event::InitDone) => News::NamespacesComplete,
                Ok(Event::Delete(namespace)) => {
                    News::NamespaceGone(namespace.metadata.name.unwrap_or_default())
                }
                Err(error) => News::Lost(lost(error).to_string()),
            });
            all.push(news.boxed());
        }
        // A stream that could end would end the select: none does.
        all.push(stream::pending().boxed());
        all
    }

    /// All of them, as they are now.
    pub(crate) async fn list(&self) -> Result<BTreeMap<Key, Seen>, ApiError> {
        let mut all = BTreeMap::new();
        for scope in &self.scopes {
            let mut page = ListParams::default().fields(&scope.fields).limit(PAGE);
            loop {
                let objects = asked(scope.api.list(&page)).await?;
                let seen =
                    |object: &DynamicObject| (Key::of(object), Seen::of(object, &self.shape));
                all.extend(objects.items.iter().map(seen));
                match objects.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => page = page.continue_token(&next),
                    None => break,
                }
            }
        }
        Ok(all)
    }

    /// The namespaces in which objects shall be, as they are now.
    pub(crate) async fn namespaces(&self) -> Result<BTreeSet<String>, ApiError> {
        if let Some(fixed) = self.fixed() {
            return Ok(fixed);
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let mut page = ListParams::default().limit(PAGE);
        page.label_selector = self.selector().flatten();
        let mut all = BTreeSet::new();
        loop {
            let namespaces = asked(api.list_metadata(&page)).await?;
            let open = namespaces.items.into_iter().map(|one| namespace_of(one.metadata));
            all.extend(open.filter(|(_, open)| *open).map(|(name, _)| name));
            match namespaces.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(all),
            }
        }
    }

    /// Writes one, if it still is what was seen.
    pub(crate) async fn write(
        &self,
        key: &Key,
        content: &Content,
        seen: Option<&Seen>,
    ) -> Result<Seen, ApiError> {
        let mut metadata = json!({
            "name": key.name,
            "labels": content.labels,
            "annotations": content.annotations,
            "resourceVersion": seen.map_or(ABSENT, |seen| &seen.version),
        });
        if let (Some(seen), Some(metadata)) = (seen, metadata.as_object_mut()) {
            // One that was deleted meanwhile is not made again with what it had.
            metadata.insert("uid".to_owned(), json!(seen.uid));
        }
        let mut object: Map<String, Value> = content.body.clone();
        object.insert("apiVersion".to_owned(), json!(self.resource.api_version));
        object.insert("kind".to_owned(), json!(self.resource.kind));
        object.insert("metadata".to_owned(), metadata);
        let mut options = PatchParams::apply(MANAGER);
        options.field_validation = Some(ValidationDirective::Strict);
        let patch = Patch::Apply(Value::Object(object));
        let written = asked(self.api(key).patch(&key.name, &options, &patch)).await?;
        Ok(Seen::of(&written, &self.shape))
    }

    /// Deletes one, if it still is what was seen.
    pub(crate) async fn delete(&self, key: &Key, seen: &Seen) -> Result<(), ApiError> {
        let preconditions = Preconditions {
            resource_version: Some(seen.version.clone()),
            uid: Some(seen.uid.clone()),
        };
        let options = DeleteParams { preconditions: Some(preconditions), ..Default::default() };
        asked(self.api(key).delete(&key.name, &options)).await.map(drop)
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        match key.namespace.is_empty() {
            true => Api::all_with(self.client.clone(), &self.resource),
            false => Api::namespaced_with(self.client.clone(), &key.namespace, &self.resource),
        }
    }
}

/// Its name, and whether objects can be made in it: not while it is being deleted.
fn namespace_of(metadata: ObjectMeta) -> (String, bool) {
    (metadata.name.unwrap_or_default(), metadata.deletion_timestamp.is_none())
}

fn lost(error: watcher::Error) -> ApiError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
        watcher::Error::NoResourceVersion => ApiError::Invalid(error.to_string()),
    }
}

/// The best version of ClusterTrustBundle that this cluster has.
async fn bundles(client: &Client) -> Result<ApiResource, ApiError> {
    let found = api::best(client, BUNDLES, &BUNDLE_VERSIONS).await?;
    found.ok_or_else(|| ApiError::Gone(
        "this cluster has no ClusterTrustBundle: take Kubernetes 1.37 or later, or turn on its feature gate and API version, or remove this channel".to_owned(),
    ))
}
