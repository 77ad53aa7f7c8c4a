use std::path::Path;

use super::*;
use crate::Config;

fn config() -> InjectConfig {
    let text = "admin_socket = \"s\"\n[inject]\nnamespace = \"mesh\"\nimage = \"banyan:1\"\n";
    Config::parse(Path::new("kubernetes.toml"), text).unwrap().inject.unwrap()
}

fn judged(pod: &Value) -> Verdict {
    judge(Asked { pod, namespace: "shop", trust_domain: "example.org" }, &config())
}

/// The Pod after a patch of additions.
fn patched(pod: &Value) -> Value {
    let Verdict::Injected(operations) = judged(pod) else { panic!("{:?}", judged(pod)) };
    let mut pod = pod.clone();
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        let value = operation["value"].clone();
        match pod.pointer_mut(parent).unwrap() {
            Value::Array(list) if key == "-" => list.push(value),
            Value::Array(list) => list.insert(key.parse().unwrap(), value),
            Value::Object(fields) => drop(fields.insert(key, value)),
            other => panic!("{parent} is {other}"),
        }
    }
    pod
}

fn app() -> Value {
    json!({
        "metadata": { "labels": { "app": "cart" } },
        "spec": { "serviceAccountName": "cart", "containers": [{ "name": "app", "image": "app:1" }] },
    })
}

#[test]
fn a_pod_gets_what_the_manifest_for_doing_it_by_hand_has() {
    let page = include_str!("../../../deploy/agent/sidecar.yaml");
    let pod = patched(&app());
    let agent = &pod["spec"]["initContainers"][0];
    for (path, line) in [
        ("/restartPolicy", "restartPolicy: Always"),
        ("/args", "args: [agent, --config, /etc/banyan/agent/agent.toml, --log-format, json]"),
        ("/startupProbe/failureThreshold", "failureThreshold: 120"),
        ("/resources/limits/memory", "limits: { memory: 128Mi }"),
    ] {
        let value = agent.pointer(path).unwrap();
        let shown = match value {
            Value::Array(list) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert!(page.contains(line) && line.contains(&shown), "{path}: {shown}");
    }
    let settings = pod["metadata"]["annotations"][SETTINGS].as_str().unwrap();
    for line in settings.lines().filter(|line| !line.is_empty()) {
        let key = line.split(" = ").next().unwrap();
        assert!(page.lines().any(|known| known.trim().starts_with(key)), "{line}");
    }
    assert!(
        settings.contains("spiffe_id = \"spiffe://example.org/ns/shop/sa/cart\""),
        "{settings}"
    );
    let mounts = &pod["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(mounts, &json!([{ "name": SOCKET, "mountPath": SOCKET_AT, "readOnly": true }]));
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), VOLUMES.len());
}

#[test]
fn twice_is_once_and_a_container_that_came_later_gets_the_socket_too() {
    let mut pod = patched(&app());
    assert_eq!(judged(&pod), Verdict::Complete);
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "late", "image": "i" }));
    let Verdict::Injected(operations) = judged(&pod) else { panic!() };
    assert_eq!(operations.len(), 1, "{operations:?}");
    let pod = patched(&pod);
    assert_eq!(pod["spec"]["containers"][1]["volumeMounts"][0]["name"], SOCKET);
    assert_eq!(judged(&pod), Verdict::Complete);
}

#[test]
fn what_a_pod_has_stays_in_its_order_behind_the_agent() {
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({ "a": "b" });
    pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
    pod["spec"]["initContainers"] = json!([{ "name": "migrate", "image": "i", "volumeMounts": [{ "name": "data", "mountPath": "/d" }] }]);
    pod["spec"]["securityContext"] = json!({ "runAsUser": 0 });
    let pod = patched(&pod);
    let names = |path| list(&pod, path).map(named).collect::<Vec<_>>();
    assert_eq!(names("/spec/initContainers"), [AGENT, "migrate"]);
    assert_eq!(names("/spec/initContainers/1/volumeMounts"), ["data", SOCKET]);
    assert_eq!(names("/spec/volumes")[0], "data");
    assert_eq!(pod["metadata"]["annotations"]["a"], "b");
    // Root's other containers do not make it root's.
    assert_eq!(pod["spec"]["initContainers"][0]["securityContext"]["runAsUser"], 65532);
}

#[test]
fn what_cannot_be_is_refused_by_name_and_nothing_is_changed() {
    for (change, told) in [
        (
            json!({ "containers": [{ "name": "banyan-agent" }] }),
            "a container banyan-agent of its own",
        ),
        (json!({ "initContainers": [{ "name": "banyan-agent" }] }), "banyan-agent of its own"),
        (json!({ "volumes": [{ "name": "banyan-agent-token" }] }), "a volume banyan-agent-token"),
        (
            json!({ "containers": [{ "name": "app",
                "volumeMounts": [{ "name": "run", "mountPath": "/run/banyan" }] }] }),
            "its container app mounts run at /run/banyan",
        ),
    ] {
        let mut pod = app();
        pod["spec"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let Verdict::Refused(why) = judged(&pod) else { panic!("{change}") };
        assert!(why.contains(told), "{why}");
    }
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({ SETTINGS: "own" });
    assert!(matches!(judged(&pod), Verdict::Refused(why) if why.contains("remove it")));
}

#[test]
fn who_asked_itself_is_refused_where_a_namespace_only_goes_without() {
    for unfit in [json!({ "hostNetwork": true }), json!({ "os": { "name": "windows" } })] {
        let mut pod = app();
        pod["spec"].as_object_mut().unwrap().extend(unfit.as_object().unwrap().clone());
        assert!(matches!(judged(&pod), Verdict::Left(_)), "{unfit}");
        pod["metadata"]["labels"][LABEL] = json!("enabled");
        assert!(matches!(judged(&pod), Verdict::Refused(_)), "{unfit}");
    }
    let mut pod = app();
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    assert!(matches!(judged(&pod), Verdict::Injected(_)));
    let mut pod = app();
    pod["metadata"]["labels"][LABEL] = json!("disabled");
    assert!(matches!(judged(&pod), Verdict::Left(_)));
    let mut pod = app();
    pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    assert!(matches!(judged(&pod), Verdict::Left(_)));
}
