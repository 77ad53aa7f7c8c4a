//! Every bundle of the recent past, with the signed change to it: the way back for whoever was away.
//!
//! They are in the shared state, each made once: a server that is to publish one that another has published finds it there, and
//! takes it. What is asked for at once comes from memory, which is filled at the start and kept by [`BundleHistory::follow`].
//!
//! A convenience, not authority: what cannot be read is left out with a warning, and only shortens the way.

mod form;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::{KeyPair, SigningKey as _};
use stores::settle::{self, Created};
use stores::spaces::BUNDLES;
use stores::{Look, ReadError, SharedStore, WriteError};
use trust::transition::{Statement, Transition};
use trust::{Bundle, BundleDigest, Sequence, Timestamp, TrustDomain};

pub(crate) use self::form::Form;
pub use self::form::Kept;
use crate::stored;

/// Bundles that are kept. A rotation makes two.
pub const BUNDLES_MAX: usize = 64;

/// Wait for a store that does not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// The bundles that are kept. Clones are the same.
#[derive(Clone, Debug)]
pub struct BundleHistory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn SharedStore>,
    domain: TrustDomain,
    kept: RwLock<BTreeMap<Sequence, Kept>>,
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

impl BundleHistory {
    /// Reads what was kept.
    ///
    /// # Errors
    /// When the store cannot be read; a value that cannot is left out.
    pub async fn open(
        store: Arc<dyn SharedStore>,
        domain: &TrustDomain,
    ) -> Result<Self, ReadError> {
        let (domain, kept) = (domain.clone(), RwLock::default());
        let history = Self(Arc::new(Inner { store, domain, kept }));
        history.read_all().await?;
        Ok(history)
    }

    /// Keeps up with what other servers publish, until it is dropped.
    pub async fn follow(self) {
        loop {
            if let Err(error) = self.followed().await {
                tracing::warn!(%error, "bundles that other servers publish are not seen; tried again");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn followed(&self) -> Result<(), ReadError> {
        let mut hints = self.0.store.watch(BUNDLES).await?;
        self.read_all().await?;
        loop {
            match hints.next().await {
                Look::Everywhere => self.read_all().await?,
                Look::At(ids) => {
                    for id in ids {
                        self.read_one(&id).await?;
                    }
                }
            }
        }
    }

    async fn read_all(&self) -> Result<(), ReadError> {
        for entry in settle::all(self.0.store.as_ref(), BUNDLES).await? {
            self.take(&entry.id, &entry.value);
        }
        Ok(())
    }

    async fn read_one(&self, id: &str) -> Result<(), ReadError> {
        let found = self.0.store.get(&stored::key(BUNDLES, id)?).await?;
        if let Some(found) = found {
            self.take(id, &found.value);
        }
        Ok(())
    }

    /// Takes what was read into memory; what cannot be read is left out.
    fn take(&self, id: &str, value: &[u8]) {
        match self.decoded(id, value) {
            Ok(kept) => self.remember(kept),
            Err(error) => tracing::warn!(
                %error,
                "a bundle of the past cannot be read: whoever was away since then needs a new join token"
            ),
        }
    }

    fn decoded(&self, id: &str, value: &[u8]) -> Result<Kept, ReadError> {
        let key = stored::key(BUNDLES, id)?;
        let odd = |reason| ReadError::Unreadable { key: key.to_string(), reason };
        let kept = stored::decoded::<Form>(&key, value)?.kept(&self.0.domain).map_err(odd)?;
        match id == self::id(kept.bundle.sequence()) {
            true => Ok(kept),
            false => Err(odd("it is of another sequence".to_owned())),
        }
    }

    fn remember(&self, kept: Kept) {
        let mut all = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(kept.bundle.sequence(), kept);
        while all.len() > BUNDLES_MAX {
            all.pop_first();
        }
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

    /// Whether this bundle is kept, by whichever server.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, sequence: Sequence) -> Result<bool, ReadError> {
        if !self.has(sequence) {
            self.read_one(&id(sequence)).await?;
        }
        Ok(self.has(sequence))
    }

    /// Keeps a bundle: in the store first. Where another server kept it before, theirs is taken. The oldest are forgotten.
    ///
    /// # Errors
    /// [`NotKept`]; nothing is kept then.
    pub async fn keep(&self, kept: Kept) -> Result<(), NotKept> {
        let store = self.0.store.as_ref();
        let id = id(kept.bundle.sequence());
        let key = stored::key(BUNDLES, &id)?;
        let value = stored::encoded(&key, &Form::from(&kept))?;
        let kept = match settle::create(store, &key, &value).await? {
            Created::Done(_) => kept,
            Created::There(there) => {
                let theirs = self.decoded(&id, &there.value)?;
                if theirs.bundle.digest() != kept.bundle.digest() {
                    return Err(NotKept::Another { key: key.to_string() });
                }
                theirs
            }
        };
        self.remember(kept);
        self.forget_the_oldest().await;
        Ok(())
    }

    /// One that stays is forgotten after the next.
    async fn forget_the_oldest(&self) {
        let store = self.0.store.as_ref();
        let Ok(page) = store.list(BUNDLES, None, BUNDLES_MAX * 2).await else { return };
        let more = page.entries.len().saturating_sub(BUNDLES_MAX);
        for old in page.entries.into_iter().take(more) {
            let Ok(key) = stored::key(BUNDLES, &old.id) else { continue };
            // Another server may forget it at the same moment.
            let _ = settle::delete(store, &key, &old.version).await;
        }
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
}

/// Why a bundle is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// The store could not be read, or holds something odd.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another bundle has this number.
    #[error(
        "{key} holds another bundle with this number, so the record was restored from an older state than the bundles: see \
         `banyan state show`"
    )]
    Another {
        /// The key.
        key: String,
    },
}

/// The key's id: numbers in their order.
pub(crate) fn id(sequence: Sequence) -> String {
    format!("{:020}", sequence.0)
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose};
    use stores::fake::{FakeStore, Fault};

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

    async fn open(store: &FakeStore) -> BundleHistory {
        let domain = TrustDomain::parse("example.org").unwrap();
        BundleHistory::open(Arc::new(store.clone()), &domain).await.unwrap()
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
        let store = FakeStore::new();
        let history = open(&store).await;
        let all = line(1..=3);
        for kept in all.clone() {
            history.keep(kept).await.unwrap();
        }
        let history = open(&store).await;
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
        let store = FakeStore::new();
        let history = open(&store).await;
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
        let store = FakeStore::new();
        let history = open(&store).await;
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
    async fn a_value_that_was_edited_breaks_the_way_and_nothing_else() {
        let store = FakeStore::new();
        let all = line(1..=3);
        let history = open(&store).await;
        for kept in all.clone() {
            history.keep(kept).await.unwrap();
        }
        let key = stored::key(BUNDLES, &id(Sequence(2))).unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        let third = stored::key(BUNDLES, &id(Sequence(3))).unwrap();
        // Another bundle, whole, is as wrong in this place as a value that was cut short.
        let moved = store.get(&third).await.unwrap().unwrap().value;
        let mut version = there.version;
        for edited in [moved, there.value[..there.value.len() - 3].to_vec()] {
            version = store.put(&key, &edited, &version).await.unwrap();
            let history = open(&store).await;
            assert!(history.way_from(&all[0].bundle.digest(), ALL).is_none());
            assert!(history.way_from(&all[2].bundle.digest(), ALL).is_some());
            let said = history.keep(all[1].clone()).await.unwrap_err().to_string();
            assert!(said.contains("bundles/00000000000000000002"), "{said}");
        }
    }

    #[tokio::test]
    async fn what_could_not_be_stored_is_not_kept_and_an_unknown_outcome_is_settled() {
        let store = FakeStore::new();
        let history = open(&store).await;
        store.fail_next_write(Fault::Failed);
        assert!(history.keep(kept(1, None)).await.is_err());
        assert!(!history.has(Sequence(1)));
        for (sequence, fault) in [(1, Fault::UnknownStored), (2, Fault::UnknownNotStored)] {
            store.fail_next_write(fault);
            history.keep(kept(sequence, None)).await.unwrap();
            assert!(open(&store).await.has(Sequence(sequence)), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn of_two_servers_one_publishes_and_the_other_takes_what_is_there() {
        let store = FakeStore::new();
        let (ours, theirs) = (open(&store).await, open(&store).await);
        let first = kept(1, None);
        theirs.keep(first.clone()).await.unwrap();
        assert!(!ours.has(Sequence(1)) && ours.find(Sequence(1)).await.unwrap());
        let second = kept(2, Some(&first));
        theirs.keep(second.clone()).await.unwrap();
        let transition = second
            .transition
            .clone()
            .map(|transition| Transition { signature: vec![9], ..transition });
        ours.keep(Kept { transition, ..second.clone() }).await.unwrap();
        let signature = |history: &BundleHistory| {
            history.get(Sequence(2)).unwrap().transition.unwrap().signature
        };
        assert_eq!(signature(&ours), signature(&theirs), "one signature for one change");
        let said = ours.keep(kept(2, Some(&first))).await.unwrap_err().to_string();
        assert!(said.contains("another bundle with this number"), "{said}");
    }

    #[tokio::test]
    async fn what_another_server_publishes_is_followed() {
        let store = FakeStore::new();
        let (ours, theirs) = (open(&store).await, open(&store).await);
        let followed = tokio::spawn(ours.clone().follow());
        for kept in line(1..=3) {
            let sequence = kept.bundle.sequence();
            theirs.keep(kept).await.unwrap();
            while !ours.has(sequence) {
                tokio::task::yield_now().await;
            }
        }
        followed.abort();
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten() {
        let store = FakeStore::new();
        let history = open(&store).await;
        let most = BUNDLES_MAX as u64;
        for kept in line(1..=most + 1) {
            history.keep(kept).await.unwrap();
        }
        assert!(
            !history.has(Sequence(1))
                && history.has(Sequence(2))
                && history.has(Sequence(most + 1))
        );
        assert_eq!(settle::all(&store, BUNDLES).await.unwrap().len(), BUNDLES_MAX);
    }
}
