//! `banyan config check`.

use std::path::Path;

use console::exit::Failure;
use console::output;
use serde_json::json;

use crate::args::{ConfigAction, ConfigCheckOptions, ConfigOptions};
use crate::config_file;

/// Runs the verb.
///
/// # Errors
/// [`Failure::Configuration`] with every problem of the file.
pub async fn run(options: &ConfigOptions) -> Result<(), Failure> {
    match &options.action {
        ConfigAction::Check(options) => check(options).await,
    }
}

async fn check(options: &ConfigCheckOptions) -> Result<(), Failure> {
    let usual = if options.agent { config_file::AGENT } else { config_file::SERVER };
    let file = config_file::find(options.file.as_deref().or(options.config.as_deref()), usual)?;
    let file = file.as_path();
    let mut outcome = if options.agent {
        check_agent(file, options.offline)
    } else {
        check_server(file, options.offline)
    };
    if outcome.is_ok() && !options.agent && !options.offline {
        outcome = check_elsewhere(file).await.and(outcome);
    }
    if options.json {
        let problems: Vec<_> =
            outcome.as_ref().err().map(|text| text.lines().collect()).unwrap_or_default();
        let notes = outcome.as_ref().ok();
        output::json(
            &json!({ "file": file, "valid": outcome.is_ok(), "problems": problems, "notes": notes }),
        )?;
    }
    match outcome {
        Ok(_) if options.json => Ok(()),
        Ok(notes) => {
            let notes: String = notes.iter().map(|note| format!("\nnote: {note}")).collect();
            output::line(&format!("{} is valid{notes}", file.display()))
        }
        Err(problems) => Err(Failure::Configuration(problems)),
    }
}

/// The file, what it says to plugins, and unless `offline` what it names on this machine. Answers with notes on what is in
/// order.
fn check_server(file: &Path, offline: bool) -> Result<Vec<String>, String> {
    let config = ca_server::Config::load(file).map_err(|error| error.to_string())?;
    let checked = if offline {
        ca_server::Server::check(&config)
    } else {
        ca_server::Server::inspect(&config)
    };
    checked.map_err(|error| error.to_string())?;
    Ok(ca_server::Server::notes(&config))
}

/// What a server would ask elsewhere: the store that servers share, and clusters whose tokens it judges.
async fn check_elsewhere(file: &Path) -> Result<(), String> {
    let config = ca_server::Config::load(file).map_err(|error| error.to_string())?;
    ca_server::Server::inspect_store(&config).await.map_err(|error| error.to_string())?;
    ca_server::Server::inspect_clusters(&config).await.map_err(|error| error.to_string())
}

/// The file, and unless `offline` what it names on this machine.
fn check_agent(file: &Path, offline: bool) -> Result<Vec<String>, String> {
    let config = agent::AgentConfig::read(file).map_err(|error| error.to_string())?;
    if !offline {
        config.inspect().map_err(|error| error.to_string())?;
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_does_not_know_is_a_problem_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("banyan.toml");
        let text = "trust_domain = \"example.org\"\ndata_dir = \"ca\"\n[keys]\npassphrase_env = \"P\"\n\
                    [authority.main]\nplugin = \"self-signed\"\n";
        std::fs::write(&file, text).unwrap();
        assert_eq!(check_server(&file, true), Ok(Vec::new()));
        std::fs::write(&file, format!("{text}colour = 1\n")).unwrap();
        let problems = check_server(&file, true).unwrap_err();
        assert!(problems.contains("authority.main.colour"), "{problems}");
    }

    #[test]
    fn an_authority_that_others_use_and_whose_roots_no_rotation_can_leave_is_worth_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("banyan.toml");
        let notes = |lines: &str| {
            let text = format!(
                "trust_domain = \"example.org\"\ndata_dir = \"ca\"\n[keys]\npassphrase_env = \"P\"\n\
                 [authority.main]\nplugin = \"manual\"\ndirectory = \"c\"\n{lines}"
            );
            std::fs::write(&file, text).unwrap();
            check_server(&file, true).unwrap()
        };
        assert_eq!(notes("exclusive = true\n"), Vec::<String>::new());
        assert_eq!(notes("exclusive = false\nforeign_leaf_max = \"24h\"\n"), Vec::<String>::new());
        let said = notes("exclusive = false\n");
        assert!(
            said[0].contains("[authority.main] is not exclusive and has no foreign_leaf_max"),
            "{said:?}"
        );
    }

    #[test]
    fn what_the_file_names_is_looked_at_unless_only_the_form_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("banyan.toml");
        let text = "trust_domain = \"example.org\"\ndata_dir = \"ca\"\n[keys]\npassphrase_file = \"gone\"\n";
        std::fs::write(&file, text).unwrap();
        assert_eq!(check_server(&file, true), Ok(Vec::new()));
        let problems = check_server(&file, false).unwrap_err();
        assert!(
            problems.contains("keys.passphrase_file") && problems.contains("gone is missing"),
            "{problems}"
        );
    }
    #[test]
    fn an_agents_file_is_looked_at_like_a_servers() {
        let folder = tempfile::tempdir().unwrap();
        let (file, at) = (folder.path().join("agent.toml"), folder.path().display());
        let text = format!(
            "trust_domain = \"example.org\"\nca_address = \"localhost:1\"\nstate_dir = \"{at}/state\"\n\
             socket = \"{at}/gone/agent.sock\"\njoin_token_file = \"{at}/token\"\n"
        );
        std::fs::write(&file, text).unwrap();
        assert_eq!(check_agent(&file, true), Ok(Vec::new()));
        let problems = check_agent(&file, false).unwrap_err();
        assert!(
            problems.contains("gone is missing") && problems.contains("token is missing"),
            "{problems}"
        );
    }
}
