//! Section `[rotation]`: how one root takes the place of another.

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::probing::ProbePolicy;
use control::rehearsing::RehearsalPolicy;
use control::schedule::Schedule;
use ledger::EvidenceClass;
use plugins::ConfigProblem;
use rotation::Mode;
use trust::Cohort;
use trust::plain::span;

use super::leaf::LeafConfig;
use super::reader::Section;
use super::schedule;

/// Section `[rotation]`.
#[derive(Debug, Clone)]
pub struct RotationConfig {
    mode: Mode,
    settle: Duration,
    withdrawal_max: Duration,
    reissue_per_second: u64,
    agent_evidence: EvidenceClass,
    max_root_age: Option<Duration>,
    alarm_after: Duration,
    retry_aborted_after: Duration,
    return_within: Duration,
    follow_authority: bool,
    own_trust_after: Option<Duration>,
    probe: ProbePolicy,
    rehearse: RehearsalPolicy,
    openssl: Option<PathBuf>,
    cross_sign: bool,
    schedule: Schedule,
    canary: Option<Cohort>,
    canary_observe: Duration,
    canary_limit: u8,
}

impl RotationConfig {
    /// Who lets a new root sign once the trust gate is open: `"auto"` (default), the server itself, or `"manual"`, an
    /// operator with `banyan rotate activate`.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Longest handshake in flight: how long a gate's conditions must hold before it opens. Default `30s`, `1s` to `1h`.
    pub const fn settle(&self) -> Duration {
        self.settle
    }

    /// How long a rotation waits, at its end, for those who still trust the root that left the bundle. Default `1h`,
    /// `1s` to `90d`.
    pub const fn withdrawal_max(&self) -> Duration {
        self.withdrawal_max
    }

    /// Leaves that agents are asked to renew early, per second. Default 50, 1 to 100,000.
    pub const fn reissue_per_second(&self) -> u64 {
        self.reissue_per_second
    }

    /// Evidence that the trust gate asks for leaves behind agents; whoever cannot give it is waited for until the leaf's end.
    /// `"applied"` (default) or `"sent"`, which takes an agent's word that it passed a bundle on to a holder that
    /// acknowledges nothing.
    pub const fn agent_evidence(&self) -> EvidenceClass {
        self.agent_evidence
    }

    /// Age at which the signing root is replaced without being asked. Default none; `1h` to `36500d`, less than
    /// `root.lifetime`.
    pub const fn max_root_age(&self) -> Option<Duration> {
        self.max_root_age
    }

    /// How long after a rotation for the root's age was given up none is asked for again by itself. An operator may start
    /// one at any time. Default `24h`, `1m` to `365d`.
    pub const fn retry_aborted_after(&self) -> Duration {
        self.retry_aborted_after
    }

    /// How long a phase may last before `status` calls it a condition. Default `36h`, `1m` to `90d`.
    pub const fn alarm_after(&self) -> Duration {
        self.alarm_after
    }

    /// How long after the end of its certificate an agent may still come back with its registered key alone. Default
    /// `30d`, `0s` to `3650d`.
    pub const fn return_within(&self) -> Duration {
        self.return_within
    }

    /// Time after which a holder that takes its leaf from an agent and no validation secret is *assumed* to trust a new bundle,
    /// counted from when the bundle is in force. Default none: only a relying party's word that covers it opens the gate; `1m`
    /// to `90d`.
    pub const fn own_trust_after(&self) -> Option<Duration> {
        self.own_trust_after
    }

    /// When the trust gate asks that proxies with a listener in their agent's configuration were seen to verify the root that shall
    /// sign: `"new-algorithms"` (default), where its key or an issuer's is of another algorithm than before; `"always"`; `"never"`.
    pub const fn probe(&self) -> ProbePolicy {
        self.probe
    }

    /// Who judges the handshakes that are rehearsed before a new root is published: `"available"` (default), rustls and OpenSSL
    /// where this host has it; `"both"`, which publishes nothing without OpenSSL; `"rustls"` alone; `"never"`.
    pub const fn rehearse(&self) -> RehearsalPolicy {
        self.rehearse
    }

    /// The program `openssl`, an absolute path. Default: the first one of the search path.
    pub fn openssl(&self) -> Option<&Path> {
        self.openssl.as_deref()
    }

    /// Whether the authority of the old root signs the new one too, where it can, and that certificate goes out behind the chains
    /// of new leaves while the old root drains: whoever trusts the old root alone accepts them. Default false.
    pub const fn cross_sign(&self) -> bool {
        self.cross_sign
    }

    /// Section `[rotation.schedule]`: when rotations that nobody asks for may begin.
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// For whom a new root signs first, where nobody says otherwise: a share of all workloads such as `"5%"`, SPIFFE ids that may
    /// end in `/*`, or several with a comma between them. Default none: for everybody at once.
    pub const fn canary(&self) -> Option<&Cohort> {
        self.canary.as_ref()
    }

    /// How long the cohort of a canary must be seen to be well before the new root signs for everybody. Default `1h`, `1s` to
    /// `90d`.
    pub const fn canary_observe(&self) -> Duration {
        self.canary_observe
    }

    /// Above how many percent of what a cohort does going wrong holds a canary. Default 1, 0 to 100.
    pub const fn canary_limit(&self) -> u8 {
        self.canary_limit
    }

    /// Whether a rotation begins by itself when the authority of the signing root names another one that signs, as a file
    /// that was replaced or a PKI engine whose root was rotated. Default true; false leaves it to an operator.
    pub const fn follow_authority(&self) -> bool {
        self.follow_authority
    }
}

pub(super) fn rotation(
    table: &toml::Table,
    root_lifetime: Option<Duration>,
    leaf: Option<&LeafConfig>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<RotationConfig> {
    let mut section = Section::open("rotation", table, problems);
    let mode =
        section.choice("mode", Mode::Auto, &[("auto", Mode::Auto), ("manual", Mode::Manual)]);
    let settle = section.duration("settle", "30s", ["1s", "1h"]);
    let withdrawal_max = section.duration("withdrawal_max", "1h", ["1s", "90d"]);
    let reissue_per_second = section.count("reissue_per_second", 50, 1..=100_000);
    let classes = [("applied", EvidenceClass::Applied), ("sent", EvidenceClass::Sent)];
    let agent_evidence = section.choice("agent_evidence", EvidenceClass::Applied, &classes);
    let probes = [
        ("new-algorithms", ProbePolicy::NewAlgorithms),
        ("always", ProbePolicy::Always),
        ("never", ProbePolicy::Never),
    ];
    let probe = section.choice("probe", ProbePolicy::NewAlgorithms, &probes);
    let rehearsals = [
        ("available", RehearsalPolicy::Available),
        ("both", RehearsalPolicy::Both),
        ("rustls", RehearsalPolicy::First),
        ("never", RehearsalPolicy::Never),
    ];
    let rehearse = section.choice("rehearse", RehearsalPolicy::Available, &rehearsals);
    let openssl: Option<PathBuf> = section.optional("openssl", "an absolute path");
    if openssl.as_ref().is_some_and(|path| !path.is_absolute()) {
        section
            .problem("openssl", "is not an absolute path; write one, such as \"/usr/bin/openssl\"");
    }
    let cross_sign = section.optional("cross_sign", "true or false").unwrap_or(false);
    let alarm_after = section.duration("alarm_after", "36h", ["1m", "90d"]);
    let retry_aborted_after = section.duration("retry_aborted_after", "24h", ["1m", "365d"]);
    let return_within = section.duration("return_within", "30d", ["0s", "3650d"]);
    let follow_authority = section.optional("follow_authority", "true or false").unwrap_or(true);
    let canary: Option<String> =
        section.optional("canary", "a share of all workloads such as \"5%\"");
    let canary = match canary.map(|text| text.parse::<Cohort>()).transpose() {
        Ok(canary) => Some(canary),
        Err(error) => {
            section.problem("canary", format_args!("names no cohort: {error}"));
            None
        }
    };
    let canary_observe = section.duration("canary_observe", "1h", ["1s", "90d"]);
    let canary_limit = section.count("canary_limit", 1, 0..=100);
    let max_root_age = match table.contains_key("max_root_age") {
        true => section.duration("max_root_age", "1825d", ["1h", "36500d"]).map(Some),
        false => {
            // Known, though absent.
            let _: Option<String> = section.optional("max_root_age", "a duration");
            Some(None)
        }
    };
    let own_trust_after = match table.contains_key("own_trust_after") {
        true => section.duration("own_trust_after", "24h", ["1m", "90d"]).map(Some),
        false => {
            // Known, though absent.
            let _: Option<String> = section.optional("own_trust_after", "a duration");
            Some(None)
        }
    };
    if let (Some(Some(age)), Some(lifetime)) = (max_root_age, root_lifetime)
        && age >= lifetime
    {
        let bound = span(lifetime);
        section.problem(
            "max_root_age",
            format_args!("is not less than root.lifetime; write less than {bound}"),
        );
    }
    if let (Some(Some(age)), Some(leaf)) = (max_root_age, leaf)
        && age < leaf.ttl_max() * 4
    {
        let least = span(leaf.ttl_max() * 4);
        section.problem(
            "max_root_age",
            format_args!("is shorter than four times leaf.ttl_max; write at least {least}"),
        );
    }
    let scheduled = section.table("schedule");
    section.close();
    let schedule = schedule::schedule(&scheduled, table.contains_key("schedule"), leaf, problems);
    Some(RotationConfig {
        mode: mode?,
        settle: settle?,
        withdrawal_max: withdrawal_max?,
        reissue_per_second: reissue_per_second?,
        agent_evidence: agent_evidence?,
        max_root_age: max_root_age?,
        alarm_after: alarm_after?,
        retry_aborted_after: retry_aborted_after?,
        return_within: return_within?,
        follow_authority,
        own_trust_after: own_trust_after?,
        probe: probe?,
        rehearse: rehearse?,
        openssl,
        cross_sign,
        schedule: schedule?,
        canary: canary?,
        canary_observe: canary_observe?,
        canary_limit: u8::try_from(canary_limit?).unwrap_or(u8::MAX),
    })
}
