//! Random operations against a map that does the same the slow way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trust::{Clock as _, Sequence, Serial, Timestamp};

use super::{Bench, SKEW, contents};
use crate::aggregates::Tally;
use crate::evidence::Witness;
use crate::ledger::Ledger;
use crate::row::{EvidenceClass, Probed, Proof, Row, RowKind, Word};
use crate::settings::Settings;
use crate::testing::{NOW, root, row, serial};

#[derive(Clone, Debug)]
enum Operation {
    Intend { number: u64, root: u8, born: u64, life: u64, agent: bool, word: Word },
    Abandon { number: u64 },
    Ack { number: u64, sequence: u64, class: EvidenceClass },
    Release { number: u64 },
    Expire { secs: u64 },
    Compact,
    Restart,
    Kill,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let number = || 0..40u64;
    let class = prop::sample::select(EvidenceClass::ALL.to_vec());
    let word = prop_oneof![
        Just(Word::None),
        (1..4u64).prop_map(|sequence| Word::Trusting(Sequence(sequence))),
        Just(Word::OwnTrust),
        (1..4u64, 1..4u64).prop_map(|(trusting, seen)| Word::Listening {
            trusting: Sequence(trusting),
            seen: Probed::Observed(Sequence(seen)),
        }),
    ];
    let intend = (number(), 1..3u8, 1..4u64, 1..5_000u64, any::<bool>(), word).prop_map(
        |(number, root, born, life, agent, word)| Operation::Intend {
            number,
            root,
            born,
            life,
            agent,
            word,
        },
    );
    let operation = prop_oneof![
        8 => intend,
        1 => number().prop_map(|number| Operation::Abandon { number }),
        6 => (number(), 1..5u64, class).prop_map(|(number, sequence, class)| Operation::Ack { number, sequence, class }),
        2 => number().prop_map(|number| Operation::Release { number }),
        1 => (1..2_000u64).prop_map(|secs| Operation::Expire { secs }),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Restart),
        1 => Just(Operation::Kill),
    ];
    prop::collection::vec(operation, 1..60)
}

/// What the model knows of a row.
#[derive(Clone, Debug)]
struct Known {
    row: Row,
    proofs: Vec<(u64, EvidenceClass)>,
    ended: bool,
}

impl Known {
    fn reached(&self, s: u64, at_least: EvidenceClass) -> bool {
        self.proofs.iter().any(|(applied, class)| *applied >= s && *class >= at_least)
    }
}

#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<Serial, Known>,
    /// Serials are random: none comes back after its row has expired.
    used: BTreeSet<Serial>,
}

fn agrees(ledger: &Ledger, model: &Model) {
    let counts = ledger.aggregates();
    let tally = |matches: &dyn Fn(&Known) -> bool| {
        let rows: Vec<_> =
            model.rows.values().filter(|known| !known.ended && matches(known)).collect();
        let latest_not_after = rows.iter().map(|known| known.row.not_after).max();
        Tally { rows: rows.len() as u64, latest_not_after }
    };
    assert_eq!(counts.all(), tally(&|_| true));
    for number in 1..3 {
        assert_eq!(counts.under(&root(number)), tally(&|known| known.row.root == root(number)));
    }
    for s in 1..6 {
        for class in EvidenceClass::ALL {
            let slow = tally(&|known| {
                let by_birth = known.row.kind == RowKind::Own && known.row.born >= Sequence(s);
                !by_birth && !known.reached(s, class)
            });
            assert_eq!(counts.unproven_by(Sequence(s), |_| class), slow, "{s} {class:?}");
        }
    }
    let agents =
        model.rows.values().filter(|known| !known.ended && known.row.agent.is_some()).count();
    assert_eq!(ledger.rows_of_agent("a"), agents as u64);
    let own = model
        .rows
        .values()
        .filter(|known| !known.ended && known.row.word == Word::OwnTrust)
        .count();
    assert_eq!(ledger.own_trust(usize::MAX, |_| true).len(), own);
    assert_eq!(ledger.shared.index().len(), model.rows.len());
}

async fn apply(operation: &Operation, ledger: &Ledger, model: &mut Model, now: Timestamp) {
    match *operation {
        Operation::Intend { number, root: under, born, life, agent, word } => {
            let row = Row {
                root: root(under),
                born: Sequence(born),
                not_after: now.plus(Duration::from_secs(life)),
                agent: agent.then(|| "a".to_owned()),
                kind: if agent { RowKind::AgentHeld } else { RowKind::Own },
                word,
                ..row(number)
            };
            let taken = model.rows.contains_key(&row.serial);
            if !taken && !model.used.insert(row.serial) {
                return;
            }
            let intent = ledger.intend(row.clone()).await;
            assert_eq!(intent.is_err(), taken);
            if let Ok(intent) = intent {
                intent.spend();
                let proofs = match word {
                    Word::Trusting(applied) => vec![(applied.0, EvidenceClass::Applied)],
                    Word::Listening { trusting, seen: Probed::Observed(seen) } => vec![
                        (trusting.0, EvidenceClass::Applied),
                        (seen.0, EvidenceClass::HandshakeObserved),
                    ],
                    _ => Vec::new(),
                };
                model.rows.insert(row.serial, Known { row, proofs, ended: false });
            }
        }
        Operation::Abandon { number } => {
            if !model.used.insert(serial(number)) {
                return;
            }
            let row = Row { not_after: now.plus(Duration::from_secs(1_000)), ..row(number) };
            ledger.intend(row.clone()).await.unwrap().abandon("model");
            model.rows.insert(row.serial, Known { row, proofs: Vec::new(), ended: true });
        }
        Operation::Ack { number, sequence, class } => {
            let proof = Proof { applied: Sequence(sequence), class, at: now };
            let taken = ledger.ack(Witness::Agent("a"), serial(number), proof).await.is_ok();
            let known = model.rows.get_mut(&serial(number));
            let known = known.filter(|known| !known.ended && known.row.agent.is_some());
            assert_eq!(taken, known.is_some());
            known.into_iter().for_each(|known| known.proofs.push((sequence, class)));
        }
        Operation::Release { number } => {
            if ledger.release(Witness::Server, serial(number)).await.is_ok() {
                model.rows.get_mut(&serial(number)).unwrap().ended = true;
            } else {
                assert!(!model.rows.contains_key(&serial(number)));
            }
        }
        Operation::Expire { .. } | Operation::Compact | Operation::Restart | Operation::Kill => {}
    }
}

async fn run(operations: Vec<Operation>) {
    let settings =
        Settings { file_bytes_max: 1 << 10, compact_below_percent: 60, ..Settings::default() };
    let (mut bench, mut model) = (Bench::with(settings), Model::default());
    let (first, mut disk, _) = bench.start();
    let mut ledger = Arc::new(first);
    for operation in operations {
        let now = bench.clock.now();
        apply(&operation, &ledger, &mut model, now).await;
        match operation {
            Operation::Expire { secs } => {
                bench.clock.advance(Duration::from_secs(secs));
                let now = bench.clock.now();
                ledger.expire().unwrap();
                model.rows.retain(|_, known| now <= known.row.not_after.plus(SKEW * 2));
            }
            Operation::Compact => {
                let ledger = Arc::clone(&ledger);
                tokio::task::spawn_blocking(move || ledger.compact()).await.unwrap().unwrap();
            }
            Operation::Restart | Operation::Kill => {
                if matches!(operation, Operation::Kill) {
                    // What nobody waited for may be lost; a durable row behind it in the queue makes it durable.
                    let barrier =
                        Row { not_after: NOW.minus(SKEW * 10), ..row(1_000 + bench.started) };
                    ledger.intend(barrier).await.unwrap().spend();
                    ledger.expire().unwrap();
                    disk.power_cut().unwrap();
                }
                let before = contents(&ledger);
                drop(ledger);
                let (next, fresh, _) = bench.start();
                assert_eq!(contents(&next), before);
                (ledger, disk) = (Arc::new(next), fresh);
            }
            _ => {}
        }
        agrees(&ledger, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_ledger_agrees_with_a_plain_map(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(operations));
    }
}
