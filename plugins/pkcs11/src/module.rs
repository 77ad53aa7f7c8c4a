//! A vendor's PKCS#11 module, loaded once per process.
//!
//! The standard makes initialisation, slots and logins a matter of the whole process: two backends over one module
//! share them whether they want to or not. So what is shared is kept here, in one list for the process. A module is
//! never unloaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use crate::pool::lock;
use crate::trouble::said;

/// The modules of this process, by path.
static LOADED: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A loaded and initialised module.
pub(crate) struct Module {
    context: Pkcs11,
    /// Read during every call into the module, so that none is under way when it is started anew.
    calls: RwLock<()>,
    /// Grows when the module is started anew: sessions of before are gone.
    generation: AtomicU64,
    /// Tokens that answered when they were last asked.
    tokens_well: AtomicUsize,
    /// Why it did not start, if it did not. Modules of networked devices may not while the device is away.
    not_started: Mutex<Option<String>>,
    /// Held while a key is looked for and, if it is not there, made: two calls with one request id make one key.
    making: Mutex<()>,
}

/// The right to call into a module.
pub(crate) struct Calls<'m> {
    module: &'m Module,
    _calls: RwLockReadGuard<'m, ()>,
}

impl Module {
    /// Loads and starts the module at a path, once per process. One that does not start is started again by
    /// [`start_anew`](Self::start_anew).
    ///
    /// # Errors
    /// What the loader said.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, String> {
        let mut loaded = lock(&LOADED);
        if let Some(module) = loaded.get(path) {
            return Ok(Arc::clone(module));
        }
        let context = Pkcs11::new(path).map_err(|error| said(&error))?;
        let module = Arc::new(Self {
            not_started: Mutex::new(initialise(&context).err()),
            context,
            calls: RwLock::default(),
            generation: AtomicU64::new(0),
            tokens_well: AtomicUsize::new(0),
            making: Mutex::default(),
        });
        loaded.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    pub(crate) fn enter(&self) -> Calls<'_> {
        Calls { module: self, _calls: self.calls.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Counts a token that answers.
    pub(crate) fn token_is_well(&self) {
        self.tokens_well.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a token out that does not answer any more.
    pub(crate) fn token_is_away(&self) {
        self.tokens_well.fetch_sub(1, Ordering::AcqRel);
    }

    /// Starts the module anew, which makes many look for their tokens again, if that disturbs nobody: no token of it is
    /// well, and no call is under way. Tells whether it was.
    pub(crate) fn start_anew(&self) -> bool {
        let Some(_alone) = self.alone() else { return false };
        if self.tokens_well.load(Ordering::Acquire) > 0 {
            return false;
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        // A module that cannot end may still be able to begin.
        let _ = self.context.clone().finalize();
        *lock(&self.not_started) = initialise(&self.context).err();
        true
    }

    /// Why it did not start, if it did not.
    pub(crate) fn not_started(&self) -> Option<String> {
        lock(&self.not_started).clone()
    }

    fn alone(&self) -> Option<impl Drop + '_> {
        match self.calls.try_write() {
            Ok(alone) => Some(alone),
            Err(TryLockError::Poisoned(alone)) => Some(alone.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<'m> Calls<'m> {
    pub(crate) fn context(&self) -> &'m Pkcs11 {
        &self.module.context
    }

    pub(crate) fn generation(&self) -> u64 {
        self.module.generation.load(Ordering::Acquire)
    }

    pub(crate) fn making(&self) -> &'m Mutex<()> {
        &self.module.making
    }
}

fn initialise(context: &Pkcs11) -> Result<(), String> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(said(&error)),
    }
}
