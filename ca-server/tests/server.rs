//! The server as a process among others: starts, restarts, faults, limits, streams, the plain port.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use ca_server::{BootError, HostDeps};
use host::{Fault, FaultDisk, How, Operation, RealDisk};
use proto::banyan::admin::v1::{ListRootsRequest, StatusRequest};
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::server_message::Message as Answer;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, AppliedRow, EvidenceClass, GetBundleRequest, Hello, Nack, Release,
};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::KeyPair;
use support::{
    Place, SOON, admin, agent, bearer, channel, eventually, http_get, reason, stop, workload,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::metadata::MetadataValue;
use trust::{Certificate, RootId};

const WEB: &str = "spiffe://example.org/web";

async fn root_ids(running: &ca_server::Running) -> BTreeSet<RootId> {
    let roots = admin(running)
        .await
        .list_roots(ListRootsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .roots;
    roots.iter().map(|root| RootId::from_bytes(&root.id).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_is_refused_and_the_first_serves_on() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let refused = place.start().await.unwrap_err();
    assert!(matches!(refused, BootError::Locked(_)), "{refused}");
    assert!(refused.to_string().contains("stop that process"), "{refused}");
    assert_eq!(root_ids(&running).await.len(), 1);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_found_before_anything_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::durable("").with_plain_at(taken.local_addr().unwrap());
    let refused = place.start().await.unwrap_err();
    assert!(matches!(refused, BootError::Listen { .. }), "{refused}");
    assert!(refused.to_string().contains("stop what listens there"), "{refused}");
    let made: Vec<_> =
        std::fs::read_dir(place.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["lock"], "nothing but the lock");
    drop(taken);
    let running = place.start().await.unwrap();
    assert_eq!(root_ids(&running).await.len(), 1);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_root_agents_and_rows() {
    let place = Place::durable("");
    let running = place.start().await.unwrap();
    let before = root_ids(&running).await;
    let identity = agent(&running, "node-1", &[WEB]).await;
    stop(running).await;

    let running = place.start().await.unwrap();
    assert_eq!(root_ids(&running).await, before);
    // The agent's certificate is good only if its row was read again.
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.healthy, "{:?}", status.conditions);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_cannot_be_read_ends_the_start_and_makes_no_new_root() {
    let place = Place::durable("");
    stop(place.start().await.unwrap()).await;
    let record = place.data().join("state.redb");
    let whole = std::fs::read(&record).unwrap();

    std::fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    let refused = place.start().await.unwrap_err();
    assert!(matches!(refused, BootError::StateFile(_)), "{refused:?}");
    assert!(refused.to_string().contains("restore"), "{refused}");

    std::fs::remove_file(&record).unwrap();
    let refused = place.start().await.unwrap_err();
    assert!(matches!(refused, BootError::StateLost { .. }), "{refused:?}");
    assert!(!record.exists());

    support::write_private(&record, &whole);
    stop(place.start().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_passphrase_and_a_readable_one_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::durable("");
    stop(place.start().await.unwrap()).await;
    let path = place.path().join("passphrase");
    support::write_private(&path, b"another passphrase");
    let refused = place.start().await.unwrap_err().to_string();
    assert!(refused.contains("passphrase"), "{refused}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    // In the same process, what the refused one had begun ends a moment after it.
    let refused = support::once_free(&place).await.unwrap_err().to_string();
    assert!(refused.contains("chmod 0600"), "{refused}");
}

/// Every durable step of a first start, cut off there; the next start must finish with one root.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_dies_at_any_write_is_finished_by_the_next_with_one_root() {
    let mut step = 0;
    loop {
        let place = Place::durable("");
        let disk = Arc::new(FaultDisk::new(Arc::new(RealDisk)));
        disk.plan(Fault::next_change(How::DiesBefore).after(step));
        let first = place.start_with(HostDeps { disk: disk.clone(), ..HostDeps::system() }).await;
        let died = disk.is_dead();
        match first {
            Ok(running) => stop(running).await,
            Err(error) => assert!(died, "step {step}: {error}"),
        }
        // In the same process, what the first one had begun ends a moment after it.
        let running = support::once_free(&place).await;
        let running = running.unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert_eq!(root_ids(&running).await.len(), 1, "step {step}");
        stop(running).await;
        if !died {
            assert!(step > 5, "the plan never struck");
            return;
        }
        step += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_durable_row_nothing_is_released_and_the_operator_is_told() {
    let place = Place::new("");
    let disk = Arc::new(FaultDisk::new(Arc::new(RealDisk)));
    let running =
        place.start_with(HostDeps { disk: disk.clone(), ..HostDeps::system() }).await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let pair = KeyPair::generate().unwrap();
    disk.plan(Fault::next(Operation::Append, How::DiskFull).on("ledger").times(1_000));
    let refused = workload(&mut client, WEB, &pair).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "LEDGER_STOPPED")
    );
    disk.heal();
    // There is space again: the server goes on by itself.
    workload(&mut client, WEB, &pair).await.unwrap();
    disk.plan(Fault::next(Operation::Sync, How::Stored).on("ledger"));
    for _ in 0..2 {
        let refused = workload(&mut client, WEB, &pair).await.unwrap_err();
        assert_eq!(reason(&refused), "LEDGER_STOPPED", "a failed sync is never taken for success");
    }
    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(!status.healthy && status.conditions[0].contains("restart"), "{:?}", status.conditions);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handshake_is_cut_while_others_are_served() {
    let place = Place::new("[limits]\nhandshake_timeout = \"300ms\"\nhandshakes = 2\n");
    let running = place.start().await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(running.grpc_addr).await.unwrap();
        stream.write_all(&[0x16, 0x03]).await.unwrap();
        slow.push(stream);
    }
    let mut client = AgentServiceClient::new(channel_when_free(&running).await);
    client.get_bundle(GetBundleRequest { digest: Vec::new() }).await.unwrap();
    for mut stream in slow {
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        read.expect("the server must cut the connection").unwrap_or_default();
    }
    client.get_bundle(GetBundleRequest { digest: Vec::new() }).await.unwrap();
    stop(running).await;
}

/// All places for handshakes may be taken: then this one is cut too, and tries again.
async fn channel_when_free(running: &ca_server::Running) -> tonic::transport::Channel {
    for _ in 0..50 {
        let attempt = tokio::time::timeout(SOON, support::try_channel(running, None)).await;
        if let Ok(Ok(channel)) = attempt {
            return channel;
        }
    }
    panic!("no handshake came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_and_malformed_requests_are_refused_and_the_connection_survives() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let channel = channel(&running, None).await;
    let mut client = IstioCertificateServiceClient::new(channel.clone());
    let request =
        |csr: String| IstioCertificateRequest { csr, validity_duration: 0, metadata: None };
    let mut refusals = Vec::new();
    for (message, metadata) in [(70_000, 0), (20_000, 0), (100, 17_000), (100, 0)] {
        let mut request = bearer(request("x".repeat(message)), "token");
        let value = MetadataValue::try_from("v".repeat(metadata)).unwrap();
        request.metadata_mut().insert("x-filler", value);
        let refused = client.create_certificate(request).await.unwrap_err();
        refusals.push((refused.code(), reason(&refused)));
    }
    let expected = ["REQUEST_INVALID", "CSR_TOO_LARGE", "REQUEST_INVALID", "CSR_ENCODING_INVALID"];
    assert_eq!(refusals, expected.map(|reason| (Code::InvalidArgument, reason.to_owned())));

    let compressed = tonic::codec::CompressionEncoding::Gzip;
    let mut compressing =
        IstioCertificateServiceClient::new(channel.clone()).send_compressed(compressed);
    let refused = compressing.create_certificate(request("x".repeat(100))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);

    AgentServiceClient::new(channel)
        .get_bundle(GetBundleRequest { digest: Vec::new() })
        .await
        .unwrap();
    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.refused_total, status.issued_total), (4, 0));
    assert_eq!(status.ledger.unwrap().live_rows, 1, "the server's own leaf only");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_carries_the_bundle_down_and_evidence_about_own_rows_up() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let identity = agent(&running, "node-1", &[WEB]).await;
    let outsider = agent(&running, "node-2", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let issued = workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    let serial =
        Certificate::parse(&issued.chain[0]).unwrap().serial().unwrap().as_bytes().to_vec();

    let (said, up) = tokio::sync::mpsc::channel(8);
    let say =
        async |message: Said| said.send(AgentMessage { message: Some(message) }).await.unwrap();
    say(Said::Hello(Hello { build: "b1".to_owned(), ..Hello::default() })).await;
    let mut down = client.connect(ReceiverStream::new(up)).await.unwrap().into_inner();
    let first = down.message().await.unwrap().unwrap().message.unwrap();
    let Answer::Bundle(bundle) = first else { panic!("not a bundle: {first:?}") };
    assert_eq!(bundle.digest, running.bundle().digest().as_bytes());

    let ack = |serial: &[u8], sequence| {
        let evidence = EvidenceClass::Applied.into();
        Said::Ack(Ack { rows: vec![AppliedRow { serial: serial.to_vec(), sequence, evidence }] })
    };
    let status =
        async || admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    let agent_of = |status: &proto::banyan::admin::v1::StatusResponse| status.agents[0].clone();
    say(ack(&serial, bundle.sequence + 1)).await;
    say(ack(&serial, bundle.sequence)).await;
    say(Said::Nack(Nack { serial: serial.clone(), sequence: 1, reason: "no\n".to_owned() })).await;
    eventually("the nack is shown", async || agent_of(&status().await).nacks == 1).await;
    let seen = agent_of(&status().await);
    assert_eq!((seen.connected, seen.sequence, seen.live_rows), (true, bundle.sequence, 2));
    assert_eq!((seen.build.as_str(), seen.last_nack.as_str()), ("b1", "no\\n"));

    // Another agent's word about this row moves nothing.
    let mut other = AgentServiceClient::new(channel(&running, Some(outsider)).await);
    let release = Said::Release(Release { serials: vec![serial] });
    let (other_said, other_up) = tokio::sync::mpsc::channel(8);
    other_said.send(AgentMessage { message: Some(release.clone()) }).await.unwrap();
    let other_down = other.connect(ReceiverStream::new(other_up)).await.unwrap();
    eventually("the other is seen", async || status().await.agents[1].connected).await;
    assert_eq!(agent_of(&status().await).live_rows, 2);
    drop((other_said, other_down));
    say(release).await;
    eventually("the row is released", async || agent_of(&status().await).live_rows == 1).await;

    let drained = tokio::spawn(async move {
        while let Ok(Some(message)) = down.message().await {
            if let Some(Answer::Drain(drain)) = message.message {
                return Some(drain.reconnect_after_ms);
            }
        }
        None
    });
    stop(running).await;
    assert_eq!(drained.await.unwrap(), Some(500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_agents_certificate_is_refused() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    let mut client = AgentServiceClient::new(channel(&running, None).await);
    let refused = client.connect(tokio_stream::empty::<AgentMessage>()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "CREDENTIAL_MISSING")
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_is_closed_on_the_tls_port_unless_configured() {
    let place = Place::new(&format!("[admin]\nidentities = [\"{WEB}\"]\n"));
    let running = place.start().await.unwrap();
    let operator = agent(&running, "node-1", &[WEB, "spiffe://example.org/db"]).await;
    let mut agents = AgentServiceClient::new(channel(&running, Some(operator)).await);
    for (id, allowed) in [(WEB, true), ("spiffe://example.org/db", false)] {
        let pair = KeyPair::generate().unwrap();
        let leaf = workload(&mut agents, id, &pair).await.unwrap();
        let channel = channel(&running, Some(support::Identity::of(&leaf, &pair))).await;
        let mut client =
            proto::banyan::admin::v1::admin_service_client::AdminServiceClient::new(channel);
        let answer = client.status(StatusRequest {}).await;
        assert_eq!(answer.is_ok(), allowed, "{id}");
        if let Err(refused) = answer {
            assert_eq!(reason(&refused), "CALLER_NOT_ALLOWED");
        }
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_port_tells_health_and_metrics() {
    let place = Place::new("");
    let running = place.start().await.unwrap();
    agent(&running, "node-1", &[WEB]).await;
    assert!(http_get(&running, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(http_get(&running, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = http_get(&running, "/metrics").await;
    let root = running.bundle().roots()[0].id();
    for line in [
        format!("banyan_root_not_after_timestamp_seconds{{root=\"{root}\"}}"),
        format!("banyan_ledger_live_rows{{root=\"{root}\"}} 2"),
        "banyan_issue_seconds_count{caller=\"join_token\"} 1".to_owned(),
        "banyan_bundle_sequence 1".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
    let endpoint = format!("http://{}", running.plain_addr);
    let channel =
        tonic::transport::Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for service in ["", "istio.v1.auth.IstioCertificateService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
    }
    stop(running).await;
}
