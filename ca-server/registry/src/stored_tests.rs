//! The names that rows are written with, in the shared store and in the file of former releases: they stay, whatever the code calls
//! the same things.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{Builder, TableDefinition};
use stores::fake::{FakeStore, Fault};
use stores::marked::unmark;
use stores::{SharedStore as _, settle};
use trust::{RootId, Sequence, SpkiHash, Timestamp};

use crate::error::TakeOverError;
use crate::federation_row::{EndpointProfile, FederationRow, ForeignBundle};
use crate::fixture::open;
use crate::former::take_over;
use crate::row::{Kind, Row};
use crate::rows::{AgentRow, RelyingPartyRow, Seen, TokenRow};
use crate::waiver_row::WaiverRow;

/// One row of each kind with everything that it can hold, as `registry.redb` has it.
const FORMER: &str = include_str!("stored_rows.txt");
/// The same in the shared store, and what rows can hold there besides.
const SHARED: &str = include_str!("shared_rows.txt");

/// A file of former releases with these tables and rows.
fn former(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("registry.redb");
    let database = Builder::new().create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut table = "";
    for line in FORMER.lines() {
        let Some(row) = line.strip_prefix("  ") else {
            table = line;
            continue;
        };
        let (key, value) = row.split_once(' ').unwrap();
        let bytes = value.as_bytes();
        match table {
            "join_tokens_v1" => {
                let Ok(Row::Token(hash, _)) = Kind::Tokens.gone(key) else { panic!("{key}") };
                let table = TableDefinition::<&[u8; 32], &[u8]>::new(table);
                transaction.open_table(table).unwrap().insert(&hash, bytes).unwrap();
            }
            "agent_acts_v1" => {
                let table = TableDefinition::<u64, &[u8]>::new(table);
                let index = key.parse::<u64>().unwrap();
                transaction.open_table(table).unwrap().insert(index, bytes).unwrap();
            }
            "served_v1" => {
                let table = TableDefinition::<&str, u64>::new(table);
                let secs = value.parse::<u64>().unwrap();
                transaction.open_table(table).unwrap().insert(key, secs).unwrap();
            }
            _ => {
                let table = TableDefinition::<&str, &[u8]>::new(table);
                transaction.open_table(table).unwrap().insert(key, bytes).unwrap();
            }
        }
    }
    transaction.commit().unwrap();
    path
}

/// Every space with its rows, as they lie in the store.
async fn dump(store: &FakeStore) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        writeln!(text, "{}", kind.space().name()).unwrap();
        for entry in settle::all(store, kind.space()).await.unwrap() {
            let key = kind.key(&entry.id).unwrap();
            let body = unmark(&key, &entry.value).unwrap();
            writeln!(text, "  {} {}", entry.id, String::from_utf8_lossy(body)).unwrap();
        }
    }
    text
}

/// What only the shared store can hold.
async fn put_further(store: &FakeStore) {
    let registry = open(store).await;
    let (hash, token) =
        registry.read().tokens.iter().map(|(hash, row)| (*hash, row.clone())).next().unwrap();
    let (agent, _) = registry.agent("node-1").unwrap();
    let rows = [
        Row::Token([0x01; 32], Some(TokenRow { spent: true, ..token })),
        Row::Agent("node-3".to_owned(), Some(AgentRow { home: Some("ca-2".to_owned()), ..agent })),
        Row::Waiver(
            "pay".to_owned(),
            Some(WaiverRow {
                covers: ["spiffe://example.org/ns/pay/*".parse().unwrap()].into(),
                until: Timestamp::from_secs(90),
                by: "ann (uid 0)".to_owned(),
                reason: "closed".to_owned(),
                at: Timestamp::from_secs(7),
            }),
        ),
        Row::Federation(
            "other.org".to_owned(),
            Some(FederationRow {
                endpoint: "https://ca.other.org/".to_owned(),
                profile: EndpointProfile::Spiffe("spiffe://other.org/banyan/ca/*".parse().unwrap()),
                reads_within: Some(Duration::from_secs(1_500)),
                owner: "kubernetes/a/b".to_owned(),
                by: "ann (uid 0)".to_owned(),
                reason: "partners".to_owned(),
                at: Timestamp::from_secs(7),
                given: "ab".to_owned(),
                bundle: Some(ForeignBundle {
                    sequence: Some(3),
                    refresh_hint: Some(300),
                    roots: vec![vec![1, 2, 3]],
                    taken: Timestamp::from_secs(8),
                    checked: Some(Timestamp::from_secs(9)),
                }),
            }),
        ),
    ];
    assert_eq!(hash, [0xab; 32]);
    for row in rows {
        let key = row.kind().key(&row.id()).unwrap();
        store.create(&key, &row.value(&key).unwrap().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_former_file_is_taken_over_and_rows_have_the_names_of_the_first_release() {
    let dir = tempfile::tempdir().unwrap();
    let (path, store) = (former(&dir), FakeStore::new());
    assert_eq!(take_over(&path, &store).await.unwrap(), 8);
    put_further(&store).await;
    assert_eq!(dump(&store).await, SHARED);
    let registry = open(&store).await;
    let root = RootId::of(b"root");
    assert_eq!(registry.agents_total(), (2, 1));
    assert_eq!(registry.attested(&root).unwrap().by, "eve");
    assert_eq!(registry.acts_from(0, 9)[0].1.verb, "ban");
    assert_eq!(registry.downstream_of(&[9; 32]).as_deref(), Some("east"));
    assert_eq!(registry.0.now().served, 60);
    let token = registry.token(&[0xab; 32]).unwrap();
    assert_eq!((token.agent.as_str(), token.spent), ("node-1", false));
    assert!(registry.token(&[1; 32]).unwrap().spent);
}

#[tokio::test]
async fn a_take_over_that_stopped_anywhere_is_finished_by_the_next_and_changes_nothing_that_is_there()
 {
    let dir = tempfile::tempdir().unwrap();
    let (path, whole) = (former(&dir), FakeStore::new());
    take_over(&path, &whole).await.unwrap();
    let wanted = dump(&whole).await;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let entries = settle::all(&whole, kind.space()).await.unwrap();
        rows.extend(entries.into_iter().map(|entry| (kind.key(&entry.id).unwrap(), entry.value)));
    }
    for stopped_after in 0..=rows.len() {
        let store = FakeStore::new();
        for (key, value) in &rows[..stopped_after] {
            store.create(key, value).await.unwrap();
        }
        for fault in [Fault::Failed, Fault::UnknownStored, Fault::UnknownNotStored] {
            store.fail_next_write(fault);
            let taken = take_over(&path, &store).await;
            let fails = fault == Fault::Failed && stopped_after < rows.len();
            assert_eq!(taken.is_err(), fails, "{stopped_after} {fault:?}");
        }
        assert_eq!(dump(&store).await, wanted);
    }
}

#[tokio::test]
async fn a_former_file_that_is_damaged_altered_or_lost_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (path, store) = (former(&dir), FakeStore::new());
    let good = std::fs::read(&path).unwrap();
    let refused = async |path: &Path| {
        let error = take_over(path, &store).await.unwrap_err();
        assert!(matches!(error, TakeOverError::File { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("registry.redb") && said.contains("latest backup"), "{said}");
    };
    let mut flipped = good.clone();
    let at = good.windows(6).rposition(|window| window == b"node-1").unwrap();
    flipped[at] ^= 1;
    for bad in [flipped.as_slice(), b"not a database"] {
        std::fs::write(&path, bad).unwrap();
        refused(&path).await;
        assert_eq!(std::fs::read(&path).unwrap(), bad);
    }
    std::fs::remove_file(&path).unwrap();
    refused(&path).await;
    assert!(!path.exists());
    assert_eq!(dump(&store).await.matches("\n  ").count(), 0, "nothing was taken");
    std::fs::write(&path, &good).unwrap();
    take_over(&path, &store).await.unwrap();
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
    assert_eq!((agent.registered.as_secs(), agent.caller, agent.seen), (5, None, Seen::default()));
    let party = r#"{"staleness":3600,"added":1,"confirmed":[2,"bob",2]}"#;
    let party: RelyingPartyRow = serde_json::from_str(party).unwrap();
    assert_eq!(
        (party.staleness.map(|bound| bound.as_secs()), party.covers.len()),
        (Some(3_600), 0)
    );
    assert_eq!(
        party.confirmed.map(|word| (word.sequence, word.by)),
        Some((Sequence(2), "bob".to_owned()))
    );
}
