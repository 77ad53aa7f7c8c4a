//! Two processes on one directory, and a disk that takes nothing from a process.

use std::path::Path;

use integration_tests::faults::{CaDir, ChildCa, Durable, Member, eventually, reason};
use proto::banyan::admin::v1::StatusResponse;
use trust::RootId;

fn spawn(ca_dir: &CaDir) -> ChildCa {
    ChildCa::spawn(Path::new(env!("CARGO_BIN_EXE_ca_under_test")), ca_dir).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_process_on_a_directory_is_refused_and_names_the_first() {
    let ca_dir = CaDir::new("").unwrap();
    let mut first = spawn(&ca_dir);
    let door = first.door().await.unwrap();
    let pid = first.pid().unwrap();
    let before = door.status().await.unwrap();

    let (status, said) = spawn(&ca_dir).ended().await.unwrap();
    assert_eq!(status.code(), Some(1));
    for part in
        [&format!("process {pid}"), "stop that process", &ca_dir.data().display().to_string()]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let inside = ca_dir.start_once().await.unwrap().unwrap_err().to_string();
    assert!(inside.contains(&format!("process {pid}")), "{inside}");

    // The first one does not notice.
    Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
    let after = door.status().await.unwrap();
    let seen = |status: StatusResponse| (status.sequence, status.bundle_digest, status.active_root);
    assert_eq!(seen(after), seen(before));
}

/// The kernel refuses every write to a file: those of the ledger, the shared state and the keys alike.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_disk_takes_nothing_releases_nothing_says_so_and_recovers() {
    let ca_dir = CaDir::new("").unwrap();
    let mut ca = spawn(&ca_dir);
    let door = ca.door().await.unwrap();
    let root = RootId::from_bytes(&door.status().await.unwrap().active_root).unwrap();
    let mut member = Member::join(&door, "agent").await.unwrap();
    let mut released = vec![member.own_leaf(), member.issue().await.unwrap()];
    let waiting = "spiffe://example.org/waiting";
    let token = door.token("waiting", waiting).await.unwrap();
    assert!(door.is_ready().await);

    ca.refuse_writes(true).unwrap();
    for _ in 0..3 {
        let refused = member.issue().await.unwrap_err();
        assert!(
            ["LEDGER_WRITE_FAILED", "LEDGER_STOPPED"].contains(&reason(&refused).as_str()),
            "{refused:?}"
        );
    }
    // What an operator says is in the journal, or nothing comes of it.
    let refused = door.token("other", "spiffe://example.org/other").await.unwrap_err();
    assert_eq!(reason(&refused), "RECORD_UNAVAILABLE", "{refused:?}");
    let refused = Member::join_with(&door, &token, waiting.to_owned()).await.unwrap_err();
    assert_eq!(reason(&refused), "REGISTRY_UNAVAILABLE", "{refused:?}");
    eventually("probes are told", || async { !door.is_ready().await }).await.unwrap();
    let conditions = door.status().await.unwrap().conditions;
    let said = |text: &str| conditions.iter().any(|condition| condition.contains(text));
    assert!(said("ledger") && said("registry"), "{conditions:?}");

    // Both recover by themselves.
    ca.refuse_writes(false).unwrap();
    eventually("ready again", || door.is_ready()).await.unwrap();
    released.push(member.issue().await.unwrap());
    eventually("healthy again", || async {
        door.status().await.is_ok_and(|status| status.healthy)
    })
    .await
    .unwrap();
    Member::join(&door, "later").await.unwrap();
    ca.kill().await.unwrap();
    let durable = Durable::read(&ca_dir.data()).await.unwrap();
    durable.covers(&released).unwrap();

    let mut ca = spawn(&ca_dir);
    let (grpc, plain) = ca.ready().await.unwrap();
    door.moved(grpc, plain);
    let status = door.status().await.unwrap();
    assert_eq!(RootId::from_bytes(&status.active_root), Some(root));
    assert!(status.healthy, "{:?}", status.conditions);
    member.issue().await.unwrap();
    Member::join(&door, "other").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_whose_disk_takes_nothing_says_what_to_check_and_leaves_no_half_of_a_ca() {
    let ca_dir = CaDir::new("").unwrap();
    let ca = spawn(&ca_dir);
    ca.refuse_writes(true).unwrap();
    let (status, said) = ca.ended().await.unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("check"), "{said}");
    let mut ca = spawn(&ca_dir);
    let door = ca.door().await.unwrap();
    Member::join(&door, "agent").await.unwrap().issue().await.unwrap();
    assert_eq!(ca_dir.roots_made().await.unwrap(), 1);
}
