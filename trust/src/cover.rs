//! Which workloads somebody speaks for: one SPIFFE id, or all below a path.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};

const ALL_BELOW: &str = "/*";

/// One SPIFFE id such as `spiffe://example.org/ns/shop/sa/cart`, or all below a path: `spiffe://example.org/ns/shop/*`, and
/// `spiffe://example.org/*` for the whole trust domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cover {
    text: Arc<str>,
    /// The id itself, or the one that all others are below of.
    id: SpiffeId,
}

impl Cover {
    /// Parses one.
    ///
    /// # Errors
    /// [`SpiffeIdError`] unless it is a SPIFFE id, or one with `/*` behind it; a star anywhere else is refused.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        let id = SpiffeId::parse(text.strip_suffix(ALL_BELOW).unwrap_or(text))?;
        Ok(Self { text: text.into(), id })
    }

    /// Everything that can cover an id: itself, and all below each path above it.
    pub fn of(id: &SpiffeId) -> impl Iterator<Item = Self> {
        let whole = id.as_str();
        let root = whole.len() - id.path().len();
        let ends = whole.match_indices('/').map(|(at, _)| at).filter(move |at| *at >= root);
        let below = ends.filter_map(move |at| {
            let above = whole.get(..at)?;
            Self::parse(&format!("{above}{ALL_BELOW}")).ok()
        });
        below.chain([Self { text: whole.into(), id: id.clone() }])
    }

    /// Whether it is about this id.
    pub fn has(&self, id: &SpiffeId) -> bool {
        if self.is_one() { self.id == *id } else { self.is_above(id.as_str()) }
    }

    /// Whether it is about everything that the other one is about.
    pub fn includes(&self, other: &Self) -> bool {
        self == other || !self.is_one() && self.is_above(&other.text)
    }

    /// The id, if it is about a single one.
    pub fn one(&self) -> Option<&SpiffeId> {
        self.is_one().then_some(&self.id)
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        self.id.trust_domain()
    }

    fn is_one(&self) -> bool {
        self.text.len() == self.id.as_str().len()
    }

    fn is_above(&self, text: &str) -> bool {
        text.strip_prefix(self.id.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for Cover {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cover(text: &str) -> Cover {
        text.parse().unwrap()
    }

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    #[test]
    fn one_is_about_itself_and_a_star_about_all_below_and_not_about_what_begins_alike() {
        let web = id("spiffe://example.org/ns/shop/sa/web");
        for covers in ["sa/web", "sa/*", "*"] {
            assert!(cover(&format!("spiffe://example.org/ns/shop/{covers}")).has(&web), "{covers}");
        }
        assert!(cover("spiffe://example.org/*").has(&web));
        for other in [
            "spiffe://example.org/ns/shop/sa/web/*",
            "spiffe://example.org/ns/sho/*",
            "spiffe://example.org/ns/shop/sa/we",
            "spiffe://example.or/*",
            "spiffe://example.org.evil/*",
            "spiffe://example.org",
        ] {
            assert!(!cover(other).has(&web), "{other}");
        }
        assert!(!cover("spiffe://example.org/*").has(&id("spiffe://example.org")));
    }

    #[test]
    fn what_can_cover_an_id_is_found_from_the_id_and_is_what_has_it() {
        let web = id("spiffe://example.org/ns/shop/sa/web");
        let all: BTreeSet<_> = Cover::of(&web).map(|cover| cover.to_string()).collect();
        let expected = ["*", "ns/*", "ns/shop/*", "ns/shop/sa/*", "ns/shop/sa/web"];
        let expected = expected.map(|rest| format!("spiffe://example.org/{rest}"));
        assert_eq!(all, BTreeSet::from(expected));
        assert!(Cover::of(&web).all(|cover| cover.has(&web)));
        let bare: Vec<_> = Cover::of(&id("spiffe://example.org")).collect();
        assert_eq!(bare, [cover("spiffe://example.org")]);
    }

    #[test]
    fn the_wider_includes_the_narrower() {
        let (domain, shop) =
            (cover("spiffe://example.org/*"), cover("spiffe://example.org/ns/shop/*"));
        let web = cover("spiffe://example.org/ns/shop/sa/web");
        for (wide, narrow) in [(&domain, &shop), (&domain, &web), (&shop, &web), (&shop, &shop)] {
            assert!(wide.includes(narrow), "{wide} {narrow}");
        }
        for (narrow, wide) in [(&shop, &domain), (&web, &shop)] {
            assert!(!narrow.includes(wide), "{narrow} {wide}");
        }
        assert!(!cover("spiffe://example.org/ns/shop").includes(&web));
        assert!(!cover("spiffe://example.org/ns/sho/*").includes(&shop));
    }

    #[test]
    fn a_star_stands_alone_at_the_end_or_is_refused() {
        for text in [
            "spiffe://example.org/ns/*/sa/web",
            "spiffe://example.org/ns/sh*",
            "spiffe://example.org/ns/**",
            "spiffe://example.org/*/*",
            "spiffe://*",
            "*",
            "spiffe:///*",
            "spiffe://example.org//*",
        ] {
            assert!(Cover::parse(text).is_err(), "{text}");
        }
    }
}
