//! Who gets a place at the socket: real connections of real processes of several user ids. Needs root, and `python3` for
//! processes of other users.

use std::process::Stdio;

use super::*;
use crate::process::KernelProcesses;

/// What a process of another user does: it passes bytes on between its standard streams and the socket.
const PROXY: &str = r#"
import os, select, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
while True:
    for ready in select.select([s, 0], [], [])[0]:
        data = s.recv(65536) if ready is s else os.read(0, 65536)
        if not data:
            sys.exit()
        s.sendall(data) if ready == 0 else os.write(1, data)
"#;

/// User ids with a workload, and one without.
const ONE: u32 = 61_001;
const OTHER: u32 = 61_002;
const UNTRUSTED: u32 = 61_003;

/// One process of a user, connected to the agent.
struct Caller {
    _process: tokio::process::Child,
    client: SecretDiscoveryServiceClient<Channel>,
}

impl Caller {
    async fn of(uid: u32, bench: &Bench) -> Result<Self, tonic::transport::Error> {
        let mut process = tokio::process::Command::new("python3")
            .args(["-c", PROXY])
            .arg(bench.agent().socket())
            .uid(uid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 runs as another user: install python3, and run the tests as root");
        let io = tokio::io::join(process.stdout.take().unwrap(), process.stdin.take().unwrap());
        let io = std::sync::Mutex::new(Some(io));
        let connector = tower::service_fn(move |_| {
            let io = io.lock().unwrap().take();
            async move { io.map(TokioIo::new).ok_or_else(|| std::io::Error::other("connected once")) }
        });
        let channel =
            Endpoint::from_static("http://agent").connect_with_connector(connector).await?;
        Ok(Self { _process: process, client: SecretDiscoveryServiceClient::new(channel) })
    }

    async fn open(&self, name: &str) -> Result<Subscriber, Refusal> {
        let names = [name];
        let opened = Subscriber::open(self.client.clone(), &names, "");
        tokio::time::timeout(SOON, opened).await.expect("an answer in time")
    }
}

/// An agent with workloads for two users, which looks at real processes.
async fn bench(limits: &str) -> Bench {
    let mut bench = Bench::empty().await;
    open_to_others(bench.dir.path());
    let own = format!("uid = {}", rustix::process::geteuid().as_raw());
    let other = format!(
        "uid = {ONE}\nspiffe_id = \"spiffe://example.org/ns/a/sa/one\"\n[[workload]]\nuid = {OTHER}"
    );
    let text = format!("{}\n[limits]\n{limits}\n", bench.text().replace(&own, &other));
    let deps = HostDeps {
        clock: Arc::clone(&bench.clock) as _,
        randomness: Arc::new(SeededRandomness::new(7)),
        disk: Arc::new(host::RealDisk),
    };
    let config = AgentConfig::parse(&text).unwrap();
    bench.agent = Some(start_with(config, deps, Arc::new(KernelProcesses)).await.unwrap());
    bench.until("a member", |status| status.member.is_some() && status.connected).await;
    bench
}

fn open_to_others(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn one_user_takes_no_stream_that_is_anothers_share() {
    let bench = bench("streams = 40").await;
    let greedy = Caller::of(ONE, &bench).await.unwrap();
    let (mut open, mut refused) = (Vec::new(), None);
    for _ in 0..60 {
        match greedy.open("ROOTCA").await {
            Ok(stream) => open.push(stream),
            Err(refusal) => refused = Some(refusal),
        }
    }
    assert_eq!(open.len(), 30);
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("user id 61001") && refused.message().contains("limits.streams"),
        "{refused}"
    );
    let other = Caller::of(OTHER, &bench).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(other.open("ROOTCA").await.unwrap());
    }
    assert!(!secret_of(&streams[9].next().await.unwrap()).name.is_empty());
}

#[tokio::test]
async fn users_without_a_workload_take_no_connection_of_others_and_are_told_why() {
    let bench = bench("connections = 8").await;
    let mut callers = Vec::new();
    for uid in UNTRUSTED..UNTRUSTED + 20 {
        callers.extend(Caller::of(uid, &bench).await);
    }
    let refused = callers[0].open("default").await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(
        bench.agent().status().holders.len(),
        0,
        "nobody looks after the process of an unknown user"
    );
    let mut greedy = Vec::new();
    for _ in 0..8 {
        greedy.extend(Caller::of(ONE, &bench).await);
    }
    let other = Caller::of(OTHER, &bench).await.unwrap();
    let mut stream = other.open("ROOTCA").await.unwrap();
    stream.next_acked().await;
}

#[tokio::test]
async fn many_processes_of_one_user_leave_others_their_share_and_cost_nothing_once_they_hold_nothing()
 {
    let bench = bench("processes = 8").await;
    let (mut sleepers, mut refused) = (Vec::new(), None);
    for _ in 0..12 {
        let sleeper = Caller::of(ONE, &bench).await.unwrap();
        let opened = sleeper.open("ROOTCA").await;
        match opened {
            Ok(stream) => sleepers.push((sleeper, Some(stream))),
            Err(refusal) => refused = Some(refusal),
        }
    }
    assert_eq!(sleepers.len(), 6);
    let refused = refused.unwrap();
    let text = refused.message();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{text}");
    assert!(
        text.contains("user id 61001 has 6 processes") && text.contains("raise limits.processes"),
        "{text}"
    );
    let other = Caller::of(OTHER, &bench).await.unwrap();
    other.open("ROOTCA").await.unwrap().next_acked().await;
    // They go on sleeping, and close their streams: after a while nothing is kept of them.
    sleepers.iter_mut().for_each(|(_, stream)| drop(stream.take()));
    let quiet = |status: &Status| status.holders.iter().all(|holder| holder.uid != ONE);
    let mut changes = bench.agent().changes();
    let forgotten = async {
        while !quiet(&changes.borrow_and_update()) {
            bench.clock.advance(Duration::from_secs(60));
            let _ = tokio::time::timeout(Duration::from_millis(300), changes.changed()).await;
        }
    };
    tokio::time::timeout(SOON, forgotten)
        .await
        .expect("nothing is kept of processes that hold nothing");
}
