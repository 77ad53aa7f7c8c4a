//! Whom relying parties speak for, as gates look it up.

use std::collections::{BTreeMap, BTreeSet};

use trust::{Cover, Sequence, SpiffeId};

use crate::rows::RelyingPartyRow;

/// Whom relying parties cover, of one moment.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    parties: Vec<(String, RelyingPartyRow)>,
    /// Places in `parties`.
    by_cover: BTreeMap<Cover, Vec<usize>>,
}

impl Coverage {
    pub(crate) fn of<'a>(all: impl Iterator<Item = (&'a String, &'a RelyingPartyRow)>) -> Self {
        let mut coverage = Self::default();
        for (name, row) in all.filter(|(_, row)| !row.covers.is_empty()) {
            for cover in &row.covers {
                let by = coverage.by_cover.entry(cover.clone()).or_default();
                by.push(coverage.parties.len());
            }
            coverage.parties.push((name.clone(), row.clone()));
        }
        coverage
    }

    /// What an identity is covered by; nothing if nobody covers it.
    pub fn covers(&self, identity: &SpiffeId) -> BTreeSet<Cover> {
        // Of most systems there is none, and then nothing has to be taken apart.
        if self.by_cover.is_empty() {
            return BTreeSet::new();
        }
        Cover::of(identity).filter(|cover| self.by_cover.contains_key(cover)).collect()
    }

    /// The relying parties that cover an identity, by name.
    pub fn by(&self, identity: &SpiffeId) -> Vec<&(String, RelyingPartyRow)> {
        self.parties_of(&self.covers(identity))
    }

    /// Whether all who cover an identity have a bundle, and there is at least one.
    pub fn has(&self, identity: &SpiffeId, wanted: Sequence) -> bool {
        self.all_have(&self.covers(identity), wanted)
    }

    /// As [`has`](Self::has), of those who are covered by exactly these.
    pub fn all_have(&self, covers: &BTreeSet<Cover>, wanted: Sequence) -> bool {
        let by = self.parties_of(covers);
        !by.is_empty() && by.iter().all(|(_, row)| row.has(wanted))
    }

    fn parties_of(&self, covers: &BTreeSet<Cover>) -> Vec<&(String, RelyingPartyRow)> {
        let places: BTreeSet<_> =
            covers.iter().filter_map(|cover| self.by_cover.get(cover)).flatten().collect();
        places.into_iter().filter_map(|place| self.parties.get(*place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use trust::Timestamp;

    use super::*;
    use crate::rows::Confirmation;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn party(name: &str, covers: &[&str], has: Option<u64>) -> (String, RelyingPartyRow) {
        let word =
            |sequence| Confirmation { sequence: Sequence(sequence), by: String::new(), at: NOW };
        let row = RelyingPartyRow {
            staleness: None,
            added: NOW,
            confirmed: has.map(word),
            covers: covers.iter().map(|text| text.parse().unwrap()).collect(),
        };
        (name.to_owned(), row)
    }

    #[test]
    fn an_identity_that_several_cover_needs_the_word_of_each_whether_by_name_or_by_what_is_above() {
        let parties = [
            party("all", &["spiffe://example.org/*"], Some(3)),
            party("shop", &["spiffe://example.org/ns/shop/*"], Some(2)),
            party(
                "web",
                &["spiffe://example.org/ns/shop/sa/web", "spiffe://example.org/ns/a/*"],
                None,
            ),
            party("nobody", &[], None),
        ];
        let coverage = Coverage::of(parties.iter().map(|(name, row)| (name, row)));
        let id = |path: &str| SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap();
        let names = |path: &str| -> Vec<_> {
            coverage.by(&id(path)).into_iter().map(|(name, _)| name.as_str()).collect()
        };
        assert_eq!(names("/ns/shop/sa/web"), ["all", "shop", "web"]);
        assert_eq!(names("/ns/shop/sa/cart"), ["all", "shop"]);
        assert_eq!(names("/ns/b/sa/web"), ["all"]);
        assert_eq!(names(""), [""; 0]);
        assert!(!coverage.has(&id("/ns/shop/sa/web"), Sequence(1)), "web said nothing");
        assert!(coverage.has(&id("/ns/shop/sa/cart"), Sequence(2)));
        assert!(!coverage.has(&id("/ns/shop/sa/cart"), Sequence(3)), "shop has not");
        assert!(coverage.has(&id("/ns/b/sa/web"), Sequence(3)));
        assert!(!coverage.has(&id(""), Sequence(1)), "nobody covers it");
    }

    #[test]
    fn what_a_cover_is_of_no_party_any_more_opens_nothing() {
        let (name, row) = party("web", &["spiffe://example.org/ns/web/*"], Some(9));
        let coverage = Coverage::of([(&name, &row)].into_iter());
        let former = BTreeSet::from([Cover::parse("spiffe://example.org/ns/shop/*").unwrap()]);
        assert!(!coverage.all_have(&former, Sequence(1)));
        assert!(!coverage.all_have(&BTreeSet::new(), Sequence(1)));
    }
}
