//! What rows cost: bytes in memory and on the disk, and the time of a start. `cargo run --release -p ledger --example rows`.
//!
//! A million rows of 100,000 identities behind 1,000 agents are issued and acknowledged; then the ledger is opened anew.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench stops at the first surprise"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use host::{OsRandomness, RealDisk, SystemClock};
use ledger::{
    EvidenceClass, Ledger, OpenOptions, Proof, Row, RowFilter, RowKind, SegmentId, Settings,
    Witness,
};
use trust::{CertificateId, Clock as _, RootId, Sequence, Serial, SpiffeId, SpkiHash};

const ROWS: u64 = 1_000_000;
const IN_FLIGHT: u64 = 512;

fn open(dir: &std::path::Path, segment: &str) -> Ledger {
    let options = OpenOptions {
        dir: dir.to_owned(),
        segment: SegmentId::parse(segment).unwrap(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        skew: Duration::from_secs(60),
        settings: Settings::default(),
    };
    Ledger::open(options).unwrap().0
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn disk_bytes(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => disk_bytes(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

fn row(number: u64, random: &OsRandomness) -> Row {
    let workload = number % 100_000;
    Row {
        serial: Serial::random(random),
        spki: SpkiHash::of(&number.to_le_bytes()),
        identity: SpiffeId::parse(&format!("spiffe://example.org/ns/shop/sa/cart-{workload}"))
            .unwrap(),
        agent: Some(format!("host-{}", workload % 1_000)),
        root: RootId::of(b"root"),
        issuer: CertificateId::of(b"issuer"),
        not_after: SystemClock.now().plus(Duration::from_secs(86_400 + number % 3_600)),
        born: Sequence(3),
        kind: RowKind::AgentHeld,
        word: ledger::Word::None,
    }
}

async fn issue(ledger: Arc<Ledger>, from: u64) {
    let random = OsRandomness::new();
    for number in (from..ROWS).step_by(usize::try_from(IN_FLIGHT).unwrap()) {
        let agent = format!("host-{}", number % 100_000 % 1_000);
        let serial = ledger.intend(row(number, &random)).await.unwrap().spend().serial;
        ledger.issued(serial, CertificateId::of(&number.to_le_bytes())).await.unwrap();
        let proof =
            Proof { applied: Sequence(3), class: EvidenceClass::Applied, at: SystemClock.now() };
        ledger.ack(Witness::Agent(&agent), serial, proof).await.unwrap();
    }
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ledger, before) = (Arc::new(open(dir.path(), "first")), resident_kib());
    runtime.block_on(async {
        let clients: Vec<_> =
            (0..IN_FLIGHT).map(|from| tokio::spawn(issue(Arc::clone(&ledger), from))).collect();
        for client in clients {
            client.await.unwrap();
        }
    });
    let memory = (resident_kib() - before) * 1_024 / ROWS;
    drop(ledger);
    println!("issued: {memory} B of memory a row, {} B on the disk", disk_bytes(dir.path()) / ROWS);
    let (started, before) = (Instant::now(), resident_kib());
    let ledger = open(dir.path(), "second");
    println!(
        "start: {:.1} s for {ROWS} rows, {} MiB more",
        started.elapsed().as_secs_f64(),
        (resident_kib() - before) / 1_024
    );
    let filter = RowFilter {
        unproven: Some((Sequence(4), EvidenceClass::Applied.into())),
        ..RowFilter::default()
    };
    let started = Instant::now();
    let page = ledger.rows(&filter, None, 32);
    println!("32 of {ROWS} holders: {} rows looked at, {:?}", page.looked_at, started.elapsed());
}
