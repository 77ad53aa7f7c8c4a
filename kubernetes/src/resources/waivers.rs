//! The controller of Waiver: each object is one waiver of the CA, and a waiver of this place without its object is removed.
//!
//! There is no finalizer: what was deleted while nobody looked is found by comparing both lists, and every waiver ends by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Resource as _, ResourceExt as _};
use proto::banyan::admin::v1::waiver_service_client::WaiverServiceClient;
use proto::banyan::admin::v1::{
    AddWaiverRequest, ListWaiversRequest, RemoveWaiverRequest, Waiver as Known,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use trust::Timestamp;

use super::progress::{Told, put};
use super::types::Waiver;
use crate::api::{ApiError, asked};
use crate::board::Part;
use crate::ca;
use crate::config::ResourcesConfig;
use crate::world::World;

/// How often both lists are compared while nothing changes.
const AGAIN: Duration = Duration::from_secs(30);
/// What the names of waivers of the cluster begin with.
const PREFIX: &str = "kubernetes/";

/// The controller.
pub(crate) struct Waivers {
    world: World,
    part: Part,
    namespace: String,
    objects: Api<Waiver>,
}

impl Waivers {
    pub(crate) fn new(world: World, config: &ResourcesConfig) -> Self {
        let part = world.board.part("resources/waivers");
        let objects = Api::namespaced(world.client.clone(), &config.namespace);
        Self { world, part, namespace: config.namespace.clone(), objects }
    }

    pub(crate) async fn run(self) {
        let stop = self.world.stop.clone();
        Box::pin(stop.run_until_cancelled(self.work())).await;
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

    /// Works until another process does.
    async fn session(&self) {
        let mut news =
            watch(self.objects.clone(), watcher::Config::default()).default_backoff().boxed();
        let mut leading = self.world.leading.clone();
        let (mut objects, mut listing, mut complete) = (BTreeMap::new(), BTreeMap::new(), false);
        while leading.works() {
            tokio::select! {
                Some(event) = news.next() => match event {
                    Ok(Event::Init) => listing = BTreeMap::new(),
                    Ok(Event::InitApply(object)) => {
                        listing.insert(object.name_any(), object);
                    }
                    Ok(Event::InitDone) => {
                        objects = std::mem::take(&mut listing);
                        complete = true;
                    }
                    Ok(Event::Apply(object)) => drop(objects.insert(object.name_any(), object)),
                    Ok(Event::Delete(object)) => drop(objects.remove(&object.name_any())),
                    Err(watcher::Error::InitialListFailed(error)) => self.part.stuck(match ApiError::from(error) {
                        ApiError::Gone(_) => "the cluster does not know Waiver: apply deploy/crds of this version, or remove [resources]".to_owned(),
                        other => other.to_string(),
                    }),
                    Err(other) => tracing::info!(%other, "the watch of Waivers was lost"),
                },
                () = leading.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            if complete {
                self.compare(&objects).await;
            }
        }
    }

    /// Has the CA know what is here, and nothing else of this place.
    async fn compare(&self, objects: &BTreeMap<String, Waiver>) {
        let known = match self.known().await {
            Ok(known) => known,
            Err(failed) => return self.away(objects, &ca::told(&failed)).await,
        };
        let mut wrong = None;
        for name in known.keys() {
            let object = name.strip_prefix(&self.prefix()).unwrap_or_default();
            if !objects.contains_key(object)
                && let Err(failed) = self.remove(name).await
            {
                wrong = Some(format!("waiver {name} of a deleted object: {}", ca::told(&failed)));
            }
        }
        for object in objects.values() {
            match self.reconcile(object, &known).await {
                // Another write came first, and the watch tells of it.
                Ok(()) | Err(ApiError::Changed(_) | ApiError::Gone(_)) => {}
                Err(error) => wrong = Some(format!("{}: {error}", object.name_any())),
            }
        }
        match wrong {
            Some(wrong) => self.part.stuck(wrong),
            None => {
                self.part.ready(trust::plain::counted(objects.len() as u64, "waiver", "waivers"));
            }
        }
    }

    async fn reconcile(
        &self,
        object: &Waiver,
        known: &BTreeMap<String, Known>,
    ) -> Result<(), ApiError> {
        let told = self.told(object);
        let Some(until) = until(object) else {
            let text = format!(
                "spec.until {:?} is no time such as 2027-01-31T18:00:00Z",
                object.spec.until
            );
            return self.write(object, &told, [ACCEPTED_FALSE, &text], None).await;
        };
        let name = self.name(object);
        let covers: BTreeSet<_> = object.spec.covers.iter().map(String::as_str).collect();
        let same = known.get(&name).filter(|known| {
            let its: BTreeSet<_> = known.covers.iter().map(String::as_str).collect();
            known.until == until.as_secs() && its == covers
        });
        if let Some(same) = same {
            return self.write(object, &told, ["Taken", &said(same)], Some(same)).await;
        }
        if until <= self.world.clock.now() {
            let over = format!("it was over at {until} before the CA took it");
            return self.write(object, &told, ["Over", &over], None).await;
        }
        let request = AddWaiverRequest {
            name,
            covers: object.spec.covers.clone(),
            until: until.as_secs(),
            by: format!("Waiver {}/{}", self.namespace, object.name_any()),
            reason: object.spec.reason.clone(),
            force: object.spec.force,
            ..AddWaiverRequest::default()
        };
        match self.client().add_waiver(request).await {
            Ok(answer) => {
                let waiver = answer.into_inner().waiver.unwrap_or_default();
                self.write(object, &told, ["Taken", &said(&waiver)], Some(&waiver)).await
            }
            Err(refusal) => {
                // What stood before under this name stands on, and is not what is asked for.
                let (reason, text) = match refusal.code() {
                    Code::FailedPrecondition => ("Held", refusal.message().to_owned()),
                    Code::InvalidArgument => (ACCEPTED_FALSE, refusal.message().to_owned()),
                    _ => ("CAAway", ca::told(&refusal)),
                };
                let before = known.get(&self.name(object));
                self.write(object, &told, [reason, &text], before).await
            }
        }
    }

    /// The CA does not answer: what it does with any of them is not known.
    async fn away(&self, objects: &BTreeMap<String, Waiver>, why: &str) {
        for object in objects.values() {
            let told = self.told(object);
            if let Err(error) = self.write(object, &told, ["CAAway", why], None).await {
                tracing::info!(%error, waiver = object.name_any(), "a status was not written");
            }
        }
        self.part.stuck(why);
    }

    /// Writes the status if it is another. `stands` is what the CA has under this name.
    async fn write(
        &self,
        object: &Waiver,
        told: &Told,
        [reason, message]: [&str; 2],
        stands: Option<&Known>,
    ) -> Result<(), ApiError> {
        let before = object.status.clone().unwrap_or_default();
        let mut after = before.clone();
        let is_away = reason == "CAAway";
        let accepted = match reason {
            "Taken" => "True",
            "CAAway" => "Unknown",
            _ => "False",
        };
        put(&mut after.conditions, told, ["Accepted", accepted, reason, message]);
        let (is, why) = match stands {
            _ if is_away => ("Unknown", "CAAway"),
            Some(known) if known.stands => ("True", "Stands"),
            Some(_) => ("False", "Over"),
            None => ("False", reason),
        };
        let text = stands.map_or_else(|| message.to_owned(), said);
        put(&mut after.conditions, told, ["Stands", is, why, &text]);
        after.stands = is == "True";
        message.clone_into(&mut after.message);
        if !is_away {
            after.observed_generation = told.generation;
        }
        if before == after {
            return Ok(());
        }
        let changed = Waiver { status: Some(after), ..object.clone() };
        let name = object.name_any();
        asked(self.objects.replace_status(&name, &PostParams::default(), &changed)).await.map(drop)
    }

    /// What the CA has of this place, by name.
    async fn known(&self) -> Result<BTreeMap<String, Known>, Status> {
        let (mut client, mut known, mut after) = (self.client(), BTreeMap::new(), self.prefix());
        loop {
            let page =
                client.list_waivers(ListWaiversRequest { after, limit: 0 }).await?.into_inner();
            let ours = page.waivers.into_iter().filter(|one| one.name.starts_with(&self.prefix()));
            known.extend(ours.map(|waiver| (waiver.name.clone(), waiver)));
            if page.next.is_empty() {
                return Ok(known);
            }
            after = page.next;
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Status> {
        let request = RemoveWaiverRequest {
            name: name.to_owned(),
            by: "banyan kubernetes".to_owned(),
            reason: "its object was deleted".to_owned(),
        };
        self.client().remove_waiver(request).await.map(drop)
    }

    fn client(&self) -> WaiverServiceClient<Channel> {
        WaiverServiceClient::new(self.world.ca.channel())
    }

    fn prefix(&self) -> String {
        format!("{PREFIX}{}/", self.namespace)
    }

    fn name(&self, object: &Waiver) -> String {
        format!("{}{}", self.prefix(), object.name_any())
    }

    fn told(&self, object: &Waiver) -> Told {
        let generation = object.meta().generation.unwrap_or_default();
        Told { generation, now: self.world.clock.now().to_string() }
    }
}

/// Why the CA will not take it as it is.
const ACCEPTED_FALSE: &str = "Refused";

fn until(object: &Waiver) -> Option<Timestamp> {
    let time: Time = serde_json::from_value(object.spec.until.clone().into()).ok()?;
    Some(Timestamp::from_secs(time.0.as_second()))
}

fn said(waiver: &Known) -> String {
    let until = Timestamp::from_secs(waiver.until);
    match waiver.stands {
        true => {
            format!("stands until {until}: no gate waits until whom it covers trusts the bundle")
        }
        false => format!("was over at {until}: gates wait for whom it covered"),
    }
}
