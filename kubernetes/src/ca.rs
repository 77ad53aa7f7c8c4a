//! The CA, through its admin socket: the bundle in force and where the rotation stands, as a value that is watched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use console::admin_socket;
use futures::StreamExt as _;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    ListRelyingPartiesRequest, ListRootsRequest, RelyingParty, Root, Rotation, StatusRequest,
    StatusResponse, WatchRotationRequest,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use trust::{Bundle, Sequence, TrustDomain};

use crate::board::Part;
use crate::metrics::Metrics;

/// How often the server is asked how it is while nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pause after the socket failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Looks at roots that belong to no one bundle, because the record changed meanwhile.
const LOOKS_MAX: usize = 20;
/// Pause between these.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Rotations whose phases are remembered, and phases of each: one that is taken back and forth has many.
const ROTATIONS_SEEN_MAX: usize = 8;
pub(crate) const PHASES_SEEN_MAX: usize = 32;
/// How names of channels begin, as the CA knows them.
pub(crate) const CHANNELS: &str = "kubernetes/";

/// What the CA says, as of one moment.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The bundle in force: its roots, and the sequence that gates count by.
    pub bundle: Bundle,
    /// Which CA this is, whichever of its servers answers: its trust domain.
    pub trust_domain: String,
    /// Every root that the record knows.
    pub roots: Vec<Root>,
    /// The server at a glance.
    pub status: StatusResponse,
    /// Where the rotation stands.
    pub rotation: Rotation,
}

/// What is known of the CA.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What it said last; `None` until it said anything.
    pub trust: Option<Arc<Trust>>,
    /// Why it says nothing now.
    pub away: Option<String>,
    /// What it was seen to go through, also while another process works: the rotations seen last, and their phases.
    seen: Vec<SeenRotation>,
}

/// A rotation that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenRotation {
    request_id: String,
    phases: Vec<SeenPhase>,
}

/// A phase of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPhase {
    /// Such as "draining".
    pub phase: String,
    /// When it began, in seconds since the Unix epoch.
    pub since: i64,
}

impl Known {
    /// The phases that a rotation was seen in, in their order.
    #[must_use]
    pub fn phases(&self, request_id: &str) -> &[SeenPhase] {
        let found = self.seen.iter().find(|seen| seen.request_id == request_id);
        found.map_or(&[], |seen| &seen.phases)
    }

    fn see(&mut self, rotation: &Rotation) {
        let Rotation { request_id, phase, phase_since, .. } = rotation;
        if request_id.is_empty() {
            return;
        }
        if !self.seen.iter().any(|seen| seen.request_id == *request_id) {
            if self.seen.len() >= ROTATIONS_SEEN_MAX {
                self.seen.remove(0);
            }
            self.seen.push(SeenRotation { request_id: request_id.clone(), phases: Vec::new() });
        }
        let now = SeenPhase { phase: phase.clone(), since: *phase_since };
        let found = self.seen.iter_mut().find(|seen| seen.request_id == *request_id);
        if let Some(SeenRotation { phases, .. }) = found
            && phases.last() != Some(&now)
        {
            if phases.len() >= PHASES_SEEN_MAX {
                phases.remove(0);
            }
            phases.push(now);
        }
    }
}

/// A CA that is watched.
#[derive(Clone, Debug)]
pub struct Ca {
    channel: Channel,
    known: watch::Receiver<Known>,
    parties: watch::Receiver<Vec<RelyingParty>>,
}

/// What watches it.
pub(crate) struct Watch {
    channel: Channel,
    known: watch::Sender<Known>,
    parties: watch::Sender<Vec<RelyingParty>>,
    part: Part,
    metrics: Arc<Metrics>,
}

impl Ca {
    /// The CA behind an admin socket, and what is to be run to watch it. The socket need not be there yet.
    pub(crate) fn at(socket: &Path, part: Part, metrics: Arc<Metrics>) -> (Self, Watch) {
        let channel = admin_socket::lazy(socket);
        let (sender, known) = watch::channel(Known::default());
        let (told, parties) = watch::channel(Vec::new());
        let ca = Self { channel: channel.clone(), known, parties };
        (ca, Watch { channel, known: sender, parties: told, part, metrics })
    }

    /// What is known of it, at every change.
    #[must_use]
    pub fn known(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// The channels that it knows, as of each look: also when they are the same as before.
    pub(crate) fn channels(&self) -> watch::Receiver<Vec<RelyingParty>> {
        self.parties.clone()
    }

    /// What it said last.
    #[must_use]
    pub fn trust(&self) -> Option<Arc<Trust>> {
        self.known.borrow().trust.clone()
    }

    /// To ask it something else: a client of any service of the admin API goes over this.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A client for rotations and relying parties.
    #[must_use]
    pub fn rotations(&self) -> RotationServiceClient<Channel> {
        RotationServiceClient::new(self.channel())
    }
}

impl Watch {
    /// Watches until it is stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let watching = async {
            loop {
                let Err(why) = self.follow().await;
                self.part.stuck(&why);
                self.known.send_modify(|known| known.away = Some(why));
                tokio::time::sleep(RETRY_AFTER).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// Shows what it says at each change, until the socket fails.
    async fn follow(&self) -> Result<std::convert::Infallible, String> {
        let mut rotations = RotationServiceClient::new(self.channel.clone());
        let changes = rotations.watch_rotation(WatchRotationRequest {}).await;
        let mut changes = changes.map_err(|status| told(&status))?.into_inner();
        let mut rotation = None;
        loop {
            let news = tokio::time::timeout(LOOK_EVERY, changes.next()).await;
            match news {
                Ok(Some(Ok(news))) => {
                    self.known.send_if_modified(|known| {
                        known.see(&news);
                        false
                    });
                    rotation = Some(news);
                }
                Ok(Some(Err(status))) => return Err(told(&status)),
                Ok(None) => return Err("the CA ended the stream: it is stopping".to_owned()),
                // Nothing changed: ask whether it is still there.
                Err(_) => {}
            }
            if let Some(rotation) = &rotation {
                self.show(look(&self.channel, rotation).await?);
                self.parties.send_replace(channels(&self.channel).await?);
            }
        }
    }

    fn show(&self, trust: Trust) {
        let sequence = trust.bundle.sequence();
        self.metrics.sequence(sequence.0);
        let roots = trust.bundle.roots().len();
        self.part.ready(format!("bundle {sequence} with {roots} roots, {}", trust.rotation.phase));
        self.known.send_if_modified(|known| {
            let same = known.trust.as_ref().is_some_and(|now| now.is_same(&trust));
            let changed = !same || known.away.is_some();
            if changed {
                (known.trust, known.away) = (Some(Arc::new(trust)), None);
            }
            changed
        });
    }
}

impl Trust {
    /// Whether there is nothing new in it.
    fn is_same(&self, other: &Self) -> bool {
        self.bundle == other.bundle
            && self.trust_domain == other.trust_domain
            && self.roots == other.roots
            && self.rotation == other.rotation
            && self.status == other.status
    }
}

/// Whether a server answers at this socket.
pub(crate) async fn answers(socket: &Path) -> Result<(), String> {
    let mut admin = AdminServiceClient::new(admin_socket::lazy(socket));
    admin.status(StatusRequest {}).await.map(drop).map_err(|status| told(&status))
}

/// Asks for status and roots until they belong together: the digest of the roots is that of the bundle in force.
async fn look(channel: &Channel, rotation: &Rotation) -> Result<Trust, String> {
    let mut wrong = String::new();
    for _ in 0..LOOKS_MAX {
        let status = AdminServiceClient::new(channel.clone()).status(StatusRequest {}).await;
        let status = status.map_err(|status| told(&status))?.into_inner();
        let roots = roots(channel).await?;
        match together(&status, &roots) {
            Ok(bundle) => {
                let (trust_domain, rotation) = (status.trust_domain.clone(), rotation.clone());
                return Ok(Trust { bundle, trust_domain, roots, status, rotation });
            }
            Err(error) => wrong = error,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(wrong)
}

/// The bundle that the roots are, if it is the one in force.
fn together(status: &StatusResponse, roots: &[Root]) -> Result<Bundle, String> {
    let domain = TrustDomain::parse(&status.trust_domain).map_err(|error| error.to_string())?;
    let trusted = roots.iter().filter(|root| is_trusted(root)).map(|root| &root.der);
    let trusted: Vec<_> = trusted.collect();
    let bundle = Bundle::from_ders(domain, Sequence(status.sequence), &trusted);
    let bundle = bundle.map_err(|error| format!("the CA's roots make no bundle: {error}"))?;
    if bundle.digest().as_bytes().as_slice() != status.bundle_digest {
        return Err(format!(
            "the CA's trusted roots are not those of bundle {}: it is changing; if this stays, restart the CA server",
            status.sequence
        ));
    }
    Ok(bundle)
}

/// Whether it is in the bundle.
#[must_use]
pub fn is_trusted(root: &Root) -> bool {
    !root.further_by.is_empty()
        || matches!(root.state.as_str(), "published" | "active" | "draining")
}

async fn roots(channel: &Channel) -> Result<Vec<Root>, String> {
    let mut admin = AdminServiceClient::new(channel.clone());
    let (mut all, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = admin.list_roots(ListRootsRequest { after, limit: 0 }).await;
        let page = page.map_err(|status| told(&status))?.into_inner();
        all.extend(page.roots);
        if page.next.is_empty() {
            return Ok(all);
        }
        after = page.next;
    }
}

/// The channels that it knows.
pub(crate) async fn channels(channel: &Channel) -> Result<Vec<RelyingParty>, String> {
    let mut rotations = RotationServiceClient::new(channel.clone());
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let request = ListRelyingPartiesRequest { after, limit: 0 };
        let page = rotations.list_relying_parties(request).await;
        let page = page.map_err(|status| told(&status))?.into_inner();
        let known = page.relying_parties.into_iter();
        all.extend(known.filter(|party| party.name.starts_with(CHANNELS)));
        if page.next.is_empty() {
            return Ok(all);
        }
        after = page.next;
    }
}

/// A refusal or a failure of the socket, with what to do about it.
pub(crate) fn told(status: &Status) -> String {
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => format!(
            "the CA refuses this user at its admin socket: {}; run this process as the user of the CA server, or list its user id in uids of the server's section [admin]",
            status.message()
        ),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => format!(
            "the CA gives no answer at its admin socket: {}; check that `banyan serve` runs and that admin_socket is its path",
            admin_socket::root_cause(status)
        ),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_is_remembered_once_and_of_old_rotations_none() {
        let mut known = Known::default();
        let mut at = |id: &str, phase: &str, phase_since| {
            let (request_id, phase) = (id.to_owned(), phase.to_owned());
            known.see(&Rotation { request_id, phase, phase_since, ..Rotation::default() });
        };
        at("", "steady", 0);
        for (phase, since) in [("staging", 1), ("staging", 1), ("draining", 2), ("staging", 3)] {
            at("one", phase, since);
        }
        let seen = |known: &Known, id: &str| -> Vec<i64> {
            known.phases(id).iter().map(|one| one.since).collect()
        };
        for number in 0..7 {
            at(&number.to_string(), "staging", 4);
        }
        assert_eq!(seen(&known, "one"), [1, 2, 3]);
        known.see(&Rotation { request_id: "8".to_owned(), ..Rotation::default() });
        assert!(seen(&known, "one").is_empty() && seen(&known, "").is_empty());
        for since in 0..40 {
            let phase = "draining".to_owned();
            known.see(&Rotation {
                request_id: "8".to_owned(),
                phase,
                phase_since: since,
                ..Rotation::default()
            });
        }
        assert_eq!(seen(&known, "8").len(), PHASES_SEEN_MAX);
        assert_eq!(seen(&known, "8").last(), Some(&39));
    }

    #[test]
    fn roots_that_are_not_the_bundle_in_force_are_not_taken_for_it() {
        let status =
            StatusResponse { trust_domain: "example.org".to_owned(), ..Default::default() };
        assert!(together(&status, &[]).unwrap_err().contains("never empty"));
        let root = |state: &str, further: &[&str]| Root {
            state: state.to_owned(),
            further_by: further.iter().map(ToString::to_string).collect(),
            ..Root::default()
        };
        assert!(!is_trusted(&root("staged", &[])) && !is_trusted(&root("retired", &[])));
        assert!(is_trusted(&root("draining", &[])) && is_trusted(&root("retired", &["spire"])));
    }
}
