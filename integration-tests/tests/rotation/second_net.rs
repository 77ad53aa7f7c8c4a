//! The new root, signed by the old one, goes out with new leaves: who trusts the old root alone accepts them while it drains.

use std::time::Duration;

use integration_tests::faults::{AuthorityMode, AuthoritySwitch, Crossing, FaultPlan};
use integration_tests::mesh::{MeshCa, SOON, Tool, eventually, run, tls_channel};
use proto::banyan::admin::v1::{RootVerb, Rotation, RuleRootRequest, Verb};
use trust::{Bundle, Chain, Clock as _, PeerRole, RootId, Sequence, TrustDomain};

/// Short lives, clocks 2 s apart. A phase lasts long enough to be held.
const SHORT: &str = "[leaf]\nttl_default = \"30s\"\nttl_max = \"30s\"\nttl_min = \"8s\"\nbackdate = \"2s\"\nskew = \"2s\"\n\
                     [rotation]\nsettle = \"3s\"\nwithdrawal_max = \"5s\"\n";
const NET: &str = "cross_sign = true\n";
const DOMAIN: &str = "example.org";
/// A gate that waits for leaves to end, and what precedes it.
const PHASE: Duration = Duration::from_secs(90);

fn ders(ca: &MeshCa) -> Vec<Vec<u8>> {
    ca.running().bundle().roots().iter().map(|root| root.der().to_vec()).collect()
}

/// What a holder of these roots, and no others, says of a chain.
fn accepts(roots: &[Vec<u8>], chain: &[Vec<u8>]) -> bool {
    let domain = TrustDomain::parse(DOMAIN).expect("a domain");
    let bundle = Bundle::from_ders(domain, Sequence(1), roots).expect("a bundle");
    let chain = Chain::parse(chain).expect("a chain");
    let now = host::SystemClock.now();
    [PeerRole::Client, PeerRole::Server]
        .iter()
        .all(|role| chain.verify(&bundle, now, *role).is_ok())
}

/// The chain of a new leaf.
async fn leaf(ca: &MeshCa, agent: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    Ok(ca.workload_leaf(agent, "spiffe://example.org/ns/shop/sa/cart").await?.chain)
}

/// Whether a real client with these roots, and no others, gets a connection to the CA itself.
async fn connects(ca: &MeshCa, roots: &[Vec<u8>]) -> bool {
    let versions = &[&rustls::version::TLS13];
    tls_channel(ca.running().grpc_addr, roots, None, versions).await.is_ok()
}

/// Whether a client in Go with these roots does: it then asks for a list of services, which the CA does not tell.
async fn go_connects(ca: &MeshCa, roots: &[Vec<u8>]) -> anyhow::Result<bool> {
    let file = ca.directory().join("roots-of-go.pem");
    let pem: String = roots.iter().map(|der| trust::certificate::pem_block(der)).collect();
    std::fs::write(&file, pem)?;
    let mut command = Tool::Grpcurl.command()?;
    command.arg("-cacert").arg(&file).arg(ca.running().grpc_addr.to_string()).arg("list");
    let (_, said) = run(&mut command).await?;
    let (accepted, refused) = (said.contains("reflection"), said.contains("x509"));
    anyhow::ensure!(accepted != refused, "{said}");
    Ok(accepted)
}

async fn phase(ca: &MeshCa, phase: &str) -> anyhow::Result<Rotation> {
    ca.until_rotation(phase, PHASE, |rotation| rotation.phase == phase).await
}

/// A rotation that is held while its old root drains.
async fn draining(ca: &MeshCa) -> anyhow::Result<()> {
    ca.rotate("one").await?;
    phase(ca, "draining").await?;
    ca.decide("hold", Verb::Hold).await?;
    let rotation = ca.rotation().await?;
    anyhow::ensure!(rotation.phase == "draining", "it went on before it was held: {rotation:?}");
    Ok(())
}

fn says(rotation: &Rotation, words: &str) -> bool {
    rotation.second_net.iter().any(|said| said.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trusts_the_old_root_alone_is_served_over_a_restart_a_rollback_and_the_way_forward()
-> anyhow::Result<()> {
    let ca = MeshCa::of_domain(DOMAIN, &format!("{SHORT}{NET}")).await?;
    let old = ders(&ca);
    anyhow::ensure!(connects(&ca, &old).await);
    draining(&ca).await?;
    let crossed = leaf(&ca, "crossed").await?;
    anyhow::ensure!(crossed.len() == 3, "leaf, issuer, cross certificate: {}", crossed.len());
    let both = ders(&ca);
    let new: Vec<_> = both.iter().filter(|root| !old.contains(root)).cloned().collect();
    for roots in [&old, &new, &both] {
        anyhow::ensure!(accepts(roots, &crossed), "with {} roots", roots.len());
    }
    anyhow::ensure!(!accepts(&old, &crossed[..2]), "without it the old root is not enough");
    eventually("a client with the old root alone connects", || connects(&ca, &old)).await?;
    anyhow::ensure!(connects(&ca, &new).await);
    for roots in [&old, &new, &both] {
        anyhow::ensure!(go_connects(&ca, roots).await?, "Go with {} roots", roots.len());
    }
    let rotation = ca.rotation().await?;
    anyhow::ensure!(says(&rotation, "more in each handshake"), "{rotation:?}");
    anyhow::ensure!(says(&rotation, "rehearsed in"), "{rotation:?}");
    println!("{}", rotation.second_net.join("; "));

    let ca = ca.restarted().await?;
    anyhow::ensure!(leaf(&ca, "restarted").await?[2] == crossed[2], "the same after a restart");
    anyhow::ensure!(connects(&ca, &old).await);

    ca.decide("go-on", Verb::Resume).await?;
    ca.decide("back", Verb::Rollback).await?;
    ca.until_rotation("nothing is left of it", SOON, |now| now.second_net.is_empty()).await?;
    let back = leaf(&ca, "back").await?;
    anyhow::ensure!(back.len() == 2 && accepts(&old, &back), "the old root signs alone");
    ca.decide("forward", Verb::Activate).await?;
    ca.until_rotation("the new root signs again", PHASE, |rotation| {
        rotation.phase == "draining" && says(rotation, "more in each handshake")
    })
    .await?;
    let again = leaf(&ca, "again").await?;
    anyhow::ensure!(again.len() == 3 && accepts(&old, &again));
    phase(&ca, "steady").await?;
    let after = leaf(&ca, "after").await?;
    anyhow::ensure!(after.len() == 2 && accepts(&new, &after) && !accepts(&old, &after));
    let status = ca.status().await?;
    anyhow::ensure!(status.healthy, "{:?}", status.conditions);
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_who_trusts_the_old_root_alone_is_refused() -> anyhow::Result<()> {
    let ca = MeshCa::of_domain(DOMAIN, SHORT).await?;
    let old = ders(&ca);
    draining(&ca).await?;
    let plain = leaf(&ca, "plain").await?;
    anyhow::ensure!(plain.len() == 2 && !accepts(&old, &plain), "{}", plain.len());
    eventually("a client with the old root alone is refused", async || !connects(&ca, &old).await)
        .await?;
    anyhow::ensure!(!go_connects(&ca, &old).await?);
    anyhow::ensure!(ca.rotation().await?.second_net.is_empty());
    ca.stop().await
}

fn distrust(id: &str, root: &[u8]) -> RuleRootRequest {
    RuleRootRequest {
        request_id: id.to_owned(),
        root: RootId::of(root).as_bytes().to_vec(),
        verb: RootVerb::Distrust.into(),
        by: "ann".to_owned(),
        reason: "its key was seen elsewhere".to_owned(),
        ..RuleRootRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_distrusted_in_the_middle_vouches_for_nothing_any_more() -> anyhow::Result<()>
{
    let ca = MeshCa::of_domain(DOMAIN, &format!("{SHORT}{NET}")).await?;
    let old = ders(&ca);
    draining(&ca).await?;
    eventually("it is sent", async || leaf(&ca, "one").await.is_ok_and(|leaf| leaf.len() == 3))
        .await?;
    ca.rotations().rule_root(distrust("old", &old[0])).await?;
    eventually("it is not sent", async || leaf(&ca, "two").await.is_ok_and(|leaf| leaf.len() == 2))
        .await?;
    anyhow::ensure!(ca.rotation().await?.second_net.is_empty());
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_that_is_distrusted_is_told_to_be_believed_by_those_who_trust_the_old_one()
-> anyhow::Result<()> {
    let ca = MeshCa::of_domain(DOMAIN, &format!("{SHORT}{NET}")).await?;
    let old = ders(&ca);
    draining(&ca).await?;
    eventually("it is sent", async || leaf(&ca, "one").await.is_ok_and(|leaf| leaf.len() == 3))
        .await?;
    let both = ders(&ca);
    let new = both.iter().find(|root| !old.contains(root)).expect("a new root");
    let preview = RuleRootRequest { dry_run: true, ..distrust("preview", new) };
    let preview = ca.rotations().rule_root(preview).await?.into_inner();
    let warns = |said: &[String]| said.iter().any(|text| text.contains("cross certificate says"));
    anyhow::ensure!(warns(&preview.said), "{preview:?}");
    let distrusted = ca.rotations().rule_root(distrust("new", new)).await?.into_inner();
    anyhow::ensure!(warns(&distrusted.said), "{distrusted:?}");
    let told = async || {
        let status = ca.status().await;
        status.is_ok_and(|now| {
            now.conditions.iter().any(|text| text.contains("cross certificate says"))
        })
    };
    eventually("what the certificate still does is said", told).await?;
    eventually("it is not sent", async || leaf(&ca, "two").await.is_ok_and(|leaf| leaf.len() == 2))
        .await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_cannot_is_away_or_lies_stops_nothing_and_is_named() -> anyhow::Result<()>
{
    for (crossing, words) in [
        (Crossing::Never, "cannot cross-sign"),
        (Crossing::Away, "it is switched off"),
        (Crossing::Lies, "PluginInvalid{ENDS_TOO_LATE}"),
    ] {
        let switch = AuthoritySwitch::new(AuthorityMode::Works);
        switch.crosses(crossing);
        let plan = FaultPlan { authority: Some(switch.clone()), ..FaultPlan::default() };
        let clock = std::sync::Arc::new(host::SystemClock);
        let extra = format!("{SHORT}{NET}");
        let ca = MeshCa::start_embedded("", &extra, &[], clock, &plan).await?;
        draining(&ca).await?;
        let rotation = ca.rotation().await?;
        let named = says(&rotation, words) && says(&rotation, "The rotation goes on without");
        anyhow::ensure!(named, "{:?}", rotation.second_net);
        let status = ca.status().await?;
        anyhow::ensure!(status.conditions.iter().any(|text| text.contains(words)), "{status:?}");
        let plain = leaf(&ca, "plain").await?;
        anyhow::ensure!(plain.len() == 2, "{crossing:?}: {}", plain.len());
        if crossing == Crossing::Away {
            switch.crosses(Crossing::Works);
            let late = |rotation: &Rotation| says(rotation, "more in each handshake");
            ca.until_rotation("it comes late", PHASE, late).await?;
            anyhow::ensure!(leaf(&ca, "late").await?.len() == 3);
        }
        ca.decide("go-on", Verb::Resume).await?;
        phase(&ca, "steady").await?;
        ca.stop().await?;
    }
    Ok(())
}
