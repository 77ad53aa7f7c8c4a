//! What the demo found, for people and for programs.

use std::path::{Path, PathBuf};

use anyhow::bail;
use console::exit::Failure;
use console::output;
use proto::banyan::admin::v1::StatusResponse;
use serde_json::json;
use trust::plain::counted;

use super::canary::CanaryStory;
use super::counts::Counts;
use super::proof::{Proof, in_words};
use super::random::Drawn;
use super::received::Received;
use super::rotation::Rotations;
use super::unable::Unable;
use crate::options::{Algorithm, DemoOptions, Fault};

/// Everything that one run of the demo shows.
#[derive(Debug)]
pub struct Outcome {
    agents: u16,
    csr_only: u16,
    replicas: u16,
    received: Received,
    envoy: bool,
    kept: bool,
    seconds: f64,
    counts: Counts,
    faults: Vec<Fault>,
    drawn: Option<Drawn>,
    connections: u64,
    wanted: u32,
    proof: Proof,
    rotations: Rotations,
    unable: Unable,
    canary: Option<CanaryStory>,
    algorithm: Option<Algorithm>,
    sequence: u64,
    issued: u64,
    journal: PathBuf,
}

/// What a run counted and proved.
#[derive(Debug)]
pub struct Ran {
    /// Agents that were started.
    pub agents: u16,
    /// How long there was traffic.
    pub seconds: f64,
    /// The last counters.
    pub counts: Counts,
    /// What was seen of the change of roots.
    pub proof: Proof,
    /// The rotations that were made.
    pub rotations: Rotations,
    /// What was drawn and came, with `--fault random`.
    pub drawn: Option<Drawn>,
    /// What came of a proxy that cannot verify the new root.
    pub unable: Unable,
    /// What came of cohorts that went first, if any did.
    pub canary: Option<CanaryStory>,
    /// Certificates that workloads received.
    pub received: Received,
}

impl Outcome {
    /// Puts the last counters, what was proven and the CA's status together.
    pub fn new(options: &DemoOptions, ran: Ran, status: &StatusResponse, journal: &Path) -> Self {
        let Ran { agents, seconds, counts, proof, rotations, drawn, unable, canary, received } =
            ran;
        Self {
            agents,
            csr_only: options.csr_only.unwrap_or_default(),
            replicas: options.replicas,
            received,
            envoy: options.envoy.is_some(),
            kept: options.keep,
            seconds,
            counts,
            faults: options.fault.clone(),
            drawn,
            connections: options.connections_after(options.rotations),
            wanted: options.rotations,
            proof,
            rotations,
            unable,
            canary,
            algorithm: options.algorithm,
            sequence: status.sequence,
            issued: status.issued_total,
            journal: journal.to_owned(),
        }
    }

    /// Whether the run kept its promise.
    ///
    /// # Errors
    /// If a connection failed, the old root is not gone, or so little happened that nothing was shown.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let Counts { handshakes, failed, .. } = self.counts;
        if failed > 0 {
            bail!("{failed} of {handshakes} connections failed");
        }
        if handshakes == 0 {
            bail!("no connection was opened, so nothing was shown");
        }
        if handshakes < self.connections {
            bail!("{handshakes} of {} connections were opened", self.connections);
        }
        if let Some(drawn) = &self.drawn {
            drawn.verdict()?;
        }
        let uncounted = self.received.uncounted();
        if uncounted > 0 {
            let total = self.received.total();
            bail!("{uncounted} of {total} certificates were in no row of any server");
        }
        if self.rotations.completed() < self.wanted {
            bail!("{} of {} rotations are over", self.rotations.completed(), self.wanted);
        }
        if !self.proof.old_root_at.is_empty() {
            bail!(
                "another root than the new one is still at {}",
                self.proof.old_root_at.join(", ")
            );
        }
        let behind = self.proof.left_behind();
        if !behind.is_empty() {
            bail!("these workloads did not change over: {}", behind.join(", "));
        }
        if let Err(why) = &self.proof.journal {
            bail!("{why}");
        }
        if let Some(why) = self.canary.as_ref().and_then(|canary| canary.wrong(self.wanted)) {
            bail!("{why}");
        }
        if let Some(why) = self.unable.wrong() {
            bail!("{why}");
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
        let roots_seen: serde_json::Map<_, _> = self
            .proof
            .roots_seen
            .iter()
            .map(|(id, seen)| {
                (id.clone(), json!(seen.iter().map(ToString::to_string).collect::<Vec<_>>()))
            })
            .collect();
        let phase_seconds: serde_json::Map<_, _> = self
            .rotations
            .phase_seconds
            .iter()
            .map(|(phase, secs)| (phase.clone(), json!(rounded(*secs))))
            .collect();
        let mut found = json!({
            "handshakes": self.counts.handshakes,
            "failed": self.counts.failed,
            "expired": self.counts.expired,
            "renewals": self.counts.renewals.iter().sum::<u64>(),
            "seconds": rounded(self.seconds),
            "agents": self.agents,
            "csr_only": self.csr_only,
            "replicas": self.replicas,
            "received": self.received.total(),
            "uncounted": self.received.uncounted(),
            "unread": self.received.unread(),
            "envoy": self.envoy,
            "pairs": self.counts.pairs,
            "renewals_per_workload_min": self.counts.renewals.iter().min(),
            "faults": self.faults.iter().map(|fault| fault.name()).collect::<Vec<_>>(),
            "rotations": self.rotations.completed(),
            "old_root": self.proof.old_root.to_string(),
            "new_root": self.proof.new_root.to_string(),
            "phase_seconds": phase_seconds,
            "old_root_gone": self.wanted > 0 && self.proof.old_root_at.is_empty(),
            "roots_seen": roots_seen,
            "rested_on": self.rotations.rested_on,
            "journal_verified": self.proof.journal.is_ok(),
            "journal_transitions": self.proof.journal.as_ref().ok(),
            "issued_since_ca_start": self.issued,
            "bundle_sequence": self.sequence,
            "failures": self.counts.samples,
            "algorithm": self.algorithm.map(|algorithm| algorithm.keys()),
            "unable_proxy": self.unable.as_json(),
            "canary": self.canary.as_ref().map(CanaryStory::as_json),
        });
        if let (Some(drawn), Some(found)) = (&self.drawn, found.as_object_mut()) {
            found.extend(drawn.as_json());
        }
        found
    }

    fn as_text(&self) -> String {
        let kind = if self.envoy { "real Envoys" } else { "workloads" };
        let mut text = format!(
            "\n{} {kind} opened {} new mTLS connections in {:.0} s over {} ordered pairs: failed {}\n\
             certificates renewed under traffic: {} (each workload at least {})\n",
            self.agents + self.csr_only,
            self.counts.handshakes,
            self.seconds,
            self.counts.pairs,
            self.counts.failed,
            self.counts.renewals.iter().sum::<u64>(),
            self.counts.renewals.iter().min().unwrap_or(&0),
        );
        if self.counts.expired > 0 {
            let count = self.counts.expired;
            text.push_str(&format!(
                "not counted, one side had no live leaf or was frozen: {count}\n"
            ));
        }
        if self.received.total() > 0 {
            let servers = counted(u32::from(self.replicas), "server", "servers");
            text.push_str(&format!(
                "certificates that workloads received: {}, in no row of {servers}: {}\n",
                self.received.total(),
                self.received.uncounted()
            ));
        }
        if self.received.unread() > 0 {
            let count = self.received.unread();
            text.push_str(&format!(
                "not looked for, over before all servers could be asked for their rows: {count}\n"
            ));
        }
        if let Some(drawn) = &self.drawn {
            text.push_str(&drawn.as_text());
        }
        for fault in self.faults.iter().filter(|_| self.drawn.is_none()) {
            text.push_str(&format!("fault under traffic: {}\n", fault.name()));
        }
        for sample in &self.counts.samples {
            text.push_str(&format!(
                "  failed: {} -> {}: {}\n",
                sample.client, sample.server, sample.error
            ));
        }
        if self.wanted > 0 {
            text.push_str(&self.rotation_text());
        }
        text.push_str(
            "next: `banyan demo --fault random --rotations 5`, `banyan demo --distrust`, `banyan demo --envoy`, or the tour in README.md\n",
        );
        text.push_str(&match self.verdict() {
            Ok(()) if self.wanted > 0 => {
                "the demo succeeded: no connection failed, and the old root is gone".to_owned()
            }
            Ok(()) => "the demo succeeded: no connection failed".to_owned(),
            Err(why) => format!("the demo failed: {why}"),
        });
        text
    }

    fn rotation_text(&self) -> String {
        let mut text = format!(
            "root replaced {} under this traffic: {} -> {}\n",
            counted(self.rotations.completed(), "time", "times"),
            self.proof.old_root.short(),
            self.proof.new_root.short()
        );
        let phases: Vec<_> = self
            .rotations
            .phase_seconds
            .iter()
            .map(|(phase, secs)| format!("{phase} {secs:.1} s"))
            .collect();
        text.push_str(&format!("time in phases: {}\n", phases.join(", ")));
        for ground in &self.rotations.rested_on {
            text.push_str(&format!("  {ground}\n"));
        }
        if let Some((id, seen)) = self.proof.roots_seen.iter().next() {
            let all = self.proof.roots_seen.len();
            text.push_str(&format!(
                "each of {all} workloads changed over, such as {id}: {}\n",
                in_words(seen)
            ));
        }
        text.push_str(&self.unable.as_text());
        text.push_str(&self.canary.as_ref().map(CanaryStory::as_text).unwrap_or_default());
        match self.proof.old_root_at.as_slice() {
            [] => text.push_str(
                "the old root is nowhere: not in a bundle, not trusted by a proxy, not under a leaf in use\n",
            ),
            places => text.push_str(&format!("another root than the new one is at: {}\n", places.join(", "))),
        }
        match &self.proof.journal {
            Ok(transitions) => {
                text.push_str(&format!("journal verified: {transitions} transitions replayed"))
            }
            Err(why) => text.push_str(why),
        }
        match self.kept {
            true => text.push_str(&format!(" ({})\n", self.journal.display())),
            false => text.push_str(" (keep it with --keep, then `banyan journal show`)\n"),
        }
        text
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
