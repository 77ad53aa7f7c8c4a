//! The bundles of the agent's own trust domain: judged, durable before anybody is told, never going back.
//!
//! The newest is in force; a few older ones are kept so that a holder that still has one of them can be led over their
//! union (see [`crate::install`]).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::Disk;
use proto::banyan::agent::v1 as wire;
use serde::{Deserialize, Serialize};
use trust::{Bundle, Root, RootId, Sequence, TrustDomain};

use crate::install::TrustView;

/// Bundles that are kept, the newest included. One rotation makes two changes, so this spans four of them.
const HISTORY_MAX: usize = 8;

/// What an offered bundle is, compared to what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is newer: put it in force.
    Newer(Bundle),
    /// It is the one in force.
    Same,
    /// It is older than the one in force, which stays.
    Older,
}

/// A bundle that is not to be believed; the last good one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BundleRefused {
    /// Empty, too large, broken, or its digest is wrong.
    #[error("bundle {sequence} is refused: {source}")]
    Invalid { sequence: Sequence, source: trust::BundleError },
    /// It is of another trust domain.
    #[error("the bundle is of the trust domain `{other}`, not of `{ours}`")]
    OtherTrustDomain { ours: TrustDomain, other: String },
    /// One sequence, two contents: somebody lies.
    #[error("bundle {0} came a second time with other roots")]
    Ambiguous(Sequence),
    /// The CA's bundles are counted from one.
    #[error("the bundle has no sequence")]
    NoSequence,
}

/// State on the disk that cannot be used. Nothing is made anew in its place.
#[derive(Debug, thiserror::Error)]
pub enum BundleStoreError {
    /// The file cannot be read or written.
    #[error("the bundle in {} cannot be read or written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is there and is not what was written.
    #[error(
        "the bundle in {} is damaged ({what}); restore the file, or move the state directory away and join again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// The one writer of the bundle file.
#[derive(Debug)]
pub(crate) struct BundleStore {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    trust_domain: TrustDomain,
    /// Oldest first.
    history: Vec<Bundle>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    bundles: Vec<StoredBundle>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBundle {
    sequence: u64,
    digest: String,
    roots: Vec<String>,
}

impl BundleStore {
    /// Reads what a former run left.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        state_dir: &Path,
        trust_domain: &TrustDomain,
    ) -> Result<Self, BundleStoreError> {
        let path = state_dir.join("bundle.json");
        let mut store =
            Self { disk, path, trust_domain: trust_domain.clone(), history: Vec::new() };
        match store.disk.read(&store.path) {
            Ok(bytes) => store.history = store.decode(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BundleStoreError::Io { path: store.path, source }),
        }
        Ok(store)
    }

    /// The bundle in force.
    pub(crate) fn current(&self) -> Option<&Bundle> {
        self.history.last()
    }

    /// Judges an offered bundle; changes nothing.
    pub(crate) fn judge(&self, offered: &Bundle) -> Result<Verdict, BundleRefused> {
        if offered.trust_domain() != &self.trust_domain {
            let (ours, other) = (self.trust_domain.clone(), offered.trust_domain().to_string());
            return Err(BundleRefused::OtherTrustDomain { ours, other });
        }
        let known = self.history.iter().find(|bundle| bundle.sequence() == offered.sequence());
        let other = known.is_some_and(|bundle| bundle.digest() != offered.digest());
        if other && offered.sequence() > Sequence(0) {
            return Err(BundleRefused::Ambiguous(offered.sequence()));
        }
        Ok(match self.current().map(Bundle::sequence) {
            // A file of roots, which the operator may replace as long as no CA has been met.
            Some(Sequence(0)) if offered.sequence() == Sequence(0) && other => {
                Verdict::Newer(offered.clone())
            }
            Some(current) if offered.sequence() == current => Verdict::Same,
            Some(current) if offered.sequence() < current => Verdict::Older,
            _ => Verdict::Newer(offered.clone()),
        })
    }

    /// The history with one bundle more, and the bytes to make durable before [`Self::adopt`]ing it.
    pub(crate) fn staged(&self, newer: &Bundle) -> (Vec<Bundle>, Vec<u8>) {
        let mut history = self.history.clone();
        history.retain(|bundle| bundle.sequence() != newer.sequence());
        history.push(newer.clone());
        let surplus = history.len().saturating_sub(HISTORY_MAX);
        history.drain(..surplus);
        let bytes = encode(&history);
        (history, bytes)
    }

    /// Takes over a history that is durable.
    pub(crate) fn adopt(&mut self, history: Vec<Bundle>) {
        self.history = history;
    }

    pub(crate) fn file(&self) -> (Arc<dyn Disk>, PathBuf) {
        (Arc::clone(&self.disk), self.path.clone())
    }

    /// The bundle of this sequence, if it is still kept.
    pub(crate) fn at(&self, sequence: Sequence) -> Option<&Bundle> {
        self.history.iter().find(|bundle| bundle.sequence() == sequence)
    }

    /// Every root that is at hand.
    pub(crate) fn known_roots(&self) -> BTreeSet<RootId> {
        self.history.iter().flat_map(|bundle| bundle.roots()).map(Root::id).collect()
    }

    /// PEM of these roots, sorted; roots that are not at hand are left out.
    pub(crate) fn pem(&self, roots: &BTreeSet<RootId>) -> String {
        let find = |id: &RootId| {
            let kept = self.history.iter().flat_map(|bundle| bundle.roots());
            kept.into_iter().find(|root| root.id() == *id).map(|root| root.certificate().pem())
        };
        roots.iter().filter_map(find).collect()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<Bundle>, BundleStoreError> {
        let damaged = |what: String| BundleStoreError::Damaged { path: self.path.clone(), what };
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if stored.format != 1 {
            return Err(damaged(format!("format {} is unknown", stored.format)));
        }
        let bundles: Vec<Bundle> = stored
            .bundles
            .iter()
            .map(|bundle| self.decode_one(bundle).map_err(damaged))
            .collect::<Result<_, _>>()?;
        let rising =
            bundles.iter().zip(bundles.iter().skip(1)).all(|(a, b)| a.sequence() < b.sequence());
        match rising && !bundles.is_empty() {
            true => Ok(bundles),
            false => Err(damaged("its sequences do not rise".to_owned())),
        }
    }

    fn decode_one(&self, stored: &StoredBundle) -> Result<Bundle, String> {
        let ders: Vec<Vec<u8>> = stored
            .roots
            .iter()
            .map(|text| STANDARD.decode(text).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        let sequence = Sequence(stored.sequence);
        let bundle = Bundle::from_ders(self.trust_domain.clone(), sequence, &ders)
            .map_err(|error| error.to_string())?;
        match bundle.digest().to_string() == stored.digest {
            true => Ok(bundle),
            false => Err(format!("the digest of bundle {sequence} is not that of its roots")),
        }
    }
}

/// Reads a bundle as it came over the wire, digest checked.
pub(crate) fn from_wire(
    trust_domain: &TrustDomain,
    offered: &wire::Bundle,
) -> Result<Bundle, BundleRefused> {
    if offered.trust_domain != trust_domain.as_str() {
        let other = offered.trust_domain.chars().take(64).collect();
        return Err(BundleRefused::OtherTrustDomain { ours: trust_domain.clone(), other });
    }
    let sequence = Sequence(offered.sequence);
    if sequence == Sequence(0) {
        return Err(BundleRefused::NoSequence);
    }
    let invalid = |source| BundleRefused::Invalid { sequence, source };
    let bundle =
        Bundle::from_ders(trust_domain.clone(), sequence, &offered.roots).map_err(invalid)?;
    match bundle.digest().as_bytes().as_slice() == offered.digest.as_slice() {
        true => Ok(bundle),
        false => Err(invalid(trust::BundleError::DigestMismatch)),
    }
}

/// What a validation secret with exactly this bundle holds.
pub(crate) fn view(bundle: &Bundle) -> TrustView {
    TrustView { proves: bundle.sequence(), roots: bundle.roots().iter().map(Root::id).collect() }
}

fn encode(history: &[Bundle]) -> Vec<u8> {
    let one = |bundle: &Bundle| StoredBundle {
        sequence: bundle.sequence().0,
        digest: bundle.digest().to_string(),
        roots: bundle.roots().iter().map(|root| STANDARD.encode(root.der())).collect(),
    };
    let stored = Stored { format: 1, bundles: history.iter().map(one).collect() };
    // Maps with text keys and plain numbers always have a JSON form.
    serde_json::to_vec_pretty(&stored).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Pki;
    use host::RealDisk;

    fn open(dir: &Path) -> Result<BundleStore, BundleStoreError> {
        BundleStore::open(Arc::new(RealDisk), dir, &TrustDomain::parse("example.org").unwrap())
    }

    fn put(store: &mut BundleStore, bundle: &Bundle) {
        let (history, bytes) = store.staged(bundle);
        store.disk.replace(&store.path, &bytes, 0o600).unwrap();
        store.adopt(history);
    }

    #[test]
    fn newer_is_taken_older_and_same_are_not_and_two_contents_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let (one, two) = (Pki::new("one"), Pki::new("two"));
        let first = one.bundle(3);
        assert_eq!(store.judge(&first), Ok(Verdict::Newer(first.clone())));
        put(&mut store, &first);
        assert_eq!(store.judge(&first), Ok(Verdict::Same));
        assert_eq!(store.judge(&two.bundle(2)), Ok(Verdict::Older));
        assert_eq!(store.judge(&two.bundle(3)), Err(BundleRefused::Ambiguous(Sequence(3))));
        put(&mut store, &two.bundle(4));
        assert_eq!(store.judge(&two.bundle(3)), Err(BundleRefused::Ambiguous(Sequence(3))));
        let again = open(dir.path()).unwrap();
        assert_eq!(again.current(), Some(&two.bundle(4)));
        assert_eq!(again.known_roots().len(), 2, "the roots of older bundles stay at hand");
    }

    #[test]
    fn an_empty_bundle_and_a_wrong_digest_are_refused() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let mut offered = Pki::new("one").wire_bundle(2);
        assert!(from_wire(&domain, &offered).is_ok());
        offered.digest = vec![0; 32];
        assert!(matches!(from_wire(&domain, &offered), Err(BundleRefused::Invalid { .. })));
        offered.roots.clear();
        let refused = from_wire(&domain, &offered).unwrap_err();
        assert!(refused.to_string().contains("never empty"), "{refused}");
        offered.trust_domain = "other.org".to_owned();
        assert!(matches!(
            from_wire(&domain, &offered),
            Err(BundleRefused::OtherTrustDomain { .. })
        ));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_fresh_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        put(&mut store, &Pki::new("one").bundle(1));
        let path = dir.path().join("bundle.json");
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in
            [String::new(), "{}".to_owned(), good.replace("\"sequence\": 1", "\"sequence\": \"x\"")]
        {
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(open(dir.path()), Err(BundleStoreError::Damaged { .. })), "{bad}");
        }
    }

    #[test]
    fn the_history_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let pki = Pki::new("one");
        for sequence in 1..=20 {
            put(&mut store, &pki.bundle(sequence));
        }
        assert_eq!(store.history.len(), HISTORY_MAX);
    }
}
