//! What of a state is in a backup.

use stores::{Space, spaces};

/// What a space is to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Says whose state it is, and where it went: the header has that, and the place of the restore has its own.
    Meta,
    /// Of one moment with the record.
    Core,
    /// Sealed keys of roots: of one moment with the record, and left out if somebody wants so.
    Keys,
    /// Entries are only added: those up to the record's.
    Journal,
    /// Each row stands for itself.
    Rows,
    /// What servers say of themselves while they run: of no use to any other moment.
    Living,
}

pub(crate) fn part(space: Space) -> Part {
    match space {
        spaces::META => Part::Meta,
        spaces::JOURNAL => Part::Journal,
        spaces::ROOT_KEYS => Part::Keys,
        spaces::RECORD
        | spaces::BUNDLES
        | spaces::ISSUER_REQUESTS
        | spaces::TICKETS
        | spaces::AUTHORITY_BOOKS => Part::Core,
        spaces::SEGMENTS | spaces::REPLICAS => Part::Living,
        _ => Part::Rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_while_they_run_is_in_no_backup_and_every_other_space_is() {
        let of = |wanted| {
            let found = spaces::ALL.into_iter().filter(|space| part(*space) == wanted);
            found.map(|space| space.name()).collect::<Vec<_>>()
        };
        assert_eq!(of(Part::Living), ["segments", "replicas"]);
        assert_eq!([of(Part::Meta), of(Part::Journal), of(Part::Keys)].concat().len(), 3);
        assert_eq!(
            of(Part::Core),
            ["record", "bundles", "issuer-requests", "tickets", "authority-books"]
        );
        assert!(of(Part::Rows).contains(&"agents") && of(Part::Rows).contains(&"bans"));
    }
}
