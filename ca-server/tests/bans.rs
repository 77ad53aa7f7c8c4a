//! Bans at a real server: who is banned gets no certificate through any door, is told whom to ask, and gets one again afterwards.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, Running};
use host::{OsRandomness, RealDisk, SystemClock};
use proto::banyan::admin::v1::ban_service_client::BanServiceClient;
use proto::banyan::admin::v1::ban_subject::Subject;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::signer_service_client::SignerServiceClient;
use proto::banyan::admin::v1::{
    AddBanRequest, BanSubject, GetRotationRequest, ListLeavesRequest, ListStandingBansRequest,
    ReadJournalRequest, RemoveBanRequest, RevokeLeavesRequest, SignRequest, StandingBan,
    StartRotationRequest, StatusRequest,
};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use support::{
    Identity, Place, admin, admin_channel, agent, bearer, channel, csr, eventually, reason,
    registration, stop, token, workload,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use trust::{Certificate, Clock as _, ManualClock, Serial, SpkiHash};

const WEB: &str = "spiffe://example.org/ns/shop/web";
const TILL: &str = "spiffe://example.org/ns/pay/till";
const SHOP: &str = "spiffe://example.org/ns/shop/*";

async fn bans(running: &Running) -> BanServiceClient<Channel> {
    BanServiceClient::new(admin_channel(running).await)
}

fn about(subject: Subject) -> Option<BanSubject> {
    Some(BanSubject { subject: Some(subject) })
}

fn identity(text: &str) -> Subject {
    Subject::Identity(text.to_owned())
}

fn ban(subject: Subject) -> AddBanRequest {
    let (by, reason) = ("ann".to_owned(), "it was taken over".to_owned());
    AddBanRequest { subject: about(subject), by, reason, ..Default::default() }
}

fn lift(subject: Subject) -> RemoveBanRequest {
    let (by, reason) = ("bob".to_owned(), "it is clean again".to_owned());
    RemoveBanRequest { subject: about(subject), by, reason }
}

async fn listed(running: &Running) -> Vec<StandingBan> {
    let asked = ListStandingBansRequest::default();
    bans(running).await.list_standing_bans(asked).await.unwrap().into_inner().bans
}

fn pair() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A leaf of this agent's workload, with its key.
async fn leaf(client: &mut AgentServiceClient<Channel>, id: &str) -> (Identity, SpkiHash) {
    let key = pair();
    let answer = workload(client, id, &key).await.unwrap();
    let spki = Certificate::parse(&answer.chain[0]).unwrap().spki_hash();
    (Identity::of(&answer, &key), spki)
}

/// What a workload with this leaf is told that asks for the next one.
async fn renewed(running: &Running, with: Identity) -> Result<(), Status> {
    let mut client = IstioCertificateServiceClient::new(channel(running, Some(with)).await);
    let csr = csr(&pair()).1;
    let asked = IstioCertificateRequest { csr, validity_duration: 0, metadata: None };
    client.create_certificate(asked).await.map(drop)
}

async fn signed(running: &Running, id: &str) -> Result<(), Status> {
    let asked =
        SignRequest { csr: csr(&pair()).0, identity: id.to_owned(), ..SignRequest::default() };
    SignerServiceClient::new(admin_channel(running).await).sign(asked).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_identity_gets_no_leaf_through_any_door_until_the_ban_is_lifted() {
    let place = Place::durable("");
    let running = place.start().await.unwrap();
    let own = agent(&running, "node-1", &[WEB, TILL]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(own)).await);
    let (web, _) = leaf(&mut client, WEB).await;
    let (till, _) = leaf(&mut client, TILL).await;
    let mut operator = bans(&running).await;

    let silent = AddBanRequest { reason: " ".to_owned(), ..ban(identity(SHOP)) };
    assert_eq!(reason(&operator.add_ban(silent).await.unwrap_err()), "REQUEST_INVALID");
    let dry = AddBanRequest { dry_run: true, ..ban(identity(SHOP)) };
    let preview = operator.add_ban(dry).await.unwrap().into_inner();
    assert_eq!((preview.leaves_total, preview.leaves[0].identity.as_str()), (1, WEB));
    assert!(preview.leaves_until > 0 && preview.former.is_none());
    assert!(preview.said.iter().any(|line| line.contains("peers believe")), "{preview:?}");
    assert!(workload(&mut client, WEB, &pair()).await.is_ok(), "a preview changes nothing");

    operator.add_ban(ban(identity(SHOP))).await.unwrap();
    let refused = workload(&mut client, WEB, &pair()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "IDENTITY_BANNED")
    );
    assert!(refused.message().contains(SHOP), "{refused:?}");
    assert!(refused.message().contains("ask ann (uid "), "{refused:?}");
    assert!(!refused.message().contains("taken over"), "why is not the caller's: {refused:?}");
    assert_eq!(reason(&renewed(&running, web).await.unwrap_err()), "IDENTITY_BANNED");
    assert_eq!(reason(&signed(&running, WEB).await.unwrap_err()), "IDENTITY_BANNED");
    // Whoever is not covered goes on, the agent itself and its other workload among them.
    renewed(&running, till).await.unwrap();
    signed(&running, TILL).await.unwrap();
    workload(&mut client, TILL, &pair()).await.unwrap();
    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    let standing = status.waiting.iter().any(|line| line.contains("1 ban stands"));
    assert!(standing, "{:?}", status.waiting);

    stop(running).await;
    let running = place.start().await.unwrap();
    assert_eq!(
        reason(&signed(&running, WEB).await.unwrap_err()),
        "IDENTITY_BANNED",
        "after a restart"
    );
    let all = listed(&running).await;
    assert_eq!((all.len(), all[0].stands, all[0].until), (1, true, 0));
    assert_eq!(
        (&all[0].subject, all[0].reason.as_str()),
        (&about(identity(SHOP)), "it was taken over")
    );

    let mut operator = bans(&running).await;
    let unknown = operator.remove_ban(lift(identity(WEB))).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "BAN_UNKNOWN"));
    operator.remove_ban(lift(identity(SHOP))).await.unwrap();
    signed(&running, WEB).await.unwrap();
    assert_eq!(listed(&running).await, []);

    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let page = rotations.read_journal(ReadJournalRequest::default()).await.unwrap().into_inner();
    let journal =
        String::from_utf8(page.entries.iter().flat_map(|entry| entry.entry.clone()).collect());
    let journal = journal.unwrap();
    for kept in
        ["ban add", "ban remove", "identity spiffe://example.org/ns/shop/*", "it was taken over"]
    {
        assert!(journal.contains(kept), "{kept} is missing");
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_key_is_certified_for_nobody_and_speaks_for_nobody() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let own = agent(&running, "node-1", &[WEB]).await;
    let key_of_agent = Certificate::parse(&own.chain[0]).unwrap().spki_hash();
    let mut client = AgentServiceClient::new(channel(&running, Some(own)).await);
    let (web, key) = leaf(&mut client, WEB).await;
    let mut operator = bans(&running).await;
    let subject = |key: SpkiHash| Subject::Key(key.as_bytes().to_vec());
    let added = operator.add_ban(ban(subject(key))).await.unwrap().into_inner();
    assert_eq!((added.leaves_total, added.agents.len()), (1, 0));
    // Its holder would only ask for another key.
    assert_eq!(reason(&renewed(&running, web).await.unwrap_err()), "KEY_BLOCKED");
    workload(&mut client, WEB, &pair())
        .await
        .expect("another key of the same identity is not banned");

    let added = operator.add_ban(ban(subject(key_of_agent))).await.unwrap().into_inner();
    assert_eq!(added.agents, ["node-1"]);
    assert_eq!(added.leaves_total, 3, "an agent that may not call renews nothing");
    let refused = workload(&mut client, WEB, &pair()).await.unwrap_err();
    assert_eq!(reason(&refused), "AGENT_BANNED");
    assert!(refused.message().contains(&format!("--key {key_of_agent}")), "{refused:?}");
    operator.remove_ban(lift(subject(key_of_agent))).await.unwrap();
    workload(&mut client, WEB, &pair()).await.unwrap();

    let of_ca = running.bundle().roots()[0].certificate().spki_hash();
    let refused = operator.add_ban(ban(subject(of_ca))).await.unwrap_err();
    assert!(refused.message().contains("`banyan root distrust`"), "{refused:?}");
    stop(running).await;
}

fn revoke(serials: &[&Serial]) -> RevokeLeavesRequest {
    let (by, reason) = ("ann".to_owned(), "it was copied".to_owned());
    let serials = serials.iter().map(|serial| serial.as_bytes().to_vec()).collect();
    RevokeLeavesRequest { serials, by, reason, dry_run: false }
}

async fn leaves(running: &Running) -> LeafServiceClient<Channel> {
    LeafServiceClient::new(admin_channel(running).await)
}

fn serial_of(identity: &Identity) -> Serial {
    Certificate::parse(&identity.chain[0]).unwrap().serial().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_leaf_is_no_credential_any_more_and_still_counts_until_nobody_has_it() {
    let place = Place::durable("");
    let running = place.start().await.unwrap();
    let own = agent(&running, "node-1", &[WEB]).await;
    let own_serial = serial_of(&own);
    let mut client = AgentServiceClient::new(channel(&running, Some(own)).await);
    let (first, _) = leaf(&mut client, WEB).await;
    let (second, _) = leaf(&mut client, WEB).await;
    let serial = serial_of(&first);
    let copy = || Identity { chain: first.chain.clone(), key: first.key.clone_key() };
    let mut operator = leaves(&running).await;

    let unknown = Serial::from_bytes(&[0x41; 16]).unwrap();
    let refused = operator.revoke_leaves(revoke(&[&serial, &unknown])).await.unwrap_err();
    assert_eq!(reason(&refused), "LEAF_UNKNOWN", "all or none");
    let refused = operator.revoke_leaves(revoke(&[&own_serial])).await.unwrap_err();
    assert!(refused.message().contains("`banyan agent ban node-1`"), "{refused:?}");
    let dry = RevokeLeavesRequest { dry_run: true, ..revoke(&[&serial]) };
    operator.revoke_leaves(dry).await.unwrap();
    renewed(&running, copy()).await.expect("nothing was done");

    let told = operator.revoke_leaves(revoke(&[&serial])).await.unwrap().into_inner().leaves;
    assert!(told[0].former_by.is_empty() && told[0].said.contains("is not connected"), "{told:?}");
    let refused = renewed(&running, copy()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "CERTIFICATE_REVOKED")
    );
    assert!(refused.message().contains("ask ann"), "{refused:?}");
    renewed(&running, second)
        .await
        .expect("another leaf of the same identity is as good as before");
    let again = operator.revoke_leaves(revoke(&[&serial])).await.unwrap().into_inner().leaves;
    assert!(again[0].said.contains("revoked before"), "{again:?}");

    stop(running).await;
    let running = place.start().await.unwrap();
    assert_eq!(reason(&renewed(&running, copy()).await.unwrap_err()), "CERTIFICATE_REVOKED");
    let asked = ListLeavesRequest { forgotten: true, ..ListLeavesRequest::default() };
    let said = leaves(&running).await.list_leaves(asked).await.unwrap().into_inner().leaves;
    assert_eq!((said.len(), said[0].forgotten.as_str()), (1, "revoked"));
    assert_eq!(said[0].serial, serial.as_bytes());
    // A gate waits for it as for any other.
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request = StartRotationRequest { request_id: "one".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await.unwrap();
    eventually("the revoked one holds the trust gate", || async {
        let asked = ListLeavesRequest { holding: true, ..ListLeavesRequest::default() };
        let holding = leaves(&running).await.list_leaves(asked).await.unwrap().into_inner().leaves;
        holding.iter().any(|leaf| leaf.serial == serial.as_bytes())
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_itself_is_not_banned_and_everybody_only_by_who_types_it_twice() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let own = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(own)).await);
    let mut operator = bans(&running).await;
    for (own, advice) in [
        ("spiffe://example.org/banyan/ca/default", "`banyan replica remove`"),
        ("spiffe://example.org/banyan/*", "`banyan replica remove`"),
        ("spiffe://example.org/banyan/agent/*", "`banyan ban add --agent`"),
        (
            "spiffe://example.org/banyan/agent/node-1",
            "`banyan ban add --agent node-1 --reason TEXT`",
        ),
        ("spiffe://other.org/web", "another trust domain"),
        ("spiffe://example.org/ns/*/web", "no SPIFFE id"),
    ] {
        let refused = operator.add_ban(ban(identity(own))).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_INVALID", "{own}");
        assert!(refused.message().contains(advice), "{own}: {refused:?}");
    }
    let everybody = "spiffe://example.org/*";
    let refused = operator.add_ban(ban(identity(everybody))).await.unwrap_err();
    assert!(refused.message().contains("--confirm 'spiffe://example.org/*'"), "{refused:?}");
    workload(&mut client, WEB, &pair()).await.expect("nothing was done");
    let typed = AddBanRequest { confirm: everybody.to_owned(), ..ban(identity(everybody)) };
    operator.add_ban(typed).await.unwrap();
    let refused = workload(&mut client, WEB, &pair()).await.unwrap_err();
    assert_eq!(reason(&refused), "IDENTITY_BANNED", "the agent itself may call");
    let joins = token(&running, "node-2", &[WEB]).await;
    let mut joiner = AgentServiceClient::new(channel(&running, None).await);
    joiner.register(bearer(registration(&running, &pair()), &joins)).await.expect("agents join");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_ends_at_its_time_also_one_of_an_agent_and_the_next_takes_its_place() {
    let place = Place::durable("");
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let deps = || HostDeps {
        clock: Arc::<ManualClock>::clone(&clock),
        randomness: Arc::new(OsRandomness::new()),
        disk: Arc::new(RealDisk),
    };
    let running = place.start_with(deps()).await.unwrap();
    let own = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(own)).await);
    let node = || Subject::Agent("node-1".to_owned());
    let mut operator = bans(&running).await;
    for lasts_seconds in [-1, 59, i64::MAX] {
        let odd = AddBanRequest { lasts_seconds, ..ban(node()) };
        assert_eq!(reason(&operator.add_ban(odd).await.unwrap_err()), "REQUEST_INVALID");
    }
    for (subject, said) in [(node(), "AGENT_BANNED"), (identity(WEB), "IDENTITY_BANNED")] {
        let hour = AddBanRequest { lasts_seconds: 3_600, ..ban(subject.clone()) };
        operator.add_ban(hour.clone()).await.unwrap();
        clock.advance(Duration::from_secs(1));
        let again = operator.add_ban(hour).await.unwrap().into_inner();
        assert_eq!(again.former.map(|former| former.by), again.ban.map(|ban| ban.by));
        clock.advance(Duration::from_secs(3_599));
        let refused = workload(&mut client, WEB, &pair()).await.unwrap_err();
        assert_eq!(reason(&refused), said);
        clock.advance(Duration::from_secs(1));
        workload(&mut client, WEB, &pair()).await.expect("it is over");
    }
    let over: Vec<_> = listed(&running).await.iter().map(|ban| ban.stands).collect();
    assert_eq!(over, [false, false], "what is over is told until it is removed");
    operator.remove_ban(lift(identity(WEB))).await.expect("and may be removed");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_names_whom_it_waits_for_because_they_are_banned() {
    let place = Place::new("[rotation]\nsettle = \"1s\"\n");
    let running = place.start().await.unwrap();
    let own = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(own)).await);
    leaf(&mut client, WEB).await;
    let mut operator = bans(&running).await;
    operator.add_ban(ban(identity(WEB))).await.unwrap();
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request = StartRotationRequest { request_id: "one".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await.unwrap();
    let named = async |needle: &str| {
        let mut client = RotationServiceClient::new(admin_channel(&running).await);
        let rotation = client.get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
        let holders = rotation.gate.unwrap_or_default().holders;
        holders.iter().any(|holder| holder.text.contains(needle))
    };
    eventually("the banned one is named", || async {
        named("identity spiffe://example.org/ns/shop/web is banned by ann").await
    })
    .await;
    let dry = AddBanRequest { dry_run: true, ..ban(identity(SHOP)) };
    let preview = operator.add_ban(dry).await.unwrap().into_inner();
    let waits = preview.said.iter().any(|line| line.contains("the trust gate of the rotation"));
    assert!(waits, "{:?}", preview.said);
    stop(running).await;
}
