//! Every space that a CA uses, in one list: what moves, backs up or counts a CA's state forgets none.

use crate::{Sensitivity, Space};

/// Whose state it is, in which format, and where it went.
pub const META: Space = Space::new("meta", Sensitivity::Plain);
/// The record of roots, with the newest entry of the journal.
pub const RECORD: Space = Space::new("record", Sensitivity::Plain);
/// The journal before its newest entry.
pub const JOURNAL: Space = Space::new("journal", Sensitivity::Plain);
/// What each segment's server reports of it.
pub const SEGMENTS: Space = Space::new("segments", Sensitivity::Plain);
/// The servers of this CA.
pub const REPLICAS: Space = Space::new("replicas", Sensitivity::Plain);
/// Servers that somebody wants to drain.
pub const REPLICA_DRAINS: Space = Space::new("replica-drains", Sensitivity::Plain);
/// Bundles, each with the statement that leads to it.
pub const BUNDLES: Space = Space::new("bundles", Sensitivity::Plain);
/// Agents.
pub const AGENTS: Space = Space::new("agents", Sensitivity::Plain);
/// Join tokens.
pub const TOKENS: Space = Space::new("tokens", Sensitivity::Secret);
/// Who relies on the bundle without a leaf.
pub const RELYING_PARTIES: Space = Space::new("relying-parties", Sensitivity::Plain);
/// CAs below this one, with hashes of their tokens.
pub const DOWNSTREAMS: Space = Space::new("downstreams", Sensitivity::Secret);
/// Names that may not join.
pub const BANS: Space = Space::new("bans", Sensitivity::Plain);
/// What operators attested of shared roots.
pub const ATTESTED: Space = Space::new("attested", Sensitivity::Plain);
/// Waivers: whose trust is not waited for.
pub const WAIVERS: Space = Space::new("waivers", Sensitivity::Plain);
/// Other trust domains, each with its last good bundle.
pub const FEDERATIONS: Space = Space::new("federations", Sensitivity::Plain);
/// What operators did about agents.
pub const ACTS: Space = Space::new("acts", Sensitivity::Plain);
/// For how long servers served this CA.
pub const SERVED: Space = Space::new("served", Sensitivity::Plain);
/// Requests to root authorities as they were sent.
pub const ISSUER_REQUESTS: Space = Space::new("issuer-requests", Sensitivity::Plain);
/// Claims on answers of root authorities that come later.
pub const TICKETS: Space = Space::new("tickets", Sensitivity::Plain);
/// Roots that are signed with another root, the second net of rotations.
pub const CROSS_CERTIFICATES: Space = Space::new("cross-certificates", Sensitivity::Plain);
/// What root authorities keep.
pub const AUTHORITY_BOOKS: Space = Space::new("authority-books", Sensitivity::Secret);
/// Keys of roots, sealed.
pub const ROOT_KEYS: Space = Space::new("root-keys", Sensitivity::Secret);

/// All of them.
pub const ALL: [Space; 22] = [
    META,
    RECORD,
    JOURNAL,
    SEGMENTS,
    REPLICAS,
    REPLICA_DRAINS,
    BUNDLES,
    AGENTS,
    TOKENS,
    RELYING_PARTIES,
    DOWNSTREAMS,
    BANS,
    ATTESTED,
    WAIVERS,
    FEDERATIONS,
    ACTS,
    SERVED,
    ISSUER_REQUESTS,
    TICKETS,
    CROSS_CERTIFICATES,
    AUTHORITY_BOOKS,
    ROOT_KEYS,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_spaces_have_one_name() {
        let names: BTreeSet<_> = ALL.iter().map(Space::name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
