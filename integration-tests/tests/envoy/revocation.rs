//! Revocation lists at two Envoys: a thief with a copy of a revoked leaf, and everybody else, who must not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use integration_tests::mesh::{MeshCa, Registered, SOON, admin_channel, eventually};
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::crl_service_client::CrlServiceClient;
use proto::banyan::admin::v1::leaf_service_client::LeafServiceClient;
use proto::banyan::admin::v1::{
    DistrustIssuerRequest, GetCrlRequest, GetCrlResponse, ListLeavesRequest, RenewIssuerRequest,
    RevokeLeavesRequest,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trust::{Certificate, Serial};
use trust_tls::{AnyMember, server_verifier};

use super::{CLIENT, Pair, SERVER, pair, serial};

/// Agents that hear nothing do without after this time.
const LISTS: &str =
    "[crl]\nenabled = true\nkeep = \"4s\"\n[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"5s\"\n";
const ROTATION_MAX: Duration = Duration::from_secs(120);
const WITHOUT: &str = "without revocation lists";

/// One request to a listener with a leaf and its key; whether it was answered.
async fn get_as(thief: &Registered, ca: &MeshCa, at: SocketAddr) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    for root in ca.running().bundle().roots() {
        roots.add(CertificateDer::from(root.der().to_vec()))?;
    }
    let chain = thief.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(thief.key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier(Arc::new(AnyMember(Arc::new(roots)))))
        .with_client_auth_cert(chain, key)?;
    let exchange = async {
        let tcp = TcpStream::connect(at).await?;
        let name = ServerName::IpAddress(at.ip().into());
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let request = b"GET / HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
        Ok(())
    };
    tokio::time::timeout(SOON, exchange).await.context("no answer in time")?
}

async fn crl(ca: &MeshCa) -> anyhow::Result<GetCrlResponse> {
    let mut client = CrlServiceClient::new(admin_channel(&ca.running().admin_socket));
    Ok(client.get_crl(GetCrlRequest {}).await?.into_inner())
}

async fn revoke(ca: &MeshCa, leaf: &Registered) -> anyhow::Result<String> {
    revoke_serial(ca, serial_of(leaf)?).await
}

fn serial_of(leaf: &Registered) -> anyhow::Result<Serial> {
    let der = leaf.chain.first().context("a chain")?;
    Certificate::parse(der)?.serial().context("a serial number")
}

/// Answers what the CA says of it.
async fn revoke_serial(ca: &MeshCa, serial: Serial) -> anyhow::Result<String> {
    let request = RevokeLeavesRequest {
        serials: vec![serial.as_bytes().to_vec()],
        by: "ann".to_owned(),
        reason: "it was copied".to_owned(),
        dry_run: false,
    };
    let answer = LeafServiceClient::new(admin_channel(&ca.running().admin_socket))
        .revoke_leaves(request)
        .await?;
    Ok(answer.into_inner().leaves.pop().context("a leaf")?.said)
}

/// Whether the leaf of this server comes from the newest issuer.
async fn signs_anew(ca: &MeshCa, former: &[u8]) -> anyhow::Result<bool> {
    let request = ListLeavesRequest { kind: "own".to_owned(), ..ListLeavesRequest::default() };
    let mut client = LeafServiceClient::new(admin_channel(&ca.running().admin_socket));
    let leaves = client.list_leaves(request).await?.into_inner().leaves;
    Ok(leaves.iter().any(|leaf| leaf.issuer != former))
}

/// Both Envoys have acknowledged the newest entries.
async fn until_held(pair: &Pair) -> anyhow::Result<GetCrlResponse> {
    let own = [&pair.server_agent, &pair.client_agent].map(serial);
    let own: Vec<_> = own.into_iter().flatten().flatten().collect();
    eventually("both have the newest entries", async || {
        crl(&pair.ca).await.is_ok_and(|crl| {
            let lacks =
                |serial: &Serial| crl.lacking.iter().any(|one| one.serial == serial.as_bytes());
            crl.number > 0 && !own.iter().any(lacks)
        })
    })
    .await?;
    crl(&pair.ca).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_with_a_revoked_leaf_is_refused_by_peers_with_lists_and_others_go_on()
-> anyhow::Result<()> {
    let pair = pair(LISTS, &[SERVER]).await?;
    let thief = pair.ca.workload_leaf("node-9", CLIENT).await?;
    until_held(&pair).await?;
    get_as(&thief, &pair.ca, pair.server.inbound()).await.context("before it is revoked")?;
    let asked = tokio::time::Instant::now();
    let said = revoke(&pair.ca, &thief).await?;
    assert!(said.contains("(2 of 3 leaves behind agents by now"), "{said}");
    let mut answered = 0_u64;
    while get_as(&thief, &pair.ca, pair.server.inbound()).await.is_ok() {
        assert!(asked.elapsed() < Duration::from_secs(10), "still believed");
        assert_eq!(pair.client.get(0).await?.0, 200);
        answered += 1;
    }
    println!("refused after {:?}", asked.elapsed());
    for _ in 0..20 {
        assert_eq!(pair.client.get(0).await?.0, 200, "after {answered}");
        assert!(get_as(&thief, &pair.ca, pair.server.inbound()).await.is_err());
    }
    assert!(pair.server.count(".ssl.fail_verify_error").await? >= 20);
    assert_eq!(pair.client.tls_failures().await?, 0);
    let crl = until_held(&pair).await?;
    assert_eq!((crl.lists.len(), crl.lists[0].entries, crl.without.as_str()), (1, 1, ""));
    // The thief's own agent said nothing of any list.
    assert_eq!((crl.holders, crl.holders_with, crl.lacking[0].has), (3, 2, 0), "{crl:?}");
    pair.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_option_a_thief_with_a_revoked_leaf_is_believed() -> anyhow::Result<()> {
    let pair = pair("", &[SERVER]).await?;
    let thief = pair.ca.workload_leaf("node-9", CLIENT).await?;
    let said = revoke(&pair.ca, &thief).await?;
    assert!(said.contains("is believed until"), "{said}");
    for _ in 0..10 {
        get_as(&thief, &pair.ca, pair.server.inbound()).await?;
    }
    let crl = crl(&pair.ca).await?;
    assert!(!crl.enabled && crl.number == 0 && crl.lists.is_empty(), "{crl:?}");
    pair.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_and_then_the_issuer_change_under_traffic_with_lists_and_no_request_fails()
-> anyhow::Result<()> {
    let pair = pair(LISTS, &[SERVER]).await?;
    let first = until_held(&pair).await?;
    // Its holder gets another one.
    revoke_serial(&pair.ca, serial(&pair.server_agent)?.context("a leaf")?).await?;
    let changes = async {
        pair.ca.rotate("with-lists").await?;
        let over = pair.ca.until_rotation("the next root alone is trusted", ROTATION_MAX, |one| {
            one.phase == "steady" && pair.ca.running().bundle().sequence().0 == 3
        });
        over.await?;
        let rotated = until_held(&pair).await?;
        let renewal = RenewIssuerRequest {
            request_id: "issuer".to_owned(),
            by: "ann".to_owned(),
            ..RenewIssuerRequest::default()
        };
        let socket = &pair.ca.running().admin_socket;
        AuthorityServiceClient::new(admin_channel(socket)).renew_issuer(renewal).await?;
        let root = pair.ca.running().bundle().roots()[0].id();
        let of_root = |crl: &GetCrlResponse| -> Vec<Vec<u8>> {
            let lists = crl.lists.iter().filter(|list| list.root == root.as_bytes());
            lists.map(|list| list.issuer.clone()).collect()
        };
        let former = of_root(&rotated);
        eventually("the new issuer has a list", async || {
            crl(&pair.ca).await.is_ok_and(|crl| of_root(&crl).len() == former.len() + 1)
        })
        .await?;
        let signs = eventually("the new issuer signs", async || {
            signs_anew(&pair.ca, &former[0]).await.is_ok_and(|is| is)
        });
        signs.await?;
        // Distrust has agents renew, so that both have leaves of the new one.
        let agents = [&pair.server_agent, &pair.client_agent];
        let mut before = Vec::new();
        for agent in agents {
            before.push(agent.status()?.workloads[0].renewals);
        }
        let distrust = DistrustIssuerRequest {
            request_id: "distrust".to_owned(),
            issuer: former[0].clone(),
            by: "ann".to_owned(),
            reason: "a test".to_owned(),
            ..DistrustIssuerRequest::default()
        };
        AuthorityServiceClient::new(admin_channel(socket)).distrust_issuer(distrust).await?;
        for (agent, before) in agents.into_iter().zip(before) {
            agent.until("has a leaf of it", |status| status.workloads[0].renewals > before).await?;
        }
        until_held(&pair).await
    };
    let mut changes = Box::pin(changes);
    let mut answered = 0_u64;
    let last = loop {
        tokio::select! {
            biased;
            over = &mut changes => break over?,
            got = pair.client.get(0) => {
                let (status, body) = got?;
                anyhow::ensure!(status == 200, "after {answered} requests: {status} {body}");
                answered += 1;
            }
        }
    };
    drop(changes);
    println!("{answered} requests, 0 failed; lists {} to {}", first.number, last.number);
    assert!(answered > 50 && last.number > first.number, "{answered}");
    assert_eq!((pair.client.tls_failures().await?, pair.server.tls_failures().await?), (0, 0));
    pair.ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_do_not_hear_the_ca_have_proxies_do_without_and_nobody_is_refused()
-> anyhow::Result<()> {
    let pair = pair(LISTS, &[SERVER]).await?;
    let thief = pair.ca.workload_leaf("node-9", CLIENT).await?;
    revoke(&pair.ca, &thief).await?;
    let believed = async || get_as(&thief, &pair.ca, pair.server.inbound()).await.is_ok();
    eventually("the thief is refused", async || !believed().await).await?;
    pair.server.reset_counters().await?;
    pair.ca.gate().set_open(false);
    let told = |status: &agent::Status| status.conditions.iter().any(|one| one.contains(WITHOUT));
    for agent in [&pair.server_agent, &pair.client_agent] {
        let away = agent.until("it says that proxies do without", told);
        tokio::pin!(away);
        loop {
            tokio::select! {
                over = &mut away => {
                    over?;
                    break;
                }
                got = pair.client.get(0) => assert_eq!(got?.0, 200),
            }
        }
    }
    // That is what it costs.
    eventually("the thief is believed again", async || believed().await).await?;
    pair.ca.gate().set_open(true);
    eventually("the thief is refused again", async || !believed().await).await?;
    for agent in [&pair.server_agent, &pair.client_agent] {
        agent.until("all is well", |status| !told(status)).await?;
    }
    assert_eq!(pair.client.get(0).await?.0, 200);
    assert_eq!(pair.client.tls_failures().await?, 0);
    pair.ca.stop().await
}
