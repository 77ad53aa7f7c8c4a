//! Bans: agents, identities and keys that get no certificate, and single leaves that speak for nobody any more.

use std::ops::Bound;

use trust::{CertificateId, Cover, Serial, SpiffeId, SpkiHash, Timestamp};

use crate::ban_row::{Ban, BanSubject};
use crate::cache::{Cache, Write};
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::Row;
use crate::rows::{ActRow, BanRow};
use crate::tables::Tables;

/// Bans that there may be, those that are over included.
pub(crate) const BANS_MAX: usize = 10_000;

impl AgentRegistry {
    /// The ban that keeps this identity or this key from a certificate now. The CA's own names and those of agents are in no ban of
    /// identities.
    pub fn ban_on(&self, identity: &SpiffeId, key: &SpkiHash) -> Option<(BanSubject, Ban)> {
        let tables = self.read();
        if tables.bans.is_empty() {
            return None;
        }
        let now = self.now();
        let of_key = tables.standing(BanSubject::Key(*key), now);
        of_key.or_else(|| tables.ban_of_identity(identity, now))
    }

    /// The ban of this identity, or of a path that it is below of, that stands now.
    pub fn ban_of_identity(&self, identity: &SpiffeId) -> Option<(BanSubject, Ban)> {
        let tables = self.read();
        if tables.bans.is_empty() {
            return None;
        }
        tables.ban_of_identity(identity, self.now())
    }

    /// The row about exactly this subject, whether it stands or is over.
    pub fn ban(&self, subject: &BanSubject) -> Option<Ban> {
        self.read().bans.get(&subject.id()).cloned()
    }

    /// Bans by the ids of their rows, after this one; those that are over too.
    pub fn all_bans_after(&self, after: &str, limit: usize) -> Vec<(BanSubject, Ban)> {
        let tables = self.read();
        let page = tables.bans.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let known = page.filter_map(|(id, ban)| Some((BanSubject::of_id(id)?, ban.clone())));
        let is_of_somebody = |(subject, _): &(BanSubject, Ban)| {
            !matches!(subject, BanSubject::Leaf(_) | BanSubject::Issuer(_))
        };
        known.filter(is_of_somebody).take(limit).collect()
    }

    /// Registered agents that it keeps away.
    pub fn agents_banned_by(&self, subject: &BanSubject) -> Vec<String> {
        self.read().agents_of(subject)
    }

    /// Adds a ban, or puts it in the place of the one about the same.
    pub async fn add_ban(&self, subject: BanSubject, ban: Ban) -> Result<(), RegistryError> {
        self.note_ban("ban", &subject, &ban.word).await?;
        self.change(move |tables| {
            let id = subject.id();
            if !tables.bans.contains_key(&id) && tables.bans.len() >= BANS_MAX {
                return Err(RegistryError::Full("bans"));
            }
            Ok((vec![Write::of(Row::Ban(id, Some(ban.clone())))], ()))
        })
        .await
    }

    /// Revokes leaves until the times at which nobody can take them for valid any more. What was revoked before stays as it is;
    /// the rows of leaves that are over go.
    pub async fn revoke(&self, leaves: Vec<(Serial, Ban)>) -> Result<(), RegistryError> {
        let now = self.now();
        self.change(move |tables| {
            let is_over = |(id, ban): &(&String, &Ban)| {
                !ban.stands(now) && matches!(BanSubject::of_id(id), Some(BanSubject::Leaf(_)))
            };
            let over: Vec<_> = tables.bans.iter().filter(is_over).map(|(id, _)| id).collect();
            let fresh = leaves.iter().map(|(serial, ban)| (BanSubject::Leaf(*serial).id(), ban));
            let fresh: Vec<_> = fresh.filter(|(id, _)| !tables.bans.contains_key(id)).collect();
            if tables.bans.len() - over.len() + fresh.len() > BANS_MAX {
                return Err(RegistryError::Full("bans"));
            }
            let fresh = fresh.into_iter().map(|(id, ban)| Row::Ban(id, Some(ban.clone())));
            let mut writes: Vec<_> = fresh.map(Write::of).collect();
            writes.extend(over.into_iter().map(|id| Write::spare(Row::Ban(id.clone(), None))));
            Ok((writes, ()))
        })
        .await
    }

    /// Issuers that are distrusted and whose certificates are not over, each with the word.
    pub fn distrusted_issuers(&self) -> Vec<(CertificateId, Ban)> {
        let (tables, now) = (self.read(), self.now());
        let standing = tables.bans.iter().filter(|(_, ban)| ban.stands(now));
        let issuer = |(id, ban): (&String, &Ban)| match BanSubject::of_id(id)? {
            BanSubject::Issuer(issuer) => Some((issuer, ban.clone())),
            _ => None,
        };
        standing.filter_map(issuer).collect()
    }

    /// Whether an issuer is distrusted.
    pub fn is_issuer_distrusted(&self, issuer: &CertificateId) -> bool {
        let tables = self.read();
        let stands = || tables.standing(BanSubject::Issuer(*issuer), self.now()).is_some();
        !tables.bans.is_empty() && stands()
    }

    /// The word that revoked this leaf, until the leaf is over.
    pub fn revoked(&self, serial: &Serial) -> Option<Ban> {
        let tables = self.read();
        if tables.bans.is_empty() {
            return None;
        }
        tables.standing(BanSubject::Leaf(*serial), self.now()).map(|(_, ban)| ban)
    }

    /// All leaves that were revoked and are not over, each with the word.
    pub fn revoked_leaves(&self) -> Vec<(Serial, Ban)> {
        let (tables, now) = (self.read(), self.now());
        let standing = tables.bans.iter().filter(|(_, ban)| ban.stands(now));
        let leaf = |(id, ban): (&String, &Ban)| match BanSubject::of_id(id)? {
            BanSubject::Leaf(serial) => Some((serial, ban.clone())),
            _ => None,
        };
        standing.filter_map(leaf).collect()
    }

    /// Leaves of an agent that were revoked and are not over.
    pub fn revoked_of(&self, agent: &str) -> Vec<(Serial, Timestamp)> {
        let (tables, now) = (self.read(), self.now());
        let of_agent = tables.bans.iter().filter(|(_, ban)| ban.agent.as_deref() == Some(agent));
        let standing = of_agent.filter(|(_, ban)| ban.stands(now));
        let leaf = |(id, ban): (&String, &Ban)| match BanSubject::of_id(id)? {
            BanSubject::Leaf(serial) => Some((serial, ban.until?)),
            _ => None,
        };
        standing.filter_map(leaf).collect()
    }

    /// Lifts a ban.
    pub async fn lift_ban(&self, subject: BanSubject, word: BanRow) -> Result<(), RegistryError> {
        if self.ban(&subject).is_none() {
            return Err(RegistryError::BanUnknown(subject.to_string()));
        }
        self.note_ban("unban", &subject, &word).await?;
        let lift = move |_: &Cache| Ok((vec![Write::of(Row::Ban(subject.id(), None))], ()));
        self.change(lift).await
    }

    /// What is done about agents is among the acts.
    async fn note_ban(
        &self,
        verb: &str,
        subject: &BanSubject,
        word: &BanRow,
    ) -> Result<(), RegistryError> {
        let BanSubject::Agent(name) = subject else { return Ok(()) };
        let agents = u64::try_from(self.agents_banned_by(subject).len()).unwrap_or(u64::MAX);
        let (verb, name) = (verb.to_owned(), name.clone());
        self.note(ActRow { verb, name, agents, word: word.clone() }).await
    }

    fn now(&self) -> Timestamp {
        self.0.membership.clock.now()
    }
}

impl Tables {
    /// Whether a name is refused. For who joins with a JWT, a ban of the identity's path counts for every key.
    pub(crate) fn is_banned(&self, name: &str, by_jwt: bool, now: Timestamp) -> bool {
        let family = name.rsplit_once('/').map(|(family, _)| family).filter(|_| by_jwt);
        let stands = |name: &str| self.bans.get(name).is_some_and(|ban| ban.stands(now));
        stands(name) || family.is_some_and(stands)
    }

    /// How many bans of agents' names stand.
    pub(crate) fn banned_names(&self, now: Timestamp) -> usize {
        let names = self
            .bans
            .iter()
            .filter(|(id, _)| matches!(BanSubject::of_id(id), Some(BanSubject::Agent(_))));
        names.filter(|(_, ban)| ban.stands(now)).count()
    }

    /// The registered agents that a ban keeps away.
    pub(crate) fn agents_of(&self, subject: &BanSubject) -> Vec<String> {
        match subject {
            BanSubject::Agent(name) => self.under(name),
            BanSubject::Identity(_) | BanSubject::Leaf(_) | BanSubject::Issuer(_) => Vec::new(),
            BanSubject::Key(key) => {
                let with = self.agents.iter().filter(|(_, row)| row.spki == *key);
                with.map(|(name, _)| name.clone()).collect()
            }
        }
    }

    fn ban_of_identity(&self, identity: &SpiffeId, now: Timestamp) -> Option<(BanSubject, Ban)> {
        if identity.is_reserved() {
            return None;
        }
        let mut covers = Cover::of(identity).map(BanSubject::Identity);
        covers.find_map(|subject| self.standing(subject, now))
    }

    fn standing(&self, subject: BanSubject, now: Timestamp) -> Option<(BanSubject, Ban)> {
        let ban = self.bans.get(&subject.id()).filter(|ban| ban.stands(now))?;
        Some((subject, ban.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stores::fake::FakeStore;

    use super::*;
    use crate::fixture::open;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/{path}")).unwrap()
    }

    fn identity(path: &str) -> BanSubject {
        BanSubject::Identity(Cover::parse(&format!("spiffe://example.org/{path}")).unwrap())
    }

    fn ban(until: Option<Timestamp>) -> Ban {
        let word = BanRow {
            by: "ann".to_owned(),
            reason: "stolen".to_owned(),
            at: Timestamp::from_secs(5),
        };
        Ban { word, until, agent: None }
    }

    #[tokio::test]
    async fn a_ban_stands_until_its_time_or_until_it_is_lifted_and_a_restart_forgets_neither() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let now = registry.now();
        let (key, other) = (SpkiHash::of(b"key"), SpkiHash::of(b"other"));
        let (web, pay) = (id("ns/shop/sa/web"), id("ns/pay/sa/api"));
        assert_eq!(registry.ban_on(&web, &key), None);
        registry.add_ban(identity("ns/shop/*"), ban(None)).await.unwrap();
        registry.add_ban(BanSubject::Key(key), ban(Some(now.plus(HOUR)))).await.unwrap();
        registry.add_ban(identity("ns/pay/sa/api"), ban(Some(now))).await.unwrap();
        drop(registry);
        let registry = open(&store).await;
        let by = |who: &SpiffeId, key| registry.ban_on(who, key).map(|(subject, _)| subject);
        assert_eq!(by(&web, &other), Some(identity("ns/shop/*")));
        assert_eq!(by(&pay, &key), Some(BanSubject::Key(key)));
        assert_eq!(by(&pay, &other), None, "the second at which it is over is over");
        assert_eq!(by(&id("ns/shopping/sa/web"), &other), None);
        let all = registry.all_bans_after("", 10);
        assert_eq!(all.len(), 3, "what is over is told until it is removed");
        let next = registry.all_bans_after(&all[0].0.id(), 1);
        assert_eq!(next, all[1..2]);
        registry.lift_ban(identity("ns/shop/*"), ban(None).word).await.unwrap();
        assert_eq!(registry.ban_on(&web, &other), None);
        let again = registry.lift_ban(identity("ns/shop/*"), ban(None).word).await;
        assert!(matches!(again, Err(RegistryError::BanUnknown(_))), "{again:?}");
    }

    #[tokio::test]
    async fn a_revoked_leaf_stays_so_until_it_is_over_and_its_row_goes_with_the_next_one() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let now = registry.now();
        let serial = |number: u8| Serial::from_bytes(&[0x40 | number; 16]).unwrap();
        let until = |until| Ban { agent: Some("node-1".to_owned()), ..ban(Some(until)) };
        let leaves = vec![(serial(1), until(now.plus(HOUR))), (serial(2), until(now))];
        registry.revoke(leaves).await.unwrap();
        drop(registry);
        let registry = open(&store).await;
        assert!(registry.revoked(&serial(1)).is_some() && registry.revoked(&serial(2)).is_none());
        assert_eq!(registry.revoked_of("node-1"), [(serial(1), now.plus(HOUR))]);
        assert_eq!(registry.revoked_of("node-2"), []);
        assert_eq!(registry.all_bans_after("", 10), [], "it is no ban of anybody");
        let later = vec![(serial(1), until(now)), (serial(3), until(now.plus(HOUR)))];
        registry.revoke(later).await.unwrap();
        assert!(registry.revoked(&serial(1)).is_some(), "the first word stays");
        assert!(registry.ban(&BanSubject::Leaf(serial(2))).is_none(), "what is over is forgotten");
        assert_eq!(registry.revoked_of("node-1").len(), 2);
    }

    #[tokio::test]
    async fn a_ban_of_everybody_is_about_workloads_and_not_about_the_names_of_the_ca() {
        let registry = open(&FakeStore::new()).await;
        registry.add_ban(identity("*"), ban(None)).await.unwrap();
        let key = SpkiHash::of(b"key");
        assert!(registry.ban_on(&id("ns/shop/sa/web"), &key).is_some());
        for own in ["banyan/agent/node-1", "banyan/ca/one"] {
            assert_eq!(registry.ban_on(&id(own), &key), None, "{own}");
        }
        registry.add_ban(BanSubject::Key(key), ban(None)).await.unwrap();
        assert!(registry.ban_on(&id("banyan/agent/node-1"), &key).is_some());
    }
}
