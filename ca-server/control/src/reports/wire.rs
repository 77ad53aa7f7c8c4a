//! A report as it is stored: JSON. What a newer release adds is passed over; what it says otherwise is refused.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ledger::{Aggregates, Applied, EvidenceClass, Probe, RowKind, Standing, Tally};
use rotation::{CohortSeen, SegmentId};
use serde::{Deserialize, Serialize};
use trust::{Cover, Generation, RootId, Sequence, Timestamp};

use crate::counts::Counts;

const FORMAT: u32 = 1;

/// The report of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counted up at each writing.
    pub number: u64,
    /// Segments whose rows are in the counts, each with the generation at which it was sealed when they were read.
    pub read: BTreeMap<SegmentId, Generation>,
    /// What the rows say.
    pub counts: Counts,
    /// Whether it is the last: the replica has stopped, and its rows only end.
    pub is_last: bool,
}

/// All kinds of rows.
const KINDS: [RowKind; 5] = [
    RowKind::AgentHeld,
    RowKind::CsrOnly,
    RowKind::ChannelTrusted,
    RowKind::Own,
    RowKind::AgentIdentity,
];

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    number: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    last: bool,
    read: BTreeMap<SegmentId, u64>,
    rows: Vec<Group>,
    /// Of what one identity alone covers, by that identity: all that a release before this one knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    covered: BTreeMap<String, Vec<Group>>,
    /// Of everything else that covers somebody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    covered_by: Vec<CoveredGroup>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waived: Vec<Group>,
    /// Of the cohort of a canary. A release that knows none passes it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cohort: Option<CohortSeen>,
}

/// Rows that the same covers.
#[derive(Serialize, Deserialize)]
struct CoveredGroup {
    covers: BTreeSet<String>,
    rows: Vec<Group>,
}

/// Rows that stand alike.
#[derive(Serialize, Deserialize)]
struct Group {
    root: String,
    kind: Cow<'static, str>,
    born: u64,
    /// A sequence for each class of evidence, weakest first.
    applied: [u64; EvidenceClass::ALL.len()],
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own_trust: bool,
    /// A release that knows no waivers passes it over, and waits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    waived: bool,
    /// What is known of probes of their holders' listeners. A release that knows no probes passes it over, and asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listening: Option<Listening>,
    rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latest_secs: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Listening {
    unable: u64,
    not_probeable: u64,
}

pub(super) fn encode(report: &Report) -> Vec<u8> {
    let (mut covered, mut covered_by) = (BTreeMap::new(), Vec::new());
    for (covers, rows) in &report.counts.covered {
        let one = covers.first().and_then(Cover::one).filter(|_| covers.len() == 1);
        match one {
            Some(identity) => drop(covered.insert(identity.to_string(), groups(rows))),
            None => covered_by.push(CoveredGroup {
                covers: covers.iter().map(ToString::to_string).collect(),
                rows: groups(rows),
            }),
        }
    }
    let stored = Stored {
        format: FORMAT,
        number: report.number,
        last: report.is_last,
        read: report.read.iter().map(|(id, generation)| (id.clone(), generation.0)).collect(),
        rows: groups(&report.counts.rows),
        covered,
        covered_by,
        waived: groups(&report.counts.waived),
        cohort: report.counts.cohort,
    };
    // Texts and numbers alone: nothing in it can fail to be written.
    serde_json::to_vec(&stored).unwrap_or_default()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Report, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.format != FORMAT {
        return Err(format!("it has format {}, this release reads {FORMAT}", stored.format));
    }
    let alone = stored.covered.into_iter().map(|(id, rows)| (BTreeSet::from([id]), rows));
    let by = stored.covered_by.into_iter().map(|group| (group.covers, group.rows));
    let covered = alone.chain(by).map(|(covers, rows)| {
        let covers = covers.iter().map(|cover| Cover::parse(cover)).collect::<Result<_, _>>();
        Ok((covers.map_err(|error| error.to_string())?, aggregates(rows)?))
    });
    let counts = Counts {
        covered: covered.collect::<Result<_, String>>()?,
        rows: aggregates(stored.rows)?,
        waived: aggregates(stored.waived)?,
        cohort: stored.cohort,
    };
    let read = stored.read.into_iter().map(|(id, generation)| (id, Generation(generation)));
    Ok(Report { number: stored.number, read: read.collect(), counts, is_last: stored.last })
}

fn groups(rows: &Aggregates) -> Vec<Group> {
    let group = |(standing, tally): (&Standing, &Tally)| {
        let mut applied = [0; EvidenceClass::ALL.len()];
        for (slot, (_, sequence)) in applied.iter_mut().zip(standing.applied.levels()) {
            *slot = sequence.0;
        }
        Group {
            root: standing.root.to_string(),
            kind: kind_name(standing.kind).into(),
            born: standing.born.0,
            applied,
            own_trust: standing.own_trust,
            waived: standing.waived,
            listening: standing.listening.map(|probe| Listening {
                unable: probe.unable.0,
                not_probeable: probe.not_probeable.0,
            }),
            rows: tally.rows,
            latest_secs: tally.latest_not_after.map(Timestamp::as_secs),
        }
    };
    rows.groups().map(group).collect()
}

fn aggregates(groups: Vec<Group>) -> Result<Aggregates, String> {
    let mut rows = Aggregates::default();
    for group in groups {
        let standing = Standing {
            root: group
                .root
                .parse::<RootId>()
                .map_err(|_| format!("{:?} is no root", group.root))?,
            kind: kind(&group.kind)?,
            born: Sequence(group.born),
            applied: Applied::from_sequences(group.applied.map(Sequence)),
            own_trust: group.own_trust,
            waived: group.waived,
            listening: group.listening.map(|probe| Probe {
                unable: Sequence(probe.unable),
                not_probeable: Sequence(probe.not_probeable),
            }),
        };
        let latest_not_after = group.latest_secs.map(Timestamp::from_secs);
        rows.add(standing, Tally { rows: group.rows, latest_not_after });
    }
    Ok(rows)
}

const fn kind_name(kind: RowKind) -> &'static str {
    match kind {
        RowKind::AgentHeld => "agent-held",
        RowKind::CsrOnly => "csr-only",
        RowKind::ChannelTrusted => "channel-trusted",
        RowKind::Own => "own",
        RowKind::AgentIdentity => "agent-identity",
        // None is counted.
        RowKind::Probe => "probe",
    }
}

fn kind(name: &str) -> Result<RowKind, String> {
    let known = KINDS.into_iter().find(|kind| kind_name(*kind) == name);
    known.ok_or_else(|| format!("{name:?} is no kind of row"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written_and_another_is_refused() {
        let standing = |born: u64, own_trust: bool| Standing {
            root: RootId::of(b"root"),
            kind: RowKind::AgentHeld,
            born: Sequence(born),
            applied: Applied::from_sequences([5, 4, 3, 2, 1].map(Sequence)),
            own_trust,
            waived: own_trust,
            listening: own_trust
                .then_some(Probe { unable: Sequence(3), not_probeable: Sequence(2) }),
        };
        let tally = Tally { rows: 7, latest_not_after: Some(Timestamp::from_secs(1_800_000_000)) };
        let (mut rows, mut waived) = (Aggregates::default(), Aggregates::default());
        rows.add(standing(3, false), tally);
        rows.add(standing(4, true), Tally { rows: 1, latest_not_after: None });
        waived.add(standing(3, false), Tally { rows: 1, ..tally });
        let cover = |path: &str| Cover::parse(&format!("spiffe://example.org/{path}")).unwrap();
        let covered = [&["web"][..], &["web", "*"], &["shop/*"]].map(|covers| {
            (covers.iter().map(|path| cover(path)).collect::<BTreeSet<_>>(), rows.clone())
        });
        let cohort = Some(CohortSeen { taken: 3, silent: 1, ..CohortSeen::default() });
        let counts = Counts { covered: BTreeMap::from(covered), rows, waived, cohort };
        let read = BTreeMap::from([("ca-1-0".parse().unwrap(), Generation(9))]);
        let report = Report { number: 3, read, counts, is_last: true };
        let bytes = encode(&report);
        assert_eq!(decode(&bytes), Ok(report));
        let stored: Stored = serde_json::from_slice(&bytes).unwrap();
        let known_before: Vec<_> = stored.covered.keys().map(String::as_str).collect();
        assert_eq!(known_before, ["spiffe://example.org/web"]);
        let newer = String::from_utf8(bytes).unwrap().replace("\"format\":1", "\"format\":2");
        let said = decode(newer.as_bytes()).unwrap_err();
        assert!(said.contains("format 2"), "{said}");
        assert!(decode(b"{}").is_err());
    }
}
