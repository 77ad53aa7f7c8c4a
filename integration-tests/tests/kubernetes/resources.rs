//! Custom resources: words to the CA, and what it shows.

use std::time::Duration;

use integration_tests::support::{SOON, eventually};
use kubernetes::resources;
use proto::banyan::admin::v1::{DecideRotationRequest, Verb};
use serde_json::{Value, json};

use super::support::{MESH, World, never, until_says};

const ROTATIONS: &str = "/apis/banyan.dev/v1alpha1/namespaces/banyan/rootrotations";
const SECTIONS: &str = "[resources]\nnamespace = \"banyan\"\n";

async fn with_kinds(rights: &[&str]) -> anyhow::Result<World> {
    let world = World::start(&[]).await?;
    for (_, manifest) in resources::manifests()? {
        world.api.apply("", &manifest).await?;
    }
    eventually("the kinds are served", || async {
        world.api.ask("GET", ROTATIONS, None).await.is_ok()
    })
    .await?;
    for name in rights {
        world.allow(name).await?;
    }
    Ok(world)
}

async fn create(world: &World, name: &str, spec: Value) -> anyhow::Result<String> {
    let body = json!({ "apiVersion": "banyan.dev/v1alpha1", "kind": "RootRotation",
        "metadata": { "name": name }, "spec": spec });
    let made =
        world.api.ask("POST", &format!("{ROTATIONS}?fieldValidation=Strict"), Some(body)).await?;
    Ok(made["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

async fn status(world: &World, name: &str) -> Value {
    let object = world.api.ask("GET", &format!("{ROTATIONS}/{name}"), None).await;
    object.map(|object| object["status"].clone()).unwrap_or_default()
}

async fn act(world: &World, name: &str, action: &str) -> anyhow::Result<()> {
    let body = json!({ "spec": { "action": action, "reason": "a test" } });
    world.api.ask("PATCH", &format!("{ROTATIONS}/{name}"), Some(body)).await.map(drop)
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["type"] == type_).unwrap_or(&Value::Null)
}

async fn until(
    world: &World,
    name: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let waited = eventually(what, || async { holds(&status(world, name).await) }).await;
    let now = status(world, name).await;
    waited.map_err(|error| error.context(format!("{now:#}")))?;
    Ok(now)
}

#[tokio::test(flavor = "multi_thread")]
async fn to_create_one_is_to_start_one_and_its_status_tells_it_to_the_end() -> anyhow::Result<()> {
    let world = with_kinds(&["banyan-resources", "banyan-publish-config-maps"]).await?;
    let running = world.beside(&format!("{SECTIONS}{MESH}")).await?;
    world.until_confirmed("mesh").await?;
    let uid = create(&world, "one", json!({ "reason": "yearly" })).await?;
    let over =
        until(&world, "one", "it is complete", |status| status["phase"] == "Completed").await?;
    assert_eq!(condition(&over, "Complete")["status"], "True");
    assert_eq!(condition(&over, "Progressing")["status"], "False");
    assert_eq!((&over["requestID"], &over["observedGeneration"]), (&json!(uid), &json!(1)));
    let rotation = world.ca.rotation().await?;
    assert_eq!(
        (rotation.last_request_id.as_str(), rotation.last_ending.as_str()),
        (uid.as_str(), "completed")
    );
    // A process that begins anew starts nothing a second time.
    let sequence = world.ca.running().bundle().sequence();
    running.shutdown().await;
    let again = world.beside(SECTIONS).await?;
    until_says(&again, "resources/rotations", true, "0 rotations not over, of 1").await?;
    assert_eq!(world.ca.running().bundle().sequence(), sequence);
    let events =
        world.api.ask("GET", "/apis/events.k8s.io/v1/namespaces/banyan/events", None).await?;
    assert!(events.to_string().contains("\"Completed\""), "{events}");
    again.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_for_its_turn_and_is_aborted_is_never_started() -> anyhow::Result<()> {
    let world = with_kinds(&["banyan-resources"]).await?;
    let running = world.beside(SECTIONS).await?;
    create(&world, "one", json!({ "mode": "manual" })).await?;
    let waits = |status: &Value| condition(status, "Progressing")["reason"] == "WaitsForActivate";
    until(&world, "one", "it waits for a word", waits).await?;
    let uid = create(&world, "two", json!({})).await?;
    until(&world, "two", "it waits for its turn", |status| status["phase"] == "Pending").await?;
    act(&world, "two", "abort").await?;
    let over = until(&world, "two", "it is over", |status| status["phase"] == "Aborted").await?;
    assert_eq!(condition(&over, "ActionTaken")["status"], "True");
    assert_eq!(condition(&over, "Complete")["status"], "False");
    // Its turn comes, and the CA has never heard of it.
    act(&world, "one", "abort").await?;
    until(&world, "one", "it is aborted", |status| status["phase"] == "Aborted").await?;
    let third = create(&world, "three", json!({})).await?;
    until(&world, "three", "it is complete", |status| status["phase"] == "Completed").await?;
    let rotation = world.ca.rotation().await?;
    assert_eq!(rotation.last_request_id, third);
    assert!(!rotation.done.contains(&uid), "{:?}", rotation.done);
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_one_word_and_a_refusal_is_told_and_not_repeated() -> anyhow::Result<()> {
    let world = with_kinds(&["banyan-resources"]).await?;
    let running = world.beside(SECTIONS).await?;
    create(&world, "one", json!({ "mode": "manual" })).await?;
    let waits = |status: &Value| condition(status, "Progressing")["reason"] == "WaitsForActivate";
    until(&world, "one", "it waits for a word", waits).await?;
    act(&world, "one", "rollback").await?;
    let refused = |status: &Value| condition(status, "ActionTaken")["reason"] == "Refused";
    let told = until(&world, "one", "rollback is refused", refused).await?;
    assert!(told["observedGeneration"].as_i64() >= Some(2), "{told:#}");
    act(&world, "one", "hold").await?;
    let held = |status: &Value| condition(status, "Progressing")["reason"] == "Held";
    until(&world, "one", "it is held", held).await?;
    act(&world, "one", "resume").await?;
    until(&world, "one", "it waits for a word again", waits).await?;
    // A second one waits for its turn, and does not take this one's place.
    create(&world, "two", json!({ "mode": "manual" })).await?;
    let pending = until(&world, "two", "it waits", |status| status["phase"] == "Pending").await?;
    assert_eq!(condition(&pending, "Accepted")["status"], "False");
    act(&world, "one", "abort").await?;
    let over = until(&world, "one", "it is aborted", |status| status["phase"] == "Aborted").await?;
    assert_eq!(condition(&over, "Complete")["status"], "False");
    act(&world, "one", "activate").await?;
    let late = |status: &Value| condition(status, "ActionTaken")["reason"] == "Over";
    until(&world, "one", "it is too late", late).await?;
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rotation_went_through_while_nobody_led_is_told_by_who_leads_next()
-> anyhow::Result<()> {
    let world = with_kinds(&["banyan-resources", "banyan-lead"]).await?;
    let sections = |name: &str| {
        format!(
            "{SECTIONS}[lead]\nnamespace = \"banyan\"\nduration = \"10m\"\nidentity = \"{name}\"\n"
        )
    };
    let first = world.beside(&sections("first")).await?;
    let uid = create(&world, "one", json!({ "mode": "manual" })).await?;
    let waits = |status: &Value| condition(status, "Progressing")["reason"] == "WaitsForActivate";
    until(&world, "one", "it waits for a word", waits).await?;
    let second = world.beside(&sections("second")).await?;
    until_says(&second, "resources/rotations", true, "first has the Lease").await?;
    // It dies without a word, and the rest of the rotation takes less time than its Lease has.
    drop(first);
    let activate = DecideRotationRequest {
        request_id: "now".to_owned(),
        verb: Verb::Activate.into(),
        ..DecideRotationRequest::default()
    };
    world.ca.rotations().decide_rotation(activate).await?;
    world.until_over(&uid).await?;
    let meanwhile = status(&world, "one").await;
    assert_eq!(meanwhile["phase"], "Distributing", "nobody wrote it: {meanwhile:#}");
    world.clock.advance(Duration::from_secs(601));
    let over =
        until(&world, "one", "it is complete", |status| status["phase"] == "Completed").await?;
    let phases = over["phases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = phases.iter().filter_map(|one| one["phase"].as_str()).collect();
    let after = names.iter().skip_while(|name| **name != "Distributing").collect::<Vec<_>>();
    assert_eq!(after, [&"Distributing", &"Draining", &"Withdrawing", &"Completed"], "{over:#}");
    assert!(phases.iter().all(|one| one["since"].as_str().is_some_and(|since| since.len() == 20)));
    // Events come after the status that they are of.
    for phase in ["Draining", "Withdrawing", "Completed"] {
        eventually(&format!("an event of {phase}"), || async {
            let events =
                world.api.ask("GET", "/apis/events.k8s.io/v1/namespaces/banyan/events", None).await;
            events
                .is_ok_and(|events| events.to_string().contains(&format!("\"reason\":\"{phase}\"")))
        })
        .await?;
    }
    second.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_deleted_on_its_way_goes_on() -> anyhow::Result<()> {
    let world = with_kinds(&["banyan-resources"]).await?;
    let running = world.beside(SECTIONS).await?;
    let uid = create(&world, "one", json!({ "mode": "manual" })).await?;
    until(&world, "one", "it is under way", |status| status["phase"] == "Distributing").await?;
    world.api.ask("DELETE", &format!("{ROTATIONS}/one"), None).await?;
    eventually("the cluster is told", || async {
        let events =
            world.api.ask("GET", "/apis/events.k8s.io/v1/namespaces/banyan/events", None).await;
        events.is_ok_and(|events| events.to_string().contains("GoesOn"))
    })
    .await?;
    assert_eq!(world.ca.rotation().await?.request_id, uid);
    running.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_the_api_server() -> anyhow::Result<()> {
    let world = with_kinds(&[]).await?;
    let refused = |spec: Value| {
        let world = &world;
        async move { create(world, "bad", spec).await.unwrap_err() }
    };
    for spec in [json!({ "mode": "soon" }), json!({ "action": "explode" }), json!({ "colour": 1 })]
    {
        let error = format!("{:#}", refused(spec).await);
        assert!(
            error.contains("422")
                || error.contains("nsupported value")
                || error.contains("unknown field"),
            "{error}"
        );
    }
    create(&world, "one", json!({ "mode": "manual" })).await?;
    for spec in [json!({ "mode": "auto" }), json!({ "mode": null }), json!({ "authority": "x" })] {
        let body = json!({ "spec": spec });
        let changed = world.api.ask("PATCH", &format!("{ROTATIONS}/one"), Some(body)).await;
        let error = format!("{:#}", changed.unwrap_err());
        assert!(error.contains("create another RootRotation"), "{error}");
    }
    act(&world, "one", "hold").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_and_its_authorities_are_shown_and_nothing_green_is_shown_of_one_that_is_away()
-> anyhow::Result<()> {
    let world = with_kinds(&["banyan-resources"]).await?;
    let socket = world.ca.directory().join("beside.sock");
    std::os::unix::fs::symlink(&world.ca.running().admin_socket, &socket)?;
    let running = world.beside_at(&socket, world.api.address(), SECTIONS).await?;
    let base = "/apis/banyan.dev/v1alpha1/namespaces/banyan";
    let shown = |path: String| {
        let world = &world;
        async move { world.api.ask("GET", &format!("{base}/{path}"), None).await.unwrap_or_default() }
    };
    eventually("the CA is shown", || async {
        let domain = shown("trustdomains/example.org".to_owned()).await;
        condition(&domain["status"], "Available")["status"] == "True"
    })
    .await?;
    eventually("its authority is shown", || async {
        let list = shown("rootauthorities".to_owned()).await;
        list["items"][0]["status"]["health"] == "ok" && list["items"][0]["status"]["signs"] == true
    })
    .await?;
    let domain = shown("trustdomains/example.org".to_owned()).await;
    assert_eq!(domain["status"]["roots"][0]["trusted"], true);
    never("an object is written while nothing changes", Duration::from_secs(2), || async {
        let now = shown("trustdomains/example.org".to_owned()).await;
        now["metadata"]["resourceVersion"] != domain["metadata"]["resourceVersion"]
    })
    .await?;
    world.ca.stop().await?;
    let poll = async {
        loop {
            let object =
                world.api.ask("GET", &format!("{base}/trustdomains/example.org"), None).await;
            let status = object.unwrap_or_default()["status"].clone();
            if condition(&status, "Available")["status"] == "False" && status["healthy"] == false {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await?;
    running.shutdown().await;
    Ok(())
}
