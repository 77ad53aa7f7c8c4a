//! `banyan kubernetes`: what a cluster gets of a CA.

use console::exit::Failure;
use console::{output, signals};
use kubernetes::{Config, HostDeps, resources, run};
use serde_json::json;

use crate::args::{
    KubernetesAction, KubernetesCheckOptions, KubernetesCrdsOptions, KubernetesOptions,
    KubernetesRunOptions, LogFormat,
};
use crate::{config_file, logs, verbs};

/// Runs the verb.
///
/// # Errors
/// [`Failure::Configuration`] if the file is wrong, [`Failure::Failed`] if it cannot start.
pub async fn run(options: &KubernetesOptions) -> Result<(), Failure> {
    match &options.action {
        KubernetesAction::Run(options) => serve(options).await,
        KubernetesAction::Check(options) => check(options).await,
        KubernetesAction::Crds(options) => crds(options),
    }
}

fn crds(options: &KubernetesCrdsOptions) -> Result<(), Failure> {
    let manifests = resources::manifests().map_err(anyhow::Error::from)?;
    let Some(folder) = &options.to else {
        let all: Vec<_> = manifests.iter().map(|(_, manifest)| manifest.as_str()).collect();
        return output::verbatim(all.join("---\n").trim_end());
    };
    for (name, manifest) in manifests {
        let path = folder.join(name);
        std::fs::write(&path, manifest)
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    Ok(())
}

async fn serve(options: &KubernetesRunOptions) -> Result<(), Failure> {
    let file = config_file::find(options.config.as_deref(), config_file::KUBERNETES)?;
    let config = Config::read(&file).map_err(|error| Failure::Configuration(error.to_string()))?;
    let format = if config.log.json { LogFormat::Json } else { LogFormat::Text };
    let _logs = logs::start(format, &config.log.filter)?;
    tracing::info!(config = %file.display(), commit = verbs::about::COMMIT, "starting");
    let running = run::start(config, HostDeps::of_this_machine()).await;
    let running = running.map_err(|error| match error {
        wrong @ run::StartError::Cluster(_) => Failure::Configuration(wrong.to_string()),
        other @ run::StartError::Listen { .. } => Failure::Failed(other.into()),
    })?;
    signals::stop_requested().await.map_err(anyhow::Error::from)?;
    tracing::info!("stopping");
    running.shutdown().await;
    Ok(())
}

async fn check(options: &KubernetesCheckOptions) -> Result<(), Failure> {
    let file = config_file::find(options.config.as_deref(), config_file::KUBERNETES)?;
    let mut problems = Vec::new();
    match Config::read(&file) {
        Err(error) => problems.extend(error.problems().iter().cloned()),
        Ok(_) if options.offline => {}
        Ok(config) => problems.extend(run::inspect(&config).await),
    }
    if options.json {
        let valid = problems.is_empty();
        output::json(&json!({ "file": file, "valid": valid, "problems": problems }))?;
    }
    match problems.is_empty() {
        true if options.json => Ok(()),
        true => output::line(&format!("{} is valid", file.display())),
        false => {
            let listed: String =
                problems.iter().map(|problem| format!("\n  - {problem}")).collect();
            Err(Failure::Configuration(format!("{} has problems:{listed}", file.display())))
        }
    }
}
