//! What is asked again, and what is said again: after a refusal, after an abort, and by callers that repeat themselves.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ca_server::{Embedding, HostDeps, Running, Server};
use host::{OsRandomness, RealDisk, SystemClock};
use plugin_self_signed::SelfSignedPlugin;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, Description, Health, IssuerChain,
    IssuerRequest, Outcome, PluginError, Registry, RetireRoots, RootAuthority, RootSet, StageRoots,
    Ticket,
};
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, Issuer, ListRootsRequest, ReadJournalRequest,
    RenewIssuerRequest, Rotation, StatusRequest, Verb,
};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rcgen::KeyPair;
use rotation::Event;
use rotation_driver::JournalEntry;
use support::{
    Place, admin, admin_channel, agent, channel, eventually, stop, try_channel, workload,
};
use trust::{Clock as _, ManualClock};

const WEB: &str = "spiffe://example.org/web";
const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";
/// The keeper looks at what is due by age each 10 s.
const THREE_LOOKS: Duration = Duration::from_secs(31);

/// A fake: the self-signed authority, which refuses or does not answer as long as it is told to, and refuses for ever what it
/// refused once.
#[derive(Debug, Clone, Default)]
struct Stubborn(Arc<Word>);

#[derive(Debug, Default)]
struct Word {
    refuses: AtomicBool,
    away: AtomicBool,
    /// The ids of requests, in the order in which they came.
    asked: Mutex<Vec<String>>,
    /// How often each refused request was made, by its id.
    refused: Mutex<BTreeMap<String, usize>>,
}

#[derive(Debug)]
struct StubbornAuthority(Arc<dyn RootAuthority>, Arc<Word>);

impl Embedding for Stubborn {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_authority(self.clone());
    }
}

impl AuthorityPlugin for Stubborn {
    fn name(&self) -> &'static str {
        "self-signed"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        SelfSignedPlugin.validate(settings)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let inner = SelfSignedPlugin.open(settings, deps)?;
        Ok(Arc::new(StubbornAuthority(inner, Arc::clone(&self.0))))
    }
}

#[async_trait]
impl RootAuthority for StubbornAuthority {
    fn describe(&self) -> Description {
        self.0.describe()
    }

    async fn check(&self, context: &CallContext) -> Health {
        self.0.check(context).await
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        self.0.roots(context).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let id = context.request_id.to_string();
        self.1.asked.lock().unwrap().push(id.clone());
        if self.1.away.load(Ordering::SeqCst) {
            return Err(PluginError::AuthorityDown { detail: "fishing".to_owned() });
        }
        {
            let mut refused = self.1.refused.lock().unwrap();
            if self.1.refuses.load(Ordering::SeqCst) || refused.contains_key(&id) {
                *refused.entry(id).or_default() += 1;
                return Err(PluginError::denied("not on a Sunday"));
            }
        }
        self.0.sign_issuer(context, request).await
    }

    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.0.poll(context, ticket).await
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        self.0.staging()
    }

    fn retiring(&self) -> Option<&dyn RetireRoots> {
        self.0.retiring()
    }
}

async fn rotation(running: &Running) -> Rotation {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner()
}

async fn conditions(running: &Running) -> Vec<String> {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner().conditions
}

async fn issuers(running: &Running) -> Vec<Issuer> {
    let listed = admin(running).await.list_roots(ListRootsRequest::default()).await.unwrap();
    listed.into_inner().roots.into_iter().flat_map(|root| root.issuers).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_authority_refused_while_it_signed_is_asked_anew_until_it_signs_without_a_restart()
{
    let (place, stubborn) = (Place::new(QUICK), Stubborn::default());
    let running =
        Box::pin(Server::start_with(place.config(), HostDeps::system(), &stubborn)).await.unwrap();
    let before = issuers(&running).await;
    stubborn.0.refuses.store(true, Ordering::SeqCst);
    let mut authorities = AuthorityServiceClient::new(admin_channel(&running).await);
    let (request_id, by) = ("one".to_owned(), "alice".to_owned());
    let asked = RenewIssuerRequest { request_id, by, ..RenewIssuerRequest::default() };
    authorities.renew_issuer(asked).await.unwrap();
    eventually("the refusal is told", async || {
        rotation(&running).await.troubles.iter().any(|said| said.contains("not on a Sunday"))
    })
    .await;
    assert!(conditions(&running).await.iter().any(|said| said.contains("not on a Sunday")));
    eventually("it is asked again meanwhile", async || {
        stubborn.0.refused.lock().unwrap().len() > 1
    })
    .await;
    assert_eq!(issuers(&running).await, before, "the former issuer signs on");

    stubborn.0.refuses.store(false, Ordering::SeqCst);
    eventually("another issuer signs", async || {
        issuers(&running).await.iter().any(|issuer| issuer.active && issuer.id != before[0].id)
    })
    .await;
    let refused = stubborn.0.refused.lock().unwrap().clone();
    assert!(
        refused.values().all(|times| *times == 1),
        "each attempt is a request of its own: {refused:?}"
    );
    eventually("nothing is told any more", async || rotation(&running).await.troubles.is_empty())
        .await;
    stop(running).await;
}

/// The files below this folder, with their names.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.flat_map(|path| match path.is_dir() {
        true => files_below(&path),
        false => BTreeSet::from([path]),
    });
    below.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_key_was_lost_before_the_answer_is_asked_for_with_a_new_key_at_once() {
    let (place, stubborn) = (Place::durable(QUICK), Stubborn::default());
    let start = || Box::pin(Server::start_with(place.config(), HostDeps::system(), &stubborn));
    let running = start().await.unwrap();
    let before = issuers(&running).await;
    let keys = files_below(&place.data().join("keys"));
    stubborn.0.away.store(true, Ordering::SeqCst);
    let mut authorities = AuthorityServiceClient::new(admin_channel(&running).await);
    let (request_id, by) = ("one".to_owned(), "alice".to_owned());
    let asked = RenewIssuerRequest { request_id, by, ..RenewIssuerRequest::default() };
    authorities.renew_issuer(asked).await.unwrap();
    eventually("the authority does not answer", async || {
        rotation(&running).await.troubles.iter().any(|said| said.contains("fishing"))
    })
    .await;
    stop(running).await;
    let lost: Vec<_> = files_below(&place.data().join("keys")).difference(&keys).cloned().collect();
    assert!(!lost.is_empty(), "the new issuer's key is among {keys:?}");
    for key in lost {
        std::fs::remove_file(key).unwrap();
    }

    stubborn.0.away.store(false, Ordering::SeqCst);
    let sent = std::mem::take(&mut *stubborn.0.asked.lock().unwrap());
    let running = start().await.unwrap();
    eventually("another issuer signs", async || {
        issuers(&running).await.iter().any(|issuer| issuer.active && issuer.id != before[0].id)
    })
    .await;
    let asked = stubborn.0.asked.lock().unwrap().clone();
    assert!(
        asked.len() == 1 && !sent.contains(&asked[0]),
        "one request, and another than before: {asked:?} after {sent:?}"
    );
    stop(running).await;
}

/// Ids of the rotations that were asked for by age, as the journal has them.
async fn asked_by_age(running: &Running) -> Vec<String> {
    let mut journal = RotationServiceClient::new(admin_channel(running).await);
    let page =
        journal.read_journal(ReadJournalRequest { from: 0, limit: 0 }).await.unwrap().into_inner();
    let events = page.entries.iter().map(|entry| JournalEntry::decode(&entry.entry).unwrap().event);
    let ids = events.filter_map(|event| match event {
        Event::RotationRequested { request_id, .. } => Some(request_id.to_string()),
        _ => None,
    });
    ids.collect()
}

async fn journal_len(running: &Running) -> usize {
    let mut journal = RotationServiceClient::new(admin_channel(running).await);
    journal
        .read_journal(ReadJournalRequest { from: 0, limit: 0 })
        .await
        .unwrap()
        .into_inner()
        .entries
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_age_that_was_aborted_floods_no_journal_and_is_asked_for_again_when_it_may_be()
 {
    let place =
        Place::new(&format!("{QUICK}max_root_age = \"30d\"\nretry_aborted_after = \"2h\"\n"));
    // A month ago, so that clients who have the real time take part once the month is over.
    let month = Duration::from_secs(30 * 86_400);
    let clock =
        Arc::new(ManualClock::at(SystemClock.now().minus(month - Duration::from_secs(600))));
    let deps = HostDeps {
        clock: Arc::<ManualClock>::clone(&clock),
        randomness: Arc::new(OsRandomness::new()),
        disk: Arc::new(RealDisk),
    };
    let running = place.start_with(deps).await.unwrap();
    // A server that woke up after a month first replaces the leaf that it is met with.
    let is_met = async || try_channel(&running, None).await.is_ok();
    assert_eq!(asked_by_age(&running).await, Vec::<String>::new());
    clock.advance(month - Duration::from_secs(600));
    eventually("clients connect", is_met).await;
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    clock.advance(Duration::from_secs(1_200));
    eventually("it is asked for", async || asked_by_age(&running).await.len() == 1).await;
    // Nobody acknowledges anything, so it waits at its first gate.
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let abort = DecideRotationRequest {
        request_id: "stop".to_owned(),
        verb: Verb::Abort.into(),
        ..DecideRotationRequest::default()
    };
    rotations.decide_rotation(abort).await.unwrap();
    eventually("it is given up", async || {
        clock.advance(Duration::from_millis(100));
        rotation(&running).await.phase == "steady"
    })
    .await;
    assert_eq!(running.bundle().roots().len(), 1);
    eventually("status says until when", async || {
        conditions(&running).await.iter().any(|said| said.contains("rotation.retry_aborted_after"))
    })
    .await;
    let (asked, before) = (asked_by_age(&running).await, journal_len(&running).await);
    tokio::time::sleep(THREE_LOOKS).await;
    let (after, since) = (asked_by_age(&running).await, journal_len(&running).await - before);
    assert_eq!(after, asked, "nobody asks again yet");
    assert!(since <= 3, "{since} entries of the journal for nothing");

    clock.advance(Duration::from_secs(2 * 3_600));
    eventually("it is asked for again", async || asked_by_age(&running).await.len() == 2).await;
    let ids = asked_by_age(&running).await;
    assert!(ids[0].starts_with("age-") && ids[1] == format!("{}-2", ids[0]), "{ids:?}");
    stop(running).await;
}
