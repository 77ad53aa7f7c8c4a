//! What is shown of the CA: a TrustDomain, and a RootAuthority for each of its authorities. They take no words.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Resource, ResourceExt as _};
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::{Authority, ListAuthoritiesRequest, Root};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trust::Timestamp;

use super::progress::{Told, fingerprint, number, put, time};
use super::types::{
    Condition, RootAuthority, RootAuthoritySpec, RootAuthorityStatus, ShownRoot, TrustDomain,
    TrustDomainSpec, TrustDomainStatus,
};
use crate::api::{ApiError, asked};
use crate::board::Part;
use crate::ca::{Known, is_trusted};
use crate::config::ResourcesConfig;
use crate::world::World;

/// How often authorities are asked how they are: the CA asks them in turn.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pause after the API server did not take something.
const AGAIN: Duration = Duration::from_secs(5);

/// What shows the CA.
pub(crate) struct Views {
    world: World,
    part: Part,
    domains: Api<TrustDomain>,
    authorities: Api<RootAuthority>,
}

impl Views {
    pub(crate) fn new(world: World, config: &ResourcesConfig) -> Self {
        let part = world.board.part("resources/views");
        let domains = Api::namespaced(world.client.clone(), &config.namespace);
        let authorities = Api::namespaced(world.client.clone(), &config.namespace);
        Self { world, part, domains, authorities }
    }

    pub(crate) async fn run(self) {
        let stop = self.world.stop.clone();
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let mut leading = self.world.leading.clone();
        loop {
            if !leading.works() {
                self.part.ready(leading.waiting());
                leading.changed().await;
                continue;
            }
            self.session().await;
        }
    }

    async fn session(&self) {
        let config = watcher::Config::default;
        let mut domains = watch(self.domains.clone(), config()).default_backoff().boxed();
        let mut authorities = watch(self.authorities.clone(), config()).default_backoff().boxed();
        let mut shown = (Shown::<TrustDomain>::default(), Shown::<RootAuthority>::default());
        let mut ca = self.world.ca.known();
        let mut leading = self.world.leading.clone();
        let mut listed: Option<(Duration, Vec<Authority>)> = None;
        while leading.works() {
            tokio::select! {
                Some(event) = domains.next() => self.hear(&mut shown.0, event),
                Some(event) = authorities.next() => self.hear(&mut shown.1, event),
                changed = ca.changed() => if changed.is_err() { return },
                () = leading.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !(shown.0.complete && shown.1.complete) {
                continue;
            }
            let (known, now) = (ca.borrow_and_update().clone(), self.world.clock.uptime());
            let due = listed.as_ref().is_none_or(|(at, _)| now.saturating_sub(*at) >= LOOK_EVERY);
            if due && known.away.is_none() {
                listed = self.look().await.map(|authorities| (now, authorities)).or(listed);
            }
            let authorities = listed.as_ref().map(|(_, authorities)| authorities.as_slice());
            match self.show(&known, authorities, &shown).await {
                Ok(()) => self.part.ready("shows the CA"),
                Err(ApiError::Changed(_) | ApiError::Gone(_)) => {}
                Err(error) => {
                    self.part.stuck(error.to_string());
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn hear<K: Resource<DynamicType = ()> + Clone>(
        &self,
        shown: &mut Shown<K>,
        event: Result<Event<K>, watcher::Error>,
    ) {
        match event {
            Ok(event) => shown.hear(event),
            Err(watcher::Error::InitialListFailed(error)) => {
                self.part.stuck(match ApiError::from(error) {
                    ApiError::Gone(_) => format!(
                        "the cluster does not know {}: apply deploy/crds of this version, or remove [resources]",
                        K::kind(&())
                    ),
                    other => other.to_string(),
                });
            }
            Err(other) => tracing::info!(%other, kind = %K::kind(&()), "a watch was lost"),
        }
    }

    async fn look(&self) -> Option<Vec<Authority>> {
        let mut client = AuthorityServiceClient::new(self.world.ca.channel());
        let listed = client.list_authorities(ListAuthoritiesRequest::default()).await;
        listed.ok().map(|listed| listed.into_inner().authorities)
    }

    async fn show(
        &self,
        known: &Known,
        authorities: Option<&[Authority]>,
        shown: &(Shown<TrustDomain>, Shown<RootAuthority>),
    ) -> Result<(), ApiError> {
        let Some(trust) = &known.trust else { return Ok(()) };
        let told = |generation| Told { generation, now: self.world.clock.now().to_string() };
        let name = object_name(&trust.status.trust_domain);
        let object = shown.0.objects.get(&name);
        let object = match object.cloned() {
            Some(object) => object,
            None => made(&self.domains, TrustDomain::new(&name, TrustDomainSpec {})).await?,
        };
        let before = object.status.clone().unwrap_or_default();
        let after = domain(known, trust, &before, &told(generation(&object)));
        if before != after {
            let changed = TrustDomain { status: Some(after), ..object };
            asked(self.domains.replace_status(&name, &PostParams::default(), &changed)).await?;
        }
        let Some(authorities) = authorities else { return Ok(()) };
        for one in authorities {
            let name = object_name(&one.name);
            let object = match shown.1.objects.get(&name).cloned() {
                Some(object) => object,
                None => {
                    made(&self.authorities, RootAuthority::new(&name, RootAuthoritySpec {})).await?
                }
            };
            let before = object.status.clone().unwrap_or_default();
            let after = authority(one, &before, &told(generation(&object)));
            if before != after {
                let changed = RootAuthority { status: Some(after), ..object };
                asked(self.authorities.replace_status(&name, &PostParams::default(), &changed))
                    .await?;
            }
        }
        let names: Vec<_> = authorities.iter().map(|one| object_name(&one.name)).collect();
        for name in shown.1.objects.keys().filter(|name| !names.contains(name)) {
            asked(self.authorities.delete(name, &DeleteParams::default())).await?;
        }
        Ok(())
    }
}

/// What is there of one kind.
struct Shown<K> {
    objects: BTreeMap<String, K>,
    listing: BTreeMap<String, K>,
    complete: bool,
}

impl<K> Default for Shown<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listing: BTreeMap::new(), complete: false }
    }
}

impl<K: Resource<DynamicType = ()>> Shown<K> {
    fn hear(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.listing = BTreeMap::new(),
            Event::InitApply(object) => drop(self.listing.insert(object.name_any(), object)),
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => drop(self.objects.insert(object.name_any(), object)),
            Event::Delete(object) => drop(self.objects.remove(&object.name_any())),
        }
    }
}

async fn made<K>(api: &Api<K>, object: K) -> Result<K, ApiError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
{
    asked(api.create(&PostParams::default(), &object)).await
}

fn generation<K: Resource>(object: &K) -> i64 {
    object.meta().generation.unwrap_or_default()
}

/// A name as objects have them.
fn object_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn domain(
    known: &Known,
    trust: &crate::ca::Trust,
    before: &TrustDomainStatus,
    told: &Told,
) -> TrustDomainStatus {
    let status = &trust.status;
    let mut shown = TrustDomainStatus {
        trust_domain: status.trust_domain.clone(),
        ca_id: status.ca_id.clone(),
        healthy: status.healthy && known.away.is_none(),
        problems: status.conditions.clone(),
        waiting: status.waiting.clone(),
        phase: trust.rotation.phase.clone(),
        sequence: number(trust.bundle.sequence().0),
        bundle_roots: number(u64::try_from(trust.bundle.roots().len()).unwrap_or(u64::MAX)),
        issuer_not_after: time(status.issuer_not_after),
        roots: trust.roots.iter().map(root).collect(),
        conditions: before.conditions.clone(),
    };
    let (available, healthy): ([&str; 3], [&str; 3]) = match &known.away {
        Some(away) => (["False", "CAAway", away], ["Unknown", "CAAway", away]),
        None if status.healthy => (["True", "Answers", ""], ["True", "Healthy", ""]),
        None => {
            let first = status.conditions.first().map_or("", String::as_str);
            (["True", "Answers", ""], ["False", "Problems", first])
        }
    };
    let [is, reason, message] = available;
    put(&mut shown.conditions, told, ["Available", is, reason, message]);
    let [is, reason, message] = healthy;
    put(&mut shown.conditions, told, ["Healthy", is, reason, message]);
    shown
}

fn root(root: &Root) -> ShownRoot {
    ShownRoot {
        id: fingerprint(&root.id).unwrap_or_default(),
        state: root.state.clone(),
        authority: root.authority.clone(),
        subject: root.subject.clone(),
        not_after: Timestamp::from_secs(root.not_after).to_string(),
        trusted: is_trusted(root),
    }
}

fn authority(one: &Authority, before: &RootAuthorityStatus, told: &Told) -> RootAuthorityStatus {
    let mut shown = RootAuthorityStatus {
        name: one.name.clone(),
        plugin: format!("{} {}", one.plugin, one.version),
        health: one.health.clone(),
        detail: one.detail.clone(),
        signs: one.signs,
        preferred: one.preferred,
        exclusive: one.exclusive,
        capabilities: one.capabilities.clone(),
        drift: one.drift.clone(),
        conditions: before.conditions.clone(),
    };
    let (is, reason) = match one.health.as_str() {
        "ok" => ("True", "Ok"),
        "degraded" => ("False", "Degraded"),
        _ => ("False", "Down"),
    };
    let mut conditions: Vec<Condition> = std::mem::take(&mut shown.conditions);
    put(&mut conditions, told, ["Healthy", is, reason, &one.detail]);
    shown.conditions = conditions;
    shown
}
