//! The engine against a real etcd: the contract, several members, users, quotas.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod faults;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stores::{Look, ReadError, Sensitivity, SharedStore, Space, WriteError, settle};
use stores_contract::{Subject, Trouble, run};
use stores_etcd::{EtcdStore, Settings, TlsFiles, User};
use stores_peers::{Etcd, Line, Pki, Relay, Setup};

const AGENTS: Space = Space::new("agents", Sensitivity::Plain);
const PREFIX: &str = "/banyan/example.org";
/// Longest time until something comes about on a busy machine.
const SOON: Duration = Duration::from_secs(30);

struct EtcdTrouble {
    relay: Relay,
    etcd: Etcd,
}

#[async_trait]
impl Trouble for EtcdTrouble {
    async fn cut(&self) {
        self.relay.set(Line::Cut).await;
    }

    async fn lose_answers(&self) {
        self.relay.set(Line::AnswersLost).await;
    }

    async fn mend(&self) {
        self.relay.set(Line::Up).await;
    }

    async fn compact(&self) -> bool {
        self.etcd.compact().expect("compacted");
        true
    }
}

fn client_of(ca: &Pki, own: &Pki) -> TlsFiles {
    TlsFiles { ca: ca.path("ca.pem"), cert: own.path("client.pem"), key: own.path("client.key") }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_the_contract() {
    let etcd = Etcd::start(&Setup::plain()).unwrap();
    let relay = Relay::start(etcd.address()).await.unwrap();
    let endpoint = format!("http://{}", relay.address());
    let settings = Settings::new(&[endpoint], PREFIX, None).unwrap();
    let settings = settings.with_call_timeout(Duration::from_secs(2));
    let open = move || {
        let store: Arc<dyn SharedStore> = Arc::new(EtcdStore::new(settings.clone()));
        async move { Ok(store) }
    };
    let trouble = Arc::new(EtcdTrouble { relay, etcd });
    let report = run(&Subject::new(open).with_trouble(trouble)).await;
    report.assert_conforms();
    assert_eq!(report.skipped(), Vec::<&str>::new(), "{report}");
}

async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = None;
    let trying = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(SOON, trying).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}: {last:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_three_members_over_mtls_one_may_be_lost_and_a_watch_goes_on() {
    let pki = Pki::new().unwrap();
    let mut members = Etcd::cluster(&pki, 3).unwrap();
    let endpoints: Vec<_> =
        members.iter().map(|one| format!("https://{}", one.address())).collect();
    let settings = Settings::new(&endpoints, PREFIX, Some(client_of(&pki, &pki))).unwrap();
    let store = EtcdStore::new(settings.with_call_timeout(Duration::from_secs(2)));
    let key = AGENTS.key("a").unwrap();
    let mut version = eventually("a first write", async || store.create(&key, b"0").await).await;
    let mut hints = store.watch(AGENTS).await.unwrap();
    for (member, lost) in members.iter_mut().zip(0_u8..) {
        member.stop();
        // A write may end as unknown; what is there then tells.
        version = eventually("a write without one member", async || {
            match store.put(&key, &[lost], &version).await {
                Err(WriteError::Conflict { found: Some(found), .. }) => Ok(found),
                answer => answer,
            }
        })
        .await;
        let look = tokio::time::timeout(SOON, hints.next()).await.expect("a hint");
        assert!(look == Look::Everywhere || look == Look::At(["a".to_owned()].into()), "{look:?}");
        member.run().unwrap();
    }
    let found = eventually("a read", async || store.get(&key).await).await.unwrap();
    assert_eq!(found.value, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_an_absent_server_and_a_foreign_key_are_named() {
    let pki = Pki::new().unwrap();
    let etcd = Etcd::cluster(&pki, 1).unwrap().remove(0);
    let endpoint = format!("https://{}", etcd.address());
    let store = |tls| EtcdStore::new(Settings::new(&[&endpoint], PREFIX, Some(tls)).unwrap());
    let key = AGENTS.key("a").unwrap();
    let good = store(client_of(&pki, &pki));
    eventually("a first write", async || good.create(&key, b"0").await).await;

    let said = |result: Result<_, ReadError>| match result {
        Err(ReadError::Failed { reason }) => reason,
        other => panic!("must fail, and gave {other:?}"),
    };
    let other = Pki::new().unwrap();
    let foreign = said(store(client_of(&other, &other)).get(&key).await);
    assert!(foreign.contains(&endpoint) && foreign.contains("UnknownIssuer"), "{foreign}");
    let unknown_client = said(store(client_of(&pki, &other)).get(&key).await);
    assert!(unknown_client.contains(&endpoint), "{unknown_client}");
    assert!(
        unknown_client.contains("does not accept the certificate of cert_file"),
        "{unknown_client}"
    );
    let mut missing = client_of(&pki, &pki);
    missing.cert = pki.path("none.pem");
    let missing = said(store(missing).get(&key).await);
    assert!(missing.contains("none.pem"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_signed_in_again_and_what_it_may_not_write_is_told() {
    let etcd = Etcd::start(&Setup::plain()).unwrap();
    let post = |path: &str, body: &str| etcd.post(path, body).unwrap();
    // "L2Jhbnlhbi9v" is /banyan/o, and "L2Jhbnlhbi9w" the end of what begins so.
    let grant = "{\"name\":\"ca\",\"perm\":{\"permType\":\"READWRITE\",\"key\":\"L2Jhbnlhbi9v\",\"range_end\":\"L2Jhbnlhbi9w\"}}";
    for (path, body) in [
        ("/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"r\"}"),
        ("/v3/auth/role/add", "{\"name\":\"root\"}"),
        ("/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}"),
        ("/v3/auth/user/add", "{\"name\":\"banyan\",\"password\":\"secret\"}"),
        ("/v3/auth/role/add", "{\"name\":\"ca\"}"),
        ("/v3/auth/role/grant", grant),
        ("/v3/auth/user/grant", "{\"user\":\"banyan\",\"role\":\"ca\"}"),
        ("/v3/auth/enable", "{}"),
    ] {
        post(path, body);
    }
    let password_file = etcd.path("password");
    std::fs::write(&password_file, "secret\n").unwrap();
    let endpoint = format!("http://{}", etcd.address());
    let store = |prefix: &str| {
        let user = User { name: "banyan".to_owned(), password_file: password_file.clone() };
        EtcdStore::new(Settings::new(&[&endpoint], prefix, None).unwrap().with_user(user))
    };
    let (own, others) = (store("/banyan/own"), store("/banyan/x"));
    let key = AGENTS.key("a").unwrap();
    let version = own.create(&key, b"1").await.unwrap();
    let refused = others.create(&key, b"1").await;
    let Err(WriteError::Failed { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(
        reason.contains("permission denied") && reason.contains("grant-permission"),
        "{reason}"
    );

    // A change of users makes every token old.
    let asked = "{\"name\":\"root\",\"password\":\"r\"}";
    let token = post("/v3/auth/authenticate", asked);
    let token = token.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    etcd.post_as(Some(token), "/v3/auth/role/add", "{\"name\":\"another\"}").unwrap();
    let version = own.put(&key, b"2", &version).await.unwrap();
    assert_eq!(own.get(&key).await.unwrap().unwrap().version, version);

    std::fs::write(&password_file, "wrong").unwrap();
    let wrong = store("/banyan/own").get(&key).await;
    let Err(ReadError::Failed { reason }) = wrong else { panic!("{wrong:?}") };
    assert!(reason.contains("authentication failed"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_takes_nothing_without_saying_so_says_what_to_do_and_is_read_all_the_same() {
    let etcd = Etcd::start(&Setup::plain().with("--quota-backend-bytes=4000000")).unwrap();
    let endpoint = format!("http://{}", etcd.address());
    let store = EtcdStore::new(Settings::new(&[endpoint], PREFIX, None).unwrap());
    let mut written = 0;
    let refused = loop {
        let key = AGENTS.key(format!("{written:03}")).unwrap();
        match settle::create(&store, &key, &[7; 500_000]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "etcd takes more than its quota");
    };
    let WriteError::Unknown { reason, .. } = refused else { panic!("{refused:?}") };
    assert!(
        reason.contains("database space exceeded") && reason.contains("etcdctl alarm disarm"),
        "{reason}"
    );
    // The write that crosses the quota is done although it is refused: only reading tells, which settles it.
    let there = store.list(AGENTS, None, 1_000).await.unwrap().entries;
    assert_eq!(there.len(), written);
}
