//! From one passphrase to another, key by key.
//!
//! The header first names both passphrases; then each key file is replaced by one that is sealed under the new one; when all are,
//! the header names the new one alone. Each step is one atomic write, so that after a crash anywhere every key opens with one of
//! the two passphrases, and doing it again with the same two goes on. A store that is on its way opens with neither: no server
//! adds keys to it meanwhile. Giving the two the other way round goes back.

use std::io;
use std::path::PathBuf;

use plugins::KeyId;
use thiserror::Error;
use trust::Randomness;

use crate::files::Files;
use crate::format::{FormatError, HEADER, Header, KeyFile, Lock, Stored};
use crate::open_error::OpenError;
use crate::passphrase::Passphrase;
use crate::sealed::{KdfCost, SealError, StoreKey};
use crate::shelf::{key_ids, name_of};

/// What a store is to be rewrapped with.
#[derive(Debug)]
pub struct Rewrapping<'a> {
    /// The store.
    pub files: &'a dyn Files,
    /// The passphrase that its keys are under.
    pub former: &'a Passphrase,
    /// The one that they are to be under.
    pub new: &'a Passphrase,
    /// What a guess of the new one shall cost.
    pub cost: KdfCost,
    /// Salt and nonces.
    pub randomness: &'a dyn Randomness,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Keys that were sealed anew.
    pub moved: usize,
    /// Keys that were under the new passphrase before.
    pub already: usize,
}

/// Why not all keys of a store are under the new passphrase.
#[derive(Debug, Error)]
pub enum RewrapError {
    /// The store cannot be read. Nothing was changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The former passphrase is not the one that the keys are under. Nothing was changed.
    #[error("it does not open the key store {}", directory.display())]
    WrongFormer {
        /// The store.
        directory: PathBuf,
    },
    /// The keys are on the way to another passphrase than the new one. Nothing was changed.
    #[error(
        "the key store {} is on its way to another passphrase than that: give the one of the attempt that was not finished, or go \
         back by giving that one as the former and the former as the new one", directory.display()
    )]
    OtherNew {
        /// The store.
        directory: PathBuf,
    },
    /// A file could not be written. Every key opens with one of the two passphrases.
    #[error("cannot write {}: {source}; every key still opens with one of the two passphrases: run this again with the same two", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
}

/// Whether keys were on the way from one passphrase to another and did not all arrive.
///
/// # Errors
/// [`OpenError`] when the header cannot be read.
pub fn is_unfinished(files: &dyn Files) -> Result<bool, OpenError> {
    let Some(header) = files.read(HEADER)? else { return Ok(false) };
    match Header::parse(&header) {
        Ok(header) => Ok(header.next().is_some()),
        Err(error) => {
            Err(OpenError::Damaged { path: files.shown(Some(HEADER)), detail: error.to_string() })
        }
    }
}

impl Rewrapping<'_> {
    /// Puts every key under the new passphrase; `None` where there is no store. Blocks for some tenths of a second.
    ///
    /// # Errors
    /// [`RewrapError`], which says what to do.
    pub fn run(&self) -> Result<Option<Rewrapped>, RewrapError> {
        let Some(header) = self.files.read(HEADER)? else { return self.nothing().map(|()| None) };
        self.files.open()?;
        let header = Header::parse(&header).map_err(|error| self.damaged(HEADER, &error))?;
        let Some((lock, keys)) = self.begun(&header)? else {
            let already =
                self.pass(&Keys { former: None, new: self.opens(&header.present(), self.new)? })?;
            return Ok(Some(already));
        };
        let mut done = self.pass(&keys)?;
        self.write(&Header::arrived(lock))?;
        // What a server of a shared store wrote between the two.
        done.moved += self.pass(&keys)?.moved;
        Ok(Some(done))
    }

    /// Where there is no header there are no keys.
    fn nothing(&self) -> Result<(), RewrapError> {
        match key_ids(self.files) {
            Ok(ids) if ids.is_empty() => Ok(()),
            Ok(_) => Err(OpenError::HeaderMissing { directory: self.files.shown(None) }.into()),
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the header name both passphrases, if it does not; `None` if it names the new one alone.
    fn begun(&self, header: &Header) -> Result<Option<(Lock, Keys)>, RewrapError> {
        let directory = || self.files.shown(None);
        let present = header.present();
        let Some(next) = header.next() else {
            if self.opens(&present, self.new)?.is_some() {
                return Ok(None);
            }
            let former = self.opens(&present, self.former)?;
            let former =
                former.ok_or_else(|| RewrapError::WrongFormer { directory: directory() })?;
            let made = Lock::create(self.new, self.cost, self.randomness);
            let (lock, new) = made.map_err(|error| self.damaged(HEADER, &error))?;
            self.write(&header.toward(lock.clone()))?;
            return Ok(Some((lock, Keys { former: Some(former), new: Some(new) })));
        };
        match (self.opens(&present, self.former)?, self.opens(next, self.new)?) {
            (Some(former), Some(new)) => {
                Ok(Some((next.clone(), Keys { former: Some(former), new: Some(new) })))
            }
            (Some(_), None) => Err(RewrapError::OtherNew { directory: directory() }),
            (None, new) => {
                match (self.opens(next, self.former)?, self.opens(&present, self.new)?) {
                    (Some(former), Some(back)) if new.is_none() => {
                        self.write(&Header::arrived(next.clone()).toward(present.clone()))?;
                        Ok(Some((present, Keys { former: Some(former), new: Some(back) })))
                    }
                    _ => Err(RewrapError::WrongFormer { directory: directory() }),
                }
            }
        }
    }

    /// Seals every key anew that is not under the new passphrase.
    fn pass(&self, keys: &Keys) -> Result<Rewrapped, RewrapError> {
        let mut done = Rewrapped::default();
        for id in key_ids(self.files)? {
            let name = name_of(&id);
            let Some(bytes) = self.files.read(&name)? else { continue };
            let (stored, is_new) =
                keys.opened(&bytes, &id).map_err(|error| self.damaged(&name, &error))?;
            if stored.pkcs8.is_none() {
                continue;
            }
            if is_new {
                done.already += 1;
                continue;
            }
            let sealed = keys.sealed(&id, &stored, self.randomness);
            let sealed = sealed.map_err(|error| self.damaged(&name, &error))?;
            self.files.replace(&name, &sealed).map_err(|source| self.unwritten(&name, source))?;
            done.moved += 1;
        }
        Ok(done)
    }

    fn opens(&self, lock: &Lock, passphrase: &Passphrase) -> Result<Option<StoreKey>, RewrapError> {
        match lock.unlock(passphrase) {
            Ok(key) => Ok(Some(key)),
            Err(FormatError::Seal(SealError::Opening)) => Ok(None),
            Err(error) => Err(self.damaged(HEADER, &error)),
        }
    }

    fn write(&self, header: &Header) -> Result<(), RewrapError> {
        let bytes = header.to_bytes().map_err(|error| self.damaged(HEADER, &error))?;
        self.files.replace(HEADER, &bytes).map_err(|source| self.unwritten(HEADER, source))
    }

    fn unwritten(&self, name: &str, source: io::Error) -> RewrapError {
        RewrapError::Write { path: self.files.shown(Some(name)), source }
    }

    fn damaged(&self, name: &str, error: &FormatError) -> RewrapError {
        let path = self.files.shown(Some(name));
        OpenError::Damaged { path, detail: error.to_string() }.into()
    }
}

/// What key files are sealed with.
struct Keys {
    former: Option<StoreKey>,
    new: Option<StoreKey>,
}

impl Keys {
    /// A key, and whether it is under the new passphrase.
    fn opened(&self, bytes: &[u8], id: &KeyId) -> Result<(Stored, bool), FormatError> {
        let under = |key: &Option<StoreKey>| match key {
            Some(key) => KeyFile::read(bytes, id, key),
            None => Err(SealError::Opening.into()),
        };
        match under(&self.new) {
            Err(FormatError::Seal(SealError::Opening)) => {
                under(&self.former).map(|stored| (stored, false))
            }
            opened => opened.map(|stored| (stored, true)),
        }
    }

    fn sealed(
        &self,
        id: &KeyId,
        stored: &Stored,
        randomness: &dyn Randomness,
    ) -> Result<Vec<u8>, FormatError> {
        let key = self.new.as_ref().ok_or(SealError::Opening)?;
        KeyFile::of(id, stored, key, randomness)?.to_bytes()
    }
}
