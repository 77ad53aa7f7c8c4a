//! Leaves are issued as fast beside a root authority that hangs or is dead as beside one that is well. A binary of its own:
//! nothing else of these tests runs at the same time.

#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use integration_tests::faults::{CaDir, ChildCa};
use integration_tests::mesh::{PythonAuthority, SOON, admin_channel, tls_channel};
use integration_tests::tokens::TokenIssuer;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, ListRootsRequest, Rotation, StartRotationRequest,
    Verb,
};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

/// Requests in flight.
const CLIENTS: usize = 8;
/// Time that is counted at once. The kernel counts CPU time in hundredths of a second.
const SLICE: Duration = Duration::from_millis(1_000);
/// Rounds of one slice of each kind, and the most that are run before the medians must agree.
const ROUNDS: [usize; 2] = [5, 15];
/// How far medians may be apart.
const MARGIN: f64 = 0.10;

/// How the authority is while leaves are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// It is well, and nobody asks it for anything.
    Fair,
    /// It holds its socket open and answers nothing, and a rotation waits for it.
    Hangs,
    /// Its process was killed, and a rotation waits for it.
    Dead,
}

const WEATHERS: [Weather; 3] = [Weather::Fair, Weather::Hangs, Weather::Dead];

/// What a slice came to.
#[derive(Clone, Copy, Debug)]
struct Slice {
    per_second: f64,
    cpu_us_per_leaf: f64,
}

/// A CA in a process of its own, under load, with an authority beside it.
struct Bench {
    _ca: ChildCa,
    pid: u32,
    admin: Channel,
    authority: PythonAuthority,
    done: Arc<AtomicU64>,
    load: JoinSet<anyhow::Result<()>>,
    _ca_dir: CaDir,
}

impl Bench {
    async fn start() -> anyhow::Result<Self> {
        let (authority, tokens) = (PythonAuthority::started().await?, TokenIssuer::of_mesh());
        let ca_dir = CaDir::new(&format!(
            "[limits]\nrows_per_identity = 10000000\nleaves_per_second = 1000000\n{}[authority.main]\nplugin = \"self-signed\"\n{}",
            TokenIssuer::SECTION,
            authority.section("python")
        ))?;
        std::fs::write(ca_dir.beside(TokenIssuer::KEY_SET_FILE), tokens.key_set())?;
        let mut ca = ChildCa::spawn(Path::new(env!("CARGO_BIN_EXE_ca_under_test")), &ca_dir)?;
        let (grpc, _) = ca.ready().await?;
        let pid = ca.pid().context("no process")?;
        let admin = admin_channel(ca_dir.config()?.listen().admin_socket());
        let roots =
            AdminServiceClient::new(admin.clone()).list_roots(ListRootsRequest::default()).await?;
        let roots: Vec<_> = roots.into_inner().roots.into_iter().map(|root| root.der).collect();
        let (done, token) = (Arc::<AtomicU64>::default(), tokens.of_account("shop", "cart"));
        let mut load = JoinSet::new();
        for _ in 0..CLIENTS {
            let channel = tls_channel(grpc, &roots, None, &[&rustls::version::TLS13]).await?;
            load.spawn(ask_on(channel, token.clone(), Arc::clone(&done)));
        }
        Ok(Self { _ca: ca, pid, admin, authority, done, load, _ca_dir: ca_dir })
    }

    /// Counts leaves for one slice, in this weather.
    async fn slice(&mut self, weather: Weather, number: usize) -> anyhow::Result<Slice> {
        match weather {
            Weather::Fair => {}
            Weather::Hangs => self.authority.set_frozen(true)?,
            Weather::Dead => self.authority.kill().await?,
        }
        if weather != Weather::Fair {
            let (request_id, authority) = (format!("{weather:?}-{number}"), "python".to_owned());
            let request =
                StartRotationRequest { request_id, authority, ..StartRotationRequest::default() };
            self.rotations().start_rotation(request).await?;
        }
        if weather == Weather::Dead {
            self.until("the dead authority is told of", |rotation| {
                rotation
                    .troubles
                    .iter()
                    .any(|trouble| trouble.contains("creating the new root failed"))
            })
            .await?;
        }
        let (cpu, leaves, began) = (self.cpu()?, self.done.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(SLICE).await;
        let leaves = self.done.load(Ordering::Relaxed) - leaves;
        let (cpu, took) = (self.cpu()?.saturating_sub(cpu), began.elapsed());
        if weather != Weather::Fair {
            let request_id = format!("stop-{weather:?}-{number}");
            let staging = self.rotations().get_rotation(GetRotationRequest {}).await?.into_inner();
            assert_eq!(staging.phase, "staging", "the authority was waited for all the time");
            let stop = DecideRotationRequest {
                request_id,
                verb: Verb::Abort.into(),
                ..Default::default()
            };
            self.rotations().decide_rotation(stop).await?;
            match weather {
                Weather::Dead => self.authority.start().await?,
                _ => self.authority.set_frozen(false)?,
            }
            self.until("the rotation is given up", |rotation| rotation.phase == "steady").await?;
        }
        if let Some(ended) = self.load.try_join_next() {
            ended??;
            anyhow::bail!("a client ended");
        }
        anyhow::ensure!(leaves > 0, "no leaf was issued: {weather:?}");
        Ok(Slice {
            per_second: leaves as f64 / took.as_secs_f64(),
            cpu_us_per_leaf: cpu.as_secs_f64() * 1e6 / leaves as f64,
        })
    }

    async fn until(&self, what: &str, holds: impl Fn(&Rotation) -> bool) -> anyhow::Result<()> {
        let poll = async {
            while !holds(self.rotations().get_rotation(GetRotationRequest {}).await?.get_ref()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(SOON, poll).await.with_context(|| format!("not in time: {what}"))?
    }

    fn rotations(&self) -> RotationServiceClient<Channel> {
        RotationServiceClient::new(self.admin.clone())
    }

    /// CPU time of the server's process so far.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in parentheses may hold anything; the times are the 12th and 13th field after it.
        let (_, fields) = text.rsplit_once(')').context("an odd /proc/PID/stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
    }
}

async fn ask_on(channel: Channel, token: String, done: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&KeyPair::generate()?)?.pem()?;
    let mut client = IstioCertificateServiceClient::new(channel);
    loop {
        let message =
            IstioCertificateRequest { csr: csr.clone(), validity_duration: 0, metadata: None };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let answer = client.create_certificate(request).await?;
        anyhow::ensure!(answer.get_ref().cert_chain.len() >= 2, "the answer has no chain");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Each slice is set against the fair one of its round, which ran a moment before on the same machine.
fn median_ratio(rounds: &[[Slice; 3]], of: usize, figure: fn(&Slice) -> f64) -> f64 {
    median(rounds.iter().map(|round| figure(&round[of]) / figure(&round[0])).collect())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn agrees(rounds: &[[Slice; 3]]) -> bool {
    (1..WEATHERS.len()).all(|of| {
        median_ratio(rounds, of, |slice| slice.per_second) >= 1.0 - MARGIN
            && median_ratio(rounds, of, |slice| slice.cpu_us_per_leaf) <= 1.0 + MARGIN
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_are_issued_as_fast_while_a_plugin_hangs_or_is_dead() -> anyhow::Result<()> {
    let mut bench = Bench::start().await?;
    bench.slice(Weather::Fair, 0).await?;
    let mut rounds = Vec::new();
    let [least, most] = ROUNDS;
    while rounds.len() < least || (rounds.len() < most && !agrees(&rounds)) {
        let number = rounds.len() + 1;
        let mut round = Vec::new();
        for weather in WEATHERS {
            round.push(bench.slice(weather, number).await?);
        }
        rounds.push([round[0], round[1], round[2]]);
    }
    for (of, weather) in WEATHERS.iter().enumerate() {
        let all = |figure: fn(&Slice) -> f64| {
            median(rounds.iter().map(|round| figure(&round[of])).collect())
        };
        println!(
            "{weather:?}: {:.0} leaves/s, {:.0} us of CPU each; against fair: {:.3} and {:.3} ({} slices of {:?})",
            all(|slice| slice.per_second),
            all(|slice| slice.cpu_us_per_leaf),
            median_ratio(&rounds, of, |slice| slice.per_second),
            median_ratio(&rounds, of, |slice| slice.cpu_us_per_leaf),
            rounds.len(),
            SLICE
        );
    }
    assert!(agrees(&rounds), "the medians are further apart than {MARGIN}: {rounds:#?}");
    Ok(())
}
