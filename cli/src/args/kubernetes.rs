//! The words of `banyan kubernetes`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `kubernetes`.
#[derive(Debug, Args)]
pub struct KubernetesOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: KubernetesAction,
}

/// What can be done for a cluster.
#[derive(Debug, Subcommand)]
pub enum KubernetesAction {
    /// Run what gives a cluster its bundles and custom resources, beside a CA server
    Run(KubernetesRunOptions),
    /// Check its configuration file, the CA, the cluster, and its rights there
    Check(KubernetesCheckOptions),
    /// Print what a cluster must know of the custom resources before there can be any
    Crds(KubernetesCrdsOptions),
}

/// Options of `kubernetes crds`.
#[derive(Debug, Args)]
pub struct KubernetesCrdsOptions {
    /// Write a file for each kind into this directory, and print nothing
    #[arg(long, value_name = "DIRECTORY")]
    pub to: Option<PathBuf>,
}

/// Options of `kubernetes run`.
#[derive(Debug, Args)]
pub struct KubernetesRunOptions {
    /// Configuration file [default: ./kubernetes.toml, else /etc/banyan/kubernetes.toml]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `kubernetes check`.
#[derive(Debug, Args)]
pub struct KubernetesCheckOptions {
    /// Configuration file [default: ./kubernetes.toml, else /etc/banyan/kubernetes.toml]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the syntax only, and ask nobody
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
