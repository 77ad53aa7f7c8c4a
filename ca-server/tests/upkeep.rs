//! Authorities and the record are kept in step: what was replaced elsewhere is followed, and keys out of use go where that
//! is wanted.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests for product code"
)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ca_server::Running;
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    Authority, GetRotationRequest, ListAuthoritiesRequest, Rotation, StartRotationRequest,
};
use support::cacerts::OtherCa;
use support::{Place, SOON, admin_channel, http_get, stop};
use trust::RootId;

const QUICK: &str = "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n";

/// A CA of its own in Istio's layout.
fn write_ca(directory: &Path, name: &str) -> RootId {
    let root = OtherCa::root(name, Duration::from_secs(86_400 * 3_650));
    root.put(&root, directory);
    root.id()
}

async fn until(running: &Running, what: &str, holds: impl Fn(&Rotation, &[Authority]) -> bool) {
    let mut rotations = RotationServiceClient::new(admin_channel(running).await);
    let mut authorities = AuthorityServiceClient::new(admin_channel(running).await);
    let mut last = None;
    let poll = async {
        loop {
            let rotation =
                rotations.get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
            let list =
                authorities.list_authorities(ListAuthoritiesRequest { name: String::new() }).await;
            let list = list.unwrap().into_inner().authorities;
            if holds(&rotation, &list) {
                return;
            }
            last = Some((rotation, list));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(SOON * 2, poll).await.is_ok(), "not in time: {what}: {last:#?}");
}

fn sole_root(running: &Running) -> Option<RootId> {
    let bundle = running.bundle();
    (bundle.roots().len() == 1).then(|| bundle.roots()[0].id())
}

fn with_files(extra: &str) -> (Place, RootId) {
    let authority =
        "[authority.main]\nplugin = \"file\"\ndirectory = \"cacerts\"\nexclusive = true\n";
    let place = Place::new(&format!("{authority}{QUICK}{extra}"));
    fs::create_dir(place.path().join("cacerts")).unwrap();
    let first = write_ca(&place.path().join("cacerts"), "first");
    (place, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_replaced_at_its_authority_is_rotated_to() {
    let (place, first) = with_files("");
    let running = place.start().await.unwrap();
    assert_eq!(sole_root(&running), Some(first));
    let second = write_ca(&place.path().join("cacerts"), "second");
    until(&running, "the second root alone", |rotation, _| {
        rotation.phase == "steady" && sole_root(&running) == Some(second)
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_to_decide_alone_is_not_followed() {
    let (place, first) = with_files("follow_authority = false\n");
    let running = place.start().await.unwrap();
    let second = write_ca(&place.path().join("cacerts"), "second");
    until(&running, "the authority names the second root", |_, authorities| {
        authorities[0].roots.iter().any(|root| root.signing && root.id == second.as_bytes())
    })
    .await;
    assert_eq!(sole_root(&running), Some(first));
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request = StartRotationRequest {
        request_id: "by-hand".to_owned(),
        ..StartRotationRequest::default()
    };
    rotations.start_rotation(request).await.unwrap();
    until(&running, "the second root alone", |rotation, _| {
        rotation.phase == "steady" && sole_root(&running) == Some(second)
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_hears_which_root_signs_and_destroys_the_key_of_the_former_one_if_that_is_wanted()
 {
    for (extra, left) in [("", 2), ("[root]\ndestroy_retired_keys = true\n", 1)] {
        let place = Place::new(&format!("{QUICK}{extra}"));
        let running = place.start().await.unwrap();
        let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
        let request = StartRotationRequest {
            request_id: "one".to_owned(),
            ..StartRotationRequest::default()
        };
        rotations.start_rotation(request).await.unwrap();
        until(
            &running,
            "the new root signs, the former one is as was wanted",
            |rotation, authorities| {
                let roots = &authorities[0].roots;
                rotation.phase == "steady"
                    && rotation.done.iter().any(|done| done == "one")
                    && roots.len() == left
                    && sole_root(&running).is_some_and(|new| {
                        roots.iter().any(|root| root.signing && root.id == new.as_bytes())
                    })
            },
        )
        .await;
        let scrape = http_get(&running, "/metrics").await;
        let line = "banyan_authority_calls_total{authority=\"main\",call=\"activate\",outcome=\"answered\"}";
        assert!(scrape.contains(line), "{scrape}");
        stop(running).await;
    }
}

/// The names of key files in the shared state of a server that does not run, once it let go of it.
async fn root_keys(state: &Path) -> Vec<String> {
    let mut opened = stores_redb::RedbStore::open(Arc::new(host::RealDisk), state);
    while matches!(opened, Err(stores_redb::OpenError::InUse { .. })) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        opened = stores_redb::RedbStore::open(Arc::new(host::RealDisk), state);
    }
    let listed = stores::settle::all(&opened.unwrap(), stores::spaces::ROOT_KEYS).await.unwrap();
    listed.into_iter().map(|entry| entry.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_may_have_key_files_of_its_own() {
    let place = Place::durable(
        "[authority.main]\nplugin = \"self-signed\"\n[authority.main.keys]\nbackend = \"file\"\npassphrase_file = \"own\"\n",
    );
    support::write_private(&place.path().join("own"), b"another passphrase of its own");
    let running = place.start().await.unwrap();
    let root = sole_root(&running);
    stop(running).await;
    let keys = root_keys(&place.data().join("state.redb")).await;
    assert!(keys.contains(&"authority.main/store.json".to_owned()), "{keys:?}");
    assert_eq!(keys.iter().filter(|id| id.ends_with(".key")).count(), 1, "the root's is apart");
    let running = place.start().await.unwrap();
    assert_eq!(sole_root(&running), root);
    stop(running).await;
}
