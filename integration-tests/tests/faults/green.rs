//! Nothing that is broken looks well: files that are deleted, before a start and under a running server.

use ca_server::Running;
use integration_tests::faults::{CaDir, Door, Member};
use integration_tests::mesh::{admin_channel, eventually};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::authority_service_client::AuthorityServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    Authority, ListAuthoritiesRequest, StartRotationRequest, StatusRequest, StatusResponse,
};
use stores::spaces::AUTHORITY_BOOKS;

/// What the authority keeps.
const BOOK: &str = "main/self-signed";

async fn status(running: &Running) -> StatusResponse {
    let mut client = AdminServiceClient::new(admin_channel(&running.admin_socket));
    client.status(StatusRequest {}).await.unwrap().into_inner()
}

async fn authority(running: &Running) -> Authority {
    let mut client = AuthorityServiceClient::new(admin_channel(&running.admin_socket));
    let listed =
        client.list_authorities(ListAuthoritiesRequest::default()).await.unwrap().into_inner();
    listed.authorities.into_iter().next().unwrap()
}

async fn says(running: &Running, words: &str) {
    eventually(words, || async {
        let status = status(running).await;
        !status.healthy && status.conditions.iter().any(|text| text.contains(words))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_lost_its_book_says_so_and_makes_no_second_root() {
    let ca_dir = CaDir::new("").unwrap();
    let running = ca_dir.start().await.unwrap();
    let root = running.bundle().roots()[0].id();
    let window = ca_dir.window();
    let book = window.take(AUTHORITY_BOOKS, BOOK).await.unwrap();
    let looked = authority(&running).await;
    assert!(looked.health == "down" && looked.detail.contains("was deleted"), "{looked:?}");
    CaDir::stop(running).await.unwrap();

    let running = ca_dir.start().await.unwrap();
    says(&running, "root authority main is unhealthy").await;
    let looked = authority(&running).await;
    assert!(looked.health == "down" && looked.detail.contains("latest backup"), "{looked:?}");
    let request =
        StartRotationRequest { request_id: "new".to_owned(), ..StartRotationRequest::default() };
    let mut client = RotationServiceClient::new(admin_channel(&running.admin_socket));
    client.start_rotation(request).await.unwrap();
    says(&running, "was deleted; nothing is made in its place").await;
    let books = window.all(&ca_dir.data(), AUTHORITY_BOOKS).await.unwrap();
    assert!(books.iter().all(|entry| entry.id != BOOK), "no book in its place");
    let door = Door::of(&running).unwrap();
    Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
    assert_eq!(running.bundle().roots()[0].id(), root, "issuance continues under the former root");

    window.put(AUTHORITY_BOOKS, BOOK, &book).await.unwrap();
    let looked = authority(&running).await;
    assert_eq!(looked.health, "ok", "put back, without a restart: {looked:?}");
    CaDir::stop(running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_ledger_a_server_issues_nothing_and_says_so_and_the_next_start_counts_the_lost_rows()
 {
    let ca_dir = CaDir::new("").unwrap();
    let running = ca_dir.start().await.unwrap();
    let door = Door::of(&running).unwrap();
    let mut member = Member::join(&door, "agent").await.unwrap();
    member.issue().await.unwrap();
    std::fs::remove_dir_all(ca_dir.data().join("ledger")).unwrap();
    says(&running, "ledger was deleted while this server runs").await;
    assert!(member.issue().await.is_err(), "its row would not be kept");
    CaDir::stop(running).await.unwrap();
    let running = ca_dir.start().await.unwrap();
    says(&running, "so gates of a rotation count it as full until").await;
    CaDir::stop(running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_of_the_ledger_that_is_deleted_is_missed_and_put_back_as_the_condition_says() {
    let ca_dir = CaDir::new("").unwrap();
    let running = ca_dir.start().await.unwrap();
    let door = Door::of(&running).unwrap();
    let mut member = Member::join(&door, "agent").await.unwrap();
    member.issue().await.unwrap();
    let ledger = ca_dir.data().join("ledger");
    let is_segment = |path: &std::path::PathBuf| path.is_dir() && !path.ends_with("archive");
    let mut entries = std::fs::read_dir(&ledger).unwrap().map(|entry| entry.unwrap().path());
    let file = entries.find(is_segment).unwrap().join("00000001.log");
    std::fs::remove_file(&file).unwrap();
    says(&running, "00000001.log was deleted while this server runs").await;
    assert!(member.issue().await.is_err(), "its row would not be kept");
    let told = status(&running).await.conditions;
    let told = told.iter().find(|text| text.contains("00000001.log")).unwrap();
    let command = told.split('`').nth(1).unwrap();
    assert!(
        std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(),
        "{command}"
    );
    CaDir::stop(running).await.unwrap();

    let running = ca_dir.start().await.unwrap();
    let now = status(&running).await;
    assert!(now.healthy, "all rows are known again: {:?}", now.conditions);
    door.moved(running.grpc_addr, running.plain_addr);
    member.issue().await.unwrap();
    CaDir::stop(running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_that_is_missing_is_told_until_it_is_there() {
    let jwt = "[[jwt]]\nissuer = \"https://tokens.example.org\"\naudiences = [\"banyan\"]\njwks_file = \"keys.json\"\n\
               identity = \"kubernetes\"\n";
    let ca_dir = CaDir::new(jwt).unwrap();
    let running = ca_dir.start().await.unwrap();
    says(&running, "none was read before, so every token of this issuer is refused").await;
    let tokens = integration_tests::tokens::TokenIssuer::of_mesh();
    std::fs::write(ca_dir.beside("keys.json"), tokens.key_set()).unwrap();
    eventually("it is taken", || async { status(&running).await.healthy }).await.unwrap();
    std::fs::write(ca_dir.beside("keys.json"), "{}").unwrap();
    says(&running, "the keys that were read before stay in force").await;
    CaDir::stop(running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_others_can_write_is_refused_with_every_file_and_what_to_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let ca_dir = CaDir::new("").unwrap();
    CaDir::stop(ca_dir.start().await.unwrap()).await.unwrap();
    for file in ["state.redb", "keys/store.json"] {
        std::fs::set_permissions(ca_dir.data().join(file), std::fs::Permissions::from_mode(0o666))
            .unwrap();
    }
    let said = ca_dir.start_once().await.unwrap().unwrap_err().to_string();
    for words in ["state.redb has mode 0666", "store.json", "chmod -R go="] {
        assert!(said.contains(words), "{words} is missing in {said}");
    }
}
