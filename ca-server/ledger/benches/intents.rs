//! What a row costs: 32 requests in flight, each an intent and, once it is durable, its issued record.
//!
//! Before the benches it prints the CPU time of the whole process for each such pair, which the wall clock cannot
//! show: most of that is spent waiting for the disk. It also prints how long an intent takes that comes alone.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench stops at the first surprise"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use host::{OsRandomness, RealDisk, SystemClock};
use ledger::{Ledger, OpenOptions, Row, RowKind, SegmentId, Settings};
use trust::{CertificateId, Clock as _, RootId, Sequence, Serial, SpiffeId, SpkiHash};

const IN_FLIGHT: u64 = 32;
const ROUND: u64 = 4_096;

struct Setup {
    ledger: Arc<Ledger>,
    template: Row,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

fn setup(commit_window: Duration) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(OpenOptions {
        dir: dir.path().join("ledger"),
        segment: SegmentId::parse("bench").unwrap(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        skew: Duration::from_secs(60),
        settings: Settings { commit_window, ..Settings::default() },
    })
    .unwrap();
    let template = Row {
        serial: Serial::random(&OsRandomness::new()),
        spki: SpkiHash::of(b"key"),
        identity: SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart").unwrap(),
        agent: Some("host-17".to_owned()),
        root: RootId::of(b"root"),
        issuer: CertificateId::of(b"issuer"),
        not_after: SystemClock.now().plus(Duration::from_secs(86_400)),
        born: Sequence(3),
        kind: RowKind::AgentHeld,
        word: ledger::Word::None,
    };
    // One worker, as one core of a server would have.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    Setup { ledger: Arc::new(ledger), template, runtime, _dir: dir }
}

impl Setup {
    fn round(&self) {
        let clients: Vec<_> = (0..IN_FLIGHT)
            .map(|_| {
                let (ledger, template) = (Arc::clone(&self.ledger), self.template.clone());
                self.runtime.spawn(async move {
                    let (random, certificate) = (OsRandomness::new(), CertificateId::of(b"leaf"));
                    for _ in 0..ROUND / IN_FLIGHT {
                        let row = Row { serial: Serial::random(&random), ..template.clone() };
                        let serial = ledger.intend(row).await.unwrap().spend().serial;
                        ledger.issued(serial, certificate).await.unwrap();
                    }
                })
            })
            .collect();
        self.runtime.block_on(async {
            for client in clients {
                client.await.unwrap();
            }
        });
    }
}

impl Setup {
    fn print_alone(&self) {
        let random = OsRandomness::new();
        let mut took: Vec<Duration> = (0..2_000)
            .map(|_| {
                let row = Row { serial: Serial::random(&random), ..self.template.clone() };
                let started = Instant::now();
                self.runtime.block_on(self.ledger.intend(row)).unwrap().spend();
                started.elapsed()
            })
            .collect();
        took.sort_unstable();
        let (p50, p99) = (took.get(1_000).unwrap(), took.get(1_980).unwrap());
        println!("alone: p50 {p50:?}, p99 {p99:?} for an intent");
    }

    fn print_cpu(&self, window_micros: u64) {
        self.round();
        let (commits, cpu, wall) = (self.ledger.stats().commits, cpu_time(), Instant::now());
        (0..8).for_each(|_| self.round());
        let pairs = 8.0 * f64::from(u32::try_from(ROUND).unwrap());
        let (cpu, wall) = ((cpu_time() - cpu).as_secs_f64(), wall.elapsed().as_secs_f64());
        let commits = self.ledger.stats().commits - commits;
        println!(
            "window {window_micros} us: {:.2} us CPU for each pair, {:.0} pairs/s, {commits} commits",
            cpu / pairs * 1e6,
            pairs / wall
        );
    }
}

/// User and system time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

fn intents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("intent+issued, 32 in flight");
    group.throughput(Throughput::Elements(ROUND)).sample_size(10);
    for window_micros in [0, 500] {
        let setup = setup(Duration::from_micros(window_micros));
        setup.print_cpu(window_micros);
        setup.print_alone();
        group.bench_function(format!("window {window_micros} us"), |bencher| {
            bencher.iter(|| setup.round())
        });
    }
    group.finish();
}

criterion_group!(benches, intents);
criterion_main!(benches);
