//! ClusterTrustBundles: one for each root.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::support::eventually;
use serde_json::{Value, json};

use super::support::{World, never, until_says};

const ALL: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";
const PODS: &str = "[publish.pods]\nkind = \"cluster-trust-bundle\"\nsigner = \"example.org/mesh\"\n\
                    labels = { \"example.org/canary\" = \"no\" }\n";

async fn bundles(world: &World) -> anyhow::Result<Vec<Value>> {
    let list = world.api.ask("GET", ALL, None).await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

async fn are_the_roots(world: &World) -> bool {
    let Ok(bundles) = bundles(world).await else { return false };
    let held: BTreeSet<_> =
        bundles.iter().filter_map(|one| one["spec"]["trustBundle"].as_str()).collect();
    let bundle = world.ca.running().bundle();
    let roots: Vec<_> = bundle.roots().iter().map(|root| root.certificate().pem()).collect();
    held == roots.iter().map(String::as_str).collect() && bundles.len() == roots.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_root_has_a_bundle_which_goes_with_it_and_readers_have_six_minutes()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-cluster-trust-bundles"]).await?;
    let running = world.beside(PODS).await?;
    eventually("the root is there", || are_the_roots(&world)).await?;
    let first = bundles(&world).await?.remove(0);
    let name = first["metadata"]["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("example.org:mesh:banyan-"), "{name}");
    assert_eq!(first["metadata"]["labels"]["example.org/canary"], "no");
    until_says(&running, "publish/pods", true, "readers have it within").await?;
    let word = || async { world.party("pods").await.is_some_and(|party| party.confirmed > 0) };
    world.clock.advance(Duration::from_secs(350));
    never("the word is given before six minutes", Duration::from_secs(2), word).await?;
    world.clock.advance(Duration::from_secs(10));
    world.until_confirmed("pods").await?;
    world.ca.rotate("one").await?;
    eventually("both are there", || async {
        bundles(&world).await.is_ok_and(|bundles| bundles.len() == 2)
    })
    .await?;
    // Gates wait for the word, and the word for the readers, twice.
    let passes = async {
        loop {
            world.clock.advance(Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        over = world.until_over("one") => drop(over?),
        () = passes => {}
    }
    eventually("the former root is gone", || are_the_roots(&world)).await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_of_the_same_signer_is_left_alone_and_ours_is_put_back()
-> anyhow::Result<()> {
    let world = World::start(&["banyan-publish-cluster-trust-bundles"]).await?;
    let pki = foreign_root()?;
    let theirs = json!({ "metadata": { "name": "example.org:mesh:theirs" },
        "spec": { "signerName": "example.org/mesh", "trustBundle": pki } });
    world.api.ask("POST", ALL, Some(theirs)).await?;
    let running = world.beside(PODS).await?;
    let ours = || async {
        let all = bundles(&world).await.unwrap_or_default();
        let mut names = all.iter().filter_map(|one| one["metadata"]["name"].as_str());
        names.find(|name| name.contains("banyan-")).map(str::to_owned)
    };
    eventually("ours is there", || async { ours().await.is_some() }).await?;
    let name = ours().await.unwrap_or_default();
    world.api.ask("DELETE", &format!("{ALL}/{name}"), None).await?;
    eventually("it is put back", || async { ours().await.is_some() }).await?;
    world.ca.rotate("one").await?;
    eventually("both of ours are there", || async {
        bundles(&world).await.is_ok_and(|bundles| bundles.len() == 3)
    })
    .await?;
    running.shutdown().await;
    Ok(())
}

/// A CA certificate of somebody else.
fn foreign_root() -> anyhow::Result<String> {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    Ok(params.self_signed(&rcgen::KeyPair::generate()?)?.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_gets_the_version_that_it_has() -> anyhow::Result<()> {
    let gates = "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true";
    for version in ["v1beta1", "v1alpha1"] {
        let served = format!("--runtime-config=certificates.k8s.io/{version}=true");
        let options = ["--emulated-version=1.34", gates, &served];
        let rights = ["banyan-publish-cluster-trust-bundles"];
        let world = World::start_with_options(&options, &rights).await?;
        let running = world.beside(PODS).await?;
        let path = format!("/apis/certificates.k8s.io/{version}/clustertrustbundles");
        eventually("the root is there", || async {
            let list = world.api.ask("GET", &path, None).await.unwrap_or_default();
            list["items"].as_array().is_some_and(|items| items.len() == 1)
        })
        .await?;
        assert!(bundles(&world).await.is_err(), "it has no v1");
        until_says(&running, "publish/pods", true, "readers have it within").await?;
        running.shutdown().await;
    }
    // One that has none says so.
    let world = World::start_with_options(&["--emulated-version=1.34"], &[]).await?;
    let running = world.beside(PODS).await?;
    until_says(&running, "publish/pods", false, "has no ClusterTrustBundle").await?;
    running.shutdown().await;
    Ok(())
}
