//! `banyan plugin check`: the suite that every plugin passes, over the wire.
//!
//! It makes roots and issuers at the plugin, under request ids that no other run uses.

use std::path::Path;
use std::sync::Arc;

use console::exit::Failure;
use console::output;
use host::{OsRandomness, SystemClock};
use plugin_remote::{Endpoint, RemotePlugin, handshake};
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{AuthorityDeps, AuthorityPlugin, PluginError, RootAuthority};
use plugins_conformance::authority::{Subject, run as try_rules};
use plugins_conformance::{Broken, REPORT_DIR, Report};
use serde_json::{Value, json};
use trust::TrustDomain;
use trust::randomness::random_bytes;

use crate::args::{PluginAction, PluginCheckOptions, PluginOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the plugin cannot be reached or breaks a rule.
pub async fn run(options: &PluginOptions) -> Result<(), Failure> {
    match &options.action {
        PluginAction::Check(options) => check(options).await,
    }
}

async fn check(options: &PluginCheckOptions) -> Result<(), Failure> {
    let endpoint = Endpoint::parse(&options.endpoint, Path::new("")).map_err(|error| {
        Failure::Usage(format!("--endpoint {}: {error}", options.endpoint).into())
    })?;
    let trust_domain = TrustDomain::parse(&options.trust_domain)
        .map_err(|error| Failure::Usage(format!("--trust-domain: {error}").into()))?;
    let plugin =
        handshake(&endpoint, "check", &trust_domain).await.map_err(|error| match error {
            PluginError::AuthorityDown { detail } => Failure::Unreachable(detail.into()),
            other => Failure::Failed(anyhow::anyhow!("the handshake failed: {other}")),
        })?;
    let mut settings = toml::Table::new();
    settings.insert("endpoint".to_owned(), options.endpoint.clone().into());
    settings.insert("capabilities".to_owned(), plugin.capabilities().to_vec().into());
    settings.insert("exclusive".to_owned(), plugin.describe().exclusive.into());
    let open = opener(settings, trust_domain.clone())?;
    let tag: [u8; 8] = random_bytes(&OsRandomness::default());
    let subject = Subject::new(open, trust_domain, Arc::new(SystemClock));
    let subject = subject.run_named(format!("check-{:016x}", u64::from_be_bytes(tag)));
    let report = try_rules(&subject.variant(plugin.plugin_name())).await;
    show(options, &report)?;
    leave(&report)?;
    match report.failed().as_slice() {
        [] => Ok(()),
        failed => Err(Failure::Failed(anyhow::anyhow!(
            "{} rules are broken: {}; docs/plugins/conformance.md explains each",
            failed.len(),
            failed.join(", ")
        ))),
    }
}

/// Opens the plugin anew each time, as after a restart of the caller.
fn opener(
    settings: toml::Table,
    trust_domain: TrustDomain,
) -> Result<impl Fn() -> Arc<dyn RootAuthority> + Send + Sync + 'static, Failure> {
    let deps = move || {
        let (keys, state) = (Arc::new(MemoryKeys::new()) as _, Arc::new(MemoryState::new()) as _);
        let (clock, randomness) =
            (Arc::new(SystemClock) as _, Arc::new(OsRandomness::default()) as _);
        AuthorityDeps::new(trust_domain.clone(), keys, state, clock, randomness).named("check")
    };
    let open = move || RemotePlugin.open(&settings, deps());
    let first = open().map_err(|problems| {
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Failure::Usage(told.join("; ").into())
    })?;
    Ok(move || open().unwrap_or_else(|_| Arc::clone(&first)))
}

/// Leaves the report in the directory that the environment names, as tests do.
fn leave(report: &Report) -> Result<(), Failure> {
    let Some(directory) = std::env::var_os(REPORT_DIR).filter(|value| !value.is_empty()) else {
        return Ok(());
    };
    let left = report.export(Path::new(&directory));
    left.map(drop).map_err(|error| Failure::Failed(anyhow::anyhow!("{REPORT_DIR}: {error}")))
}

fn show(options: &PluginCheckOptions, report: &Report) -> Result<(), Failure> {
    if !options.json {
        return output::line(report.to_string().trim_end());
    }
    let rule = |(name, verdict): (&str, &Result<(), Broken>)| -> Value {
        match verdict {
            Ok(()) => json!({ "rule": name, "verdict": "passed" }),
            Err(Broken::Failed(why)) => json!({ "rule": name, "verdict": "failed", "why": why }),
            Err(Broken::Skipped(why)) => json!({ "rule": name, "verdict": "skipped", "why": why }),
        }
    };
    output::json(&json!({
        "subject": report.subject(),
        "passed": report.passed().len(),
        "failed": report.failed().len(),
        "skipped": report.skipped().len(),
        "rules": report.verdicts().map(rule).collect::<Vec<_>>(),
    }))
}
