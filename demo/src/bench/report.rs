//! The benchmark's result, for people and for programs.

use anyhow::Context;
use console::output;
use serde_json::{Value, json};

use super::floor::Floor;
use super::load::Measured;
use crate::options::BenchIssueOptions;

/// Place of the row that the headline figures are of: requests in flight, token seen before.
const HEADLINE: usize = 1;

/// All that one run measured.
#[derive(Debug)]
pub struct Report {
    floor_us: f64,
    floor_without_own_verify_us: f64,
    rows: Vec<(&'static str, Measured)>,
    peak_rss_kib: u64,
    in_flight: u16,
}

impl Report {
    /// Puts the figures together.
    ///
    /// # Errors
    /// If the headline row is missing.
    pub fn new(
        floor: &Floor,
        rows: Vec<(&'static str, Measured)>,
        peak_rss_kib: u64,
        options: &BenchIssueOptions,
    ) -> anyhow::Result<Self> {
        rows.get(HEADLINE).context("the run has no headline row")?;
        Ok(Self {
            floor_us: floor.with_own_verify_us(),
            floor_without_own_verify_us: floor.without_own_verify_us(),
            rows,
            peak_rss_kib,
            in_flight: options.in_flight,
        })
    }

    /// Prints a table, or with `json` one object as the last line.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        if json { Ok(output::json(&self.as_json())?) } else { Ok(output::line(&self.as_text())?) }
    }

    fn as_json(&self) -> Value {
        let headline = self.rows.get(HEADLINE).map(|(_, measured)| measured);
        let cpu = headline.map_or(f64::NAN, |measured| measured.cpu_us_per_cert);
        let rows: Vec<_> =
            self.rows.iter().map(|(name, measured)| self.row_json(name, measured)).collect();
        json!({
            "floor_us": round(self.floor_us),
            "floor_without_own_verify_us": round(self.floor_without_own_verify_us),
            "cpu_us_per_cert": round(cpu),
            "ratio": (cpu / self.floor_us * 1_000.0).round() / 1_000.0,
            "certs_per_sec_per_core": round(1e6 / cpu),
            "certs_per_sec": headline.map(|measured| round(measured.per_second())),
            "in_flight": self.in_flight,
            "peak_rss_kib": self.peak_rss_kib,
            "rows": rows,
        })
    }

    fn row_json(&self, name: &str, measured: &Measured) -> Value {
        json!({
            "name": name,
            "in_flight": measured.in_flight,
            "certificates": measured.certificates,
            "certs_per_sec": round(measured.per_second()),
            "cpu_us_per_cert": round(measured.cpu_us_per_cert),
            "ratio": (measured.cpu_us_per_cert / self.floor_us * 1_000.0).round() / 1_000.0,
            "p50_us": measured.p50_us,
            "p99_us": measured.p99_us,
        })
    }

    fn as_text(&self) -> String {
        let mut table = output::table(&[
            "ROW",
            "IN FLIGHT",
            "CERTS/S",
            "SERVER CPU US",
            "OF FLOOR",
            "P50 US",
            "P99 US",
        ]);
        for (name, measured) in &self.rows {
            table.add_row([
                (*name).to_owned(),
                measured.in_flight.to_string(),
                format!("{:.0}", measured.per_second()),
                format!("{:.1}", measured.cpu_us_per_cert),
                format!("{:.2}", measured.cpu_us_per_cert / self.floor_us),
                measured.p50_us.to_string(),
                measured.p99_us.to_string(),
            ]);
        }
        let headline =
            self.rows.get(HEADLINE).map_or(f64::NAN, |(_, measured)| measured.cpu_us_per_cert);
        format!(
            "crypto floor per certificate, one core: {:.1} us (verify CSR + sign + verify own signature), {:.1} us without the last\n\
             {table}\n\
             server: {:.0} certificates/s per core, peak RSS {:.1} MiB\n\
             ratio to the floor: {:.2}",
            self.floor_us,
            self.floor_without_own_verify_us,
            1e6 / headline,
            self.peak_rss_kib as f64 / 1_024.0,
            headline / self.floor_us,
        )
    }
}

impl Measured {
    /// Certificates a second of wall time, clients on the same machine.
    pub fn per_second(&self) -> f64 {
        self.certificates as f64 / self.wall.as_secs_f64()
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
