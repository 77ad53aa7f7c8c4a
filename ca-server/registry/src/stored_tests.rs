//! The names that the registry's file is written with: they stay, whatever the code calls the same things.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use host::RealDisk;
use redb::{Builder, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};
use trust::{BundleDigest, RootId, Sequence, SpiffeId, SpkiHash, Timestamp};

use crate::rows::{
    ActRow, AgentRow, AttestedRow, BanRow, Confirmation, DownstreamIssuer, DownstreamRow,
    RelyingPartyRow, Seen, TokenRow,
};
use crate::store::{self, Change, Tables};

const BYTES: [u8; 32] = [0xab; 32];

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn word() -> BanRow {
    BanRow { by: "ann (uid 0)".to_owned(), reason: "lost".to_owned(), at: at(7) }
}

/// One row of each kind, with everything that it can hold.
fn one_of_each() -> Change {
    let identities = || BTreeSet::from([SpiffeId::parse("spiffe://example.org/web").unwrap()]);
    let (spki, root) = (SpkiHash::of(b"key"), RootId::of(b"root"));
    let token = TokenRow {
        agent: "node-1".to_owned(),
        identities: identities(),
        expires: at(90),
        used: Some((spki, at(5))),
        made: Some(("ann".to_owned(), at(3))),
        pins: Some(BundleDigest::from_bytes(&BYTES).unwrap()),
        revoked: Some(word()),
    };
    let agent = AgentRow {
        spki,
        identities: identities(),
        registered: at(5),
        caller: Some("ns/a/sa/b".to_owned()),
        seen: Seen { at: at(6), served: 60 },
    };
    let party = RelyingPartyRow {
        staleness: Some(Duration::from_secs(3_600)),
        added: at(1),
        confirmed: Some(Confirmation { sequence: Sequence(2), by: "bob".to_owned(), at: at(2) }),
        covers: identities(),
    };
    let issuers = BTreeMap::from([("one".to_owned(), DownstreamIssuer { root, ends: at(99) })]);
    Change {
        tokens: vec![(BYTES, Some(token))],
        agents: vec![("node-1".to_owned(), Some(agent))],
        bans: vec![("node-2".to_owned(), Some(word()))],
        act: Some(ActRow {
            verb: "ban".to_owned(),
            name: "node-2".to_owned(),
            agents: 1,
            word: word(),
        }),
        served: Some(60),
        relying_parties: vec![("mount".to_owned(), Some(party))],
        attested: vec![(root, AttestedRow { since: at(4), by: "eve".to_owned(), at: at(8) })],
        downstreams: vec![(
            "east".to_owned(),
            Some(DownstreamRow { token: [9; 32], added: at(1), issuers }),
        )],
    }
}

/// Every table by name with its rows, as they lie in the file.
fn dump(path: &std::path::Path) -> String {
    let database = Builder::new().open(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut names: Vec<_> =
        transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        writeln!(text, "{name}").unwrap();
        let mut row = |key: String, bytes: &[u8]| {
            writeln!(text, "  {key} {}", String::from_utf8_lossy(bytes)).unwrap();
        };
        match name.as_str() {
            "join_tokens_v1" => {
                let table = TableDefinition::<&[u8; 32], &[u8]>::new(&name);
                for (key, value) in transaction.open_table(table).unwrap().iter().unwrap().flatten()
                {
                    row(hex(key.value()), value.value());
                }
            }
            "agent_acts_v1" => {
                let table = TableDefinition::<u64, &[u8]>::new(&name);
                for (key, value) in transaction.open_table(table).unwrap().iter().unwrap().flatten()
                {
                    row(key.value().to_string(), value.value());
                }
            }
            "served_v1" => {
                let table = TableDefinition::<&str, u64>::new(&name);
                for (key, value) in transaction.open_table(table).unwrap().iter().unwrap().flatten()
                {
                    row(key.value().to_owned(), value.value().to_string().as_bytes());
                }
            }
            _ => {
                let table = TableDefinition::<&str, &[u8]>::new(&name);
                for (key, value) in transaction.open_table(table).unwrap().iter().unwrap().flatten()
                {
                    row(key.value().to_owned(), value.value());
                }
            }
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_registry_is_written_with_the_names_of_the_first_release_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.redb");
    store::create_if_missing(&RealDisk, &path).unwrap();
    let (database, mut tables) = store::open(&path).unwrap();
    store::write(&database, &tables, &one_of_each()).unwrap();
    tables.apply(one_of_each());
    drop(database);
    assert_eq!(dump(&path), include_str!("stored_rows.txt"));
    let (_, read) = store::open(&path).unwrap();
    assert_eq!(format!("{:?}", sorted(&read)), format!("{:?}", sorted(&tables)));
}

/// What was read, in a fixed order.
fn sorted(tables: &Tables) -> impl std::fmt::Debug + '_ {
    let tokens: BTreeMap<_, _> = tables.tokens.iter().collect();
    (
        tokens,
        &tables.agents,
        &tables.bans,
        &tables.acts,
        tables.served,
        &tables.relying_parties,
        &tables.attested,
        &tables.downstreams,
    )
}

#[test]
fn rows_of_the_first_release_are_read() {
    let spki = SpkiHash::of(b"key");
    let token =
        r#"{"agent":"node-1","identities":["spiffe://example.org/web"],"expires":90,"used":null}"#;
    let token: TokenRow = serde_json::from_str(token).unwrap();
    assert_eq!(
        (token.agent.as_str(), token.made, token.pins, token.revoked),
        ("node-1", None, None, None)
    );
    let agent = format!(r#"{{"spki":"{spki}","identities":[],"banned":null,"registered":5}}"#);
    let agent: AgentRow = serde_json::from_str(&agent).unwrap();
    assert_eq!((agent.registered, agent.caller, agent.seen), (at(5), None, Seen::default()));
    let party = r#"{"staleness":3600,"added":1,"confirmed":[2,"bob",2]}"#;
    let party: RelyingPartyRow = serde_json::from_str(party).unwrap();
    assert_eq!((party.staleness, party.covers.len()), (Some(Duration::from_secs(3_600)), 0));
    assert_eq!(
        party.confirmed.map(|word| (word.sequence, word.by)),
        Some((Sequence(2), "bob".to_owned()))
    );
}
