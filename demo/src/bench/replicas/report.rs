//! The result, for people and for programs.

use console::output;
use serde_json::{Value, json};

use super::fan_out::FanOut;
use super::gate::Gate;
use super::issuing::{Issuing, Row, Writes};
use super::moving::Failover;

/// All that one run measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) issuing: Issuing,
    pub(super) writes: Writes,
    pub(super) fan_outs: Vec<FanOut>,
    pub(super) gate: Gate,
    pub(super) failover: Failover,
}

impl Report {
    /// Prints tables, or with `json` one object as the last line.
    ///
    /// # Errors
    /// If standard output is closed.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json { Ok(output::json(&self.as_json())?) } else { Ok(output::line(&self.as_text())?) }
    }

    fn rows(&self) -> [(&'static str, &Row); 3] {
        let Issuing { alone, one_of_three, three, .. } = &self.issuing;
        [("single server", alone), ("one of three", one_of_three), ("three at once", three)]
    }

    fn as_json(&self) -> Value {
        let issuing: Vec<_> = self
            .rows()
            .iter()
            .map(|(name, row)| {
                json!({
                    "name": name,
                    "cpu_us_per_cert": tenths(row.cpu_us_per_cert),
                    "certs_per_sec": tenths(row.certs_per_sec),
                })
            })
            .collect();
        let fan_outs: Vec<_> = self
            .fan_outs
            .iter()
            .map(|fan_out| {
                json!({
                    "servers": fan_out.servers,
                    "agents": fan_out.agents,
                    "joined_per_sec": tenths(fan_out.joined_per_sec),
                    "kib_per_agent": tenths(fan_out.kib_per_agent),
                    "p50_ms": fan_out.p50.as_millis(),
                    "p99_ms": fan_out.p99.as_millis(),
                    "last_ms": fan_out.last.as_millis(),
                })
            })
            .collect();
        json!({
            "ratio": (self.issuing.ratio * 1_000.0).round() / 1_000.0,
            "rounds": self.issuing.rounds,
            "issuing": issuing,
            "store_writes_per_sec": {
                "idle": hundredths(self.writes.idle),
                "under_load": hundredths(self.writes.under_load),
                "certs_per_sec_under_load": tenths(self.writes.certs_per_sec),
            },
            "fan_out": fan_outs,
            "gate": {
                "rows": self.gate.rows,
                "p50_us": self.gate.p50.as_micros(),
                "p99_us": self.gate.p99.as_micros(),
            },
            "failover": {
                "agents": self.failover.agents,
                "p50_ms": self.failover.p50.as_millis(),
                "p99_ms": self.failover.p99.as_millis(),
            },
        })
    }

    fn as_text(&self) -> String {
        let mut issuing = output::table(&["CERTIFICATES", "CERTS/S", "SERVER CPU US"]);
        for (name, row) in self.rows() {
            issuing.add_row([
                name.to_owned(),
                format!("{:.0}", row.certs_per_sec),
                format!("{:.1}", row.cpu_us_per_cert),
            ]);
        }
        let mut fan_outs = output::table(&[
            "SERVERS", "AGENTS", "JOINED/S", "KIB EACH", "P50 MS", "P99 MS", "LAST MS",
        ]);
        for fan_out in &self.fan_outs {
            fan_outs.add_row([
                fan_out.servers.to_string(),
                fan_out.agents.to_string(),
                format!("{:.0}", fan_out.joined_per_sec),
                format!("{:.1}", fan_out.kib_per_agent),
                fan_out.p50.as_millis().to_string(),
                fan_out.p99.as_millis().to_string(),
                fan_out.last.as_millis().to_string(),
            ]);
        }
        let Self { writes, gate, failover, .. } = self;
        format!(
            "{issuing}\n\n\
             a new bundle, from the first agent that had it\n\
             {fan_outs}\n\n\
             writes to the store: {:.2} a second idle, {:.2} with {:.0} certificates a second\n\
             what a gate waits for, asked over {} rows: {} us (p50), {} us (p99)\n\
             agents whose server was killed: {}, connected elsewhere after {} ms (p50), {} ms (p99)\n\
             CPU of one of three over that of a single server, median of {} rounds: {:.3}",
            writes.idle,
            writes.under_load,
            writes.certs_per_sec,
            gate.rows,
            gate.p50.as_micros(),
            gate.p99.as_micros(),
            failover.agents,
            failover.p50.as_millis(),
            failover.p99.as_millis(),
            self.issuing.rounds,
            self.issuing.ratio,
        )
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
