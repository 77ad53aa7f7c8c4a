//! A cohort: the workloads that get leaves of a new root before everybody else does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::cover::Cover;
use crate::digest::sha256;
use crate::spiffe_id::{SpiffeId, SpiffeIdError};

const ALL: u8 = 100;

/// A share of all workloads, those that something covers, or both: `5%`, `spiffe://example.org/ns/shop/*`, and with a comma
/// between them several.
///
/// Who is in the share is the same each time, and a greater share has everybody in it whom a lesser one has. What belongs to the CA
/// itself, its agents among them, is in no cohort.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cohort {
    percent: u8,
    covers: BTreeSet<Cover>,
}

/// Text that names no cohort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CohortError {
    /// Nobody would be in it.
    #[error("it names nobody: give a share such as 5%, or a SPIFFE id")]
    Nobody,
    /// No whole share between 1% and 100%.
    #[error("{0:?} is no share: give a whole number from 1% to 100%")]
    Share(String),
    /// Two shares.
    #[error("it names two shares")]
    TwoShares,
    /// No id.
    #[error(
        "{text:?} is neither a share such as 5% nor a SPIFFE id, which may end in /*: {source}"
    )]
    Cover {
        /// What was given.
        text: String,
        /// Why it is none.
        source: SpiffeIdError,
    },
}

impl Cohort {
    /// A share of all workloads, in whole hundredths, and whom these cover.
    ///
    /// # Errors
    /// [`CohortError`] if that is nobody, or more than all.
    pub fn new(percent: u8, covers: BTreeSet<Cover>) -> Result<Self, CohortError> {
        match (percent, covers.is_empty()) {
            (0, true) => Err(CohortError::Nobody),
            (0..=ALL, _) => Ok(Self { percent, covers }),
            _ => Err(CohortError::Share(format!("{percent}%"))),
        }
    }

    /// Whether a workload is in it.
    pub fn has(&self, id: &SpiffeId) -> bool {
        !id.is_reserved()
            && (hundredth(id) < self.percent || self.covers.iter().any(|cover| cover.has(id)))
    }

    /// Whether everybody is in it who is, or may come to be, in the other one.
    pub fn includes(&self, other: &Self) -> bool {
        let covered = |theirs: &Cover| self.covers.iter().any(|ours| ours.includes(theirs));
        self.percent == ALL || self.percent >= other.percent && other.covers.iter().all(covered)
    }

    /// The share of all workloads, in hundredths.
    pub const fn percent(&self) -> u8 {
        self.percent
    }

    /// Whom it names besides.
    pub const fn covers(&self) -> &BTreeSet<Cover> {
        &self.covers
    }
}

/// Which hundredth of all workloads one is in.
fn hundredth(id: &SpiffeId) -> u8 {
    let digest = sha256(id.as_str().as_bytes());
    let first = digest.iter().take(4).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    // Less than 100, since what is multiplied has 32 bits.
    u8::try_from((first * u64::from(ALL)) >> 32).unwrap_or(ALL)
}

impl FromStr for Cohort {
    type Err = CohortError;

    fn from_str(text: &str) -> Result<Self, CohortError> {
        let (mut percent, mut covers) = (None, BTreeSet::new());
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if let Some(share) = part.strip_suffix('%') {
                let share = share.parse::<u8>().ok().filter(|share| (1..=ALL).contains(share));
                let share = share.ok_or_else(|| CohortError::Share(part.to_owned()))?;
                if percent.replace(share).is_some() {
                    return Err(CohortError::TwoShares);
                }
                continue;
            }
            let cover = Cover::parse(part);
            let text = part.to_owned();
            covers.insert(cover.map_err(|source| CohortError::Cover { text, source })?);
        }
        Self::new(percent.unwrap_or(0), covers)
    }
}

impl fmt::Display for Cohort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = (self.percent > 0).then(|| format!("{}%", self.percent));
        let covers = self.covers.iter().map(ToString::to_string);
        let parts: Vec<_> = share.into_iter().chain(covers).collect();
        f.write_str(&parts.join(","))
    }
}

impl fmt::Debug for Cohort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(text: &str) -> Cohort {
        text.parse().unwrap()
    }

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/{path}")).unwrap()
    }

    fn workloads() -> impl Iterator<Item = SpiffeId> {
        (0..10_000).map(|number| id(&format!("ns/n{}/sa/s{number}", number % 7)))
    }

    #[test]
    fn a_share_is_about_that_many_the_same_each_time_and_within_each_greater_one() {
        for percent in [1u8, 5, 20, 50, 99] {
            let share = cohort(&format!("{percent}%"));
            let more = cohort(&format!("{}%", percent + 1));
            let among = workloads().filter(|id| share.has(id)).count();
            let expected = usize::from(percent) * 100;
            assert!(among.abs_diff(expected) < 150, "{percent}%: {among} of 10000");
            assert!(workloads().all(|id| !share.has(&id) || more.has(&id)));
        }
        assert!(workloads().all(|id| cohort("100%").has(&id)));
        // Other releases find the same.
        assert_eq!((hundredth(&id("ns/shop/sa/cart")), hundredth(&id("ns/shop/sa/web"))), (16, 95));
    }

    #[test]
    fn a_namespace_is_whom_it_covers_and_the_ca_is_in_none() {
        let shop = cohort("spiffe://example.org/ns/shop/*");
        assert!(shop.has(&id("ns/shop/sa/cart")) && !shop.has(&id("ns/pay/sa/cart")));
        let all = cohort("100%,spiffe://example.org/*");
        for reserved in ["banyan/ca/main", "banyan/agent/node-1"] {
            assert!(!all.has(&id(reserved)), "{reserved}");
        }
    }

    #[test]
    fn only_a_cohort_with_everybody_of_the_other_includes_it() {
        let (shop, cart) =
            ("spiffe://example.org/ns/shop/*", "spiffe://example.org/ns/shop/sa/cart");
        for (greater, lesser) in [
            ("5%", "5%"),
            ("20%", "5%"),
            (shop, cart),
            (&format!("5%,{shop}"), shop),
            ("100%", shop),
            ("spiffe://example.org/*", cart),
        ] {
            assert!(cohort(greater).includes(&cohort(lesser)), "{greater} {lesser}");
        }
        for (greater, lesser) in [
            ("5%", "20%"),
            (cart, shop),
            (shop, "1%"),
            ("99%", cart),
            (&format!("50%,{cart}"), shop),
        ] {
            assert!(!cohort(greater).includes(&cohort(lesser)), "{greater} {lesser}");
        }
    }

    #[test]
    fn what_names_nobody_or_nothing_is_refused_and_the_rest_is_read_back() {
        for text in ["", " , ", "0%", "101%", "5.5%", "-1%", "5%,6%", "shop", "spiffe://a b/*"] {
            assert!(text.parse::<Cohort>().is_err(), "{text}");
        }
        for text in ["5%", "5%,spiffe://example.org/ns/pay/*,spiffe://example.org/ns/shop/sa/cart"]
        {
            assert_eq!(cohort(text).to_string(), text);
        }
        assert_eq!(
            cohort(" spiffe://example.org/b , 5% ").to_string(),
            "5%,spiffe://example.org/b"
        );
    }
}
