//! `banyan issuer renew` and `banyan issuer cancel`, asked of a server whose authority hangs and then works.

use std::sync::Arc;

use ca_server::Running;
use host::{RealDisk, SystemClock};
use integration_tests::faults::{AuthorityMode, AuthoritySwitch, CaDir, FaultPlan, eventually};
use integration_tests::mesh::admin_channel;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{Issuer, ListRootsRequest, ReadJournalRequest};
use serde_json::Value;

use super::said::banyan_at as banyan;

/// Runs it, and answers with its exit code.
pub(crate) async fn asked(running: &Running, words: &[&str]) -> anyhow::Result<Option<i32>> {
    Ok(banyan(running, words).await?.code)
}

pub(crate) async fn active(running: &Running) -> anyhow::Result<(String, Issuer)> {
    let mut client = AdminServiceClient::new(admin_channel(&running.admin_socket));
    let roots = client.list_roots(ListRootsRequest::default()).await?.into_inner().roots;
    let of_root = |root: proto::banyan::admin::v1::Root| {
        let id: String = root.id.iter().map(|byte| format!("{byte:02x}")).collect();
        root.issuers.into_iter().find(|issuer| issuer.active).map(|issuer| (id, issuer))
    };
    roots.into_iter().find_map(of_root).ok_or_else(|| anyhow::anyhow!("no issuer signs"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_renewed_cancelled_and_renewed_again_by_command() -> anyhow::Result<()> {
    let (ca_dir, switch) = (CaDir::new("")?, AuthoritySwitch::new(AuthorityMode::Works));
    let fault_plan = FaultPlan { authority: Some(switch.clone()), ..FaultPlan::default() };
    let running =
        ca_dir.start_with(Arc::new(RealDisk), Arc::new(SystemClock), &fault_plan).await??;
    let (root, before) = active(&running).await?;
    let short = &root[..8];

    let none = banyan(&running, &["issuer", "cancel", "--json"]).await?;
    let told: Value = serde_json::from_str(&none.err)?;
    assert_eq!(
        (none.code, &told["error"]["code"]),
        (Some(4), &Value::from("refused")),
        "{}",
        none.err
    );
    let unknown = banyan(&running, &["issuer", "renew", "--root", "ffffffff"]).await?;
    assert!(unknown.code != Some(0) && unknown.err.contains("ffffffff"), "{}", unknown.err);

    // It hangs: the renewal is asked for, and does not get on.
    switch.turn(AuthorityMode::Hangs);
    let asked = switch.asked();
    let words = [
        "issuer",
        "renew",
        "--root",
        short,
        "--request-id",
        "one",
        "--by",
        "ann",
        "--reason",
        "a try",
    ];
    let renew = banyan(&running, &[&words[..], &["--json"]].concat()).await?;
    assert_eq!(renew.code, Some(0), "{}", renew.err);
    let told = renew.json()?;
    assert_eq!(told["root"].as_str(), Some(root.as_str()), "{told}");
    assert_eq!(
        (&told["authority"], &told["request_id"]),
        (&Value::from("main"), &Value::from("one"))
    );
    assert_eq!(told["cancelled"], Value::Bool(false));
    eventually("the authority is asked", || std::future::ready(switch.asked() > asked)).await?;
    assert_eq!(
        banyan(&running, &words).await?.code,
        Some(0),
        "repeated with its id it asks for nothing twice"
    );
    let cancel = banyan(&running, &["issuer", "cancel", "--request-id", "two"]).await?;
    assert_eq!(cancel.code, Some(0), "{}", cancel.err);
    assert!(cancel.out.contains("is cancelled") && cancel.out.contains(short), "{}", cancel.out);
    let twice = banyan(&running, &["issuer", "cancel", "--request-id", "three"]).await?;
    assert_eq!(twice.code, Some(4), "nothing is left to cancel: {}", twice.err);

    switch.turn(AuthorityMode::Works);
    assert_eq!(active(&running).await?, (root.clone(), before.clone()));
    let renew = banyan(&running, &["issuer", "renew", "--request-id", "four"]).await?;
    assert!(renew.code == Some(0) && renew.out.contains("requested a new issuer"), "{}", renew.err);
    let renewed = || async {
        active(&running).await.is_ok_and(|(same, issuer)| same == root && issuer.id != before.id)
    };
    eventually("another issuer signs", renewed).await?;
    let shown = banyan(&running, &["root", "show", short, "--json"]).await?;
    assert_eq!(shown.code, Some(0), "the command that it names: {}", shown.err);

    let mut journal = RotationServiceClient::new(admin_channel(&running.admin_socket));
    let page = journal.read_journal(ReadJournalRequest::default()).await?.into_inner();
    let texts = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.entry));
    let whose = texts.filter(|text| text.contains("ann") && text.contains("a try")).count();
    assert!(whose > 0, "who wanted it, and why, is kept");
    CaDir::stop(running).await
}
