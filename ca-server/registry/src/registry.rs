//! The registry as one file and one view in memory: how it is opened, changed and read; join tokens. What is asked of agents,
//! relying parties and downstreams stands beside it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use auth::authz::JOIN_TOKEN_RETRY;
use host::Disk;
use redb::Database;
use trust::{Clock, SpkiHash, Timestamp};

use crate::error::RegistryError;
use crate::pace::Pace;
use crate::rows::{Newcomer, Seen, TokenHash, TokenRow};
use crate::sessions::Sessions;
use crate::store::{self, Change, RegistryUnreadable, Tables};

/// Tokens that may be outstanding; used and expired ones are forgotten after a day.
pub const TOKENS_MAX: usize = 100_000;

const FORGET_TOKENS_AFTER: Duration = Duration::from_secs(86_400);

/// The registry of one server. Clones are the same registry.
#[derive(Clone)]
pub struct AgentRegistry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    path: PathBuf,
    pub(crate) membership: Membership,
    /// What `served` was, and the uptime, when this process opened the registry.
    pub(crate) opened: (u64, Duration),
    /// Agents that were seen since their rows were written. Locked for map work only, after `tables` where both are.
    pub(crate) seen: Mutex<HashMap<String, Seen>>,
    /// How fast JWT callers may register new keys.
    pub(crate) pace: Pace,
    /// Locked for map work only.
    tables: RwLock<Tables>,
    /// Held by the one writer while it writes, on a thread that may block; `None` while the file cannot be opened again.
    database: Mutex<Option<Database>>,
    broken: AtomicBool,
}

/// The bounds of the registry.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Agents that may be registered. A tenth is kept for join tokens.
    pub max: usize,
    /// Agents that one JWT caller may have, and new keys that it may register within an hour.
    pub per_caller: usize,
    /// An agent that was not seen for so long is forgotten.
    pub forget_after: Duration,
    /// An agent that was not seen for so long has no certificate that lives.
    pub idle_after: Duration,
}

#[cfg(test)]
impl Limits {
    pub(crate) const fn bounded(max: usize, per_caller: usize) -> Self {
        let (forget_after, idle_after) =
            (Duration::from_secs(31 * 86_400), Duration::from_secs(86_400));
        Self { max, per_caller, forget_after, idle_after }
    }
}

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        Self::bounded(100_000, 16)
    }
}

/// What the registry asks about agents, and the bounds that it keeps.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is connected.
    pub sessions: Sessions,
    /// The bounds.
    pub limits: Limits,
}

impl AgentRegistry {
    /// Opens the file.
    ///
    /// # Errors
    /// When it is missing, for its bans and tokens would be forgotten; and when it cannot be read.
    pub fn open_for(path: &Path, membership: Membership) -> Result<Self, RegistryUnreadable> {
        let (database, tables) = store::open(path)?;
        Ok(Self::with(path, database, tables, membership))
    }

    /// As [`open_for`](Self::open_for), with default bounds and a clock that stands still.
    #[cfg(test)]
    pub fn open(path: &Path) -> Result<Self, RegistryUnreadable> {
        let clock = Arc::new(trust::ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let membership =
            Membership { clock, sessions: Sessions::default(), limits: Limits::default() };
        Self::open_for(path, membership)
    }

    /// Makes the file for a CA that never had one; a file that exists is left alone.
    ///
    /// # Errors
    /// As the operating system says. No file is there then that is not complete.
    pub fn create_if_missing(disk: &dyn Disk, path: &Path) -> io::Result<()> {
        store::create_if_missing(disk, path)
    }

    fn with(path: &Path, database: Database, tables: Tables, membership: Membership) -> Self {
        // The time served is noted now and then, and rows are written in between: it never goes back behind one of them.
        let noted = tables.agents.values().map(|row| row.seen.served).fold(tables.served, u64::max);
        let opened = (noted, membership.clock.uptime());
        let pace = Pace::new(membership.limits.per_caller);
        Self(Arc::new(Inner {
            path: path.to_owned(),
            membership,
            opened,
            seen: Mutex::default(),
            pace,
            tables: RwLock::new(tables),
            database: Mutex::new(Some(database)),
            broken: AtomicBool::new(false),
        }))
    }

    /// Finds a token, used or not.
    pub fn token(&self, hash: &TokenHash) -> Option<TokenRow> {
        self.read().tokens.get(hash).cloned()
    }

    /// The connections of agents, as far as they are known.
    pub fn sessions(&self) -> Sessions {
        self.0.membership.sessions.clone()
    }

    /// Whether a write failed, so that no agent can join until the file was opened again.
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// Opens the file again after a failed write, and reads all of it; says whether it can be written now.
    pub async fn reopen(&self) -> bool {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.reopen()).await.unwrap_or(false)
    }

    /// Stores a new token, and forgets old ones.
    pub async fn add_token(
        &self,
        hash: TokenHash,
        token: TokenRow,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.change(move |tables| {
            let old = |row: &&TokenRow| now.since(row.expires) > FORGET_TOKENS_AFTER;
            let mut change = Change::default();
            let gone =
                tables.tokens.iter().filter(|(_, row)| old(row)).map(|(hash, _)| (*hash, None));
            change.tokens.extend(gone);
            if tables.tokens.len() - change.tokens.len() >= TOKENS_MAX {
                return Err(RegistryError::Full("join tokens"));
            }
            change.tokens.push((hash, Some(token)));
            Ok((change, ()))
        })
        .await
    }

    /// Uses a token for a key and registers its agent, in one write. The same key may come again for five minutes.
    pub async fn redeem(
        &self,
        hash: TokenHash,
        spki: SpkiHash,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.0);
        self.change(move |tables| {
            let token = tables.tokens.get(&hash).ok_or(RegistryError::TokenUnknown)?;
            check_token(token, &spki, now)?;
            // An answer that was lost is asked for again; an agent that was removed meanwhile needs a new token.
            let registered =
                |agent: &str| tables.agents.get(agent).is_some_and(|row| row.spki == spki);
            if token.used.is_some() && !registered(&token.agent) {
                return Err(RegistryError::TokenUsed);
            }
            let at = token.used.map_or(now, |(_, at)| at);
            let used = TokenRow { used: Some((spki, at)), ..token.clone() };
            let (name, identities) = (token.agent.clone(), token.identities.clone());
            let newcomer = Newcomer { name, spki, identities, caller: None };
            let agents = inner.joined(tables, newcomer, now)?;
            Ok((Change { tokens: vec![(hash, Some(used))], agents, ..Change::default() }, ()))
        })
        .await
    }

    pub(crate) async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Tables) -> Result<(Change, T), RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let inner = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || inner.change(decide)).await;
        written.unwrap_or(Err(RegistryError::Broken))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read()
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(
        &self,
        decide: impl FnOnce(&Tables) -> Result<(Change, T), RegistryError>,
    ) -> Result<T, RegistryError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref().filter(|_| !self.broken.load(Ordering::Acquire))
        else {
            return Err(RegistryError::Broken);
        };
        let (change, answer) = decide(&self.read())?;
        let written = store::write(database, &self.read(), &change);
        if let Err(error) = written {
            self.broken.store(true, Ordering::Release);
            tracing::error!(%error, "the registry could not be written; no agent can join until it can");
            return Err(RegistryError::Broken);
        }
        self.tables.write().unwrap_or_else(PoisonError::into_inner).apply(change);
        Ok(answer)
    }

    /// What is on the disk counts, and not what is in memory: the write that failed may have been stored.
    fn reopen(&self) -> bool {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        // The file is locked by whoever has it open.
        drop(database.take());
        let opened = store::open(&self.path).map_err(|error| error.to_string()).and_then(
            |(opened, tables)| {
                store::write(&opened, &tables, &Change::default())
                    .map_err(|error| error.to_string())?;
                Ok((opened, tables))
            },
        );
        match opened {
            Ok((opened, tables)) => {
                *database = Some(opened);
                *self.tables.write().unwrap_or_else(PoisonError::into_inner) = tables;
                self.broken.store(false, Ordering::Release);
                true
            }
            Err(error) => {
                tracing::debug!(error, "the registry cannot be opened again yet");
                false
            }
        }
    }
}

/// Whether a token may be used for this key now.
pub fn check_token(token: &TokenRow, spki: &SpkiHash, now: Timestamp) -> Result<(), RegistryError> {
    if token.revoked.is_some() {
        return Err(RegistryError::TokenRevoked);
    }
    match &token.used {
        Some((key, at)) if key == spki && now.since(*at) <= JOIN_TOKEN_RETRY => Ok(()),
        Some(_) => Err(RegistryError::TokenUsed),
        None if now > token.expires => Err(RegistryError::TokenExpired(token.expires)),
        None => Ok(()),
    }
}

impl fmt::Debug for AgentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentRegistry")
            .field("agents", &self.read().agents.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use host::RealDisk;
    use trust::SpiffeId;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn token() -> TokenRow {
        TokenRow {
            agent: "node-1".to_owned(),
            identities: BTreeSet::from([SpiffeId::parse("spiffe://example.org/web").unwrap()]),
            expires: NOW.plus(Duration::from_secs(3_600)),
            used: None,
            made: None,
            pins: None,
            revoked: None,
        }
    }

    fn key(text: &str) -> SpkiHash {
        SpkiHash::of(text.as_bytes())
    }

    async fn with_token() -> (tempfile::TempDir, AgentRegistry) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.redb");
        AgentRegistry::create_if_missing(&RealDisk, &path).unwrap();
        let registry = AgentRegistry::open(&path).unwrap();
        registry.add_token([7; 32], token(), NOW).await.unwrap();
        (dir, registry)
    }

    #[tokio::test]
    async fn a_token_makes_one_agent_and_is_retried_only_with_the_same_key_and_soon() {
        let (_dir, registry) = with_token().await;
        let later = |secs| NOW.plus(Duration::from_secs(secs));
        let redeem = |name: &'static str, at| registry.redeem([7; 32], key(name), at);
        redeem("a", NOW).await.unwrap();
        assert_eq!(redeem("b", later(1)).await, Err(RegistryError::TokenUsed));
        redeem("a", later(300)).await.unwrap();
        assert_eq!(redeem("a", later(301)).await, Err(RegistryError::TokenUsed));
        let (agent, _) = registry.agent("node-1").unwrap();
        assert_eq!(agent.spki, key("a"));
        let unknown = registry.redeem([8; 32], key("a"), NOW).await;
        assert_eq!(unknown, Err(RegistryError::TokenUnknown));
    }

    #[tokio::test]
    async fn a_token_ends() {
        let (_dir, registry) = with_token().await;
        let late = token().expires.plus(Duration::from_secs(1));
        let refused = registry.redeem([7; 32], key("a"), late).await;
        assert_eq!(refused, Err(RegistryError::TokenExpired(token().expires)));
        assert!(registry.agent("node-1").is_none());
    }

    #[tokio::test]
    async fn what_was_stored_is_there_after_a_restart() {
        let (dir, registry) = with_token().await;
        registry.redeem([7; 32], key("a"), NOW).await.unwrap();
        drop(registry);
        let registry = AgentRegistry::open(&dir.path().join("registry.redb")).unwrap();
        let (agent, _) = registry.agent("node-1").unwrap();
        assert_eq!(agent.spki, key("a"));
        assert_eq!(agent.identities, token().identities);
        assert_eq!(registry.token(&[7; 32]).unwrap().used, Some((key("a"), NOW)));
    }

    #[tokio::test]
    async fn a_damaged_file_is_an_error_and_stays() {
        let (dir, registry) = with_token().await;
        drop(registry);
        let path = dir.path().join("registry.redb");
        std::fs::write(&path, b"not a database").unwrap();
        let said = AgentRegistry::open(&path).unwrap_err().to_string();
        assert!(said.contains("restore the latest backup"), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
    }

    #[test]
    fn a_registry_that_was_lost_is_an_error_and_no_new_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.redb");
        let said = AgentRegistry::open(&path).unwrap_err().to_string();
        assert!(
            said.contains("registry.redb") && said.contains("restore the latest backup"),
            "{said}"
        );
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn every_flipped_bit_of_what_is_stored_is_noticed() {
        let (dir, registry) = with_token().await;
        drop(registry);
        let path = dir.path().join("registry.redb");
        let good = std::fs::read(&path).unwrap();
        let at = good.windows(6).rposition(|window| window == b"node-1").unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(AgentRegistry::open(&path).is_err(), "an agent under another name");
        std::fs::write(&path, &good).unwrap();
        assert!(AgentRegistry::open(&path).unwrap().token(&[7; 32]).is_some());
    }

    #[tokio::test]
    async fn after_a_failed_write_the_file_counts_and_it_is_written_again_without_a_restart() {
        let (_dir, registry) = with_token().await;
        registry.0.broken.store(true, Ordering::Release);
        assert_eq!(registry.redeem([7; 32], key("a"), NOW).await, Err(RegistryError::Broken));
        registry.0.tables.write().unwrap().agents.clear();
        assert!(registry.reopen().await && !registry.is_broken());
        registry.redeem([7; 32], key("a"), NOW).await.unwrap();
        assert_eq!(registry.agent("node-1").unwrap().0.spki, key("a"));
    }

    #[tokio::test]
    async fn a_registry_that_cannot_be_opened_again_stays_broken_and_answers_from_memory() {
        let (dir, registry) = with_token().await;
        let path = dir.path().join("registry.redb");
        registry.0.broken.store(true, Ordering::Release);
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        assert!(!registry.reopen().await && registry.is_broken());
        assert!(registry.token(&[7; 32]).is_some());
        assert_eq!(registry.redeem([7; 32], key("a"), NOW).await, Err(RegistryError::Broken));
        std::fs::rename(dir.path().join("away"), &path).unwrap();
        assert!(registry.reopen().await);
        registry.redeem([7; 32], key("a"), NOW).await.unwrap();
    }

    #[tokio::test]
    async fn old_tokens_are_forgotten() {
        let (_dir, registry) = with_token().await;
        let late = token().expires.plus(FORGET_TOKENS_AFTER).plus(Duration::from_secs(1));
        registry.add_token([8; 32], token(), late).await.unwrap();
        assert!(registry.token(&[7; 32]).is_none() && registry.token(&[8; 32]).is_some());
    }
}
