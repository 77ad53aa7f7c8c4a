//! Revocation lists: what the CA said of them last, and for how long that holds.
//!
//! A verifier that has lists asks for one of each issuer, in time, and refuses everybody else. So holders have them only while the CA
//! says so again and again, only together with roots for which they are complete, and only while this machine's clock, which is the
//! holders' too, says that all of them are valid.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use trust::certificate::crl_pem_block;
use trust::{RevocationList, RevocationListError, RootId, Timestamp};

/// Lists that are taken at most, one of each issuer.
const LISTS_MAX: usize = 256;
/// After a start holders keep the lists of a former run for so long, until the CA is heard.
const START: Duration = Duration::from_secs(60);
/// So long before the end of a list holders get none any more, and no longer than a tenth of its life.
const BEFORE_END: Duration = Duration::from_secs(60);

/// The lists of all issuers below some roots.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) number: u64,
    pub(crate) pem: String,
    begins: Timestamp,
    ends: Timestamp,
}

/// What the CA said, understood.
#[derive(Debug)]
pub(crate) enum Word {
    /// These are the newest.
    New(Arc<Lists>, Scope),
    /// Those with this number still are.
    Same(u64, Scope),
    /// There are none.
    Without(String),
}

/// For which roots lists are complete, and how long they are kept.
#[derive(Debug)]
pub(crate) struct Scope {
    roots: BTreeSet<RootId>,
    keep: Duration,
}

/// What is not taken; holders do without then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListsRefused {
    #[error("{0} lists are more than the {LISTS_MAX} that are taken")]
    TooMany(usize),
    #[error("list {0} of {1} is refused: {2}")]
    List(usize, usize, RevocationListError),
    #[error("a root has no fingerprint of 32 bytes")]
    Root,
    #[error("lists {0} are said to be known, and are not")]
    Unknown(u64),
}

/// What holders may have now.
#[derive(Debug, Default)]
pub(crate) struct Known {
    lists: Option<Arc<Lists>>,
    roots: BTreeSet<RootId>,
    keep: Duration,
    /// Uptime until which the CA's last word holds.
    until: Duration,
    /// What the CA said of why there are none; empty before it was heard.
    without: Option<String>,
    /// Uptime of the start.
    started: Duration,
}

/// What the CA's word means.
///
/// # Errors
/// [`ListsRefused`], if one of them is not to be had.
pub(crate) fn from_wire(said: wire::RevocationLists) -> Result<Word, ListsRefused> {
    if said.number == 0 {
        let without: String = said.without.chars().take(512).collect();
        return Ok(Word::Without(without.escape_debug().to_string()));
    }
    let count = said.lists.len();
    if count > LISTS_MAX {
        return Err(ListsRefused::TooMany(count));
    }
    let roots = said.roots.iter().map(|bytes| RootId::from_bytes(bytes).ok_or(ListsRefused::Root));
    let keep = Duration::from_secs(u64::from(said.keep_seconds));
    let scope = Scope { roots: roots.collect::<Result<_, _>>()?, keep };
    if said.lists.is_empty() {
        return Ok(Word::Same(said.number, scope));
    }
    let (mut begins, mut ends) = (None::<Timestamp>, None::<Timestamp>);
    for (at, der) in said.lists.iter().enumerate() {
        let list =
            RevocationList::parse(der).map_err(|why| ListsRefused::List(at + 1, count, why))?;
        begins = begins.max(Some(list.this_update));
        ends = Some(ends.map_or(list.next_update, |end| end.min(list.next_update)));
    }
    let pem = said.lists.iter().map(|der| crl_pem_block(der)).collect();
    let (begins, ends) = (begins.unwrap_or_default(), ends.unwrap_or_default());
    Ok(Word::New(Arc::new(Lists { number: said.number, pem, begins, ends }), scope))
}

impl Known {
    /// Nothing, at a start.
    pub(crate) fn at(started: Duration) -> Self {
        Self { started, ..Self::default() }
    }

    /// Takes what the CA said.
    pub(crate) fn hear(&mut self, word: Word, uptime: Duration) -> Result<(), ListsRefused> {
        let scope = match word {
            Word::Without(why) => {
                self.lists = None;
                self.without = Some(why);
                return Ok(());
            }
            Word::New(lists, scope) => {
                self.lists = Some(lists);
                scope
            }
            Word::Same(number, scope) => {
                if self.lists.as_ref().is_none_or(|lists| lists.number != number) {
                    return Err(ListsRefused::Unknown(number));
                }
                scope
            }
        };
        self.without = None;
        self.roots = scope.roots;
        self.keep = scope.keep;
        self.until = uptime.saturating_add(scope.keep);
        Ok(())
    }

    /// Forgets the lists: what was said cannot be used.
    pub(crate) fn forget(&mut self, why: String) {
        self.lists = None;
        self.without = Some(why);
    }

    /// The lists that go with these roots now.
    pub(crate) fn with(
        &self,
        roots: &BTreeSet<RootId>,
        now: Timestamp,
        uptime: Duration,
    ) -> Option<&Arc<Lists>> {
        let lists = self.lists.as_ref()?;
        let is_complete = roots.is_subset(&self.roots);
        (is_complete && self.trouble(now, uptime).is_none()).then_some(lists)
    }

    /// Whether it is known what holders shall have, be it nothing.
    pub(crate) fn is_settled(&self, uptime: Duration) -> bool {
        self.lists.is_some()
            || self.without.is_some()
            || uptime.saturating_sub(self.started) >= START
    }

    /// Why holders do without, where there are lists or the CA said that there are none.
    pub(crate) fn trouble(&self, now: Timestamp, uptime: Duration) -> Option<String> {
        let Some(lists) = &self.lists else {
            return Some(format!("the CA gives none: {}", self.without.as_ref()?));
        };
        let (begins, ends) = (lists.begins, lists.ends);
        let margin = BEFORE_END.min(ends.since(begins) / 10);
        if uptime >= self.until {
            let keep = self.keep.as_secs();
            return Some(format!(
                "the CA was not heard for {keep} s, so they may lack an issuer that is new; they come back with the CA"
            ));
        }
        if now < begins {
            return Some(format!(
                "they begin at {begins}, and this machine's clock says {now}: set the clock right"
            ));
        }
        (now.plus(margin) >= ends).then(|| {
            format!("they end at {ends}, and this machine's clock says {now}: set the clock right, or see why the CA signs no newer ones")
        })
    }
}

#[cfg(test)]
mod tests;
