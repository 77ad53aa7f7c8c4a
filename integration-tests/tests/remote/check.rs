//! `banyan plugin check` against real processes.

use anyhow::Context as _;
use serde_json::Value;

use crate::process::{Language, PluginProcess, banyan};

/// The first object among what was printed: a failure is another one, on standard error.
fn object(said: &str) -> anyhow::Result<Value> {
    let from = said.find('{').and_then(|from| said.get(from..)).context("no object")?;
    let mut objects = serde_json::Deserializer::from_str(from).into_iter();
    objects.next().context("no object")?.with_context(|| said.to_owned())
}

fn named(report: &Value, verdict: &str) -> Vec<String> {
    let rules = report["rules"].as_array().into_iter().flatten();
    let wanted = rules.filter(|rule| rule["verdict"] == verdict);
    wanted.filter_map(|rule| rule["rule"].as_str().map(str::to_owned)).collect()
}

async fn conforms(language: Language, subject: &str) -> anyhow::Result<()> {
    let plugin = PluginProcess::start(language).await?;
    // Twice: what the first run left behind is no trouble for the second.
    for _ in 0..2 {
        let (succeeded, said) =
            banyan(&["plugin", "check", "--endpoint", &plugin.endpoint(), "--json"], false).await?;
        assert!(succeeded, "{said}");
        let report = object(&said)?;
        assert_eq!(report["subject"], subject);
        assert_eq!(named(&report, "failed"), Vec::<String>::new());
        let (passed, skipped) = (named(&report, "passed"), named(&report, "skipped"));
        assert!(passed.len() >= 20 && report["passed"] == passed.len(), "{said}");
        let about_retiring =
            skipped.iter().all(|rule| rule.contains("retire") || rule.contains("cross-"));
        assert!(about_retiring, "only what the example does not claim is skipped: {skipped:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_conforms() -> anyhow::Result<()> {
    conforms(Language::Python, "remote-python-example").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_go_conforms() -> anyhow::Result<()> {
    conforms(Language::Go, "remote-go-example").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_broken_is_told_the_rules_that_it_breaks() -> anyhow::Result<()> {
    for (line, instead, rules) in [
        (
            "if not proven:",
            "if False:",
            // What it signs without looking it also remembers.
            &[
                "issuer-for-no-csr-is-denied",
                "csr-without-possession-is-denied",
                "refusals-are-not-remembered",
            ][..],
        ),
        ("if root[\"asked\"] != asked:", "if False:", &["stage-other-contents-is-denied"]),
        (
            "if roots[0][\"asked\"][0] != request.trust_domain:",
            "if False:",
            &["other-trust-domain-is-denied"],
        ),
    ] {
        let plugin = PluginProcess::start_broken(line, instead).await?;
        let endpoint = plugin.endpoint();
        let (succeeded, said) =
            banyan(&["plugin", "check", "--endpoint", &endpoint, "--json"], true).await?;
        assert!(!succeeded, "{line} was broken, and nobody minds: {said}");
        assert_eq!(named(&object(&said)?, "failed"), rules, "{said}");
        let (succeeded, said) = banyan(&["plugin", "check", "--endpoint", &endpoint], true).await?;
        assert!(!succeeded && said.contains(&format!("FAILED   {}", rules[0])), "{said}");
        assert!(said.contains("docs/plugins/conformance.md"), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_not_there_is_told_as_such() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let endpoint = format!("unix://{}", home.path().join("nobody.sock").display());
    let (succeeded, said) = banyan(&["plugin", "check", "--endpoint", &endpoint], true).await?;
    assert!(
        !succeeded && said.contains("nobody.sock") && said.contains("is the plugin running?"),
        "{said}"
    );
    Ok(())
}
