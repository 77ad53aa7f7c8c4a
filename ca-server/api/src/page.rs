//! Answers in pages, so that none grows beyond what clients take (4 MiB by default), however much there is.

use prost::Message;

/// Entries of one page.
pub(crate) const PAGE_MAX: usize = 1_000;
/// Bytes of one page of entries that vary much in size.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// How many entries a page has for whom asked for so many; 0 asks for as many as may be.
pub(crate) fn limit(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => PAGE_MAX,
        Ok(asked) => asked.min(PAGE_MAX),
    }
}

/// The first entries, and from where the next page goes on, if there is one.
pub(crate) fn cut<T, P>(
    mut all: Vec<T>,
    asked: u32,
    place: impl Fn(&T) -> P,
) -> (Vec<T>, Option<P>) {
    let limit = limit(asked);
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(place);
    (all, next)
}

/// As [`cut`], of messages that vary much in size: a page of large ones ends early.
pub(crate) fn cut_messages<T: Message, P>(
    mut all: Vec<T>,
    asked: u32,
    place: impl Fn(&T) -> P,
) -> (Vec<T>, Option<P>) {
    let fits = fitting(all.iter().map(Message::encoded_len)).min(limit(asked));
    let more = all.len() > fits;
    all.truncate(fits);
    let next = all.last().filter(|_| more).map(place);
    (all, next)
}

/// How many of these sizes fit into a page; at least one.
pub(crate) fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let sums = sizes.scan(0_usize, |sum, size| {
        *sum = sum.saturating_add(size);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= PAGE_BYTES_MAX).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_and_say_where_they_go_on() {
        assert_eq!(cut(vec![1, 2, 3], 2, |last| *last), (vec![1, 2], Some(2)));
        assert_eq!(cut(vec![1, 2], 2, |last| *last), (vec![1, 2], None));
        let (page, next) = cut((0..5_000).collect(), 0, |last: &i32| *last);
        assert_eq!((page.len(), next), (PAGE_MAX, Some(999)));
        assert_eq!(cut((0..5_000).collect::<Vec<_>>(), 4_000, |last| *last).0.len(), PAGE_MAX);
    }

    #[test]
    fn a_page_of_large_entries_ends_early_and_has_one_at_least() {
        assert_eq!(fitting([600_000, 400_000, 100_000].into_iter()), 2);
        assert_eq!(fitting([9_000_000, 1].into_iter()), 1);
        assert_eq!(fitting(std::iter::repeat_n(10, 5)), 5);
    }
}
