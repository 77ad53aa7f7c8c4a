//! What the demo found, for people and for programs.

use anyhow::bail;
use proto::banyan::admin::v1::StatusResponse;
use serde_json::json;

use super::Counts;
use super::traffic::FailureSample;
use crate::args::{DemoOptions, Fault};
use crate::exit::Failure;
use crate::output;

/// Everything that one run of the demo shows.
#[derive(Debug)]
pub struct Outcome {
    agents: u16,
    envoy: bool,
    seconds: f64,
    handshakes: u64,
    failed: u64,
    pairs: usize,
    renewals: Vec<u64>,
    faults: Vec<Fault>,
    samples: Vec<FailureSample>,
    sequence: u64,
    issued: u64,
}

impl Outcome {
    /// Puts the last counters and the CA's status together.
    pub fn new(
        options: &DemoOptions,
        agents: u16,
        seconds: f64,
        counts: Counts,
        status: &StatusResponse,
    ) -> Self {
        Self {
            agents,
            envoy: options.envoy.is_some(),
            seconds,
            handshakes: counts.handshakes,
            failed: counts.failed,
            pairs: counts.pairs,
            renewals: counts.renewals,
            faults: options.fault.clone(),
            samples: counts.samples,
            sequence: status.sequence,
            issued: status.issued_total,
        }
    }

    /// Whether the run kept its promise.
    ///
    /// # Errors
    /// If a connection failed, or so little happened that nothing was shown.
    pub fn verdict(&self) -> anyhow::Result<()> {
        if self.failed > 0 {
            bail!("{} of {} connections failed", self.failed, self.handshakes);
        }
        if self.handshakes == 0 {
            bail!("no connection was opened, so nothing was shown");
        }
        Ok(())
    }

    /// Prints the outcome; with `json`, one object as the last line.
    ///
    /// # Errors
    /// [`Failure`] if standard output is closed.
    pub fn print(&self, json: bool) -> Result<(), Failure> {
        if json { output::json(&self.as_json()) } else { output::line(&self.as_text()) }
    }

    fn as_json(&self) -> serde_json::Value {
        json!({
            "handshakes": self.handshakes,
            "failed": self.failed,
            "renewals": self.renewals.iter().sum::<u64>(),
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "agents": self.agents,
            "envoy": self.envoy,
            "pairs": self.pairs,
            "renewals_per_workload_min": self.renewals.iter().min(),
            "faults": self.faults.iter().map(|fault| fault_name(*fault)).collect::<Vec<_>>(),
            "issued_since_ca_start": self.issued,
            "bundle_sequence": self.sequence,
            "failures": self.samples,
        })
    }

    fn as_text(&self) -> String {
        let kind = if self.envoy { "real Envoys" } else { "workloads" };
        let mut text = format!(
            "\n{} {kind} opened {} new mTLS connections in {:.0} s over {} ordered pairs: failed {}\n\
             certificates renewed under traffic: {} (each workload at least {})\n",
            self.agents,
            self.handshakes,
            self.seconds,
            self.pairs,
            self.failed,
            self.renewals.iter().sum::<u64>(),
            self.renewals.iter().min().unwrap_or(&0),
        );
        for fault in &self.faults {
            text.push_str(&format!("fault under traffic: {}\n", fault_name(*fault)));
        }
        for sample in &self.samples {
            text.push_str(&format!("  failed: {} -> {}: {}\n", sample.client, sample.server, sample.error));
        }
        text.push_str("next: `banyan demo --fault kill-ca`, `banyan demo --envoy`, or the tour in README.md");
        text
    }
}

const fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::KillCa => "kill-ca",
    }
}
