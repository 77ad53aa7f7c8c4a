//! What is to be done about one object: pure.

use super::content::Content;
use super::seen::Seen;

/// The bundle that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) ca: String,
    pub(crate) sequence: u64,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is as it should be.
    Right,
    /// It is to be written.
    Write,
    /// It is to be deleted, once all others are right.
    Delete,
    /// It is nobody's business here.
    Leave,
    /// It is left alone, and the channel says why.
    Stop(String),
}

/// Judges what shall be against what is.
pub(crate) fn judge(
    content: Option<&Content>,
    seen: Option<&Seen>,
    deletes: bool,
    ours: &Ours,
) -> Judgement {
    let Some(seen) = seen else {
        return if content.is_some() { Judgement::Write } else { Judgement::Leave };
    };
    if content.is_some_and(|content| content.print == seen.print) {
        return Judgement::Right;
    }
    match (&seen.mark, content) {
        (None, Some(_)) => Judgement::Write,
        (None, None) => Judgement::Leave,
        (Some(mark), content) if mark.ca != ours.ca => match content {
            Some(_) => Judgement::Stop(format!(
                "it has the bundle of another CA ({}): delete it if that one is gone, else give this channel another name",
                mark.ca
            )),
            None => Judgement::Leave,
        },
        (Some(mark), _) if mark.sequence > ours.sequence => Judgement::Stop(format!(
            "it has bundle {} of this CA, and the CA is at {}: if this stays, its state was restored from an older backup: `banyan state show` says how to go on",
            mark.sequence, ours.sequence
        )),
        (Some(_), Some(_)) => Judgement::Write,
        (Some(_), None) if deletes => Judgement::Delete,
        (Some(_), None) => Judgement::Leave,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Map;

    use super::super::seen::Mark;
    use super::*;

    fn content() -> Content {
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        Content { labels, annotations, body: Map::new(), print: [1; 32] }
    }

    fn seen(ca: Option<&str>, sequence: u64, print: u8) -> Seen {
        let mark = ca.map(|ca| Mark { ca: ca.to_owned(), sequence });
        Seen { version: "5".to_owned(), uid: "u".to_owned(), print: [print; 32], mark }
    }

    #[test]
    fn a_later_bundle_and_another_cas_are_never_overwritten_or_deleted() {
        let (ours, content) = (Ours { ca: "ca".to_owned(), sequence: 7 }, content());
        let judged = |content, seen: &Seen| judge(content, Some(seen), true, &ours);
        let all = Some(&content);
        assert_eq!(judged(all, &seen(Some("ca"), 7, 1)), Judgement::Right);
        assert_eq!(judged(all, &seen(Some("ca"), 7, 2)), Judgement::Write, "drift");
        assert_eq!(judged(all, &seen(Some("ca"), 6, 2)), Judgement::Write);
        assert_eq!(
            judged(all, &seen(None, 0, 2)),
            Judgement::Write,
            "its owner is asked by writing"
        );
        assert!(matches!(judged(all, &seen(Some("ca"), 8, 2)), Judgement::Stop(_)));
        assert!(matches!(judged(all, &seen(Some("other"), 1, 2)), Judgement::Stop(_)));
        assert_eq!(judged(None, &seen(Some("ca"), 6, 2)), Judgement::Delete);
        assert!(matches!(judged(None, &seen(Some("ca"), 8, 2)), Judgement::Stop(_)));
        assert_eq!(judged(None, &seen(Some("other"), 1, 2)), Judgement::Leave);
        assert_eq!(judged(None, &seen(None, 0, 2)), Judgement::Leave);
        assert_eq!(judge(all, None, true, &ours), Judgement::Write);
    }
}
