//! The bytes of the stored record: a format version and a checksum before the state.
//!
//! ```text
//! 8 bytes "BANYANST" · u32 format version · u32 CRC-32 of version and state · the state as JSON      (integers big-endian)
//! ```
//! A record that cannot be read is an error that says what to do. It is never taken for a missing one: a trust
//! domain that seems to have no root would get a second one.

use trust::{Generation, TrustDomain};

use crate::invariants::{self, Violation};
use crate::{Distributing, Effect, Mode, Phase, RootEntry, State};

/// The newest version. [`decode`] reads it and every former one; [`encode`] writes the first one that can say all of the
/// state, from [`FORMAT_LEAST`] on, so that a former release goes on reading what it wrote for as long as it can.
///
/// 1 knew the bootstrap and the steady state; 2 adds the phases of a rotation, 3 what agents hold that the record never
/// published, and a checksum that covers the version too; 4 further roots; 5 what belongs to replicas: owners of issuers, and
/// whose clock a settle time is counted on; 6 standby roots on their way in or out, and distrusted roots that are trusted; 7 a trust
/// gate that asks for probes; 8 a rotation with a canary. Each is otherwise the same as the one before.
pub const FORMAT: u32 = 8;
/// The first version that knows probes.
const FORMAT_OF_PROBES: u32 = 7;
/// The first version that knows standby roots, and distrust.
const FORMAT_OF_DISTRUST: u32 = 6;
/// The first version that knows what belongs to replicas.
const FORMAT_OF_REPLICAS: u32 = 5;
/// The least version that is written.
pub const FORMAT_LEAST: u32 = 4;
/// The first version there was.
const FORMAT_FIRST: u32 = 1;
/// The first version whose checksum covers the version.
const FORMAT_COVERED: u32 = 3;

const MAGIC: [u8; 8] = *b"BANYANST";

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release.
    #[error(
        "the record has format {found}, this release reads up to {FORMAT}: start the release that wrote it, or a newer one"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// Not a record, or damaged.
    #[error(
        "the record is damaged ({what}): stop, keep the file, and restore the latest backup of the data directory"
    )]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// The record reads well and says what cannot be.
    #[error(
        "the record is not sound ({violation}): stop, keep the file, and restore the latest backup of the data directory"
    )]
    Unsound {
        /// What cannot be.
        violation: Violation,
    },
    /// Of another trust domain.
    #[error("the record is of trust domain {}, configured is {}: correct trust_domain or data_dir in the configuration", found.as_str(), configured.as_str())]
    OtherTrustDomain {
        /// Its trust domain.
        found: TrustDomain,
        /// The configured one.
        configured: TrustDomain,
    },
    /// The store keeps it under another generation than it says itself.
    #[error(
        "the record says generation {inside}, the store says {outside}: stop, keep the file, and restore the latest backup of the data directory"
    )]
    OtherGeneration {
        /// What the record says.
        inside: Generation,
        /// What the store says.
        outside: Generation,
    },
    /// The state has no form in bytes.
    #[error("the state cannot be written: {0}")]
    Unwritable(serde_json::Error),
}

/// Writes a state.
///
/// # Errors
/// [`RecordError::Unwritable`], which no state of this crate leads to.
pub fn encode(state: &State) -> Result<Vec<u8>, RecordError> {
    let body = serde_json::to_vec(state).map_err(RecordError::Unwritable)?;
    let mut record = Vec::with_capacity(body.len() + 16);
    record.extend_from_slice(&MAGIC);
    let format = format_of(state);
    record.extend_from_slice(&format.to_be_bytes());
    record.extend_from_slice(&checksum_of(format, &body).to_be_bytes());
    record.extend_from_slice(&body);
    Ok(record)
}

/// Reads a state back, and checks that it is sound.
///
/// # Errors
/// A [`RecordError`] that says what to do. Whoever holds a former state goes on serving it meanwhile.
pub fn decode(record: &[u8]) -> Result<State, RecordError> {
    let damaged = |what: &str| RecordError::Damaged { what: what.to_owned() };
    let (magic, rest) = record.split_first_chunk().ok_or_else(|| damaged("too short"))?;
    if *magic != MAGIC {
        return Err(damaged("it does not start as a record"));
    }
    let (format, rest) = rest.split_first_chunk().ok_or_else(|| damaged("too short"))?;
    let format = u32::from_be_bytes(*format);
    if format > FORMAT {
        return Err(RecordError::Newer { found: format });
    }
    if format < FORMAT_FIRST {
        return Err(damaged("its format never existed"));
    }
    let (checksum, body) = rest.split_first_chunk().ok_or_else(|| damaged("too short"))?;
    if checksum_of(format, body) != u32::from_be_bytes(*checksum) {
        return Err(damaged("its checksum is wrong"));
    }
    let state: State = serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
    invariants::check(&state).map_err(|violation| RecordError::Unsound { violation })?;
    Ok(state)
}

/// The version that says all of this state: whoever reads the record must know it.
pub fn format_of(state: &State) -> u32 {
    let owned = |entry: &RootEntry| {
        let issuers = entry.issuers.values().any(|issuer| issuer.replica.is_some());
        issuers
            || !entry.signers.is_empty()
            || !entry.renewals.is_empty()
            || !entry.renewals_cancelled.is_empty()
    };
    let of_replicas = |effect: &Effect| {
        effect.replica().is_some() || matches!(effect, Effect::SwitchSigner { issuer: None, .. })
    };
    let observed = match &state.phase {
        Phase::Distributing(phase) => phase.observer.is_some(),
        Phase::Canary(phase) => phase.observer.is_some(),
        Phase::Draining(phase) => phase.observer.is_some(),
        Phase::Uninitialised
        | Phase::Bootstrapping(_)
        | Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Withdrawing(_) => false,
    };
    let speaks_of_replicas = observed
        || state.roots.values().any(owned)
        || state.pending.iter().any(|pending| of_replicas(&pending.effect));
    // A former release would let the new root sign for everybody at once, also when it goes forward again after a rollback.
    if state.phase.rotation().is_some_and(|rotation| rotation.canary.is_some())
        || state.phase.canary().is_some()
    {
        return FORMAT;
    }
    // A former release would open the gate although a proxy cannot verify the new root. When the gate is passed, all is as it was.
    let probes = |phase: &Distributing| {
        state.roots.get(&phase.to).is_some_and(|entry| entry.probed_until.is_some())
    };
    if matches!(&state.phase, Phase::Distributing(phase) if probes(phase)) {
        return FORMAT_OF_PROBES;
    }
    // A former release would roll back to a distrusted root, and let a standby root sign. One that has left is to it as well one
    // that never comes back.
    let prepares = state.phase.rotation().is_some_and(|rotation| rotation.mode == Mode::Standby);
    if prepares || state.roots.values().any(RootEntry::is_distrusted) {
        return FORMAT_OF_DISTRUST;
    }
    if speaks_of_replicas { FORMAT_OF_REPLICAS } else { FORMAT_LEAST }
}

fn checksum_of(format: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if format >= FORMAT_COVERED {
        hasher.update(&format.to_be_bytes());
    }
    hasher.update(body);
    hasher.finalize()
}
