//! The words of `banyan plugin`.

use clap::{Args, Subcommand};

/// Options of `plugin`.
#[derive(Debug, Args)]
pub struct PluginOptions {
    /// What to do with a plugin.
    #[command(subcommand)]
    pub action: PluginAction,
}

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginAction {
    /// Test every rule of the contract on a running plugin; exit code 1 if it breaks one
    Check(PluginCheckOptions),
}

/// Options of `plugin check`.
#[derive(Debug, Args)]
pub struct PluginCheckOptions {
    /// Where the plugin listens: unix:///absolute/path, or unix:relative/path
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: String,
    /// Trust domain that the plugin may issue for
    #[arg(long, value_name = "NAME", default_value = "example.org")]
    pub trust_domain: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
