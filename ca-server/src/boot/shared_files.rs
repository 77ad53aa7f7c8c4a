//! Key files that all servers of the CA share: the keys of roots, sealed with a passphrase that every server has.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use plugin_key_file::{Files, OpenError};
use stores::marked::{mark, unmark};
use stores::settle::{self, Created};
use stores::spaces::ROOT_KEYS;
use stores::{Key, ReadError, SharedStore, Versioned, WriteError};
use tokio::runtime::Handle;

/// Files of one set of keys in the shared state. Its calls block, and must come from a thread that may.
#[derive(Debug)]
pub(super) struct SharedFiles {
    store: Arc<dyn SharedStore>,
    /// Whose keys they are; no other set has it.
    scope: String,
    runtime: Handle,
}

/// The scope of the keys that authorities without a key backend of their own make.
pub(super) const COMMON: &str = "keys";

/// The scope of the keys of one authority with key files of its own.
pub(super) fn scope_of(authority: &str) -> String {
    format!("authority.{authority}")
}

/// The place of a file.
pub(super) fn place(scope: &str, name: &str) -> Result<Key, ReadError> {
    let key = ROOT_KEYS.key(format!("{scope}/{name}"));
    key.map_err(|error| ReadError::Failed { reason: error.to_string() })
}

impl SharedFiles {
    /// Files in a store; the runtime of whoever makes them asks it.
    pub(super) fn new(store: Arc<dyn SharedStore>, scope: String) -> Self {
        Self { store, scope, runtime: Handle::current() }
    }

    fn failed(&self, name: Option<&str>, error: ReadError) -> OpenError {
        let path = self.shown(name);
        match error {
            ReadError::Unreadable { reason, .. } => OpenError::Damaged { path, detail: reason },
            ReadError::Failed { reason } => {
                OpenError::Io { operation: "read", path, source: io::Error::other(reason) }
            }
        }
    }

    fn found(&self, name: &str) -> Result<Option<(Key, Versioned)>, ReadError> {
        let key = place(&self.scope, name)?;
        let found = self.runtime.block_on(self.store.get(&key))?;
        Ok(found.map(|found| (key, found)))
    }
}

impl Files for SharedFiles {
    fn shown(&self, name: Option<&str>) -> PathBuf {
        let all = PathBuf::from(ROOT_KEYS.name()).join(&self.scope);
        name.map_or_else(|| all.clone(), |name| all.join(name))
    }

    fn open(&self) -> Result<(), OpenError> {
        // Who may read it, the store's own rules say.
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, OpenError> {
        let listed = self.runtime.block_on(settle::all(self.store.as_ref(), ROOT_KEYS));
        let listed = listed.map_err(|error| self.failed(None, error))?;
        let own = |id: &str| Some(id.strip_prefix(&self.scope)?.strip_prefix('/')?.to_owned());
        Ok(listed.iter().filter_map(|entry| own(&entry.id)).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let found = self.found(name).map_err(|error| self.failed(Some(name), error))?;
        let Some((key, found)) = found else { return Ok(None) };
        let contents =
            unmark(&key, &found.value).map_err(|error| self.failed(Some(name), error))?;
        Ok(Some(contents.to_vec()))
    }

    fn create(&self, name: &str, contents: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let key = place(&self.scope, name).map_err(io::Error::other)?;
        let value = mark(&key, contents);
        let created = self.runtime.block_on(settle::create(self.store.as_ref(), &key, &value));
        match created.map_err(io::Error::other)? {
            Created::Done(_) => Ok(None),
            Created::There(there) => {
                let theirs = unmark(&key, &there.value).map_err(io::Error::other)?;
                Ok(Some(theirs.to_vec()))
            }
        }
    }

    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let found = self.found(name).map_err(io::Error::other)?;
        let (key, found) = found.ok_or_else(|| io::Error::other("it is gone"))?;
        let value = mark(&key, contents);
        let written = self.runtime.block_on(settle::put(
            self.store.as_ref(),
            &key,
            &value,
            Some(&found.version),
        ));
        match written {
            Ok(_) => Ok(()),
            Err(error @ WriteError::Conflict { .. }) => {
                Err(io::Error::other(format!("{error}; another server changed it: retry")))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn are_shared(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use host::RealDisk;
    use plugin_key_file::{FileKeysPlugin, KdfCost, Passphrase, Rewrapped, Rewrapping};
    use plugins::{KeyBackend, KeyError, KeySpec, RequestId};
    use stores::fake::{FakeStore, Fault};
    use trust::SeededRandomness;

    use super::*;

    /// The shared keys as a server with this directory opens them.
    async fn opened(
        store: &FakeStore,
        directory: &Path,
        passphrase: &str,
    ) -> Result<Arc<dyn KeyBackend>, String> {
        use std::os::unix::fs::PermissionsExt as _;
        let file = directory.join("passphrase");
        std::fs::write(&file, passphrase).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let files = Arc::new(SharedFiles::new(Arc::new(store.clone()), COMMON.to_owned()));
        let seed = passphrase.len() as u64;
        let plugin = FileKeysPlugin {
            directory: directory.join("keys"),
            cost: KdfCost::LEAST,
            disk: Arc::new(RealDisk),
            randomness: Arc::new(SeededRandomness::new(seed)),
        };
        let mut settings = toml::Table::new();
        settings.insert("passphrase_file".to_owned(), file.to_string_lossy().into_owned().into());
        let opened = tokio::task::spawn_blocking(move || plugin.open_in(files, &settings)).await;
        opened.unwrap().map_err(|problems| problems[0].to_string())
    }

    fn request(text: &str) -> RequestId {
        RequestId::parse(text).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_that_one_server_made_is_every_servers_and_no_id_has_two() {
        let (store, dir) = (FakeStore::new(), tempfile::tempdir().unwrap());
        let one = opened(&store, dir.path(), "correct horse").await.unwrap();
        let two = opened(&store, dir.path(), "correct horse").await.unwrap();
        for fault in [None, Some(Fault::UnknownStored), Some(Fault::UnknownNotStored)] {
            fault.into_iter().for_each(|fault| store.fail_next_write(fault));
            let id = request(&format!("root-{fault:?}").to_lowercase().replace(['(', ')'], "-"));
            let made = one.generate(&id, KeySpec::P256).await.unwrap();
            assert_eq!(two.generate(&id, KeySpec::P256).await.unwrap(), made);
            assert_eq!(two.public(&made.id).await.unwrap(), made.public);
            assert!(two.list().await.unwrap().contains(&made));
        }
        let both = request("both");
        let (left, right) =
            tokio::join!(one.generate(&both, KeySpec::P256), two.generate(&both, KeySpec::P256));
        assert_eq!(left.unwrap(), right.unwrap());
        let made = one.generate(&request("gone"), KeySpec::P256).await.unwrap();
        two.destroy(&made.id).await.unwrap();
        let algorithm = KeySpec::P256.algorithm();
        let signed = one.sign(&made.id, b"m", algorithm).await;
        assert!(matches!(signed, Err(KeyError::NotFound { .. })), "{signed:?}");
        assert!(one.generate(&request("gone"), KeySpec::P256).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_passphrase_is_told_and_an_edited_key_is_refused_by_name() {
        let (store, dir) = (FakeStore::new(), tempfile::tempdir().unwrap());
        let one = opened(&store, dir.path(), "correct horse").await.unwrap();
        let made = one.generate(&request("root"), KeySpec::P256).await.unwrap();
        let said = opened(&store, dir.path(), "another horse").await.unwrap_err();
        assert!(said.contains("passphrase") && said.contains("root-keys"), "{said}");
        let key = place(COMMON, &format!("{}.key", made.id)).unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        let edited = String::from_utf8(there.value).unwrap().replace("p256", "p384");
        store.put(&key, edited.as_bytes(), &there.version).await.unwrap();
        let said = one.sign(&made.id, b"m", KeySpec::P256.algorithm()).await.unwrap_err();
        assert!(said.to_string().contains(made.id.as_str()), "{said}");
        let said = opened(&store, dir.path(), "correct horse").await.unwrap_err();
        assert!(said.contains(made.id.as_str()) && said.contains("backup"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_whose_passphrase_another_changed_uses_and_makes_no_key_and_says_what_to_do() {
        let (store, dir) = (FakeStore::new(), tempfile::tempdir().unwrap());
        let one = opened(&store, dir.path(), "correct horse").await.unwrap();
        let made = one.generate(&request("root-1"), KeySpec::P256).await.unwrap();
        let files = SharedFiles::new(Arc::new(store.clone()), COMMON.to_owned());
        let rewrapped = tokio::task::spawn_blocking(move || {
            let former = Passphrase::new(b"correct horse").unwrap();
            let new = Passphrase::new(b"battery staple").unwrap();
            let (cost, randomness) = (KdfCost::LEAST, SeededRandomness::new(3));
            let randomness = &randomness;
            Rewrapping { files: &files, former: &former, new: &new, cost, randomness }.run()
        });
        let done = rewrapped.await.unwrap().unwrap();
        assert_eq!(done, Some(Rewrapped { moved: 1, already: 0 }));
        let algorithm = KeySpec::P256.algorithm();
        let told = [
            one.sign(&made.id, b"m", algorithm).await.unwrap_err().to_string(),
            one.generate(&request("root-2"), KeySpec::P256).await.unwrap_err().to_string(),
            one.destroy(&made.id).await.unwrap_err().to_string(),
            format!("{:?}", one.check().await),
        ];
        for told in told {
            assert!(told.contains("restart the server with the new passphrase"), "{told}");
        }
        let two = opened(&store, dir.path(), "battery staple").await.unwrap();
        assert_eq!(two.public(&made.id).await.unwrap(), made.public);
    }
}
