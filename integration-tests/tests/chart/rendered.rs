//! What helm makes of values.

use anyhow::{Context as _, ensure};
use integration_tests::cluster::{Chart, rendered};
use serde_json::{Value, json};

use super::{NAMESPACE, cluster};

/// Kinds of an operator of Prometheus, whose definitions are not here.
const FOREIGN: &str = "apiVersion: monitoring.coreos.com/v1";

pub(crate) async fn values_of_every_kind_are_linted_and_accepted_under_the_restricted_standard(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(cluster) = cluster(name, 0).await? else { return Ok(()) };
    cluster.api.ask("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", None).await.err();
    // Of agents of nodes, whose Pods are of another standard.
    let privileged = json!({ "pod-security.kubernetes.io/enforce": "privileged" });
    cluster.add_namespace("banyan-node", privileged).await?;
    let mut tried = 0;
    for entry in std::fs::read_dir(Chart::folder().join("ci"))? {
        let file = format!("ci/{}", entry?.file_name().to_string_lossy());
        let chart = Chart { files: vec![file.clone()], set: Vec::new() };
        chart.lint().await.with_context(|| file.clone())?;
        let text = chart.render(NAMESPACE).await.with_context(|| file.clone())?;
        for document in rendered(&text).into_iter().filter(|one| !one.contains(FOREIGN)) {
            let arguments =
                ["apply", "--dry-run=server", "--validate=strict", "-f", "-", "-o", "json"];
            let applied = cluster.kubectl(&arguments, document).await;
            let applied: Value = serde_json::from_str(&applied.with_context(|| file.clone())?)?;
            if applied["kind"] == "StatefulSet" {
                accepted_as_a_pod(&cluster, &applied).await.with_context(|| file.clone())?;
                tried += 1;
            }
        }
    }
    ensure!(tried >= 5, "only {tried} files with values");
    Ok(())
}

pub(crate) async fn the_plain_manifests_are_the_chart_with_its_own_values(
    _: &'static str,
) -> anyhow::Result<()> {
    let path = Chart::folder().join("../../manifests/banyan.yaml");
    let manifests = std::fs::read_to_string(&path)?;
    let rendered = Chart::default().render(NAMESPACE).await?;
    ensure!(
        manifests.trim_end().ends_with(rendered.trim_end()),
        "{} is not what helm makes of the chart: run `cargo xtask kubernetes --manifests`",
        path.display()
    );
    Ok(())
}

/// The standard is enforced for Pods, not for what Pods are made of.
async fn accepted_as_a_pod(
    cluster: &integration_tests::cluster::Cluster,
    set: &Value,
) -> anyhow::Result<()> {
    let mut pod = set.pointer("/spec/template").context("no template")?.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("banyan-0");
    let claims = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    for claim in claims.into_iter().flatten() {
        let volume = json!({
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": { "claimName": "claim" },
        });
        pod["spec"]["volumes"].as_array_mut().context("no volumes")?.push(volume);
    }
    // The class is the cluster's own matter.
    pod["spec"].as_object_mut().context("no specification")?.remove("priorityClassName");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All&fieldValidation=Strict");
    cluster.api.ask("POST", &path, Some(pod.clone())).await?;
    // And it is enforced here: the same with a right more is not.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = cluster.api.ask("POST", &path, Some(pod)).await;
    ensure!(refused.is_err(), "the standard is not enforced");
    Ok(())
}

pub(crate) async fn values_that_are_wrong_are_refused_with_their_names(
    _: &'static str,
) -> anyhow::Result<()> {
    for (set, named) in [
        ("replicaz=3", "replicaz"),
        ("replicas=0", "replicas"),
        ("store.engine=redis", "engine"),
        ("store.engine=etcd", "store.etcd.secret"),
        ("store.etcd.endpoints={http://etcd:2379}", "endpoints"),
        ("config.data_dir=/tmp", "data_dir"),
        ("image.digest=latest", "digest"),
        ("persistence.size=big", "size"),
        ("authentication.review=offline", "issuer"),
        ("controllers.publish.mesh.stalenes=1m", "stalenes"),
        ("neighbors.west.address=west:15012", "secret"),
        ("neighbors.We_st.address=west:15012", "We_st"),
        ("controllers.publish.keys.kind=secret", "namespaces"),
        ("controllers.publish.pods.kind=cluster-trust-bundle", "signer"),
        ("controllers.sign.csr.signer_names={mesh}", "signer_names"),
        ("controllers.sign.csr.signer_names={*/*}", "signer_names"),
        ("controllers.sign.pod_certificates.signer_names={}", "signer_names"),
        ("controllers.sign.csrs.signer_names={example.org/mesh}", "csrs"),
        ("controllers.sign.cert_manager.domain=a", "domain"),
        ("nodeAgent.sockets=/run", "sockets"),
        ("nodeAgent.cgroupRoot=kubelet", "cgroupRoot"),
        ("nodeAgent.socketDir=run", "socketDir"),
        ("nodeAgent.enabled=true,openshift=true", "nodeAgent: OpenShift"),
        ("nodeAgent.enabled=true,authentication.enabled=false", "authentication.enabled"),
        ("nodeAgent.enabled=true,nodeAgent.namespace=banyan-system", "nodeAgent.namespace"),
    ] {
        let chart = Chart { files: Vec::new(), set: vec![set.to_owned()] };
        let said =
            chart.render(NAMESPACE).await.err().with_context(|| format!("{set} is taken"))?;
        let said = format!("{said:#}");
        ensure!(said.contains(named), "{set}: {said}");
    }
    Ok(())
}
