//! Claims on answers of authorities that are not there yet: kept for days and over restarts, and not used too early.
//!
//! An authority may answer [`Outcome::Pending`]: a person signs offline, somebody approves. The claim is stored before the
//! effect counts as not done yet, so that whoever comes after a restart asks by it, and not before the time it names.

use std::time::Duration;

use plugins::call::shown;
use plugins::{CallContext, Outcome, RootAuthority, Ticket};
use rotation_driver::EffectError;
use serde::{Deserialize, Serialize};
use stores::spaces::TICKETS;
use stores::{Key, SharedStore, Version, settle};
use trust::{Clock, Timestamp};

use crate::requests::{not_read, unavailable};
use crate::stored;

/// Longest ticket that is kept, in bytes.
const TICKET_MAX: usize = 4_096;

/// The claims of a CA, in the shared state: any of its servers may ask by them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tickets<'a> {
    pub(crate) store: &'a dyn SharedStore,
    pub(crate) clock: &'a dyn Clock,
}

/// A claim as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    ticket: String,
    asked_at: i64,
    retry_after_secs: u64,
    reason: String,
}

impl Tickets<'_> {
    /// The ticket that an effect got before, once it may be used; none if it never got one.
    ///
    /// # Errors
    /// `NotYet` before its time.
    pub(crate) async fn due(&self, key: &str) -> Result<Option<Ticket>, EffectError> {
        let Some((claim, _)) = self.read(&place(key)?).await? else { return Ok(None) };
        match claim.left(self.clock.now()) {
            Duration::ZERO => Ok(Some(Ticket::new(claim.ticket))),
            retry_after => Err(EffectError::NotYet { reason: claim.reason, retry_after }),
        }
    }

    /// The answer, if it is there.
    ///
    /// # Errors
    /// `NotYet` if it is not, with what the authority says it waits for; the ticket is stored then.
    pub(crate) async fn settle<T>(
        &self,
        key: &str,
        authority: &dyn RootAuthority,
        context: &CallContext,
        outcome: Outcome<T>,
    ) -> Result<T, EffectError> {
        let (ticket, retry_after) = match outcome {
            Outcome::Ready(answer) => return Ok(answer),
            Outcome::Pending { ticket, retry_after } => (ticket, retry_after),
        };
        if ticket.as_str().len() > TICKET_MAX {
            let reason = format!(
                "the authority's ticket is longer than {TICKET_MAX} bytes, and is not kept"
            );
            return Err(EffectError::Refused { reason });
        }
        let said = shown(&authority.check(context).await.detail);
        let reason = if said.is_empty() { "the authority works on it".to_owned() } else { said };
        let claim = Claim {
            ticket: ticket.as_str().to_owned(),
            asked_at: self.clock.now().as_secs(),
            retry_after_secs: retry_after.as_secs(),
            reason: reason.clone(),
        };
        self.store(key, &claim).await?;
        Err(EffectError::NotYet { reason, retry_after })
    }

    async fn read(&self, place: &Key) -> Result<Option<(Claim, Version)>, EffectError> {
        stored::read::<Claim>(self.store, place).await.map_err(not_read)
    }

    /// In place of whatever is there: a newer answer has the newer ticket.
    async fn store(&self, key: &str, claim: &Claim) -> Result<(), EffectError> {
        let place = place(key)?;
        let version = self.read(&place).await?.map(|(_, version)| version);
        let value = stored::encoded(&place, claim).map_err(|error| unavailable(&error))?;
        let written = settle::put(self.store, &place, &value, version.as_ref()).await;
        written.map(drop).map_err(|error| unavailable(&error))
    }
}

fn place(key: &str) -> Result<Key, EffectError> {
    stored::key(TICKETS, key).map_err(not_read)
}

impl Claim {
    /// How long it must not be used yet. A clock that went back does not hold it up.
    fn left(&self, now: Timestamp) -> Duration {
        let asked_at = Timestamp::from_secs(self.asked_at);
        if now < asked_at {
            return Duration::ZERO;
        }
        asked_at.plus(Duration::from_secs(self.retry_after_secs)).since(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use plugins::{
        Description, Health, IssuerChain, IssuerRequest, PluginError, RequestId, RootSet,
    };
    use stores::fake::FakeStore;
    use trust::ManualClock;

    use super::*;

    #[derive(Debug, Default)]
    struct Busy(AtomicU32);

    #[async_trait]
    impl RootAuthority for Busy {
        fn describe(&self) -> Description {
            Description::new("main", "busy", "1")
        }

        async fn check(&self, _: &CallContext) -> Health {
            self.0.fetch_add(1, Ordering::Relaxed);
            Health::degraded("a person signs")
        }

        async fn roots(&self, _: &CallContext) -> Result<RootSet, PluginError> {
            Ok(RootSet::new(Vec::new(), None, 0))
        }

        async fn sign_issuer(
            &self,
            _: &CallContext,
            _: &IssuerRequest,
        ) -> Result<Outcome<IssuerChain>, PluginError> {
            Err(PluginError::Denied { reason: "not asked here".to_owned() })
        }

        async fn poll(
            &self,
            _: &CallContext,
            _: &Ticket,
        ) -> Result<Outcome<IssuerChain>, PluginError> {
            Err(PluginError::Denied { reason: "not asked here".to_owned() })
        }
    }

    #[tokio::test]
    async fn a_ticket_is_kept_over_a_restart_and_not_used_before_its_time() {
        let (store, clock) = (FakeStore::new(), ManualClock::at(Timestamp::from_secs(1_000)));
        let context =
            CallContext::new(RequestId::parse("one.issuer").unwrap(), Duration::from_secs(1));
        let day = Duration::from_secs(86_400);
        let authority = Busy::default();
        let tickets = Tickets { store: &store, clock: &clock };
        assert_eq!(tickets.due("one.issuer").await, Ok(None));
        let pending = Outcome::<()>::Pending { ticket: Ticket::new("t-1"), retry_after: day };
        let not_yet = |left: Duration| EffectError::NotYet {
            reason: "a person signs".to_owned(),
            retry_after: left,
        };
        let settled = tickets.settle("one.issuer", &authority, &context, pending).await;
        assert_eq!(settled, Err(not_yet(day)), "the operator reads what it waits for");

        let again = store.clone();
        let restarted = Tickets { store: &again, ..tickets };
        clock.advance(day / 4);
        assert_eq!(restarted.due("one.issuer").await, Err(not_yet(day * 3 / 4)));
        assert_eq!(restarted.due("other.issuer").await, Ok(None), "others have their own");
        clock.advance(day * 3 / 4);
        assert_eq!(restarted.due("one.issuer").await, Ok(Some(Ticket::new("t-1"))));
        clock.jump_to(Timestamp::from_secs(0));
        assert_eq!(
            restarted.due("one.issuer").await,
            Ok(Some(Ticket::new("t-1"))),
            "a clock went back"
        );
        assert_eq!(authority.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_ticket_without_end_is_refused_and_an_answer_is_passed_on() {
        let (store, clock) = (FakeStore::new(), ManualClock::at(Timestamp::from_secs(1_000)));
        let context =
            CallContext::new(RequestId::parse("one.issuer").unwrap(), Duration::from_secs(1));
        let authority = Busy::default();
        let tickets = Tickets { store: &store, clock: &clock };
        let ticket = Ticket::new("t".repeat(TICKET_MAX + 1));
        let pending = Outcome::<()>::Pending { ticket, retry_after: Duration::ZERO };
        assert!(matches!(
            tickets.settle("one.issuer", &authority, &context, pending).await,
            Err(EffectError::Refused { .. })
        ));
        assert_eq!(tickets.due("one.issuer").await, Ok(None));
        assert_eq!(
            tickets.settle("one.issuer", &authority, &context, Outcome::Ready(7)).await,
            Ok(7)
        );
    }
}
