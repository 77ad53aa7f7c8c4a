//! The words of `banyan issue`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Options of `issue`.
#[derive(Debug, Args)]
#[command(
    override_usage = "banyan issue [OPTIONS] --server <HOST:PORT> --trust-bundle <FILE>\n                    --token <FILE> --out <DIR>"
)]
pub struct IssueOptions {
    /// HOST:PORT of the CA's gRPC port; its certificate must name HOST
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// PEM file with the roots of the trust domain, such as `banyan root list --pem` prints
    #[arg(long, value_name = "FILE")]
    pub trust_bundle: PathBuf,
    /// File with a JWT that the CA takes, such as a service account's; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub token: PathBuf,
    /// SPIFFE id that the certificate must have; without it the CA takes the token's
    #[arg(long, value_name = "SPIFFE_ID")]
    pub identity: Option<String>,
    /// How long the certificate shall live [default: leaf.ttl_default of the CA]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub ttl: Option<Duration>,
    /// Directory for key.pem, cert-chain.pem and root-cert.pem, each readable by its owner only; none is overwritten
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
