//! The backend over real SoftHSM2 tokens: the rules, and what becomes of lost sessions, pulled tokens and wrong PINs.

mod support;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cryptoki::object::{Attribute, AttributeInfo, AttributeType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use futures::future::join_all;
use plugin_self_signed::SelfSigned;
use plugins::state::MemoryState;
use plugins::{AuthorityDeps, RootAuthority};
use plugins::{HealthState, KeyBackend, KeyError, KeyId, KeySpec, RequestId};
use support::{PIN, SO_PIN, eventually, in_own_process};
use trust::{Clock as _, ManualClock, SeededRandomness, Timestamp, TrustDomain};

const ALGORITHM: trust::SignatureAlgorithm = KeySpec::P256.algorithm();

fn request(text: &str) -> RequestId {
    RequestId::parse(text).expect("id")
}

#[test]
fn the_backend_conforms() {
    in_own_process("the_backend_conforms", &["mesh"], async |hsm| {
        let subject =
            plugins_conformance::keys::Subject::new(move || Arc::new(hsm.open("mesh", "")));
        let report = plugins_conformance::keys::run(&subject).await;
        report.assert_conforms();
        assert!(report.skipped().is_empty(), "{report}");
    });
}

#[test]
fn a_self_signed_authority_conforms_with_its_root_key_on_the_token() {
    let test = "a_self_signed_authority_conforms_with_its_root_key_on_the_token";
    in_own_process(test, &["roots"], async |hsm| {
        let keys: Arc<dyn KeyBackend> = Arc::new(hsm.open("roots", ""));
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_392_000)));
        let domain = TrustDomain::parse("example.org").expect("domain");
        let randomness = Arc::new(SeededRandomness::new(1));
        let (state, held) = (Arc::new(MemoryState::new()), Arc::clone(&keys));
        let (ticking, named) = (Arc::clone(&clock), domain.clone());
        let open = move || {
            let (keys, state) = (held.clone(), state.clone());
            let deps =
                AuthorityDeps::new(named.clone(), keys, state, ticking.clone(), randomness.clone());
            Arc::new(SelfSigned::new(deps)) as Arc<dyn RootAuthority>
        };
        assert!(clock.now() > Timestamp::from_secs(0));
        let subject =
            plugins_conformance::authority::Subject::new(open, domain, clock).variant("pkcs11");
        let report = plugins_conformance::authority::run(&subject).await;
        report.assert_conforms();
        assert!(!keys.list().await.expect("list").is_empty(), "the roots' keys are on the token");
    });
}

#[test]
fn private_keys_are_sensitive_and_cannot_be_taken_out() {
    in_own_process("private_keys_are_sensitive_and_cannot_be_taken_out", &["mesh"], async |hsm| {
        let keys = hsm.open("mesh", "");
        for spec in keys.describe().specs {
            keys.generate(&request(&spec.to_string()), *spec).await.expect("key");
        }
        let session = hsm.session("mesh", UserType::User, PIN);
        let private =
            session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).expect("objects");
        assert_eq!(private.len(), keys.describe().specs.len());
        for object in private {
            let guarded =
                [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Token(true)];
            let kinds: Vec<_> = guarded.iter().map(Attribute::attribute_type).collect();
            assert_eq!(session.get_attributes(object, &kinds).expect("attributes"), guarded);
            let value =
                session.get_attribute_info(object, &[AttributeType::Value]).expect("answer");
            assert!(matches!(value.as_slice(), [AttributeInfo::Sensitive]), "{value:?}");
        }
    });
}

#[test]
fn a_full_queue_is_busy_and_what_was_taken_is_done() {
    in_own_process("a_full_queue_is_busy_and_what_was_taken_is_done", &["mesh"], async |hsm| {
        let keys = hsm.open("mesh", "threads = 1\nqueue = 4");
        let key = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
        let all = join_all((0..200).map(|_| keys.sign(&key.id, b"message", ALGORITHM))).await;
        let (done, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert!(done.len() >= 4, "{} done", done.len());
        assert!(!refused.is_empty());
        for error in refused {
            assert!(
                matches!(error, Err(KeyError::Busy { retry_after }) if !retry_after.is_zero()),
                "{error:?}"
            );
        }
        for signature in done.into_iter().flatten() {
            key.public.verify(b"message", ALGORITHM, &signature).expect("verifies");
        }
        keys.sign(&key.id, b"message", ALGORITHM).await.expect("there is room again");
    });
}

#[test]
fn a_wrong_pin_is_told_at_the_start_with_its_setting() {
    in_own_process("a_wrong_pin_is_told_at_the_start_with_its_setting", &["mesh"], async |hsm| {
        hsm.write_pin("1234-wrong");
        let problem = hsm.try_open("mesh", "").expect_err("wrong").remove(0).to_string();
        assert!(problem.starts_with("`pin_file`") && problem.contains("start again"), "{problem}");
        assert!(!problem.contains("1234"), "{problem}");
        hsm.write_pin(PIN);
        let keys = hsm.open("mesh", "");
        assert_eq!(keys.check().await.state, HealthState::Ok);
        assert!(!format!("{keys:?}").contains(PIN));
    });
}

#[test]
fn a_wrong_pin_is_never_tried_a_second_time() {
    in_own_process("a_wrong_pin_is_never_tried_a_second_time", &["mesh"], async |hsm| {
        hsm.write_pin("1234-wrong");
        hsm.pull();
        let keys = hsm.open("mesh", "");
        assert_eq!(keys.check().await.state, HealthState::Down);
        hsm.put_back();
        let refused = eventually(async || {
            let made = keys.generate(&request("a"), KeySpec::P256).await;
            made.err().filter(|error| !matches!(error, KeyError::BackendDown { .. }))
        });
        assert!(
            matches!(refused.await, KeyError::Denied { reason } if reason.contains("pin_file"))
        );
        // Were it tried again, it would be right now.
        let session = hsm.session("mesh", UserType::So, SO_PIN);
        session.init_pin(&AuthPin::new("1234-wrong".into())).expect("new PIN");
        session.logout().expect("logout");
        for _ in 0..8 {
            let refused = keys.generate(&request("a"), KeySpec::P256).await;
            assert!(matches!(refused, Err(KeyError::Denied { .. })), "{refused:?}");
        }
        assert_eq!(keys.check().await.state, HealthState::Down);
        hsm.open("mesh", "")
            .generate(&request("a"), KeySpec::P256)
            .await
            .expect("the next start tries");
    });
}

#[test]
fn a_pulled_token_is_down_with_what_to_do_and_comes_back_by_itself() {
    let test = "a_pulled_token_is_down_with_what_to_do_and_comes_back_by_itself";
    in_own_process(test, &["mesh"], async |hsm| {
        let keys = hsm.open("mesh", "");
        let key = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
        keys.sign(&key.id, b"message", ALGORITHM).await.expect("signs");
        let other = keys.generate(&request("b"), KeySpec::P256).await.expect("key");
        hsm.pull();
        for answer in join_all((0..8).map(|_| keys.sign(&key.id, b"message", ALGORITHM))).await {
            assert!(
                !matches!(answer, Err(KeyError::NotFound { .. } | KeyError::Permanent { .. })),
                "{answer:?}"
            );
        }
        // Neither of these may say that there is no such key.
        let fresh = hsm.open("mesh", "threads = 1");
        for answer in [fresh.public(&other.id).await.err(), fresh.destroy(&other.id).await.err()] {
            assert!(matches!(answer, Some(KeyError::BackendDown { .. })), "{answer:?}");
        }
        let down = eventually(async || keys.sign(&key.id, b"message", ALGORITHM).await.err()).await;
        assert!(
            matches!(&down, KeyError::BackendDown { detail } if detail.contains("look at the device")),
            "{down}"
        );
        let health = keys.check().await;
        assert_eq!(health.state, HealthState::Down);
        assert!(health.detail.contains("\"mesh\""), "{}", health.detail);
        assert!(matches!(keys.list().await, Err(KeyError::BackendDown { .. })));
        assert!(
            matches!(keys.public(&key.id).await, Err(KeyError::BackendDown { .. })),
            "never taken for no key"
        );
        hsm.put_back();
        let signature =
            eventually(async || keys.sign(&key.id, b"message", ALGORITHM).await.ok()).await;
        key.public.verify(b"message", ALGORITHM, &signature).expect("verifies");
        assert_eq!(keys.check().await.state, HealthState::Ok);
        assert_eq!(keys.generate(&request("a"), KeySpec::P256).await, Ok(key));
    });
}

#[test]
fn a_token_that_is_away_disturbs_no_other_of_the_same_module() {
    let test = "a_token_that_is_away_disturbs_no_other_of_the_same_module";
    in_own_process(test, &["roots", "mesh"], async |hsm| {
        let (roots, mesh) = (hsm.open("never-there", ""), hsm.open("mesh", ""));
        let key = mesh.generate(&request("a"), KeySpec::P256).await.expect("key");
        for _ in 0..20 {
            assert!(matches!(roots.list().await, Err(KeyError::BackendDown { .. })));
            mesh.sign(&key.id, b"message", ALGORITHM).await.expect("signs on");
        }
        assert_eq!(roots.describe().specs, [KeySpec::P256, KeySpec::P384]);
    });
}

#[test]
fn lost_logins_are_made_again_within_the_call() {
    in_own_process("lost_logins_are_made_again_within_the_call", &["mesh"], async |hsm| {
        let keys = hsm.open("mesh", "threads = 2");
        let lose = || hsm.session("mesh", UserType::User, PIN).logout().expect("logout");
        goes_on_whenever(&keys, lose).await;
    });
}

/// One thread: to end the module while another thread may be in it is no fault of a token, and kills the process now and then.
#[test]
fn lost_sessions_are_opened_again_within_the_call() {
    in_own_process("lost_sessions_are_opened_again_within_the_call", &["mesh"], async |hsm| {
        let keys = hsm.open("mesh", "threads = 1");
        goes_on_whenever(&keys, || hsm.restart_module()).await;
    });
}

/// Signs and finds its key again, each time after something was lost.
async fn goes_on_whenever(keys: &impl KeyBackend, lose: impl Fn()) {
    let key = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
    for round in 0..6 {
        lose();
        let signatures = join_all((0..4).map(|_| keys.sign(&key.id, b"message", ALGORITHM))).await;
        for signature in signatures {
            let signature = signature.unwrap_or_else(|error| panic!("round {round}: {error}"));
            key.public.verify(b"message", ALGORITHM, &signature).expect("verifies");
        }
        assert_eq!(
            keys.generate(&request("a"), KeySpec::P256).await.as_ref(),
            Ok(&key),
            "round {round}"
        );
    }
}

#[test]
fn what_a_crash_left_half_made_is_cleared_and_made_anew() {
    in_own_process(
        "what_a_crash_left_half_made_is_cleared_and_made_anew",
        &["mesh"],
        async |hsm| {
            let keys = hsm.open("mesh", "");
            let id = KeyId::for_request(&request("a"));
            let whole = keys.generate(&request("b"), KeySpec::P256).await.expect("key");
            let session = hsm.session("mesh", UserType::User, PIN);
            // Both halves made and none named yet; then the public one named, which is the last step before the end.
            for public_id in ["unfinished key", id.as_str()] {
                hsm.make_pair(&session, (id.as_str(), public_id), (id.as_str(), "unfinished key"));
                assert_eq!(keys.list().await.expect("list"), std::slice::from_ref(&whole));
                assert!(matches!(keys.public(&id).await, Err(KeyError::NotFound { .. })));
            }
            let made = keys.generate(&request("a"), KeySpec::P256).await.expect("made");
            assert_eq!(made.id, id);
            for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
                let label = Attribute::Label(id.as_str().into());
                assert_eq!(
                    session.find_objects(&[Attribute::Class(class), label]).expect("objects").len(),
                    1
                );
            }
            let signature = keys.sign(&id, b"message", ALGORITHM).await.expect("signs");
            made.public.verify(b"message", ALGORITHM, &signature).expect("verifies");
            assert_eq!(
                keys.public(&whole.id).await,
                Ok(whole.public),
                "the other one was left alone"
            );
        },
    );
}

#[test]
fn a_destruction_that_a_crash_cut_off_is_finished_by_the_next() {
    in_own_process(
        "a_destruction_that_a_crash_cut_off_is_finished_by_the_next",
        &["mesh"],
        async |hsm| {
            let keys = hsm.open("mesh", "");
            let key = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
            let session = hsm.session("mesh", UserType::User, PIN);
            hsm.mark_destroyed(&session, key.id.as_str());
            assert_eq!(keys.list().await, Ok(Vec::new()));
            let again = keys.generate(&request("a"), KeySpec::P256).await;
            assert!(matches!(again, Err(KeyError::Denied { .. })), "{again:?}");
            keys.destroy(&key.id).await.expect("finished");
            let private = session
                .find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])
                .expect("objects");
            assert!(private.is_empty());
        },
    );
}

#[test]
fn keys_of_others_on_the_token_are_not_ours_and_doubles_are_never_guessed_at() {
    let test = "keys_of_others_on_the_token_are_not_ours_and_doubles_are_never_guessed_at";
    in_own_process(test, &["mesh"], async |hsm| {
        let keys = hsm.open("mesh", "");
        let session = hsm.session("mesh", UserType::User, PIN);
        hsm.make_pair(&session, ("Web Server", "01"), ("Web Server", "01"));
        assert_eq!(keys.list().await, Ok(Vec::new()));
        for _ in 0..2 {
            hsm.make_pair(&session, ("twice", "twice"), ("twice", "twice"));
        }
        let id = KeyId::parse("twice").expect("id");
        let refused = keys.sign(&id, b"message", ALGORITHM).await;
        assert!(
            matches!(&refused, Err(KeyError::Permanent { detail }) if detail.contains("2 private keys"))
        );
    });
}

#[test]
fn a_module_that_is_none_is_told_with_its_setting() {
    in_own_process("a_module_that_is_none_is_told_with_its_setting", &[], async |hsm| {
        let mut settings = hsm.settings("mesh", "");
        for (path, text) in [("/no/such/module.so", ""), ("not-a-module.so", "text")] {
            fs::write(hsm.tokens().with_file_name("not-a-module.so"), text).expect("write");
            settings.insert("module".to_owned(), path.into());
            let problem =
                hsm.plugin().open_keys(&settings).expect_err("none").remove(0).to_string();
            assert!(
                problem.starts_with("`module`") && problem.contains("shared library"),
                "{problem}"
            );
        }
    });
}

/// Prints a figure; it fails when signatures are wrong or refused at a load that the queue holds.
#[test]
fn throughput() {
    const SIGNATURES: usize = 2_000;
    in_own_process("throughput", &["mesh"], async |hsm| {
        for threads in [1, 4] {
            let keys = hsm.open("mesh", &format!("threads = {threads}"));
            let key = keys.generate(&request("a"), KeySpec::P256).await.expect("key");
            #[expect(
                clippy::disallowed_methods,
                reason = "a figure to look at, which decides nothing"
            )]
            let start = Instant::now();
            let lanes = (0..64).map(async |_| {
                for _ in 0..SIGNATURES / 64 {
                    let signature = keys.sign(&key.id, b"message", ALGORITHM).await.expect("signs");
                    key.public.verify(b"message", ALGORITHM, &signature).expect("verifies");
                }
            });
            join_all(lanes).await;
            let took = start.elapsed().max(Duration::from_millis(1));
            let rate = (SIGNATURES / 64 * 64) as f64 / took.as_secs_f64();
            println!("SoftHSM2, P-256, {threads} threads, 64 in flight: {rate:.0} signatures/s");
        }
    });
}
