//! First contact, the agent's own certificate, and its end.

use super::*;
use crate::fakes::Pki;
use crate::fakes::ca::Misdeed;

#[tokio::test]
async fn a_token_buys_a_membership_that_survives_a_restart_without_it() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    std::fs::remove_file(bench.dir.path().join("token")).unwrap();
    bench.start().await;
    bench.until("connected again", |status| status.connected).await;
    assert_eq!(bench.ca.desk().registered, 1);
}

#[tokio::test]
async fn an_impostor_never_sees_the_token() {
    let mut bench = Bench::empty().await;
    let other = FakeCa::start(Arc::clone(&bench.clock) as Arc<dyn Clock>).await;
    let replica =
        FakeCa::start_as(Arc::clone(&bench.clock) as _, "spiffe://example.org/banyan/ca/ca-2")
            .await;
    for (token, why) in [(other.token(), "the one that the token pins"), (replica.token(), "pins")]
    {
        bench.write_token(&token);
        bench.start().await;
        bench
            .until("the impostor is told of", |status| {
                status.conditions.iter().any(|text| text.contains(why))
            })
            .await;
        assert_eq!((bench.ca.desk().registered, bench.agent().status().sequence), (0, 0));
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_ca_with_another_name_than_the_token_says_is_not_believed() {
    let mut bench = Bench::empty().await;
    bench.ca =
        FakeCa::start_as(Arc::clone(&bench.clock) as _, "spiffe://example.org/ns/a/sa/no-ca").await;
    let id = trust::SpiffeId::parse("spiffe://example.org/banyan/ca/ca-1").unwrap();
    let secret = trust::join_token::JoinSecret::random(&SeededRandomness::new(1));
    let digest = bench.ca.desk().bundle.digest();
    let token = trust::join_token::JoinToken::new(id, digest, secret).unwrap();
    bench.write_token(&token.encode());
    bench.start().await;
    bench
        .until("a leaf of the mesh is no CA", |status| {
            status.conditions.iter().any(|text| text.contains("no-ca` answered"))
        })
        .await;
    assert_eq!(bench.ca.desk().registered, 0);
}

#[tokio::test]
async fn the_own_certificate_is_renewed_at_half_of_its_life() {
    let bench = Bench::joined().await;
    let first = bench.agent().status().member.clone().unwrap();
    bench.clock.advance(Duration::from_secs(86_400 * 44 / 100));
    bench.clock.advance(Duration::from_secs(86_400 * 12 / 100));
    let next = bench
        .until("another certificate", |status| {
            status.member.as_ref().is_some_and(|now| now.serial != first.serial)
        })
        .await;
    assert!(next.member.as_ref().unwrap().not_after > first.not_after);
    assert_eq!(bench.ca.desk().registered, 1);
    assert_eq!(bench.ca.desk().renewed, 1);
    let serial = u128::from_str_radix(&first.serial, 16).unwrap().to_be_bytes().to_vec();
    bench.until_heard("the former one is released", |desk| desk.released().contains(&serial)).await;
}

#[tokio::test]
async fn an_agent_whose_certificate_expired_comes_back_with_its_key_and_needs_no_token() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    std::fs::remove_file(bench.dir.path().join("token")).unwrap();
    bench.clock.advance(Duration::from_secs(86_401));
    bench.start().await;
    bench.until("a member again", |status| status.member.is_some() && status.connected).await;
    let desk = bench.ca.desk();
    assert_eq!((desk.registered, desk.renewed), (1, 1));
}

#[tokio::test]
async fn an_agent_that_the_ca_has_forgotten_joins_again() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    bench.clock.advance(Duration::from_secs(86_401));
    bench.ca.desk().misdeed = Misdeed::Forgetful;
    bench.start().await;
    bench.until("a member again", |status| status.member.is_some() && status.connected).await;
    assert_eq!(bench.ca.desk().registered, 2);
}

#[tokio::test]
async fn an_agent_that_the_ca_has_forgotten_and_that_has_no_token_says_what_to_do() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    std::fs::remove_file(bench.dir.path().join("token")).unwrap();
    bench.clock.advance(Duration::from_secs(86_401));
    bench.ca.desk().misdeed = Misdeed::Forgetful;
    bench.start().await;
    bench
        .until("it says so", |status| status.conditions.iter().any(|text| text.contains("token")))
        .await;
    bench.write_token(&bench.ca.token());
    bench.until("a member again", |status| status.member.is_some()).await;
}

#[tokio::test]
async fn a_registration_that_got_no_answer_is_tried_again_with_the_same_key() {
    let mut bench = Bench::empty().await;
    bench.ca.desk().misdeed = Misdeed::Away;
    bench.start().await;
    bench
        .until("it is told", |status| status.conditions.iter().any(|text| text.contains("away")))
        .await;
    let key = std::fs::read(bench.dir.path().join("state/agent.key")).unwrap();
    bench.ca.desk().misdeed = Misdeed::None;
    bench.until("a member", |status| status.member.is_some()).await;
    assert_eq!(std::fs::read(bench.dir.path().join("state/agent.key")).unwrap(), key);
}

#[tokio::test]
async fn a_state_that_cannot_be_used_is_an_error_and_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bench = Bench::joined().await;
    assert!(matches!(bench.try_start().await, Err(crate::StartError::Locked(_))));
    bench.stop().await;
    let state = bench.dir.path().join("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(bench.try_start().await, Err(crate::StartError::Loose(_))));
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    let bundle = state.join("bundle.json");
    let good = std::fs::read(&bundle).unwrap();
    std::fs::write(&bundle, &good[..good.len() / 2]).unwrap();
    assert!(matches!(bench.try_start().await, Err(crate::StartError::Bundle(_))));
    assert_eq!(
        std::fs::read(&bundle).unwrap().len(),
        good.len() / 2,
        "nothing is made in its place"
    );
}

#[tokio::test]
async fn a_bundle_file_that_names_other_roots_lets_nobody_in() {
    let mut bench = Bench::empty().await;
    let path = bench.dir.path().join("roots.pem");
    std::fs::write(&path, Pki::new("other").root().certificate().pem()).unwrap();
    let start = async |text: String| bench.start_as(&text).await;
    let text = |roots: &std::path::Path| bench.text_by_jwt(roots);
    let agent = start(text(&path)).await.unwrap();
    let mut changes = agent.changes();
    let refused = changes
        .wait_for(|status| status.conditions.iter().any(|text| text.contains("UnknownIssuer")));
    tokio::time::timeout(SOON, refused).await.unwrap().unwrap();
    assert_eq!(bench.ca.desk().registered, 0);
    agent.shutdown().await;
    std::fs::write(&path, bench.ca.desk().signer.root().certificate().pem()).unwrap();
    let agent = start(text(&path)).await.unwrap();
    bench.agent = Some(agent);
    bench.until("a member by JWT", |status| status.member.is_some() && status.sequence == 1).await;
}

#[tokio::test]
async fn an_agent_that_was_refused_comes_back_with_its_key_when_the_ca_takes_it_again() {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    std::fs::remove_file(bench.dir.path().join("token")).unwrap();
    bench.clock.advance(Duration::from_secs(86_401));
    bench.ca.desk().misdeed = Misdeed::Forgetful;
    bench.start().await;
    let both = |text: &String| text.contains("no such agent") && text.contains("/token");
    bench.until("it says so", |status| status.conditions.iter().any(both)).await;
    bench.ca.desk().misdeed = Misdeed::None;
    bench.until("a member again", |status| status.member.is_some() && status.connected).await;
    let desk = bench.ca.desk();
    assert_eq!((desk.registered, desk.renewed), (1, 1));
}

/// The agent has stopped, and another CA answers where its CA was.
async fn moved(sequence: u64) -> Bench {
    let mut bench = Bench::joined().await;
    bench.stop().await;
    bench.ca = FakeCa::start(Arc::clone(&bench.clock) as Arc<dyn Clock>).await;
    let bundle = bench.ca.desk().signer.bundle(sequence);
    bench.ca.desk().bundle = bundle;
    bench
}

#[tokio::test]
async fn a_new_file_of_roots_counts_where_no_way_leads_from_the_bundle_that_is_held() {
    let mut bench = moved(5).await;
    let path = bench.dir.path().join("roots.pem");
    std::fs::write(&path, bench.ca.desk().signer.root().certificate().pem()).unwrap();
    bench.agent = Some(bench.start_as(&bench.text_by_jwt(&path)).await.unwrap());
    bench.until("a member", |status| status.sequence == 5 && status.connected).await;
}

#[tokio::test]
async fn a_new_token_counts_where_no_way_leads_from_the_bundle_that_is_held() {
    let mut bench = moved(5).await;
    bench.write_token(&bench.ca.token());
    bench.start().await;
    bench.until("a member", |status| status.sequence == 5 && status.connected).await;
}

#[tokio::test]
async fn an_old_file_of_roots_is_told_so_and_replacing_it_is_enough() {
    let mut bench = moved(5).await;
    let path = bench.dir.path().join("roots.pem");
    std::fs::write(&path, Pki::new("old").root().certificate().pem()).unwrap();
    bench.agent = Some(bench.start_as(&bench.text_by_jwt(&path)).await.unwrap());
    let told =
        |text: &String| text.contains("roots.pem") && text.contains("banyan root list --pem");
    bench.until("it says so", |status| status.conditions.iter().any(told)).await;
    assert_eq!(bench.agent().status().sequence, 1, "what is held stays");
    std::fs::write(&path, bench.ca.desk().signer.root().certificate().pem()).unwrap();
    bench.until("a member", |status| status.sequence == 5 && status.connected).await;
}

#[tokio::test]
async fn without_another_pin_the_agent_says_what_to_give_it() {
    let mut bench = moved(5).await;
    std::fs::remove_file(bench.dir.path().join("token")).unwrap();
    let text = bench.text().replace("join_token_file", "#");
    bench.agent = Some(bench.start_as(&text).await.unwrap());
    let told = |text: &String| {
        text.contains("no way leads from bundle 1") && text.contains("a new join token")
    };
    bench.until("it says so", |status| status.conditions.iter().any(told)).await;
}

#[tokio::test]
async fn a_ca_whose_bundles_went_back_is_told_of_and_not_followed() {
    let mut bench = moved(1).await;
    bench.write_token(&bench.ca.token());
    bench.start().await;
    let told = |text: &String| text.contains("has had bundle 1") && text.contains("state away");
    bench.until("it says so", |status| status.conditions.iter().any(told)).await;
    assert_eq!((bench.ca.desk().registered, bench.agent().status().sequence), (0, 1));
    // What the sentence says to do is enough.
    bench.stop().await;
    std::fs::rename(bench.dir.path().join("state"), bench.dir.path().join("away")).unwrap();
    bench.start().await;
    bench.until("a member", |status| status.member.is_some() && status.connected).await;
}
