//! An authority that is away in the middle of a rotation: issuance continues, operators read what is wrong, and the
//! rotation goes on by itself when the authority is back.

use integration_tests::mesh::{
    Cacerts, LiveMesh, MeshPlan, PythonAuthority, SOON, Talk, eventually,
};
use proto::banyan::admin::v1::Rotation;

/// Leaves that are renewed several times in a test, in seconds.
const LIFE: u64 = 15;

async fn mesh_beside(section: String) -> anyhow::Result<LiveMesh> {
    let sections = format!("[authority.main]\nplugin = \"self-signed\"\n{section}");
    LiveMesh::of(&MeshPlan { life: LIFE, agents: 2, sections, ..MeshPlan::default() }, &()).await
}

fn tells(words: &'static str) -> impl Fn(&Rotation) -> bool {
    move |rotation| rotation.troubles.iter().any(|trouble| trouble.contains(words))
}

/// Everybody gets a new leaf, and the rotation stands where it was.
async fn issues_on(mesh: &LiveMesh) -> anyhow::Result<()> {
    let serials = || mesh.proxies.iter().map(|proxy| proxy.holding().serial()).collect::<Vec<_>>();
    let before = serials();
    eventually("everybody has a new leaf", || async {
        serials().iter().zip(&before).all(|(new, old)| new.is_some() && new != old)
    })
    .await?;
    let rotation = mesh.ca.rotation().await?;
    assert_eq!(rotation.phase, "staging", "{rotation:#?}");
    assert!(rotation.legal.iter().any(|verb| verb == "abort"), "{:?}", rotation.legal);
    Ok(())
}

async fn status_says(mesh: &LiveMesh, words: &str) -> anyhow::Result<()> {
    let conditions = mesh.ca.status().await?.conditions;
    assert!(
        conditions.iter().any(|said| said.contains(words)),
        "{words} is missing in: {conditions:#?}"
    );
    Ok(())
}

fn assert_nothing_failed(talk: &Talk) {
    assert!(talk.handshakes > 20, "only {} handshakes", talk.handshakes);
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_process_was_killed_is_named_and_the_rotation_goes_on_when_it_runs_again()
-> anyhow::Result<()> {
    let mut python = PythonAuthority::started().await?;
    let mesh = mesh_beside(python.section("python")).await?;
    python.kill().await?;
    mesh.ca.rotate_to("one", "python").await?;
    mesh.ca.until_rotation("it is named", SOON, tells("creating the new root failed")).await?;
    issues_on(&mesh).await?;
    status_says(&mesh, "creating the new root failed").await?;
    let listed = mesh.ca.authorities().await?;
    let health =
        listed.iter().find(|known| known.name == "python").map(|known| known.health.as_str());
    assert_eq!(health, Some("down"), "{listed:#?}");
    python.start().await?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_is_named_before_its_deadline_and_the_rotation_goes_on_when_it_answers()
-> anyhow::Result<()> {
    let python = PythonAuthority::started().await?;
    let mesh = mesh_beside(python.section("python")).await?;
    python.set_frozen(true)?;
    mesh.ca.rotate_to("one", "python").await?;
    let told = "has no answer yet: `banyan authority check python`";
    mesh.ca.until_rotation("it is named", SOON, tells(told)).await?;
    issues_on(&mesh).await?;
    status_says(&mesh, told).await?;
    python.set_frozen(false)?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_gone_is_named_and_the_rotation_goes_on_when_it_is_back()
-> anyhow::Result<()> {
    let cacerts = Cacerts::make().await?;
    cacerts.set_there(false)?;
    let mesh = mesh_beside(cacerts.section("cacerts", "exclusive = true")).await?;
    mesh.ca.rotate_to("one", "cacerts").await?;
    let told =
        mesh.ca.until_rotation("it is named", SOON, tells("creating the new root failed")).await?;
    let directory = cacerts.directory().display().to_string();
    assert!(
        told.troubles.iter().any(|trouble| trouble.contains(&directory)),
        "{:?}",
        told.troubles
    );
    issues_on(&mesh).await?;
    status_says(&mesh, &directory).await?;
    cacerts.set_there(true)?;
    mesh.over("one").await?;
    assert_nothing_failed(&mesh.stop().await?);
    Ok(())
}
