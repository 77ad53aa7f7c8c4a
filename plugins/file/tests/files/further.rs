//! Further roots in `root-cert.pem`, and what of it has ended.

use super::*;

#[tokio::test]
async fn further_roots_are_trusted_aloud_until_somebody_decides() {
    let (top, other) = (root("mesh root"), root("other cluster"));
    let world =
        world(|directory| write_istio(directory, &top, "", &format!("{}{}", top.pem, other.pem)));
    let (state, detail) = health(&world).await;
    assert_eq!(state, HealthState::Degraded);
    for words in [
        "root-cert.pem",
        "O=other cluster",
        "every workload trusts them",
        "further_roots = \"trust\"",
    ] {
        assert!(detail.contains(words), "{words}: {detail}");
    }
    let told = world.authority.roots(&context("roots")).await.unwrap();
    assert_eq!(told.further, std::slice::from_ref(&other.der));
    // Each word that decides it, and what it decides.
    for (word, trusted, state) in [
        ("trust", true, HealthState::Ok),
        ("leave_out", false, HealthState::Ok),
        ("warn", false, HealthState::Degraded),
    ] {
        let decided = opened(
            &world.directory,
            Arc::clone(&world.state),
            &format!("further_roots = '{word}'"),
        );
        let health = decided.check(&context("check")).await;
        assert_eq!(health.state, state, "{word}: {}", health.detail);
        assert_eq!(health.detail.contains("left out"), word == "warn", "{word}: {}", health.detail);
        let told = decided.roots(&context("roots")).await.unwrap();
        assert_eq!(told.further.is_empty(), !trusted, "{word}");
    }
    let strict = opened(&world.directory, Arc::clone(&world.state), "further_roots = 'refuse'");
    let refused = strict.roots(&context("roots")).await.unwrap_err().to_string();
    assert!(refused.contains("root-cert.pem") && refused.contains("O=other cluster"), "{refused}");
    // The one that is gone needs no word.
    write_istio(&world.directory, &top, "", &top.pem);
    assert_eq!(health(&world).await.0, HealthState::Ok);
}

#[tokio::test]
async fn further_roots_are_named_for_trust_in_any_order_and_what_is_gone_or_has_ended_is_not() {
    let (top, other, third) = (root("mesh root"), root("other cluster"), root("third cluster"));
    let directory = tempfile::tempdir().unwrap();
    let state = Arc::new(MemoryState::default());
    let authority = opened(directory.path(), Arc::clone(&state), "further_roots = 'trust'");
    let ended = expired_twin(&root("old cluster"));
    let write = |roots: &[&str]| write_istio(directory.path(), &top, "", &roots.concat());
    let told = async || authority.roots(&context("roots")).await.unwrap();
    let ids = |ders: &[Vec<u8>]| {
        ders.iter().map(|der| RootId::of(der)).collect::<std::collections::BTreeSet<_>>()
    };
    write(&[&top.pem, &other.pem, &third.pem, &ended]);
    let first = told().await;
    assert_eq!(
        (ids(&first.roots), ids(&first.further)),
        (ids(std::slice::from_ref(&top.der)), ids(&[other.der.clone(), third.der.clone()]))
    );
    let health = authority.check(&context("check")).await;
    assert_eq!(health.state, HealthState::Ok, "it is decided: {}", health.detail);
    assert!(
        health.detail.contains("O=old cluster") && health.detail.contains("ended at"),
        "{}",
        health.detail
    );
    write(&[&third.pem, &other.pem, &top.pem]);
    assert_eq!(told().await, first, "another order is no other answer");
    write(&[&top.pem, &third.pem]);
    let next = told().await;
    assert_eq!(ids(&next.further), ids(std::slice::from_ref(&third.der)));
    assert!(next.generation > first.generation);
    let again = opened(directory.path(), state, "further_roots = 'trust'");
    assert_eq!(again.roots(&context("roots")).await.unwrap(), next, "the same after a restart");
    let many: Vec<_> = (0..17).map(|n| root(&format!("cluster {n}")).pem).collect();
    write(
        &[&[top.pem.as_str()], &many.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat(),
    );
    let detail = authority.check(&context("check")).await.detail;
    assert!(detail.contains("holds 17 further roots; at most 16"), "{detail}");
}

/// A certificate for the same name and key as another one, which ended.
fn expired_twin(of: &Ca) -> String {
    let mut params = of.params.clone();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params.self_signed(&of.key).unwrap().pem()
}

#[tokio::test]
async fn an_expired_twin_beside_a_good_root_is_passed_over_in_any_order() {
    let top = root("mesh root");
    let ca = below(&top, "mesh", KeyPair::generate().unwrap(), 1);
    let twin = expired_twin(&top);
    for roots in [format!("{twin}{}", top.pem), format!("{}{twin}", top.pem)] {
        let world = world(|directory| write_istio(directory, &ca, "", &roots));
        assert_eq!(signing(&world).await, RootId::of(&top.der));
        let decided =
            opened(&world.directory, Arc::clone(&world.state), "further_roots = 'leave_out'");
        let health = decided.check(&context("check")).await;
        assert_eq!(health.state, HealthState::Ok);
        assert!(health.detail.contains("is passed over"), "{}", health.detail);
    }
}
