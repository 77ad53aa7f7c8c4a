//! Revocation lists of a real server, as two verifiers judge them that share no code with it: OpenSSL and rustls-webpki.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ca_server::Running;
use proto::banyan::admin::v1::ban_service_client::BanServiceClient;
use proto::banyan::admin::v1::ban_subject::Subject;
use proto::banyan::admin::v1::crl_service_client::CrlServiceClient;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::{
    AddBanRequest, BanSubject, GetCrlRequest, GetCrlResponse, RemoveBanRequest, RevokeLeavesRequest,
};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, UnixTime};
use support::cacerts::OtherCa;
use support::{Place, admin_channel, agent, channel, eventually, stop, workload, write_private};
use trust::Certificate;
use trust::certificate::{crl_pem_block, pem_block};

const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://example.org/api";
const ON: &str = "[crl]\nenabled = true\n";

async fn crl(running: &Running) -> GetCrlResponse {
    let mut client = CrlServiceClient::new(admin_channel(running).await);
    client.get_crl(GetCrlRequest {}).await.unwrap().into_inner()
}

/// The lists, once they have so many entries.
async fn with_entries(running: &Running, wanted: u64) -> GetCrlResponse {
    let entries = |crl: &GetCrlResponse| crl.lists.iter().map(|list| list.entries).sum::<u64>();
    let is_so = async || {
        let crl = crl(running).await;
        crl.number > 0 && entries(&crl) == wanted
    };
    eventually("the lists have these entries", is_so).await;
    crl(running).await
}

async fn revoke(running: &Running, chain: &[Vec<u8>]) {
    let serial = Certificate::parse(&chain[0]).unwrap().serial().unwrap();
    let request = RevokeLeavesRequest {
        serials: vec![serial.as_bytes().to_vec()],
        by: "ann".to_owned(),
        reason: "it was copied".to_owned(),
        dry_run: false,
    };
    LeafServiceClient::new(admin_channel(running).await).revoke_leaves(request).await.unwrap();
}

/// What rustls-webpki says of a chain with these lists.
fn webpki(running: &Running, chain: &[Vec<u8>], crl: &GetCrlResponse) -> Result<(), webpki::Error> {
    let bundle = running.bundle();
    let root = CertificateDer::from(bundle.roots()[0].der());
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let ders: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let lists: Vec<webpki::CertRevocationList<'_>> = crl
        .lists
        .iter()
        .map(|list| webpki::BorrowedCertRevocationList::from_der(&list.der).unwrap().into())
        .collect();
    let lists: Vec<_> = lists.iter().collect();
    let revocation = webpki::RevocationOptionsBuilder::new(&lists)
        .unwrap()
        .with_depth(webpki::RevocationCheckDepth::EndEntity)
        .with_status_policy(webpki::UnknownStatusPolicy::Deny)
        .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
        .build();
    let leaf = webpki::EndEntityCert::try_from(&ders[0]).unwrap();
    let judged = leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &ders[1..],
        UnixTime::now(),
        webpki::KeyUsage::client_auth(),
        Some(revocation),
        None,
    );
    judged.map(drop)
}

/// What OpenSSL says; empty if it has nothing against the chain.
fn openssl(place: &Path, running: &Running, chain: &[Vec<u8>], crl: &GetCrlResponse) -> String {
    let pem = |ders: &[Vec<u8>]| ders.iter().map(|der| pem_block(der)).collect::<String>();
    let lists: String = crl.lists.iter().map(|list| crl_pem_block(&list.der)).collect();
    for (name, text) in [
        ("root.pem", running.bundle().pem().to_string()),
        ("leaf.pem", pem(&chain[..1])),
        ("above.pem", pem(&chain[1..])),
        ("crl.pem", lists),
    ] {
        write_private(&place.join(name), text.as_bytes());
    }
    let words = "verify -CAfile root.pem -untrusted above.pem -CRLfile crl.pem -crl_check leaf.pem";
    let done = Command::new("openssl").args(words.split(' ')).current_dir(place).output();
    let done = done.expect("openssl is needed: install it with the packages of the system");
    match done.status.success() {
        true => String::new(),
        false => String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_verifiers_refuse_whom_a_list_names_and_nobody_else() {
    let place = Place::new(ON);
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB, API]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let mut leaf =
        async |id| workload(&mut client, id, &KeyPair::generate().unwrap()).await.unwrap().chain;
    let (web, other, api) = (leaf(WEB).await, leaf(WEB).await, leaf(API).await);
    let none = with_entries(&running, 0).await;
    assert_eq!((none.lists.len(), none.without.as_str()), (1, ""), "{none:?}");
    for chain in [&web, &other, &api] {
        assert_eq!(openssl(place.path(), &running, chain, &none), "");
        assert_eq!(webpki(&running, chain, &none), Ok(()));
        let leaf = Certificate::parse(&chain[0]).unwrap();
        assert!(!leaf.der().windows(3).any(|bytes| bytes == [0x55, 0x1d, 0x38]), "noRevAvail");
    }
    revoke(&running, &web).await;
    let one = with_entries(&running, 1).await;
    assert!(one.number > none.number && one.changed_number == one.number);
    let said = openssl(place.path(), &running, &web, &one);
    assert!(said.contains("certificate revoked"), "{said}");
    assert_eq!(webpki(&running, &web, &one), Err(webpki::Error::CertRevoked));
    for chain in [&other, &api] {
        assert_eq!(openssl(place.path(), &running, chain, &one), "");
        assert_eq!(webpki(&running, chain, &one), Ok(()));
    }
    // Both leaves of an identity that is banned, and after the ban only the one that was revoked.
    let subject = Some(BanSubject { subject: Some(Subject::Identity(WEB.to_owned())) });
    let mut bans = BanServiceClient::new(admin_channel(&running).await);
    let (subject, reason) = (subject, "taken over".to_owned());
    let ban = AddBanRequest {
        subject: subject.clone(),
        reason: reason.clone(),
        ..AddBanRequest::default()
    };
    bans.add_ban(ban).await.unwrap();
    let two = with_entries(&running, 2).await;
    assert_eq!(webpki(&running, &other, &two), Err(webpki::Error::CertRevoked));
    assert_eq!(webpki(&running, &api, &two), Ok(()));
    bans.remove_ban(RemoveBanRequest { subject, reason, ..RemoveBanRequest::default() })
        .await
        .unwrap();
    let again = with_entries(&running, 1).await;
    assert_eq!(openssl(place.path(), &running, &other, &again), "");
    assert!(again.number > two.number && two.number > one.number);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_a_list_stays_there_after_a_restart_and_the_number_goes_on() {
    let place = Place::durable(ON);
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let leaf = workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    revoke(&running, &leaf.chain).await;
    let before = with_entries(&running, 1).await;
    stop(running).await;
    let running = place.start().await.unwrap();
    let after = with_entries(&running, 1).await;
    assert!(after.number > before.number, "{} and {}", before.number, after.number);
    assert_eq!(webpki(&running, &leaf.chain, &after), Err(webpki::Error::CertRevoked));
    // No agent said anything, so nobody has it.
    assert_eq!((after.holders, after.holders_with, after.lacking[0].has), (1, 0, 0));
    let life = after.lists[0].next_update - after.lists[0].this_update;
    assert!(life >= 7 * 86_400, "{life}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_others_issue_under_gets_no_lists_and_the_server_says_so() {
    let authority = "[root]\nauthority = \"istio\"\n[authority.istio]\nplugin = \"file\"\ndirectory = \"istio\"\n";
    let place = Place::new(&format!("{ON}{authority}"));
    let root = OtherCa::root("shared", Duration::from_secs(86_400 * 3_650));
    root.put(&root, &place.path().join("istio"));
    let running = place.start().await.unwrap();
    let told = async || crl(&running).await.without.contains("others may issue under root");
    eventually("it says why", told).await;
    let status = support::admin(&running)
        .await
        .status(proto::banyan::admin::v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let said = status.conditions.iter().any(|one| one.contains("crl.enabled is set"));
    assert!(said, "{:?}", status.conditions);
    stop(running).await;
}
