//! `banyan simulate`: what a rotation would come to.

mod live;
mod text;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ca_server::Config;
use console::exit::{Failure, Told};
use console::output;
use planner::{BadQuestion, Mesh, PlanError, Question, Share, Sketch};

use crate::args::SimulateOptions;

/// Size of a root's certificate in bytes where none is at hand: a self-signed one of P-256 as `plugin = "self-signed"` makes it.
const ROOT_BYTES: usize = 450;
/// When pilot-agent and ztunnel renew, unless they are told otherwise: at half of a leaf's life.
const CSR_RENEWS_AT: Share = Share::percent(50);

/// Runs the verb.
///
/// # Errors
/// [`Failure::Usage`] and [`Failure::Configuration`] if the question makes no sense, [`Failure::Failed`] (exit code 1) if the
/// rotation would not end, or not in time, after that was printed; others if a live server is away, refuses or is unhealthy.
pub async fn run(options: &SimulateOptions) -> Result<(), Failure> {
    let config = policy(options.policy.as_deref())?;
    let mut question = question(options, &config);
    if options.from_live {
        live::look(&options.target, &mut question, options).await?;
    }
    let found = matches!(question.mesh, Mesh::Found(_));
    // The plan has a runtime of its own, whose time jumps.
    let planned = tokio::task::spawn_blocking(move || planner::plan(&question)).await;
    let forecast = planned
        .context("the plan broke off, which is a fault to report")?
        .map_err(|error| refused(error, found))?;
    if let Some(file) = &options.svg {
        let drawn = planner::svg::draw(&forecast);
        std::fs::write(file, drawn)
            .with_context(|| format!("cannot write the plot to {}", file.display()))?;
    }
    match options.json {
        true => output::json(&forecast)?,
        false => output::line(&text::of(&forecast))?,
    }
    match (forecast.answer.finishes, forecast.answer.before_root_ends) {
        (true, None | Some(true)) => Ok(()),
        (true, Some(false)) => Err(Failure::Failed(anyhow::anyhow!(
            "the rotation would not end in time: begin it earlier"
        ))),
        (false, _) => Err(Failure::Failed(anyhow::anyhow!(
            "the rotation would not end by itself: {}",
            forecast.answer.waits_for.join("; ")
        ))),
    }
}

/// The policy: of a file, or what it is without one. A file may be a whole configuration, or have the sections alone that a plan
/// asks for.
fn policy(file: Option<&Path>) -> Result<Config, Failure> {
    let wrong = |what: String| match file {
        Some(file) => Failure::Configuration(format!("--policy {}: {what}", file.display())),
        None => Failure::Configuration(what),
    };
    let text = match file {
        Some(file) => std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?,
        None => String::new(),
    };
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(format!("this is not TOML: {error}")))?;
    // What a server needs and a plan does not ask for.
    for (name, value) in [("trust_domain", "plan.example"), ("data_dir", ".")] {
        table.entry(name).or_insert_with(|| toml::Value::from(value));
    }
    let keys = toml::Table::from_iter([("passphrase_env".to_owned(), "BANYAN_PLAN".into())]);
    table.entry("keys").or_insert_with(|| keys.into());
    let directory = file.and_then(Path::parent).unwrap_or(Path::new(""));
    Config::parse(&table.to_string(), directory).map_err(|error| wrong(error.to_string()))
}

fn question(options: &SimulateOptions, config: &Config) -> Question {
    let mut policy = ca_server::machine_policy(config);
    let leaf_ttl = options.leaf_ttl.unwrap_or(config.leaf().ttl_default());
    if options.leaf_ttl.is_some() {
        policy = ca_server::machine_policy_for(config, leaf_ttl);
    }
    let root_left = options.root_left.or_else(|| {
        let age = config.rotation().max_root_age()?;
        Some(config.root().lifetime().saturating_sub(age))
    });
    let sketch = Sketch {
        agents: options.agents.unwrap_or_default(),
        proxies: options.proxies,
        csr_only: options.csr_only,
        offline: options.offline,
        back_after: options.back_after,
    };
    Question {
        mesh: Mesh::Sketched(sketch),
        policy,
        leaf_ttl,
        budget: options.budget.unwrap_or(config.rotation().reissue_per_second()),
        agent_evidence: config.rotation().agent_evidence(),
        root_left: root_left.filter(|left| *left > Duration::ZERO),
        root_bytes: ROOT_BYTES,
        csr_renews_at: CSR_RENEWS_AT,
        seed: options.seed,
    }
}

/// A question that makes no sense, by the option that it came from.
fn refused(error: PlanError, found: bool) -> Failure {
    let PlanError::Question(bad) = &error else { return Failure::Failed(error.into()) };
    let option = match bad {
        BadQuestion::Nobody if found => "--from-live",
        BadQuestion::Nobody => "--agents",
        BadQuestion::TooMany(_) if found => "--from-live",
        BadQuestion::TooMany(_) => "--agents and --proxies",
        BadQuestion::NoBudget => "--budget",
        BadQuestion::TooShort { .. } | BadQuestion::TooLong { .. } => "--leaf-ttl",
        BadQuestion::RootOver { .. } => "--root-left",
    };
    Failure::Usage(Told::new(format!("{option}: {bad}")))
}
