//! Join tokens as operators see them: how they are made, and how they are taken back.

use std::collections::BTreeSet;
use std::time::Duration;

use trust::Timestamp;

use crate::cache::Write;
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::Row;
use crate::rows::{BanRow, TokenHash, TokenRow, id_of};
use crate::tables::Tables;

/// Tokens that may be outstanding; used and expired ones are forgotten after a day.
pub const TOKENS_MAX: usize = 100_000;
/// Tokens that are forgotten with one that is made.
const FORGOTTEN_AT_ONCE: usize = 100;

const FORGET_TOKENS_AFTER: Duration = Duration::from_secs(86_400);

impl TokenRow {
    /// In a word: whether somebody can still join with it.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match (&self.revoked, &self.used) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "used",
            (None, None) if now > self.expires => "expired",
            (None, None) => "unused",
        }
    }
}

impl AgentRegistry {
    /// Finds a token, used or not.
    pub fn token(&self, hash: &TokenHash) -> Option<TokenRow> {
        self.read().tokens.get(hash).cloned()
    }

    /// Stores a new token, and then forgets old ones, which are void anyway.
    pub async fn add_token(
        &self,
        hash: TokenHash,
        token: TokenRow,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.change(move |tables| {
            let old = |row: &&TokenRow| now.since(row.expires) > FORGET_TOKENS_AFTER;
            let gone = tables.tokens.iter().filter(|(_, row)| old(row)).map(|(hash, _)| *hash);
            let gone: Vec<_> = gone.take(FORGOTTEN_AT_ONCE).collect();
            if tables.tokens.len() - gone.len() >= TOKENS_MAX {
                return Err(RegistryError::Full("join tokens"));
            }
            let mut writes = vec![Write::of(Row::Token(hash, Some(token.clone())))];
            writes.extend(gone.into_iter().map(|hash| Write::spare(Row::Token(hash, None))));
            Ok((writes, ()))
        })
        .await
    }

    /// Tokens by id, after this one; all, or those of one agent.
    pub fn tokens_after(&self, after: &str, agent: &str, limit: usize) -> Vec<(String, TokenRow)> {
        let tables = self.read();
        let wanted = |row: &TokenRow| agent.is_empty() || row.agent == agent;
        let mut ids: Vec<_> =
            tables.tokens.iter().filter(|(_, row)| wanted(row)).map(|(hash, _)| *hash).collect();
        ids.sort_unstable();
        let later =
            ids.into_iter().map(|hash| (id_of(&hash), hash)).filter(|(id, _)| id.as_str() > after);
        later
            .take(limit)
            .filter_map(|(id, hash)| Some((id, tables.tokens.get(&hash)?.clone())))
            .collect()
    }

    /// The tokens whose ids begin so.
    ///
    /// # Errors
    /// [`RegistryError`] names the first digits that fit none, or several.
    pub fn tokens_named(&self, ids: &[String]) -> Result<BTreeSet<TokenHash>, RegistryError> {
        let tables = self.read();
        ids.iter().map(|id| tables.token_named(id)).collect()
    }

    /// Takes tokens back. One that was taken back before keeps who did it first.
    pub async fn revoke_tokens(
        &self,
        hashes: BTreeSet<TokenHash>,
        sentence: BanRow,
    ) -> Result<Vec<(String, TokenRow)>, RegistryError> {
        self.change(move |tables| {
            let revoked = |hash: &TokenHash| {
                let row = tables.tokens.get(hash)?.clone();
                let revoked = row.revoked.clone().unwrap_or_else(|| sentence.clone());
                Some((*hash, TokenRow { revoked: Some(revoked), ..row }))
            };
            let rows: Vec<_> = hashes.iter().filter_map(revoked).collect();
            let write = |(hash, row): &(TokenHash, TokenRow)| {
                Write::of(Row::Token(*hash, Some(row.clone())))
            };
            let writes = rows.iter().map(write).collect();
            let shown = rows.into_iter().map(|(hash, row)| (id_of(&hash), row)).collect();
            Ok((writes, shown))
        })
        .await
    }
}

impl Tables {
    fn token_named(&self, digits: &str) -> Result<TokenHash, RegistryError> {
        let wanted = digits.to_ascii_lowercase();
        let mut found = self
            .tokens
            .keys()
            .filter(|hash| !wanted.is_empty() && id_of(hash).starts_with(&wanted));
        match (found.next(), found.next()) {
            (Some(hash), None) => Ok(*hash),
            (None, _) => Err(RegistryError::TokenIdUnknown(digits.to_owned())),
            (Some(_), Some(_)) => Err(RegistryError::TokenIdAmbiguous(digits.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stores::fake::FakeStore;
    use trust::SpkiHash;

    use super::*;
    use crate::fixture::open;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn token(agent: &str) -> TokenRow {
        TokenRow {
            agent: agent.to_owned(),
            identities: BTreeSet::new(),
            expires: NOW.plus(Duration::from_secs(3_600)),
            used: None,
            made: Some(("ann (uid 0)".to_owned(), NOW)),
            pins: None,
            revoked: None,
            spent: false,
        }
    }

    fn sentence(by: &str) -> BanRow {
        BanRow { by: by.to_owned(), reason: "it was sent to the wrong place".to_owned(), at: NOW }
    }

    #[tokio::test]
    async fn a_revoked_token_stays_revoked_over_a_restart_and_says_who_did_it_first() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        for (hash, agent) in [([7; 32], "a"), ([8; 32], "b")] {
            registry.add_token(hash, token(agent), NOW).await.unwrap();
        }
        let named = registry.tokens_named(&["0707".to_owned()]).unwrap();
        assert_eq!(named, BTreeSet::from([[7; 32]]));
        registry.revoke_tokens(named.clone(), sentence("ann")).await.unwrap();
        let again = registry.revoke_tokens(named, sentence("bob")).await.unwrap();
        assert_eq!(again[0].1.revoked, Some(sentence("ann")));
        drop(registry);
        let registry = open(&store).await;
        let key = SpkiHash::of(b"key");
        assert_eq!(registry.redeem([7; 32], key, NOW).await, Err(RegistryError::TokenRevoked));
        registry.redeem([8; 32], key, NOW).await.unwrap();
        let states: Vec<_> =
            registry.tokens_after("", "", 10).into_iter().map(|(_, row)| row.state(NOW)).collect();
        assert_eq!(states, ["revoked", "used"]);
        assert_eq!(registry.tokens_after(&id_of(&[7; 32]), "", 10).len(), 1);
        assert_eq!(registry.tokens_after("", "a", 10)[0].1.made, token("a").made);
    }

    #[tokio::test]
    async fn a_token_is_named_by_digits_that_only_it_has() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let mut other = [0x70; 32];
        other[0] = 0x71;
        for hash in [[0x70; 32], other] {
            registry.add_token(hash, token("a"), NOW).await.unwrap();
        }
        let named = |id: &str| registry.tokens_named(&[id.to_owned()]);
        assert_eq!(named("7"), Err(RegistryError::TokenIdAmbiguous("7".to_owned())));
        assert_eq!(named(""), Err(RegistryError::TokenIdUnknown(String::new())));
        assert_eq!(named("9"), Err(RegistryError::TokenIdUnknown("9".to_owned())));
        assert_eq!(named("71"), Ok(BTreeSet::from([other])));
    }
}
