//! What is served to whom, and in which order.

use super::*;
use crate::fakes::ca::Misdeed;
use crate::fakes::{Pki, bundle_of};
use proto::banyan::agent::v1 as wire;
use proto::banyan::agent::v1::server_message::Message as Down;
use proto::sds::DeltaDiscoveryRequest;
use trust::Certificate;

#[tokio::test]
async fn a_leaf_waits_for_the_acknowledgement_of_the_roots_and_then_carries_its_key() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    let first = roots.next().await.unwrap();
    assert_eq!(certificates_of(&first), [bench.ca.desk().signer.root().der()]);
    assert!(leaf.is_quiet().await, "no leaf before the roots are acknowledged");
    roots.ack(&first).await;
    let answer = leaf.next_acked().await;
    let certificate = Certificate::parse(&certificates_of(&answer)[0]).unwrap();
    assert_eq!(certificate.spiffe_id().unwrap().as_str(), "spiffe://example.org/ns/a/sa/b");
    let Some(secret::Type::TlsCertificate(parts)) = secret_of(&answer).r#type else {
        panic!("no leaf")
    };
    let Some(Specifier::InlineBytes(key)) = parts.private_key.unwrap().specifier else {
        panic!("no key")
    };
    assert_eq!(crate::key::PrivateKey::from_pem(&key).unwrap().spki(), certificate.spki_hash());
    let serial = certificate.serial().unwrap().as_bytes().to_vec();
    bench
        .until_heard("the leaf's row is proven", |desk| {
            desk.claims().get(&serial) == Some(&(1, wire::EvidenceClass::Applied))
        })
        .await;
}

#[tokio::test]
async fn a_nonce_of_a_former_agent_opens_a_stream_like_none_and_is_stale_after_the_first_answer() {
    let bench = Bench::joined().await;
    let old = |names: &[&str]| DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: "nonce-of-a-former-agent".to_owned(),
        version_info: "7".to_owned(),
        ..DiscoveryRequest::default()
    };
    let (up, requests) = mpsc::channel(16);
    up.send(old(&["ROOTCA"])).await.unwrap();
    let down =
        bench.sds().await.stream_secrets(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let mut stream = Subscriber { up, down, names: vec!["ROOTCA".to_owned()] };
    let first = stream.next().await.unwrap();
    assert_eq!(secret_of(&first).name, "ROOTCA");
    stream.up.send(old(&["ROOTCA", "default"])).await.unwrap();
    assert!(stream.is_quiet().await, "the answer that is out has a nonce of its own");
    stream.nack(&first, "cannot use this").await;
    assert!(stream.is_quiet().await, "a refusal is not answered with the same again");
}

#[tokio::test]
async fn a_rotation_adds_trust_then_moves_the_leaf_then_removes_trust() {
    let bench = Bench::joined().await;
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    leaf.next_acked().await;
    let (old, new) = (Arc::clone(&bench.ca.desk().signer), Arc::new(Pki::new("second")));
    bench.ca.publish(bundle_of(&[&old, &new], 2));
    let both = roots.next().await.unwrap();
    assert_eq!(certificates_of(&both).len(), 2);
    bench.ca.desk().signer = Arc::clone(&new);
    // As the real one: its own leaf is renewed under the new root before the old one goes.
    bench.ca.present_under(&new);
    let status = bench.agent().status();
    let serial = status.workloads[0].serial.clone().unwrap();
    let serial: u128 = u128::from_str_radix(&serial, 16).unwrap();
    let own = status.member.clone().unwrap().serial;
    let own_bytes = u128::from_str_radix(&own, 16).unwrap().to_be_bytes().to_vec();
    let hint =
        wire::ReissueHint { serials: vec![serial.to_be_bytes().to_vec(), own_bytes], spread_ms: 0 };
    bench.ca.tell(&Down::Reissue(hint));
    bench
        .until("the agent's own certificate is renewed too", |status| {
            status.member.as_ref().is_some_and(|member| member.serial != own)
        })
        .await;
    bench
        .until("a leaf under the new root is there", |status| {
            status.workloads[0].root == Some(new.root().id())
        })
        .await;
    assert!(leaf.is_quiet().await, "the new leaf waits for the roots");
    roots.ack(&both).await;
    let second = leaf.next().await.unwrap();
    bench.ca.publish(new.bundle(3));
    bench.until("the last bundle is in force", |status| status.sequence == 3).await;
    assert!(roots.is_quiet().await, "the old root stays until the leaf is acknowledged");
    leaf.ack(&second).await;
    let last = roots.next_acked().await;
    assert_eq!(certificates_of(&last), [new.root().der()]);
    bench
        .until_heard("the old leaf is released", |desk| {
            desk.released().contains(&serial.to_be_bytes().to_vec())
        })
        .await;
}

#[tokio::test]
async fn each_name_has_its_form_and_others_end_in_a_clear_error() {
    let bench = Bench::joined().await;
    let mut all = bench.subscribe("ALL").await;
    let Some(secret::Type::ValidationContext(context)) = secret_of(&all.next_acked().await).r#type
    else {
        panic!("no validation context")
    };
    assert_eq!(context.custom_validator_config.unwrap().name, "envoy.tls.cert_validator.spiffe");
    let mut own = bench.subscribe("spiffe://example.org").await;
    assert_eq!(certificates_of(&own.next_acked().await).len(), 1);
    let mut leaf = bench.subscribe("spiffe://example.org/ns/a/sa/b").await;
    assert_eq!(secret_of(&leaf.next_acked().await).name, "spiffe://example.org/ns/a/sa/b");
    for (name, code) in [
        ("spiffe://example.org/ns/a/sa/other", Code::PermissionDenied),
        ("spiffe://Other.org", Code::InvalidArgument),
        ("nonsense", Code::InvalidArgument),
    ] {
        let mut untrusted = bench.subscribe(name).await;
        assert_eq!(code_of(untrusted.next().await), code, "{name}");
    }
}

#[tokio::test]
async fn several_names_fit_on_one_stream() {
    let bench = Bench::joined().await;
    let mut both = Subscriber::open(bench.sds().await, &["default", "ROOTCA"], "").await.unwrap();
    assert_eq!(secret_of(&both.next_acked().await).name, "ROOTCA");
    assert_eq!(secret_of(&both.next_acked().await).name, "default");
}

#[tokio::test]
async fn a_refusal_is_counted_and_reported_and_the_next_change_is_offered() {
    let bench = Bench::joined().await;
    let mut roots = bench.subscribe("ROOTCA").await;
    let first = roots.next().await.unwrap();
    roots.nack(&first, "no space left for roots").await;
    bench.until("the refusal is counted", |status| status.nacks == 1).await;
    bench
        .until_heard("the refusal is reported", |desk| {
            desk.nacks().iter().any(|nack| nack.reason.contains("no space") && nack.sequence == 1)
        })
        .await;
    assert!(roots.is_quiet().await, "what was refused is not offered again");
    let signer = Arc::clone(&bench.ca.desk().signer);
    bench.ca.publish(bundle_of(&[&signer, &Pki::new("second")], 2));
    assert_eq!(certificates_of(&roots.next_acked().await).len(), 2);
    bench.until("the refusal is over", |status| status.holders[0].applied == Some(2)).await;
}

#[tokio::test]
async fn a_stale_nonce_acknowledges_nothing() {
    let bench = Bench::joined().await;
    let mut roots = bench.subscribe("ROOTCA").await;
    let first = roots.next().await.unwrap();
    let stale = DiscoveryResponse { nonce: "0-0".to_owned(), ..first.clone() };
    roots.ack(&stale).await;
    roots.nack(&stale, "stale").await;
    roots.ack(&first).await;
    let status =
        bench.until("the true one counts", |status| status.holders[0].applied == Some(1)).await;
    assert_eq!(status.nacks, 0);
}

#[tokio::test]
async fn a_slow_reader_gets_only_the_newest() {
    let bench = Bench::joined().await;
    let mut roots = bench.subscribe("ROOTCA").await;
    let first = roots.next().await.unwrap();
    let signer = Arc::clone(&bench.ca.desk().signer);
    let more: Vec<Pki> = (0..3).map(|number| Pki::new(&format!("more {number}"))).collect();
    for (sequence, count) in (2..).zip(1..=more.len()) {
        let pkis: Vec<&Pki> = std::iter::once(signer.as_ref()).chain(&more[..count]).collect();
        bench.ca.publish(bundle_of(&pkis, sequence));
    }
    bench.until("the newest is in force", |status| status.sequence == 4).await;
    roots.ack(&first).await;
    assert_eq!(
        certificates_of(&roots.next_acked().await).len(),
        4,
        "bundles 2 and 3 were passed over"
    );
    assert!(roots.is_quiet().await);
}

#[tokio::test]
async fn a_fetched_leaf_is_asked_for_without_a_promise_and_proves_nothing() {
    let bench = Bench::joined().await;
    let mut client = bench.sds().await;
    let ask = |name: &str| DiscoveryRequest {
        resource_names: vec![name.to_owned()],
        ..DiscoveryRequest::default()
    };
    assert_eq!(
        code_of(client.fetch_secrets(ask("default")).await),
        Code::Unavailable,
        "it is asked for first"
    );
    bench.until("the leaf is there", |status| status.workloads[0].serial.is_some()).await;
    let answer = client.fetch_secrets(ask("default")).await.unwrap().into_inner();
    let serial = Certificate::parse(&certificates_of(&answer)[0]).unwrap().serial().unwrap();
    assert_eq!(bench.ca.desk().promises, [false]);
    bench.until("the caller is a holder", |status| !status.holders.is_empty()).await;
    let claims = bench.ca.desk().claims();
    assert!(!claims.contains_key(serial.as_bytes().as_slice()), "{claims:?}");
    assert_eq!(
        certificates_of(&client.fetch_secrets(ask("ROOTCA")).await.unwrap().into_inner()).len(),
        1
    );
    assert_eq!(code_of(client.fetch_secrets(ask("nonsense")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn delta_is_refused_with_the_setting_that_helps() {
    let bench = Bench::joined().await;
    let requests = futures::stream::iter([DeltaDiscoveryRequest::default()]);
    let refusal = bench.sds().await.delta_secrets(requests).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert!(refusal.message().contains("GRPC"), "{refusal}");
}

#[tokio::test]
async fn what_a_broken_ca_sends_is_refused_reported_and_never_served() {
    for misdeed in [Misdeed::OtherKey, Misdeed::OtherIdentity, Misdeed::EmptyBundle] {
        let bench = Bench::joined().await;
        bench.ca.desk().misdeed = misdeed;
        let (mut leaf, mut roots) =
            (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
        roots.next_acked().await;
        bench.until("the fault is told", |status| status.workloads[0].last_error.is_some()).await;
        bench.until_heard("the fault is reported", |desk| !desk.nacks().is_empty()).await;
        assert!(leaf.is_quiet().await, "{misdeed:?}");
        assert_eq!(bench.agent().status().sequence, 1);
        bench.ca.desk().misdeed = Misdeed::None;
        bench.clock.advance(Duration::from_secs(31));
        leaf.next_acked().await;
    }
}

#[tokio::test]
async fn an_empty_or_ambiguous_bundle_on_the_stream_leaves_the_last_good_one() {
    let bench = Bench::joined().await;
    let mut roots = bench.subscribe("ROOTCA").await;
    roots.next_acked().await;
    let empty =
        wire::Bundle { roots: Vec::new(), sequence: 2, ..bench.ca.desk().signer.wire_bundle(2) };
    bench.ca.tell(&Down::Bundle(empty));
    bench
        .until("the refusal is a condition", |status| {
            status.conditions.iter().any(|text| text.contains("empty"))
        })
        .await;
    bench.ca.tell(&Down::Bundle(Pki::new("other").wire_bundle(1)));
    bench.until("both are counted", |status| status.nacks == 2 && status.sequence == 1).await;
    bench.until_heard("both are reported", |desk| desk.nacks().len() == 2).await;
    assert!(roots.is_quiet().await);
}

#[tokio::test]
async fn a_reply_with_an_older_bundle_changes_nothing_and_a_leaf_under_a_lost_root_is_dropped() {
    let bench = Bench::joined().await;
    let (kept, lost) = (Arc::clone(&bench.ca.desk().signer), Arc::new(Pki::new("second")));
    bench.ca.publish(bundle_of(&[&kept, &lost], 2));
    bench.ca.publish(kept.bundle(3));
    bench.until("the last bundle is in force", |status| status.sequence == 3).await;
    {
        let mut desk = bench.ca.desk();
        desk.misdeed = Misdeed::OlderBundle;
        desk.signer = lost;
    }
    let (mut leaf, mut roots) = (bench.subscribe("default").await, bench.subscribe("ROOTCA").await);
    roots.next_acked().await;
    let status =
        bench.until("the leaf is dropped", |status| status.workloads[0].last_error.is_some()).await;
    assert!(status.workloads[0].last_error.as_ref().unwrap().contains("no root of the bundle"));
    assert!(leaf.is_quiet().await);
    bench.ca.desk().signer = kept;
    bench.clock.advance(Duration::from_secs(31));
    leaf.next_acked().await;
    assert_eq!(bench.agent().status().sequence, 3, "the newer bundle stays");
}
