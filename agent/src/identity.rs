//! The agent's own key and certificate: on the disk, apart from every workload's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Disk, LoosePermissions, check_private};
use trust::{Chain, TrustDomain};

use crate::key::PrivateKey;

/// State of the agent's own that cannot be used. Nothing is made anew in its place.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{} cannot be read or written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others may read the key.
    #[error(transparent)]
    Loose(#[from] LoosePermissions),
    /// A file is there and is not what was written.
    #[error("{} is damaged ({what}); restore it, or move the state directory away and join again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Where the agent's own key and chain are.
#[derive(Debug)]
pub(crate) struct IdentityFiles {
    disk: Arc<dyn Disk>,
    key: PathBuf,
    chain: PathBuf,
}

impl IdentityFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self { disk, key: state_dir.join("agent.key"), chain: state_dir.join("agent.pem") }
    }

    /// Reads the key, or makes it durable before its first use: a token whose answer was lost is tried again with it.
    pub(crate) fn key(&self) -> Result<PrivateKey, IdentityError> {
        let text = match self.disk.read(&self.key) {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.make_key(),
            Err(source) => return Err(IdentityError::Io { path: self.key.clone(), source }),
        };
        check_private(&self.key)?;
        PrivateKey::from_pem(&text).map_err(|error| IdentityError::Damaged {
            path: self.key.clone(),
            what: error.to_string(),
        })
    }

    /// Reads the chain as DER, if it is this key's and alive; one that expired is as good as none.
    pub(crate) fn chain(
        &self,
        key: &PrivateKey,
        trust_domain: &TrustDomain,
    ) -> Result<Option<Vec<Vec<u8>>>, IdentityError> {
        let text = match self.disk.read(&self.chain) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path: self.chain.clone(), source }),
        };
        let damaged =
            |what: &str| IdentityError::Damaged { path: self.chain.clone(), what: what.to_owned() };
        let blocks = pem::parse_many(&text).map_err(|error| damaged(&error.to_string()))?;
        let ders: Vec<Vec<u8>> = blocks.into_iter().map(pem::Pem::into_contents).collect();
        let chain = Chain::parse(&ders).map_err(|error| damaged(&error.to_string()))?;
        let id = chain.leaf().spiffe_id().map_err(|error| damaged(&error.to_string()))?;
        if chain.leaf().spki_hash() != key.spki() {
            return Err(damaged("it is not the certificate of agent.key"));
        }
        if id.trust_domain() != trust_domain || id.agent_name().is_none() {
            return Err(damaged("it is not that of an agent of this trust domain"));
        }
        Ok(Some(ders))
    }

    /// Makes a chain durable.
    pub(crate) fn store(&self, pem: &str) -> Result<(), IdentityError> {
        let write = self.disk.replace(&self.chain, pem.as_bytes(), 0o600);
        write.map_err(|source| IdentityError::Io { path: self.chain.clone(), source })
    }

    fn make_key(&self) -> Result<PrivateKey, IdentityError> {
        let io = |source| IdentityError::Io { path: self.key.clone(), source };
        let key = PrivateKey::generate().map_err(|error| io(io::Error::other(error)))?;
        self.disk.replace(&self.key, key.pem().as_bytes(), 0o600).map_err(io)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{NOW, Pki};
    use host::RealDisk;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;
    use trust::SpiffeId;

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(Arc::new(RealDisk), dir.path());
        let made = files.key().unwrap();
        assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(files.key().unwrap().spki(), made.spki());
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(files.key(), Err(IdentityError::Loose(_))));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(Arc::new(RealDisk), dir.path());
        files.disk.replace(&files.key, b"-----BEGIN", 0o600).unwrap();
        assert!(matches!(files.key(), Err(IdentityError::Damaged { .. })));
        assert_eq!(std::fs::read(&files.key).unwrap(), b"-----BEGIN");
    }

    #[test]
    fn a_chain_is_read_whether_it_lives_or_not_and_fits_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::new(Arc::new(RealDisk), dir.path());
        let (key, pki) = (files.key().unwrap(), Pki::new("one"));
        let domain = TrustDomain::parse("example.org").unwrap();
        assert!(files.chain(&key, &domain).unwrap().is_none());
        let id = SpiffeId::agent(&domain, "a").unwrap();
        let ders = pki.leaf(&key.request(None).unwrap(), &id, NOW, Duration::from_secs(60));
        let chain = Chain::parse(&ders).unwrap();
        files
            .store(&chain.certificates().map(trust::Certificate::pem).collect::<String>())
            .unwrap();
        assert_eq!(files.chain(&key, &domain).unwrap(), Some(ders));
        let other = PrivateKey::generate().unwrap();
        assert!(matches!(files.chain(&other, &domain), Err(IdentityError::Damaged { .. })));
    }
}
