//! The messages of the API server: an AdmissionReview in, one out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::pod::{Asked, Verdict, judge};
use crate::config::InjectConfig;

/// What is answered, and the word of it for metrics.
pub(super) struct Answer {
    pub(super) body: Value,
    pub(super) outcome: &'static str,
}

/// Answers a review; the error is why it is none.
pub(super) fn answered(
    review: &[u8],
    config: &InjectConfig,
    trust_domain: &str,
) -> Result<Answer, String> {
    let review: Value =
        serde_json::from_slice(review).map_err(|error| format!("it is no JSON: {error}"))?;
    let version = review.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != "admission.k8s.io/v1" {
        return Err(format!("{version:?} is not admission.k8s.io/v1"));
    }
    let request = review.get("request").ok_or("there is no request in it")?;
    let uid = text(request, "/uid");
    let kind = ["/kind/group", "/kind/version", "/kind/kind", "/operation", "/subResource"];
    let kind = kind.map(|path| text(request, path));
    if kind != ["", "v1", "Pod", "CREATE", ""] {
        let answer = json!({ "uid": uid, "allowed": true,
            "warnings": ["banyan: the webhook is for Pods that are created, and for nothing else: correct its rules"] });
        return Ok(done(answer, "left"));
    }
    let Some(pod) = request.get("object").filter(|pod| pod.is_object()) else {
        return Err("there is no Pod in it".to_owned());
    };
    let asked = Asked { pod, namespace: text(request, "/namespace"), trust_domain };
    Ok(match judge(asked, config) {
        Verdict::Injected(operations) => {
            let patch = STANDARD.encode(Value::Array(operations).to_string());
            let answer =
                json!({ "uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch });
            done(answer, "injected")
        }
        Verdict::Complete => done(json!({ "uid": uid, "allowed": true }), "complete"),
        Verdict::Left(why) => {
            let warning = format!("banyan: this Pod gets no agent: {why}");
            done(json!({ "uid": uid, "allowed": true, "warnings": [warning] }), "left")
        }
        Verdict::Refused(why) => {
            let message = format!("banyan: this Pod can have no agent: {why}");
            let status = json!({ "code": 422, "reason": "Invalid", "message": message });
            done(json!({ "uid": uid, "allowed": false, "status": status }), "refused")
        }
    })
}

fn done(response: Value, outcome: &'static str) -> Answer {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Answer { body, outcome }
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    fn ask(review: &str) -> Result<Answer, String> {
        let text = "admin_socket = \"s\"\n[inject]\nnamespace = \"mesh\"\nimage = \"banyan:1\"\n";
        let config = Config::parse(Path::new("kubernetes.toml"), text).unwrap().inject.unwrap();
        answered(review.as_bytes(), &config, "example.org")
    }

    fn review(kind: &str, operation: &str, pod: &Value) -> String {
        json!({ "apiVersion": "admission.k8s.io/v1", "request": { "uid": "u", "namespace": "shop",
            "kind": { "group": "", "version": "v1", "kind": kind }, "operation": operation, "object": pod } })
        .to_string()
    }

    #[test]
    fn a_review_is_answered_under_its_uid() {
        let pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "app" }] } });
        let answer = ask(&review("Pod", "CREATE", &pod)).unwrap();
        assert_eq!(answer.outcome, "injected");
        assert_eq!(answer.body["response"]["uid"], "u");
        let patch = STANDARD.decode(answer.body["response"]["patch"].as_str().unwrap()).unwrap();
        assert!(serde_json::from_slice::<Value>(&patch).unwrap().is_array());
        let own = json!({ "spec": { "containers": [{ "name": "banyan-agent" }] } });
        let answer = ask(&review("Pod", "CREATE", &own)).unwrap();
        assert_eq!(
            (&answer.body["response"]["allowed"], answer.outcome),
            (&json!(false), "refused")
        );
    }

    #[test]
    fn what_is_no_pod_that_is_created_passes_and_what_is_no_review_does_not() {
        let pod = json!({ "spec": {} });
        for (kind, operation) in [("Pod", "UPDATE"), ("Secret", "CREATE")] {
            let answer = ask(&review(kind, operation, &pod)).unwrap();
            assert_eq!(
                (&answer.body["response"]["allowed"], answer.outcome),
                (&json!(true), "left")
            );
            assert!(answer.body["response"]["warnings"][0].as_str().unwrap().contains("rules"));
        }
        for none in
            ["", "{", "[]", "{\"apiVersion\":\"v2\"}", "{\"apiVersion\":\"admission.k8s.io/v1\"}"]
        {
            assert!(ask(none).is_err(), "{none}");
        }
        assert!(ask(&review("Pod", "CREATE", &Value::Null)).is_err());
    }
}
