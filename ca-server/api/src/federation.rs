//! `banyan.admin.v1.FederationService`: other trust domains whose members are believed by their own bundles.

use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal, echoed};
use federation::document;
use federation::keeper::every;
use fetch::Address;
use proto::banyan::admin::v1::federation_service_server::FederationService;
use proto::banyan::admin::v1::{
    AddFederationRequest, AddFederationResponse, FederatedBundle, Federation,
    ListFederationsRequest, ListFederationsResponse, RemoveFederationRequest,
    RemoveFederationResponse,
};
use registry::{
    EndpointProfile, FEDERATED_PARTY, FederationAdded, FederationRow, ForeignBundle, RegistryError,
};
use tonic::{Request, Response, Status};
use trust::plain::span;
use trust::{Cover, RootId, Timestamp, TrustDomain};

use crate::admin::Operators;
use crate::call::Call;
use crate::words::{self, invalid};
use control::ca::Ca;

/// Longest address, in bytes.
const ADDRESS_MAX: usize = 2_048;
/// Longest CAs of an endpoint, in bytes.
const CA_MAX: usize = 64 * 1024;
/// Longest name of a keeper, in bytes.
const OWNER_MAX: usize = 256;
/// Within which time another domain reads our bundle.
const READS_WITHIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(31_536_000)];

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Federations {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Federations {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    fn list(&self) -> ListFederationsResponse {
        let federated = &self.ca.federated;
        let rows = self.ca.registry.federations().into_iter();
        ListFederationsResponse {
            federations: rows.map(|(domain, row)| self.shown(domain, row)).collect(),
            trust_domain: self.ca.id.trust_domain().to_string(),
            own_endpoint: federated.endpoint.get().map(ToString::to_string).unwrap_or_default(),
            own_refresh_hint_seconds: secs(federated.refresh_hint),
        }
    }

    async fn add(
        &self,
        asked: AddFederationRequest,
        caller: &str,
    ) -> Result<AddFederationResponse, Refusal> {
        let ca = &self.ca;
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let domain = self.domain(&asked.trust_domain)?;
        let address = address(&asked.endpoint)?;
        let profile = profile(&asked, &domain)?;
        let reads_within = self.reads_within(&asked)?;
        let owner = owner(asked.owner)?;
        let (given, bundle) = match asked.bundle.is_empty() {
            true => (String::new(), None),
            false => {
                (RootId::of(&asked.bundle).to_string(), Some(self.given(&asked.bundle, &domain)?))
            }
        };
        let known = ca.registry.federations().into_iter().find(|(name, _)| name == domain.as_str());
        let known = known.map(|(_, row)| row);
        let has_bundle = bundle.is_some() || known.as_ref().is_some_and(|row| row.bundle.is_some());
        if matches!(profile, EndpointProfile::Spiffe(_)) && !has_bundle {
            let by = if owner.is_empty() { "`--bundle FILE`" } else { "`spec.bundle`" };
            return Err(Refusal::advised(
                Reason::ForeignBundleRefused,
                "an endpoint of https_spiffe is believed by the bundle of its own trust domain, and there is none yet",
                &format!(
                    "give the first one: {by}, a SPIFFE bundle document or roots in PEM that its operator handed you"
                ),
            ));
        }
        // Nothing of what is refused is written down.
        if let Some(known) = &known
            && known.owner != owner
            && !asked.force
        {
            let (domain, owner) = (domain.to_string(), known.owner.clone());
            let owner = if owner.is_empty() { "operators".to_owned() } else { owner };
            return Err(RegistryError::FederationOwned { domain, owner }.into());
        }
        let row = FederationRow {
            endpoint: asked.endpoint,
            profile,
            reads_within,
            owner,
            by: word.by.clone(),
            reason: word.reason.clone(),
            at: ca.clock.now(),
            given,
            bundle,
        };
        let detail = said(&row, &address);
        words::journal(ca, &word, "federation add", domain.as_str(), detail).await?;
        let party = format!("{FEDERATED_PARTY}{domain}");
        if let Some(within) = row.reads_within {
            // Before the federation is there: gates wait for whoever reads our bundle from the first moment on.
            ca.registry.add_relying_party(party.clone(), Some(within), None, row.at).await?;
        }
        let no_longer = row.reads_within.is_none();
        let added = ca.registry.add_federation(domain.clone(), row, asked.bundle_once, asked.force);
        let FederationAdded { row, bundle_taken } = added.await?;
        if no_longer {
            self.no_party(&party).await?;
        }
        tracing::info!(domain = %domain, endpoint = %address, by = word.by, bundle_taken, "federated with a trust domain");
        let federation = Some(self.shown(domain.to_string(), row));
        Ok(AddFederationResponse { federation, bundle_taken })
    }

    async fn remove(&self, asked: RemoveFederationRequest, caller: &str) -> Result<(), Refusal> {
        let word = words::word(&asked.by, &asked.reason, caller)?;
        let domain = asked.trust_domain;
        let party = format!("{FEDERATED_PARTY}{domain}");
        let parties = self.ca.registry.relying_parties();
        // One that was removed and left its relying party behind is removed to the end.
        let left_behind = parties.iter().any(|(name, _)| *name == party);
        // What is not there is not written down either. A row that cannot be read may be that one.
        let known = self.ca.registry.readable_federations();
        let known = known.is_none_or(|known| known.iter().any(|(name, _)| *name == domain));
        if !known && !left_behind {
            return Err(RegistryError::FederationUnknown(domain).into());
        }
        words::journal(&self.ca, &word, "federation remove", echoed(&domain), "").await?;
        match self.ca.registry.remove_federation(domain.clone(), asked.owner, asked.force).await {
            Err(RegistryError::FederationUnknown(_)) if left_behind => {}
            done => done?,
        }
        self.no_party(&party).await?;
        tracing::info!(domain, by = word.by, "federated no longer");
        Ok(())
    }

    /// No gate waits for that domain any more.
    async fn no_party(&self, party: &str) -> Result<(), Refusal> {
        match self.ca.registry.remove_relying_party(party.to_owned()).await {
            Ok(()) | Err(RegistryError::RelyingPartyUnknown(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn domain(&self, text: &str) -> Result<TrustDomain, Refusal> {
        let domain = TrustDomain::parse(text).map_err(|error| {
            invalid(format!(
                "\"{}\" is no trust domain such as other.example: {error}",
                echoed(text)
            ))
        })?;
        match domain == *self.ca.id.trust_domain() {
            false => Ok(domain),
            true => Err(invalid(format!(
                "{domain} is the trust domain of this CA itself; another CA of the same domain is a neighbor: section [neighbor.NAME]"
            ))),
        }
    }

    fn reads_within(&self, asked: &AddFederationRequest) -> Result<Option<Duration>, Refusal> {
        let [least, most] = READS_WITHIN;
        match (asked.reads_ours, asked.reads_within_seconds) {
            (false, 0) => Ok(None),
            (false, _) => {
                let text = "how soon it reads our bundle counts only if it does: say that it reads ours too";
                Err(invalid(text.to_owned()))
            }
            (true, 0) => Ok(Some(self.ca.federated.read_within())),
            (true, within) => {
                let within = u64::try_from(within).ok().map(Duration::from_secs);
                let within = within.filter(|within| (least..=most).contains(within));
                within.map(Some).ok_or_else(|| {
                    invalid(format!("it reads our bundle within {} to {}", span(least), span(most)))
                })
            }
        }
    }

    fn given(&self, bytes: &[u8], domain: &TrustDomain) -> Result<ForeignBundle, Refusal> {
        let read = document::read_given(bytes, domain).map_err(|refused| {
            let text = format!("the bundle given for {domain} is not taken: {refused}");
            Refusal::new(Reason::ForeignBundleRefused, text)
        })?;
        Ok(ForeignBundle {
            sequence: read.sequence,
            refresh_hint: read.refresh_hint,
            roots: read.bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
            taken: self.ca.clock.now(),
            checked: None,
        })
    }

    fn shown(&self, domain: String, row: FederationRow) -> Federation {
        let every = secs(every(&row));
        let (profile, endpoint_id, endpoint_ca) = match row.profile {
            EndpointProfile::Web(ca) => ("https_web", String::new(), ca.unwrap_or_default()),
            EndpointProfile::Spiffe(id) => ("https_spiffe", id.to_string(), String::new()),
        };
        Federation {
            trouble: self.ca.federated.troubles.borrow().get(&domain).cloned().unwrap_or_default(),
            trust_domain: domain,
            endpoint: row.endpoint,
            profile: profile.to_owned(),
            endpoint_id,
            endpoint_ca,
            reads_within_seconds: row.reads_within.map_or(0, secs),
            owner: row.owner,
            by: row.by,
            reason: row.reason,
            at: row.at.as_secs(),
            given_digest: row
                .given
                .parse::<RootId>()
                .map(|id| id.as_bytes().to_vec())
                .unwrap_or_default(),
            bundle: row.bundle.map(|bundle| FederatedBundle {
                sequence: bundle.sequence,
                roots: bundle.roots,
                taken_at: bundle.taken.as_secs(),
                checked_at: bundle.checked.map_or(0, Timestamp::as_secs),
            }),
            every_seconds: every,
        }
    }

    /// Judges the caller, then does what it asks for, in its name.
    async fn answer<M, A>(
        &self,
        request: Request<M>,
        work: impl AsyncFnOnce(&Self, M, &str) -> Result<A, Refusal>,
    ) -> Result<Response<A>, Status> {
        let (mut call, message) = Call::met(&self.ca, request).await;
        let caller = self.operators.allow(&mut call).map_err(|refusal| call.refuse(refusal))?;
        let answered = work(self, message, &caller).await;
        answered.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }
}

fn secs(length: Duration) -> i64 {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX)
}

fn address(text: &str) -> Result<Address, Refusal> {
    if text.len() > ADDRESS_MAX {
        return Err(invalid(format!("an address has at most {ADDRESS_MAX} bytes")));
    }
    Address::new(text).map_err(|why| invalid(format!("the endpoint {} {why}", echoed(text))))
}

fn profile(asked: &AddFederationRequest, domain: &TrustDomain) -> Result<EndpointProfile, Refusal> {
    let (id, ca) = (&asked.endpoint_id, &asked.endpoint_ca);
    match (id.is_empty(), ca.is_empty()) {
        (true, true) => Ok(EndpointProfile::Web(None)),
        (true, false) if ca.len() > CA_MAX => {
            Err(invalid(format!("the CAs of an endpoint have at most {} KiB", CA_MAX / 1024)))
        }
        (true, false) => match fetch::below(ca.as_bytes()) {
            Ok(_) => Ok(EndpointProfile::Web(Some(ca.clone()))),
            Err(why) => Err(invalid(format!("the CAs given for the endpoint: {why}"))),
        },
        (false, true) => {
            let id = Cover::parse(id).map_err(|error| {
                invalid(format!(
                    "\"{}\" is no SPIFFE id, nor one with /* behind it: {error}",
                    echoed(id)
                ))
            })?;
            match id.trust_domain() == domain {
                true => Ok(EndpointProfile::Spiffe(id)),
                false => Err(invalid(format!(
                    "{id} is not in the trust domain {domain}, whose bundle the endpoint is believed by"
                ))),
            }
        }
        (false, false) => {
            let text = "an endpoint with a SPIFFE id is believed by the bundle of its trust domain, and not by CAs: leave out one of the two";
            Err(invalid(text.to_owned()))
        }
    }
}

fn owner(text: String) -> Result<String, Refusal> {
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    match fits && text.len() <= OWNER_MAX {
        true => Ok(text),
        false => Err(invalid("a keeper's name has letters, digits, '.', '_', '-', '/'".to_owned())),
    }
}

/// For the journal.
fn said(row: &FederationRow, address: &Address) -> String {
    let believed = match &row.profile {
        EndpointProfile::Web(None) => "https_web".to_owned(),
        EndpointProfile::Web(Some(_)) => "https_web below CAs of its own".to_owned(),
        EndpointProfile::Spiffe(id) => format!("https_spiffe as {id}"),
    };
    let bundle = match &row.bundle {
        Some(bundle) => {
            let number = bundle.sequence.map_or("none".to_owned(), |number| number.to_string());
            format!(", with a bundle by hand: sequence {number}, {} roots", bundle.roots.len())
        }
        None => String::new(),
    };
    let reads = match row.reads_within {
        Some(within) => format!(", reads ours within {}", span(within)),
        None => String::new(),
    };
    format!("{address}, {believed}{bundle}{reads}")
}

#[tonic::async_trait]
impl FederationService for Federations {
    async fn list_federations(
        &self,
        request: Request<ListFederationsRequest>,
    ) -> Result<Response<ListFederationsResponse>, Status> {
        self.answer(request, async |this, _, _| Ok(this.list())).await
    }

    async fn add_federation(
        &self,
        request: Request<AddFederationRequest>,
    ) -> Result<Response<AddFederationResponse>, Status> {
        self.answer(request, async |this, asked, by| this.add(asked, by).await).await
    }

    async fn remove_federation(
        &self,
        request: Request<RemoveFederationRequest>,
    ) -> Result<Response<RemoveFederationResponse>, Status> {
        self.answer(request, async |this, asked, by| {
            this.remove(asked, by).await.map(|()| RemoveFederationResponse {})
        })
        .await
    }
}
