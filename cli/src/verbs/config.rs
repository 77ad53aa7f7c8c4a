//! `banyan config check`.

use serde_json::json;

use crate::args::{ConfigAction, ConfigCheckOptions, ConfigOptions};
use crate::exit::Failure;
use crate::output;

/// Runs the verb.
///
/// # Errors
/// [`Failure::Configuration`] with every problem of the file.
pub fn run(options: &ConfigOptions) -> Result<(), Failure> {
    match &options.action {
        ConfigAction::Check(options) => check(options),
    }
}

fn check(options: &ConfigCheckOptions) -> Result<(), Failure> {
    let outcome = if options.agent {
        agent::AgentConfig::read(&options.file).map(drop).map_err(|error| error.to_string())
    } else {
        ca_server::Config::load(&options.file).map(drop).map_err(|error| error.to_string())
    };
    if options.json {
        let problems: Vec<_> = outcome.as_ref().err().map(|text| text.lines().collect()).unwrap_or_default();
        output::json(&json!({ "file": options.file, "valid": outcome.is_ok(), "problems": problems }))?;
    }
    match outcome {
        Ok(()) if options.json => Ok(()),
        Ok(()) => output::line(&format!("{} is valid", options.file.display())),
        Err(problems) => Err(Failure::Configuration(problems)),
    }
}
