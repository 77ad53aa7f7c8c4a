//! Why a server did not start.

use std::io;
use std::path::PathBuf;

use host::{DirLockError, LoosePermissions};
use issuance::profile::ProfileProblem;
use issuance::request::NotADnsName;
use plugins::RegistryError;
use registry::RegistryUnreadable;
use rotation::BadName;
use rotation_driver::{StartError, SubmitError};
use trust::SpiffeIdError;

use crate::config::Problems;
use api::ListenError;
use control::clock::ClockUnreadable;
use control::own_leaf::OwnLeafError;
use control::snapshots::SnapshotError;

/// Why a server did not start. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// Settings of a plugin are wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// A plugin could not be opened.
    #[error("[{section}] {error}")]
    Plugin {
        /// The section of the configuration.
        section: String,
        /// What is wrong.
        error: RegistryError,
    },
    /// A directory or file could not be made or looked at.
    #[error("cannot use {}: {source}; check the disk and the permissions, then start again", path.display())]
    DataDir {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others can read the data directory.
    #[error(transparent)]
    Permissions(#[from] LoosePermissions),
    /// Others can read or change files in the data directory.
    #[error(
        "files in the data directory are not private, and may have been read or changed:\n  {}\nif nobody else had reason \
         to touch them, `chmod -R go= {}` closes all of them", lines(loose), directory.display()
    )]
    Loose {
        /// The data directory.
        directory: PathBuf,
        /// Each file.
        loose: Vec<LoosePermissions>,
    },
    /// It is no replica of its CA.
    #[error(transparent)]
    Join(#[from] replicas::JoinError),
    /// Another process uses the data directory.
    #[error(transparent)]
    Locked(#[from] DirLockError),
    /// There are traces of a server, but the state that they belong to is missing.
    #[error(
        "{} is missing, but {} is there: the server ran here before and lost its state; restore the latest backup of \
         the data directory, or name an empty one to start a new CA that nobody trusts yet",
        state.display(), found.display()
    )]
    StateLost {
        /// The state.
        state: PathBuf,
        /// What shows that it existed.
        found: PathBuf,
    },
    /// The same, of a state that is on other machines.
    #[error(
        "{place} holds no CA, but {} is there: the server ran here before, with its state elsewhere; check the section \
         [store], restore the latest backup, or name an empty data directory to start a new CA that nobody trusts yet",
        found.display()
    )]
    StateElsewhereLost {
        /// Where the state should be.
        place: String,
        /// What shows that it existed.
        found: PathBuf,
    },
    /// There is a state in files, and the configuration names another place.
    #[error(
        "{} holds the state of a CA, but [store] names {place}: take the section [store] out of the configuration to go on \
         with the file, or name an empty data directory",
        path.display()
    )]
    StateHere {
        /// The file.
        path: PathBuf,
        /// The other place.
        place: String,
    },
    /// A former release's record came back beside the state that was made of it.
    #[error(
        "{} and {} are both there, and are not the same: if an older release ran here after this one, move {} elsewhere and \
         start again, which takes over what the older one left; otherwise move {} elsewhere",
        former.display(), state.display(), state.display(), former.display()
    )]
    TwoStates {
        /// The record of a former release.
        former: PathBuf,
        /// The state.
        state: PathBuf,
    },
    /// What a former release left was moved away before, and came back.
    #[error(
        "{} belongs to a former release, whose files were moved away before ({}): nothing reads it any more, so move it \
         elsewhere", found.display(), away.display()
    )]
    FormerTwice {
        /// What came back.
        found: PathBuf,
        /// Where the first was moved to.
        away: PathBuf,
    },
    /// The state of a former release could not be taken over.
    #[error("the state that a former release left is not taken over: {0}")]
    Former(#[from] rotation_driver::FormerError),
    /// The file of the state could not be opened or made.
    #[error(transparent)]
    StateFile(#[from] stores_redb::OpenError),
    /// A part of a former release's state could not be taken over.
    #[error("the state that a former release left is not taken over: {0}")]
    FormerPart(#[from] control::former::FormerError),
    /// A part of the shared state could not be read.
    #[error("the CA's state cannot be read: {0}; check the store, then start again")]
    NotRead(stores::ReadError),
    /// An authority's book could not be begun.
    #[error("{0}; check the store of the CA's state, then start again")]
    Book(#[from] plugins::StateError),
    /// The state is not one to go on with.
    #[error("the CA's state in {place} cannot be used: {error}")]
    State {
        /// Where it is.
        place: String,
        /// What is wrong, and what can be done.
        error: ca_state::OwnerError,
    },
    /// The record could not be used.
    #[error("the record of roots cannot be used: {0}")]
    Driver(#[from] StartError),
    /// The record could not be changed.
    #[error("the record of roots could not be changed: {0}")]
    Submit(#[from] SubmitError),
    /// No root signs in time. What was asked for goes on at the next start.
    #[error("no root signs yet: {reason}; check the authority, then start again")]
    NoRoot {
        /// What holds it up.
        reason: String,
    },
    /// This replica has no issuer in time. What was asked for goes on at the next start.
    #[error(
        "this replica has no issuer under the root that signs: {reason}; check the authority, then start again"
    )]
    NoIssuer {
        /// What holds it up.
        reason: String,
    },
    /// The moment that a former run noted cannot be read.
    #[error(transparent)]
    Clock(#[from] ClockUnreadable),
    /// The ledger could not be opened.
    #[error(transparent)]
    Ledger(#[from] ledger::OpenError),
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryUnreadable),
    /// The registry of a former release could not be taken over.
    #[error(transparent)]
    FormerRegistry(#[from] registry::TakeOverError),
    /// The record makes nothing that requests could be served from.
    #[error("nothing can be served: {0}")]
    Snapshot(#[from] SnapshotError),
    /// The server has no leaf to serve with.
    #[error(transparent)]
    OwnLeaf(#[from] OwnLeafError),
    /// The leaf profile does not fit together.
    #[error("the section [leaf] does not fit together: {}", list(.0))]
    Profile(Vec<ProfileProblem>),
    /// A name of the configuration is too long or has odd characters.
    #[error("a name in the configuration cannot be used: {0}")]
    Name(#[from] BadName),
    /// The replica's name makes no SPIFFE id.
    #[error("the replica's name makes no SPIFFE id: {0}")]
    Id(#[from] SpiffeIdError),
    /// A name for the server's own leaf is no DNS name.
    #[error("listen.dns_names: {0}")]
    DnsName(#[from] NotADnsName),
    /// TLS refused the server's own leaf.
    #[error("TLS cannot use the server's own leaf: {0}")]
    Tls(#[from] rustls::Error),
    /// An address is taken, or nothing can be served there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A step of the start broke off.
    #[error("a step of the start broke off: {0}; this is a fault to report")]
    BrokeOff(String),
}

/// The first few, one line each.
fn lines(loose: &[LoosePermissions]) -> String {
    const SHOWN: usize = 10;
    let mut lines: Vec<_> = loose.iter().take(SHOWN).map(ToString::to_string).collect();
    if loose.len() > SHOWN {
        lines.push(format!("and {} more", loose.len() - SHOWN));
    }
    lines.join("\n  ")
}

fn list(problems: &[ProfileProblem]) -> String {
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
