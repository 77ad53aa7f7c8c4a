//! Every bundle of the recent past, with the signed change to it: the way back for whoever was away.
//!
//! A convenience, not authority: what cannot be read is left out with a warning, and only shortens the way.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::Disk;
use rcgen::{KeyPair, SigningKey as _};
use serde::{Deserialize, Serialize};
use trust::transition::{Statement, Transition};
use trust::{Bundle, BundleDigest, Sequence, Timestamp, TrustDomain};

/// Bundles that are kept. A rotation makes two.
pub const BUNDLES_MAX: usize = 64;

const FILE_MODE: u32 = 0o600;

/// The bundles that are kept. Clones are the same.
#[derive(Clone, Debug)]
pub struct BundleHistory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    kept: RwLock<BTreeMap<Sequence, Kept>>,
}

/// One bundle, and the signed change to it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The bundle.
    pub bundle: Bundle,
    /// `None` for the first that is known.
    pub transition: Option<Transition>,
}

impl Kept {
    /// About the bytes that it takes in an answer.
    fn bytes(&self) -> usize {
        let roots: usize = self.bundle.roots().iter().map(|root| root.der().len()).sum();
        let transition = self.transition.as_ref().map_or(0, |transition| {
            let chain: usize = transition.chain.iter().map(Vec::len).sum();
            transition.statement.len() + transition.signature.len() + chain
        });
        roots + transition
    }
}

/// A part of the way from a bundle of the past towards the present one.
#[derive(Clone, Debug)]
pub struct Way {
    /// The bundle that it begins at.
    pub from: Bundle,
    /// Each bundle after it, with the signed change to it.
    pub changes: Vec<(Bundle, Transition)>,
    /// The last of them is not the present one.
    pub more: bool,
}

/// The key of the server's own leaf, as far as it signs changes of the bundle.
#[derive(Debug, Default)]
pub struct TransitionSigner(RwLock<Option<SigningLeaf>>);

#[derive(Debug)]
struct SigningLeaf {
    chain: Vec<Vec<u8>>,
    key: KeyPair,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    sequence: u64,
    roots: Vec<String>,
    // Files have the first name of this field.
    #[serde(rename = "vouch")]
    transition: Option<TransitionForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransitionForm {
    statement: String,
    signature: String,
    chain: Vec<String>,
}

impl BundleHistory {
    /// Reads what was kept.
    ///
    /// # Errors
    /// When the directory cannot be read; a file that cannot is left out.
    pub fn open(directory: PathBuf, disk: Arc<dyn Disk>, domain: &TrustDomain) -> io::Result<Self> {
        let mut kept = BTreeMap::new();
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            match read(disk.as_ref(), &path, domain) {
                Ok(found) => _ = kept.insert(found.bundle.sequence(), found),
                Err(reason) => tracing::warn!(
                    file = %path.display(), reason,
                    "a bundle of the past cannot be read: whoever was away since then needs a new join token"
                ),
            }
        }
        Ok(Self(Arc::new(Inner { directory, disk, kept: RwLock::new(kept) })))
    }

    /// Whether this bundle is kept.
    pub fn has(&self, sequence: Sequence) -> bool {
        self.get(sequence).is_some()
    }

    /// A bundle that is kept.
    pub fn get(&self, sequence: Sequence) -> Option<Kept> {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner).get(&sequence).cloned()
    }

    /// The newest that is kept of those before a sequence.
    pub fn before(&self, sequence: Sequence) -> Option<Kept> {
        let all = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        all.range(..sequence).next_back().map(|(_, kept)| kept.clone())
    }

    /// Keeps a bundle: on the disk first. The oldest are forgotten.
    ///
    /// # Errors
    /// As the disk says; nothing is kept then.
    pub async fn keep(&self, kept: Kept) -> io::Result<()> {
        let bytes = serde_json::to_vec(&Form::from(&kept)).map_err(io::Error::other)?;
        let sequence = kept.bundle.sequence();
        let (disk, path) = (Arc::clone(&self.0.disk), self.path(sequence));
        let stored =
            tokio::task::spawn_blocking(move || disk.replace(&path, &bytes, FILE_MODE)).await;
        stored.map_err(io::Error::other)??;
        let forgotten = {
            let mut all = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
            all.insert(sequence, kept);
            if all.len() > BUNDLES_MAX { all.pop_first() } else { None }
        };
        if let Some((old, _)) = forgotten {
            let (disk, path) = (Arc::clone(&self.0.disk), self.path(old));
            // A file that stays is read and forgotten again.
            let _ = tokio::task::spawn_blocking(move || disk.remove(&path)).await;
        }
        Ok(())
    }

    /// The bundle with this digest, and the changes since, oldest first, until they have `bytes`; `None` if there is no
    /// unbroken way from it to the present one.
    pub fn way_from(&self, digest: &BundleDigest, bytes: usize) -> Option<Way> {
        let all = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (start, from) = all.iter().rev().find(|(_, kept)| kept.bundle.digest() == *digest)?;
        let mut before = from.bundle.digest();
        let mut way = Way { from: from.bundle.clone(), changes: Vec::new(), more: false };
        let mut taken = 0;
        for (_, kept) in all.range(start.next()..) {
            // Sequences may jump, where a restored record went on above what it had lost; statements may not.
            let transition = kept
                .transition
                .as_ref()
                .filter(|transition| transition.begins_with() == Some(before))?;
            before = kept.bundle.digest();
            way.more |= !way.changes.is_empty() && taken + kept.bytes() > bytes;
            if !way.more {
                taken += kept.bytes();
                way.changes.push((kept.bundle.clone(), transition.clone()));
            }
        }
        Some(way)
    }

    fn path(&self, sequence: Sequence) -> PathBuf {
        self.0.directory.join(format!("{:010}.json", sequence.0))
    }
}

impl TransitionSigner {
    /// Signs with the key of this leaf from now on.
    pub fn set(&self, chain: Vec<Vec<u8>>, key: KeyPair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(SigningLeaf { chain, key });
    }

    /// Signs a change; `None` while the server has no leaf of its own, or one that the former bundle does not trust.
    pub fn sign(&self, before: &Bundle, after: &Bundle, at: Timestamp) -> Option<Transition> {
        let signing_leaf = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let SigningLeaf { chain, key } = signing_leaf.as_ref()?;
        let statement = Statement::between(before, after, at).encode();
        let signature = key.sign(&statement).ok()?;
        let transition = Transition { statement, signature, chain: chain.clone() };
        // Judged as whoever comes back will judge it.
        transition.verify(before, after).is_ok().then_some(transition)
    }
}

fn read(disk: &dyn Disk, path: &Path, domain: &TrustDomain) -> Result<Kept, String> {
    let bytes = disk.read(path).map_err(|error| error.to_string())?;
    let form: Form = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let ders = decoded(&form.roots)?;
    let bundle = Bundle::from_ders(domain.clone(), Sequence(form.sequence), &ders);
    let bundle = bundle.map_err(|error| error.to_string())?;
    let transition = form.transition.map(|transition| {
        Ok::<_, String>(Transition {
            statement: bytes_of(&transition.statement)?,
            signature: bytes_of(&transition.signature)?,
            chain: decoded(&transition.chain)?,
        })
    });
    Ok(Kept { bundle, transition: transition.transpose()? })
}

fn decoded(texts: &[String]) -> Result<Vec<Vec<u8>>, String> {
    texts.iter().map(|text| bytes_of(text)).collect()
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| error.to_string())
}

impl From<&Kept> for Form {
    fn from(kept: &Kept) -> Self {
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let transition = kept.transition.as_ref().map(|transition| TransitionForm {
            statement: text(&transition.statement),
            signature: text(&transition.signature),
            chain: transition.chain.iter().map(|der| text(der)).collect(),
        });
        let roots = kept.bundle.roots().iter().map(|root| text(root.der())).collect();
        Self { sequence: kept.bundle.sequence().0, roots, transition }
    }
}

#[cfg(test)]
mod tests {
    use host::{Fault, FaultDisk, How, Operation, RealDisk};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose};

    use super::*;

    const ALL: usize = usize::MAX;

    fn root(name: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn kept(sequence: u64, before: Option<&Kept>) -> Kept {
        let domain = TrustDomain::parse("example.org").unwrap();
        let bundle =
            Bundle::from_ders(domain, Sequence(sequence), &[root(&format!("root {sequence}"))])
                .unwrap();
        let transition = before.map(|before| Transition {
            statement: Statement::between(&before.bundle, &bundle, Timestamp::from_secs(1))
                .encode(),
            signature: vec![2],
            chain: vec![vec![3]],
        });
        Kept { bundle, transition }
    }

    #[test]
    fn a_kept_bundle_is_written_with_the_names_of_the_first_release() {
        let first = kept(1, None);
        let written = serde_json::to_value(Form::from(&kept(2, Some(&first)))).unwrap();
        let names = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&written), ["roots", "sequence", "vouch"]);
        assert_eq!(names(&written["vouch"]), ["chain", "signature", "statement"]);
        let read: Form = serde_json::from_value(written).unwrap();
        assert_eq!(read.sequence, 2);
    }

    /// Bundles with these sequences, the change to each signed.
    fn line(sequences: impl IntoIterator<Item = u64>) -> Vec<Kept> {
        sequences.into_iter().fold(Vec::new(), |mut line, sequence| {
            let next = kept(sequence, line.last());
            line.push(next);
            line
        })
    }

    #[tokio::test]
    async fn a_way_leads_from_every_bundle_that_is_kept_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let open =
            || BundleHistory::open(dir.path().to_owned(), Arc::new(RealDisk), &domain).unwrap();
        let history = open();
        let all = line(1..=3);
        for kept in all.clone() {
            history.keep(kept).await.unwrap();
        }
        let history = open();
        let way = history.way_from(&all[0].bundle.digest(), ALL).unwrap();
        assert_eq!((way.from.sequence(), way.changes.len(), way.more), (Sequence(1), 2, false));
        assert_eq!(way.changes[1].0, all[2].bundle);
        assert_eq!(history.way_from(&all[2].bundle.digest(), ALL).unwrap().changes.len(), 0);
        assert!(
            history.way_from(&kept(9, None).bundle.digest(), ALL).is_none(),
            "never published here"
        );
    }

    #[tokio::test]
    async fn a_long_way_comes_in_parts_each_of_which_leads_on_and_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let history =
            BundleHistory::open(dir.path().to_owned(), Arc::new(RealDisk), &domain).unwrap();
        let all = line(1..=60);
        for kept in all.clone() {
            history.keep(kept).await.unwrap();
        }
        let (mut at, mut parts) = (all[0].bundle.clone(), 0);
        loop {
            let way = history.way_from(&at.digest(), 5_000).unwrap();
            let bytes: usize =
                way.changes.iter().map(|(bundle, _)| bundle.roots()[0].der().len()).sum();
            assert!(bytes <= 5_000, "{bytes}");
            assert_eq!(way.from, at);
            at = way.changes.last().unwrap().0.clone();
            parts += 1;
            if !way.more {
                break;
            }
        }
        assert_eq!(at, all[59].bundle);
        assert!((3..60).contains(&parts), "{parts}");
        // One change that is larger than a part is a part.
        let way = history.way_from(&all[0].bundle.digest(), 1).unwrap();
        assert_eq!((way.changes.len(), way.more), (1, true));
    }

    #[tokio::test]
    async fn a_way_leads_over_numbers_that_a_restored_record_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let history =
            BundleHistory::open(dir.path().to_owned(), Arc::new(RealDisk), &domain).unwrap();
        let all = line([3, 7, 8]);
        for kept in all.clone() {
            history.keep(kept).await.unwrap();
        }
        let way = history.way_from(&all[0].bundle.digest(), ALL).unwrap();
        assert_eq!((way.from.sequence(), way.changes.len()), (Sequence(3), 2));
        assert_eq!(
            history.before(Sequence(7)).map(|kept| kept.bundle.sequence()),
            Some(Sequence(3))
        );
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_breaks_the_way_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let open =
            || BundleHistory::open(dir.path().to_owned(), Arc::new(RealDisk), &domain).unwrap();
        let all = line(1..=3);
        let history = open();
        for kept in all.clone() {
            history.keep(kept).await.unwrap();
        }
        std::fs::write(dir.path().join("0000000002.json"), b"{").unwrap();
        let history = open();
        assert!(history.way_from(&all[0].bundle.digest(), ALL).is_none());
        assert!(history.way_from(&all[2].bundle.digest(), ALL).is_some());
    }

    #[tokio::test]
    async fn what_could_not_be_stored_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultDisk::new(Arc::new(RealDisk)));
        let domain = TrustDomain::parse("example.org").unwrap();
        let history = BundleHistory::open(dir.path().to_owned(), disk.clone(), &domain).unwrap();
        disk.plan(Fault::next(Operation::Replace, How::NotStored));
        assert!(history.keep(kept(1, None)).await.is_err());
        assert!(!history.has(Sequence(1)));
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        let history =
            BundleHistory::open(dir.path().to_owned(), Arc::new(RealDisk), &domain).unwrap();
        let most = BUNDLES_MAX as u64;
        for kept in line(1..=most + 1) {
            history.keep(kept).await.unwrap();
        }
        assert!(
            !history.has(Sequence(1))
                && history.has(Sequence(2))
                && history.has(Sequence(most + 1))
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), BUNDLES_MAX);
    }
}
