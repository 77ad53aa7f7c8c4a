//! How many live rows one identity and one agent may have.

use super::Bench;
use crate::error::LedgerError;
use crate::evidence::Witness;
use crate::row::{Row, RowKind};
use crate::settings::Settings;
use crate::testing::{row, serial};

fn of(number: u64, identity: &str, agent: Option<&str>) -> Row {
    let identity = trust::SpiffeId::parse(&format!("spiffe://example.org/{identity}")).unwrap();
    Row { identity, agent: agent.map(str::to_owned), ..row(number) }
}

#[tokio::test]
async fn one_row_more_than_an_identity_may_have_is_refused_and_others_are_not() {
    let mut bench = Bench::with(Settings { rows_per_identity: 3, ..Settings::default() });
    let (ledger, ..) = bench.start();
    for number in 0..3 {
        ledger.intend(of(number, "greedy", None)).await.unwrap().spend();
    }
    let refused = ledger.intend(of(3, "greedy", None)).await.unwrap_err();
    let LedgerError::TooMany { holder, limit: 3, setting: "rows_per_identity" } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(holder, "spiffe://example.org/greedy");
    ledger.intend(of(4, "modest", None)).await.unwrap().spend();
    // A place that is given up can be taken, also after a restart.
    ledger.release(Witness::Server, serial(0)).await.unwrap();
    ledger.intend(of(5, "greedy", None)).await.unwrap().spend();
    drop(ledger);
    let (ledger, ..) = bench.start();
    assert!(ledger.intend(of(6, "greedy", None)).await.is_err());
    // The server's own leaves are never refused.
    for number in 7..17 {
        ledger
            .intend(Row { kind: RowKind::Own, ..of(number, "greedy", None) })
            .await
            .unwrap()
            .spend();
    }
}

#[tokio::test]
async fn one_row_more_than_an_agent_may_have_is_refused_and_an_abandoned_one_takes_no_place() {
    let mut bench = Bench::with(Settings { rows_per_agent: 3, ..Settings::default() });
    let (ledger, ..) = bench.start();
    for number in 0..10 {
        ledger.intend(of(number, &format!("w{number}"), Some("a"))).await.unwrap().abandon("test");
    }
    for number in 10..13 {
        ledger.intend(of(number, &format!("w{number}"), Some("a"))).await.unwrap().spend();
    }
    let refused = ledger.intend(of(13, "w13", Some("a"))).await.unwrap_err();
    assert!(refused.to_string().contains("agent a has 3 live leaves"), "{refused}");
    ledger.intend(of(14, "w14", Some("b"))).await.unwrap().spend();
}
