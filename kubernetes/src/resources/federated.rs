//! The controller of FederatedTrustDomain: each object is one federation of the CA, and a federation of this place without its object
//! is removed.
//!
//! There is no finalizer: what was deleted while nobody looked is found by comparing both lists.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Resource as _, ResourceExt as _};
use proto::banyan::admin::v1::federation_service_client::FederationServiceClient;
use proto::banyan::admin::v1::{
    AddFederationRequest, Federation, ListFederationsRequest, RemoveFederationRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use trust::plain::counted;
use trust::{RootId, Timestamp};

use super::federated_types::{FederatedTrustDomain, FederatedTrustDomainStatus};
use super::progress::{Told, put};
use crate::api::{ApiError, asked};
use crate::board::Part;
use crate::ca;
use crate::config::ResourcesConfig;
use crate::world::World;

/// How often both lists are compared while nothing changes here.
const AGAIN: Duration = Duration::from_secs(10);
/// What the keepers of federations of the cluster begin with.
const PREFIX: &str = "kubernetes/";
/// The CA does not answer.
const AWAY: &str = "CAAway";

/// The controller.
pub(crate) struct FederatedTrustDomains {
    world: World,
    part: Part,
    namespace: String,
    objects: Api<FederatedTrustDomain>,
}

type Objects = BTreeMap<String, FederatedTrustDomain>;

impl FederatedTrustDomains {
    pub(crate) fn new(world: World, config: &ResourcesConfig) -> Self {
        let part = world.board.part("resources/federated-trust-domains");
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
        let (mut objects, mut listing, mut complete) = (Objects::new(), Objects::new(), false);
        while leading.works() {
            tokio::select! {
                Some(event) = news.next() => match event {
                    Ok(Event::Init) => listing = Objects::new(),
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
                        ApiError::Gone(_) => "the cluster does not know FederatedTrustDomain: apply deploy/crds of this version, or remove [resources]".to_owned(),
                        other => other.to_string(),
                    }),
                    Err(other) => tracing::info!(%other, "the watch of FederatedTrustDomains was lost"),
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
    async fn compare(&self, objects: &Objects) {
        let known = match self.known().await {
            Ok(known) => known,
            Err(failed) => return self.away(objects, &ca::told(&failed)).await,
        };
        let mut wrong = None;
        for (domain, federation) in &known {
            let object = federation.owner.strip_prefix(&self.prefix());
            let is_gone =
                |name| objects.get(name).is_none_or(|object| object.spec.trust_domain != *domain);
            if let Some(name) = object
                && is_gone(name)
                && let Err(failed) = self.remove(federation).await
            {
                wrong =
                    Some(format!("federation {domain} of a deleted object: {}", ca::told(&failed)));
            }
        }
        for object in objects.values() {
            match self.reconcile(object, known.get(&object.spec.trust_domain)).await {
                // Another write came first, and the watch tells of it.
                Ok(()) | Err(ApiError::Changed(_) | ApiError::Gone(_)) => {}
                Err(error) => wrong = Some(format!("{}: {error}", object.name_any())),
            }
        }
        match wrong {
            Some(wrong) => self.part.stuck(wrong),
            None => {
                let count = objects.len() as u64;
                self.part.ready(counted(
                    count,
                    "federated trust domain",
                    "federated trust domains",
                ));
            }
        }
    }

    async fn reconcile(
        &self,
        object: &FederatedTrustDomain,
        known: Option<&Federation>,
    ) -> Result<(), ApiError> {
        let owner = self.owner(object);
        let ours = known.filter(|known| known.owner == owner);
        if let Some(same) = ours.filter(|known| is_as_wanted(object, known)) {
            return self.write(object, ["Taken", "the CA has it as it is here"], Some(same)).await;
        }
        let spec = object.spec.clone();
        let request = AddFederationRequest {
            trust_domain: spec.trust_domain,
            endpoint: spec.endpoint_url,
            endpoint_id: spec.endpoint_spiffe_id.unwrap_or_default(),
            endpoint_ca: spec.ca_bundle.unwrap_or_default(),
            bundle: spec.bundle.unwrap_or_default().into_bytes(),
            bundle_once: true,
            reads_ours: spec.reads_ours,
            reads_within_seconds: 0,
            owner,
            force: false,
            by: format!("FederatedTrustDomain {}/{}", self.namespace, object.name_any()),
            reason: spec.reason,
        };
        match self.client().add_federation(request).await {
            Ok(answer) => {
                let taken = answer.into_inner().federation.unwrap_or_default();
                self.write(object, ["Taken", "the CA has it as it is here"], Some(&taken)).await
            }
            Err(refusal) => {
                let (reason, text) = match refusal.code() {
                    Code::FailedPrecondition => {
                        let by = known.filter(|known| known.owner != self.owner(object));
                        match by.map(|known| known.owner.as_str()) {
                            Some(owner) => ("KeptByAnother", kept_by(owner)),
                            None => ("Refused", refusal.message().to_owned()),
                        }
                    }
                    Code::InvalidArgument => ("Refused", refusal.message().to_owned()),
                    _ => (AWAY, ca::told(&refusal)),
                };
                // What stood before stands on, and is not what is asked for.
                self.write(object, [reason, &text], ours).await
            }
        }
    }

    /// The CA does not answer: what it does with any of them is not known.
    async fn away(&self, objects: &Objects, why: &str) {
        for object in objects.values() {
            if let Err(error) = self.write(object, [AWAY, why], None).await {
                tracing::info!(%error, object = object.name_any(), "a status was not written");
            }
        }
        self.part.stuck(why);
    }

    /// Writes the status if it is another. `stands` is what the CA has of this object.
    async fn write(
        &self,
        object: &FederatedTrustDomain,
        [reason, message]: [&str; 2],
        stands: Option<&Federation>,
    ) -> Result<(), ApiError> {
        let told = self.told(object);
        let before = object.status.clone().unwrap_or_default();
        let after = status(&before, &told, [reason, message], stands);
        if before == after {
            return Ok(());
        }
        let changed = FederatedTrustDomain { status: Some(after), ..object.clone() };
        let name = object.name_any();
        asked(self.objects.replace_status(&name, &PostParams::default(), &changed)).await.map(drop)
    }

    /// What the CA has, by trust domain.
    async fn known(&self) -> Result<BTreeMap<String, Federation>, Status> {
        let listed = self.client().list_federations(ListFederationsRequest {}).await?.into_inner();
        Ok(listed.federations.into_iter().map(|one| (one.trust_domain.clone(), one)).collect())
    }

    async fn remove(&self, federation: &Federation) -> Result<(), Status> {
        let request = RemoveFederationRequest {
            trust_domain: federation.trust_domain.clone(),
            owner: federation.owner.clone(),
            force: false,
            by: "banyan kubernetes".to_owned(),
            reason: "its object was deleted".to_owned(),
        };
        self.client().remove_federation(request).await.map(drop)
    }

    fn client(&self) -> FederationServiceClient<Channel> {
        FederationServiceClient::new(self.world.ca.channel())
    }

    fn prefix(&self) -> String {
        format!("{PREFIX}{}/", self.namespace)
    }

    fn owner(&self, object: &FederatedTrustDomain) -> String {
        format!("{}{}", self.prefix(), object.name_any())
    }

    fn told(&self, object: &FederatedTrustDomain) -> Told {
        let generation = object.meta().generation.unwrap_or_default();
        Told { generation, now: self.world.clock.now().to_string() }
    }
}

fn kept_by(owner: &str) -> String {
    match owner.strip_prefix(PREFIX) {
        Some(object) => {
            format!("the FederatedTrustDomain {object} is about this trust domain: delete one of the two")
        }
        None => "operators of the CA keep this federation: `banyan federation remove` gives it up, and then it is taken from here".to_owned(),
    }
}

/// Whether the CA has what the object says. A bundle counts by whether it was given, since newer ones have been read by now.
fn is_as_wanted(object: &FederatedTrustDomain, known: &Federation) -> bool {
    let spec = &object.spec;
    let given = spec.bundle.as_ref().map(|bundle| RootId::of(bundle.as_bytes()));
    known.endpoint == spec.endpoint_url
        && known.endpoint_id == spec.endpoint_spiffe_id.clone().unwrap_or_default()
        && known.endpoint_ca == spec.ca_bundle.clone().unwrap_or_default()
        && (known.reads_within_seconds > 0) == spec.reads_ours
        && given.is_none_or(|given| given.as_bytes().as_slice() == known.given_digest)
}

fn status(
    before: &FederatedTrustDomainStatus,
    told: &Told,
    [reason, message]: [&str; 2],
    stands: Option<&Federation>,
) -> FederatedTrustDomainStatus {
    let mut after = before.clone();
    let accepted = match reason {
        "Taken" => "True",
        AWAY => "Unknown",
        _ => "False",
    };
    put(&mut after.conditions, told, ["Accepted", accepted, reason, message]);
    if reason == AWAY {
        for type_ in ["Trusted", "Current"] {
            put(&mut after.conditions, told, [type_, "Unknown", AWAY, message]);
        }
        message.clone_into(&mut after.message);
        return after;
    }
    let bundle = stands.and_then(|stands| stands.bundle.as_ref());
    after.trusted = bundle.is_some();
    after.sequence =
        bundle.and_then(|bundle| bundle.sequence).and_then(|number| i64::try_from(number).ok());
    after.roots = bundle.map_or_else(Vec::new, |bundle| {
        bundle.roots.iter().map(|der| RootId::of(der).to_string()).collect()
    });
    after.taken_at = bundle.map(|bundle| Timestamp::from_secs(bundle.taken_at).to_string());
    let trusted = match bundle {
        Some(bundle) => {
            let roots = counted(bundle.roots.len() as u64, "root", "roots");
            ["True", "HasBundle", &format!("its members are believed by {roots}")]
                .map(str::to_owned)
        }
        None => ["False", "NoBundle", "nobody here believes its members"].map(str::to_owned),
    };
    let [is, why, text] = &trusted;
    put(&mut after.conditions, told, ["Trusted", is, why, text]);
    let current = match (stands, bundle) {
        (Some(stands), _) if !stands.trouble.is_empty() => ["False", "NotRead", &stands.trouble],
        (Some(_), Some(bundle)) if bundle.checked_at > 0 => [
            "True",
            "Read",
            "the bundle was read at its endpoint, and is read again when it is due",
        ],
        (Some(_), _) => ["Unknown", "NotReadYet", "it has not been read at its endpoint yet"],
        (None, _) => ["False", reason, message],
    };
    let [is, why, says] = current;
    put(&mut after.conditions, told, ["Current", is, why, says]);
    after.message = match accepted {
        "True" if is == "True" => text.clone(),
        "True" => says.to_owned(),
        _ => message.to_owned(),
    };
    after.observed_generation = told.generation;
    after
}
