//! Words that many verbs share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where the admin API is.
#[derive(Debug, Args, Clone)]
pub struct AdminTarget {
    /// Unix socket of the server's admin API
    #[arg(
        long,
        global = true,
        env = "BANYAN_ADMIN_SOCKET",
        value_name = "PATH",
        conflicts_with = "server"
    )]
    pub socket: Option<PathBuf>,
    /// Server's configuration file, to read the socket's path from
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["socket", "server"])]
    pub config: Option<PathBuf>,
    /// HOST:PORT of the server, with mTLS (needs --cert, --key and --trust-bundle)
    #[arg(long, global = true, value_name = "HOST:PORT", requires_all = ["cert", "key", "trust_bundle"])]
    pub server: Option<String>,
    /// PEM file with the certificate chain of an admin identity
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of an admin identity
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// PEM file with the roots of the trust domain
    #[arg(long, global = true, value_name = "FILE")]
    pub trust_bundle: Option<PathBuf>,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line an event
    Text,
    /// One JSON object an event
    Json,
}
