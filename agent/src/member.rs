//! The agent's membership: joins, renews its own certificate at half of its life, comes back with its registered key after
//! an absence, and joins again if that is refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::metadata::AsciiMetadataValue;
use trust::randomness::random_bytes;
use trust::{Bundle, Chain, Clock, Randomness, Sequence, Serial};

use crate::backoff::{Backoff, spread};
use crate::bundle_store;
use crate::ca_client::{self, CaClient, CallError, Place, refused, timed};
use crate::config::AgentConfig;
use crate::first_contact::{self, FirstContactError};
use crate::hub::{HubHandle, OfferError};
use crate::identity::{IdentityError, IdentityFiles};
use crate::in_flight::InFlight;
use crate::key::{KeyError, PrivateKey};
use crate::leaf::{Expected, Jitter, Judgement, Leaf, LeafRefused};
use crate::status::Condition;

/// What the CA is told of this build.
pub(crate) const BUILD: &str = concat!("banyan-agent ", env!("CARGO_PKG_VERSION"));
/// How often the clock is looked at: sleeping until a moment would miss a clock that jumps.
const LOOK: Duration = Duration::from_millis(500);

/// The one task that keeps the agent a member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) files: Arc<IdentityFiles>,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) client: Arc<CaClient>,
    pub(crate) hub: HubHandle,
    pub(crate) in_flight: InFlight,
    pub(crate) trust: watch::Receiver<Option<Bundle>>,
    /// The last certificate that the agent had, whether it lives or not: with its key, the way back.
    pub(crate) former: Mutex<Option<Vec<Vec<u8>>>>,
    pub(crate) credential: watch::Sender<Option<Arc<Leaf>>>,
    /// What the CA wants renewed early, and over which time.
    pub(crate) renewal: watch::Receiver<Option<(Serial, Duration)>>,
    /// The certificate with which the CA turned this agent away, as one that it does not know.
    pub(crate) turned_away: watch::Receiver<Option<Serial>>,
    /// The certificate that is of another agent than the token of the node: the way is a new one, under the right name.
    pub(crate) misnamed: watch::Receiver<Option<Serial>>,
}

#[derive(Debug, thiserror::Error)]
enum MemberError {
    #[error(transparent)]
    FirstContact(#[from] FirstContactError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error(transparent)]
    Leaf(#[from] LeafRefused),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Files(#[from] IdentityError),
    #[error("the token or JWT cannot go into a header")]
    Header,
    #[error("the CA wants a newer bundle stored first, and gives none")]
    NoNewer,
    #[error("{0}; and joining again failed: {1}")]
    NoWayBack(CallError, Box<Self>),
}

impl MemberError {
    /// Whether the CA wants its bundle stored before it gives a certificate.
    fn is_behind(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_behind())
    }

    /// Whether another address of the CA may do what this one did not.
    fn leaves(&self) -> bool {
        match self {
            Self::Call(error) => error.leaves(),
            Self::FirstContact(error) => error.leaves(),
            Self::NoWayBack(_, joining) => joining.leaves(),
            _ => false,
        }
    }

    /// How a place failed that is left for this.
    fn way(&self) -> ca_client::Way {
        match self {
            Self::Call(error) | Self::FirstContact(FirstContactError::Call(error)) => error.way(),
            Self::NoWayBack(_, joining) => joining.way(),
            _ => ca_client::Way::NoAnswer,
        }
    }

    /// Whether the CA does not know this agent with the certificate that it has.
    fn turns_away(&self) -> bool {
        matches!(self, Self::Call(error) | Self::NoWayBack(error, _) if error.turns_away())
    }

    /// Whether there is nothing to join with.
    fn lacks_proof(&self) -> bool {
        match self {
            Self::FirstContact(FirstContactError::NoProof) => true,
            Self::NoWayBack(_, joining) => joining.lacks_proof(),
            _ => false,
        }
    }

    /// Whether joining came to nothing for good: what is asked for next is another token.
    fn is_final(&self) -> bool {
        match self {
            Self::FirstContact(FirstContactError::Call(error)) | Self::Call(error) => {
                error.is_refusal()
            }
            Self::FirstContact(_) => true,
            _ => false,
        }
    }
}

impl Member {
    /// Runs until cancelled. What fails is tried again, ever less often; meanwhile the last good state is served.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let attempts = async {
            let mut backoff = Backoff::default();
            let mut step = Step::default();
            let mut last = String::new();
            self.look_at_file();
            loop {
                match self.advance(&mut step).await {
                    Ok(()) => {
                        backoff.reset();
                        last.clear();
                        self.hub.condition(Condition::NotMember, None).await;
                        self.hub.condition(Condition::RenewalFails, None).await;
                    }
                    // The bundle changed under way: it is stored, and asked again at once.
                    Err(error) if error.is_behind() && !step.behind => step.behind = true,
                    // Each place that fails is no first choice for a while, so this ends.
                    Err(error) if error.leaves() && self.client.addresses().has_fresh().await => {
                        tracing::debug!(%error, "membership: trying another address of the CA");
                        step.after(&error);
                    }
                    Err(error) => {
                        let said = error.to_string();
                        match said == last {
                            true => tracing::debug!(%error, "membership"),
                            false => tracing::warn!(%error, "membership"),
                        }
                        last = said;
                        self.tell(&error).await;
                        step.after(&error);
                        self.rest(backoff.wait(self.randomness.as_ref())).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = attempts => {}
        }
    }

    async fn advance(&self, step: &mut Step) -> Result<(), MemberError> {
        if std::mem::take(&mut step.behind) {
            self.somewhere(async |place| self.catch_up(place).await).await?;
        }
        let live = self.live_credential();
        match live {
            Some(leaf) if !step.join_again && !self.is_turned_away(&leaf) => {
                let due = *step.renew_at.get_or_insert_with(|| self.renewal_of(&leaf));
                step.asked = step.asked.or_else(|| self.asked_for(&leaf));
                let renew_at = step.asked.map_or(due, |asked| asked.min(due));
                if self.clock.now_millis() < renew_at {
                    tokio::time::sleep(LOOK).await;
                    return Ok(());
                }
                let _under_way = self.in_flight.begin();
                self.somewhere(async |place| self.renew(place).await).await?;
            }
            _ => self.somewhere(async |place| self.join(place, step).await).await?,
        }
        *step = Step::default();
        Ok(())
    }

    /// Does something at the CA's place in use, and leaves that if another one may do better.
    async fn somewhere(
        &self,
        what: impl AsyncFnOnce(&Place) -> Result<(), MemberError>,
    ) -> Result<(), MemberError> {
        let place = self.client.place().await?;
        let done = what(&place).await;
        if let Err(error) = &done
            && error.leaves()
        {
            self.client.addresses().leave(&place, error.way(), &error.to_string());
        }
        done
    }

    /// Becomes a member, or one again.
    async fn join(&self, place: &Place, step: &mut Step) -> Result<(), MemberError> {
        if step.look_for_ca || self.trust.borrow().is_none() {
            let found = self.find_ca(place).await?;
            self.hub.offer(Ok(found)).await?;
            step.look_for_ca = false;
        }
        if self.stored().0 == Sequence(0) {
            self.catch_up(place).await?;
        }
        let _under_way = self.in_flight.begin();
        match self.come_back(place).await? {
            Way::Taken => Ok(()),
            Way::None => self.register(place).await,
            Way::Refused(refusal) => {
                self.register(place).await.map_err(|error| match error.is_final() {
                    true => MemberError::NoWayBack(refusal, Box::new(error)),
                    false => error,
                })
            }
        }
    }

    /// Whether the CA does not know this agent by the certificate that it has now.
    fn is_turned_away(&self, leaf: &Leaf) -> bool {
        let serial = Some(leaf.held().serial);
        *self.turned_away.borrow() == serial || self.is_misnamed(serial)
    }

    fn is_misnamed(&self, serial: Option<Serial>) -> bool {
        serial.is_some() && *self.misnamed.borrow() == serial
    }

    /// Waits before the next attempt. A token or JWT that was not there ends the wait.
    async fn rest(&self, wait: Duration) {
        let (tried, mut left) = (first_contact::mark(&self.config), wait);
        while !left.is_zero() {
            let some = left.min(LOOK);
            tokio::time::sleep(some).await;
            left = left.saturating_sub(some);
            let there = first_contact::mark(&self.config);
            if there.is_some() && there != tried {
                return;
            }
        }
    }

    /// The bundle of today: by the changes since the one that is held, or by what the configuration pins.
    async fn find_ca(&self, place: &Place) -> Result<Bundle, MemberError> {
        let config = &self.config;
        let held = self.trust.borrow().clone();
        Ok(match held {
            Some(held) => first_contact::present(&held, config, place, &self.clock).await?,
            None => first_contact::bundle(config, place, &self.clock).await?,
        })
    }

    /// The bundle that is on the disk; nothing is in force before it is there.
    fn stored(&self) -> (Sequence, Vec<u8>) {
        let bundle = self.trust.borrow();
        let digest = |bundle: &Bundle| bundle.digest().as_bytes().to_vec();
        bundle.as_ref().map(|bundle| (bundle.sequence(), digest(bundle))).unwrap_or_default()
    }

    /// Stores the bundle of today: the CA gives no certificate born at a bundle before that. Roots from a file stand before
    /// every bundle, and answer for whoever sends the first.
    async fn catch_up(&self, place: &Place) -> Result<(), MemberError> {
        let held = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        let domain = &self.config.trust_domain;
        let found = match held.sequence() {
            Sequence(0) => {
                let request = timed(wire::GetBundleRequest::default());
                let answer = self.client.anonymous(place)?.get_bundle(request).await;
                let answer = answer.map_err(|status| refused(place, status))?.into_inner();
                bundle_store::from_wire(domain, &answer.bundle.unwrap_or_default())
            }
            _ => Ok(first_contact::forward(&held, domain, place, &self.clock).await?),
        };
        self.hub.offer(found).await?;
        match self.stored().0 > held.sequence() {
            true => Ok(()),
            false => Err(MemberError::NoNewer),
        }
    }

    /// Says at the start if the configured file of roots does not fit the bundle that is held.
    fn look_at_file(&self) {
        let held = self.trust.borrow().clone();
        if let Some(what) = held.and_then(|held| first_contact::file_beside(&held, &self.config)) {
            tracing::warn!(what, "trust_bundle");
        }
    }

    /// Asks for a certificate with the former one, which may have expired: the key is registered. A refusal is of today: a
    /// ban may be taken back, so the former certificate stays the way that is tried first.
    async fn come_back(&self, place: &Place) -> Result<Way, MemberError> {
        let former = self.former.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(chain) = former else { return Ok(Way::None) };
        let serial = Chain::parse(&chain).ok().and_then(|chain| chain.leaf().serial());
        if self.is_misnamed(serial) {
            return Ok(Way::None);
        }
        let csr = self.key.request(None)?;
        let mut client = self.client.returning(place, &chain, &self.key)?;
        let answer = client.renew_agent(timed(self.renewal(csr))).await;
        match answer.map_err(|status| refused(place, status)) {
            Ok(answer) => {
                self.client.addresses().serves(place);
                self.accept(answer.into_inner()).await?;
                tracing::info!("back with the registered key");
                Ok(Way::Taken)
            }
            Err(error) if error.is_refusal() => {
                tracing::debug!(%error, "the former certificate is no way back today; joining again");
                Ok(Way::Refused(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The credential, if it still lives; one that expired, or whose root has gone, is dropped before another is presented.
    fn live_credential(&self) -> Option<Arc<Leaf>> {
        let (now, bundle) = (self.clock.now(), self.trust.borrow().clone());
        self.credential.send_if_modified(|held| {
            let is_over = |leaf: &Arc<Leaf>| {
                let trusted =
                    bundle.as_ref().is_some_and(|bundle| bundle.contains(&leaf.held().root));
                leaf.held().not_after <= now || !trusted
            };
            let over = held.as_ref().is_some_and(is_over);
            if over {
                *held = None;
            }
            over
        });
        self.credential.borrow().clone()
    }

    async fn register(&self, place: &Place) -> Result<(), MemberError> {
        let proof = first_contact::proof(&self.config)?;
        let csr = self.key.request(None)?;
        let (Sequence(stored_sequence), stored_digest) = self.stored();
        let (build, for_node) = (BUILD.to_owned(), self.config.node.is_some());
        let mut request =
            timed(wire::RegisterRequest { csr, build, stored_sequence, stored_digest, for_node });
        let mut bearer = AsciiMetadataValue::try_from(proof.bearer().as_str())
            .map_err(|_| MemberError::Header)?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        let answer = self.client.anonymous(place)?.register(request).await;
        let answer = answer.map_err(|status| refused(place, status))?;
        self.client.addresses().serves(place);
        self.accept(answer.into_inner()).await
    }

    fn renewal(&self, csr: Vec<u8>) -> wire::RenewAgentRequest {
        let (Sequence(stored_sequence), stored_digest) = self.stored();
        wire::RenewAgentRequest { csr, stored_sequence, stored_digest }
    }

    async fn renew(&self, place: &Place) -> Result<(), MemberError> {
        let csr = self.key.request(None)?;
        let answer = self.client.authenticated(place)?.renew_agent(timed(self.renewal(csr))).await;
        let answer = answer.map_err(|status| refused(place, status))?;
        self.client.addresses().serves(place);
        self.accept(answer.into_inner()).await
    }

    /// The bundle first, then the certificate under the newest bundle; durable before it is used.
    async fn accept(&self, response: wire::IssueResponse) -> Result<(), MemberError> {
        let offered = bundle_store::from_wire(
            &self.config.trust_domain,
            &response.bundle.unwrap_or_default(),
        );
        let born = offered.as_ref().map(Bundle::sequence).unwrap_or_default();
        self.hub.offer(offered).await?;
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        let now_millis = self.clock.now_millis();
        let judgement = Judgement { bundle: &bundle, born, promised: true, now_millis };
        let expected = Expected::Agent(&self.config.trust_domain);
        let leaf = Leaf::accept(&response.chain, Arc::clone(&self.key), expected, &judgement)?;
        let (files, pem) = (Arc::clone(&self.files), leaf.chain_pem());
        // A writer that panicked has not written.
        let stored = tokio::task::spawn_blocking(move || files.store(&pem)).await;
        stored.map_err(|error| FirstContactError::Unreadable(error.to_string()))??;
        tracing::info!(id = %leaf.identity(), serial = %leaf.held().serial, "the agent has a certificate");
        *self.former.lock().unwrap_or_else(PoisonError::into_inner) = Some(response.chain);
        self.credential.send_replace(Some(Arc::new(leaf)));
        Ok(())
    }

    fn renewal_of(&self, leaf: &Leaf) -> i64 {
        leaf.renew_at_millis(Jitter(u32::from_be_bytes(random_bytes(self.randomness.as_ref()))))
    }

    /// When the CA wants this certificate renewed, if it does: at a random moment of its window.
    fn asked_for(&self, leaf: &Leaf) -> Option<i64> {
        let (serial, window) = (*self.renewal.borrow())?;
        let wait = spread(window, self.randomness.as_ref()).as_millis();
        let at = self.clock.now_millis().saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
        (serial == leaf.held().serial).then_some(at)
    }

    async fn tell(&self, error: &MemberError) {
        let renewing = self.credential.borrow().is_some() && !error.turns_away();
        let (is, is_not) = match renewing {
            true => (Condition::RenewalFails, Condition::NotMember),
            false => (Condition::NotMember, Condition::RenewalFails),
        };
        self.hub.condition(is, Some(error.to_string())).await;
        self.hub.condition(is_not, None).await;
    }
}

/// What came of the former certificate.
enum Way {
    /// The agent is a member again.
    Taken,
    /// There is no former certificate.
    None,
    /// The CA does not take it now.
    Refused(CallError),
}

/// What is to be done next about membership.
#[derive(Debug, Default)]
struct Step {
    /// When the present certificate is renewed, in milliseconds since the epoch.
    renew_at: Option<i64>,
    /// When the CA wants it renewed, once it has said so.
    asked: Option<i64>,
    /// The CA knows our certificate no longer: join again.
    join_again: bool,
    /// The CA could not be reached or believed: find its bundle again.
    look_for_ca: bool,
    /// The CA wants a newer bundle stored first.
    behind: bool,
}

impl Step {
    fn after(&mut self, error: &MemberError) {
        if let MemberError::Call(error) = error {
            self.join_again |= error.turns_away();
            self.look_for_ca |= error.is_unreachable();
        }
        if error.lacks_proof() {
            // Nothing to join with: go on with the certificate as long as it lives.
            self.join_again = false;
            self.look_for_ca = false;
        }
    }
}
