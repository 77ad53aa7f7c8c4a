//! The chain: every kind of authority hands over to the next, and no handshake fails.

use std::time::Duration;

use integration_tests::mesh::{Cacerts, LiveMesh, MeshPlan, PythonAuthority, eventually};
use proto::banyan::admin::v1::Rotation;
use tokio::time::Instant;
use trust::RootId;

use crate::parts::{Human, OpenBao, SoftHsm};

/// Leaves that outlive the chain: nobody waits for their ends, all are renewed early.
pub(crate) const LIFE: u64 = 3_600;
/// Longest time of one link.
const LINK_MAX: Duration = Duration::from_secs(60);

/// Rotates to an authority; prints how long each phase took, and answers with the root that signs then.
pub(crate) async fn link(mesh: &LiveMesh, authority: &str) -> anyhow::Result<RootId> {
    let request_id = format!("to-{authority}");
    let began = Instant::now();
    mesh.ca.rotate_to(&request_id, authority).await?;
    let mut phases: Vec<(String, Duration)> = Vec::new();
    let mut entered = (String::from("staging"), began);
    loop {
        let rotation = mesh.ca.rotation().await?;
        if rotation.phase != entered.0 {
            phases.push((entered.0.clone(), entered.1.elapsed()));
            entered = (rotation.phase.clone(), Instant::now());
        }
        if is_over(&rotation, &request_id) {
            break;
        }
        anyhow::ensure!(began.elapsed() < LINK_MAX, "not over in time: {rotation:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told: Vec<_> =
        phases.iter().map(|(phase, took)| format!("{phase} {:.1} s", took.as_secs_f64())).collect();
    println!("{authority}: {:.1} s ({})", began.elapsed().as_secs_f64(), told.join(", "));
    signs(mesh, authority).await
}

fn is_over(rotation: &Rotation, request_id: &str) -> bool {
    rotation.phase == "steady" && rotation.done.iter().any(|done| done == request_id)
}

/// The one root that is trusted now, once everybody has a leaf of it and trusts nothing else; it must be this authority's.
async fn signs(mesh: &LiveMesh, authority: &str) -> anyhow::Result<RootId> {
    let bundle = mesh.ca.running().bundle();
    assert_eq!(bundle.roots().len(), 1);
    let root = bundle.roots()[0].id();
    let authorities = mesh.ca.authorities().await?;
    let signing: Vec<_> =
        authorities.iter().filter(|known| known.signs).map(|known| known.name.as_str()).collect();
    assert_eq!(signing, [authority]);
    eventually("everybody is on the new root alone", || async {
        mesh.proxies.iter().all(|proxy| {
            let holding = proxy.holding();
            holding.root() == Some(root) && holding.trusted() == [root]
        })
    })
    .await?;
    Ok(root)
}

/// Names the folder of the token to the child.
const TOKEN: &str = "BANYAN_TEST_CHAIN_TOKEN";
const NAME: &str = "links::the_root_goes_from_authority_to_authority_and_no_handshake_fails";

/// The module of the token reads its place from the environment of its process, so the test runs once more in a child.
#[test]
fn the_root_goes_from_authority_to_authority_and_no_handshake_fails() -> anyhow::Result<()> {
    if let Some(folder) = std::env::var_os(TOKEN) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(chain(&SoftHsm::at(folder.into())));
    }
    let folder = tempfile::tempdir()?;
    let token = SoftHsm::make(folder.path())?;
    let child = std::process::Command::new(std::env::current_exe()?)
        .args([NAME, "--exact", "--nocapture"])
        .env(TOKEN, folder.path())
        .env("SOFTHSM2_CONF", token.conf())
        .output()?;
    let said = String::from_utf8_lossy(&child.stdout);
    println!("{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{}", child.status);
    Ok(())
}

async fn chain(token: &SoftHsm) -> anyhow::Result<()> {
    let (cacerts, python) = (Cacerts::make().await?, PythonAuthority::started().await?);
    let (bao, human) = (OpenBao::start().await?, Human::begin()?);
    let sections = [
        "[authority.main]\nplugin = \"self-signed\"\n".to_owned(),
        cacerts.section("cacerts", "exclusive = true"),
        bao.section("openbao"),
        token.section("token")?,
        python.section("python"),
        human.section("offline"),
        "[authority.last]\nplugin = \"self-signed\"\n".to_owned(),
    ];
    let plan =
        MeshPlan { life: LIFE, agents: 3, sections: sections.concat(), ..MeshPlan::default() };
    let mesh = LiveMesh::of(&plan, &()).await?;
    let began = Instant::now();
    let mut roots = vec![signs(&mesh, "main").await?];
    for authority in ["cacerts", "openbao", "token", "python", "offline", "last"] {
        roots.push(link(&mesh, authority).await?);
    }
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), 7, "no root came twice");
    let took = began.elapsed();
    let talk = mesh.stop().await?;
    human.stopped().await?;
    println!(
        "{} handshakes, {} failed, {:.1} s",
        talk.handshakes,
        talk.failed.len(),
        took.as_secs_f64()
    );
    assert!(talk.handshakes > 500, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{:#?}", talk.failed.first());
    Ok(())
}
