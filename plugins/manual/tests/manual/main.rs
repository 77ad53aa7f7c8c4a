//! The plugin with real files and the real openssl: the suite, wrong answers, days and restarts.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod human;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::{OsRandomness, SystemClock};
use human::{Human, Vault, bring, commands, requests, stem};
use plugin_manual::{Ceremony, Folder, ManualPlugin};
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, HealthState, IssuerRequest, KeyBackend, KeySpec, Outcome,
    PluginError, RequestId, RootAuthority, StageRequest, ca_certificate,
};
use plugins_conformance::authority::{Subject, run};
use trust::{Clock, ManualClock, RootId, TrustDomain};

const DAY: Duration = Duration::from_secs(86_400);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn opened(
    folder: &Path,
    state: &Arc<MemoryState>,
    clock: Arc<dyn Clock>,
    more: &str,
) -> Arc<dyn RootAuthority> {
    let own = (Arc::new(MemoryKeys::new()) as _, Arc::clone(state) as _);
    let deps = AuthorityDeps::new(domain(), own, (clock, Arc::new(OsRandomness::new()) as _));
    let whose = if more.contains("exclusive") { "" } else { "exclusive = false" };
    let folder = folder.to_str().unwrap();
    let settings = format!("directory = {folder:?}\nlook_every_secs = 1\n{whose}\n{more}");
    ManualPlugin.open(&settings.parse().unwrap(), deps.named("offline")).unwrap()
}

struct World {
    _home: tempfile::TempDir,
    folder: PathBuf,
    state: Arc<MemoryState>,
    clock: Arc<ManualClock>,
    authority: Arc<dyn RootAuthority>,
    vault: Vault,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (folder, state) = (home.path().join("ceremonies"), Arc::new(MemoryState::new()));
        // The offline machine has the real time, which goes on while this clock stands: an hour apart is room enough.
        let clock = Arc::new(ManualClock::at(SystemClock.now().plus(Duration::from_secs(3_600))));
        let authority = opened(&folder, &state, Arc::<ManualClock>::clone(&clock), "");
        Self { _home: home, folder, state, clock, authority, vault: Vault::new() }
    }

    fn restart(&mut self) {
        self.authority = opened(&self.folder, &self.state, Arc::<ManualClock>::clone(&self.clock), "");
    }

    async fn stage(&self, id: &str) -> Outcome<Vec<u8>> {
        self.stage_of(id, KeySpec::P256).await
    }

    async fn stage_of(&self, id: &str, key: KeySpec) -> Outcome<Vec<u8>> {
        let request = StageRequest::new(domain(), 365 * DAY, key);
        self.authority.staging().unwrap().stage(&context(id), &request).await.unwrap()
    }

    /// A root, asked for and brought.
    async fn root(&self, id: &str) -> RootId {
        self.root_of(id, KeySpec::P256).await
    }

    async fn root_of(&self, id: &str, key: KeySpec) -> RootId {
        let name = pending(self.stage_of(id, key).await);
        bring(&self.folder, &name, &self.vault.follow(&self.request(&name)));
        match self.stage_of(id, key).await {
            Outcome::Ready(der) => RootId::of(&der),
            pending => panic!("{pending:?}: {}", self.said().await),
        }
    }

    async fn sign(&self, id: &str, request: &IssuerRequest) -> Outcome<plugins::IssuerChain> {
        self.authority.sign_issuer(&context(id), request).await.unwrap()
    }

    fn request(&self, name: &str) -> PathBuf {
        self.folder.join("outbox").join(format!("{name}.txt"))
    }

    async fn said(&self) -> String {
        self.authority.check(&context("check")).await.detail
    }
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(5))
}

fn pending<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Pending { ticket, .. } => ticket.as_str().to_owned(),
        ready => panic!("{ready:?}"),
    }
}

async fn issuer_request(root: RootId) -> IssuerRequest {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    IssuerRequest::new(root, csr, domain(), 30 * DAY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_openssl_passes_the_suite() {
    let home = tempfile::tempdir().unwrap();
    let (folder, state) = (home.path().join("ceremonies"), Arc::new(MemoryState::new()));
    let human = Human::beside(&folder);
    let open = {
        let folder = folder.clone();
        move || opened(&folder, &state, Arc::new(SystemClock), "")
    };
    let subject = Subject::new(open, domain(), Arc::new(SystemClock));
    let report = run(&subject.answering_within(Duration::from_secs(20))).await;
    let followed = human.stop();
    report.assert_conforms();
    let retiring =
        ["retire-of-signing-root-is-denied", "retired-root-is-gone", "retired-request-makes-no-second-root"];
    assert_eq!(report.skipped(), retiring, "it has no root's key to destroy");
    assert!(followed > 8, "only {followed} ceremonies");
    assert_eq!(requests(&folder), Vec::<PathBuf>::new(), "answered ones are put aside");
}

#[tokio::test]
async fn the_commands_make_roots_and_issuers_of_every_kind() {
    let world = World::new();
    for key in [KeySpec::P256, KeySpec::P384, KeySpec::Ed25519] {
        let root = world.root_of(&format!("{key}.root"), key).await;
        let (id, request) = (format!("{key}.issuer"), issuer_request(root).await);
        let name = pending(world.sign(&id, &request).await);
        bring(&world.folder, &name, &world.vault.follow(&world.request(&name)));
        let outcome = world.sign(&id, &request).await;
        assert!(matches!(outcome, Outcome::Ready(_)), "{key}: {}", world.said().await);
    }
    assert_eq!(world.authority.check(&context("check")).await.state, HealthState::Ok);
}

#[tokio::test]
async fn a_text_that_went_out_reads_back_and_damage_is_seen() {
    let world = World::new();
    let root = world.root("one.root").await;
    let name = pending(world.sign("one.issuer", &issuer_request(root).await).await);
    let text = fs::read_to_string(world.request(&name)).unwrap();
    let read = Ceremony::read(&text).unwrap();
    assert_eq!((read.text(), read.name()), (text.clone(), name.as_str()));
    assert_eq!(read.commands(), commands(&text));
    for (from, to) in
        [("format 1", "format 2"), ("csr-sha256:", "csr:"), ("issuer-", "issuer-0"), ("root:  ", "root: 0")]
    {
        assert!(Ceremony::read(&text.replacen(from, to, 1)).is_err(), "{from}");
    }
    let waiting = Folder::at(&world.folder).waiting().unwrap();
    assert_eq!(waiting.iter().map(Ceremony::name).collect::<Vec<_>>(), [name.as_str()]);
}

#[tokio::test]
async fn a_wrong_root_stays_where_it_is_and_the_wait_goes_on() {
    let world = World::new();
    let first = world.root("first.root").await;
    world.authority.staging().unwrap().activate(&context("activate"), &first).await.unwrap();
    let name = pending(world.stage("one.root").await);
    let good = world.vault.follow(&world.request(&name));
    let request = world.request(&name).display().to_string();
    assert!(world.said().await.contains(&request), "it says which file to carry: {}", world.said().await);
    let key = world.vault.read(&format!("{name}.key"));
    let former = fs::read_dir(world.folder.join("done")).unwrap().map(|entry| entry.unwrap().path());
    let former = former.into_iter().find(|path| path.extension().is_some_and(|end| end == "pem")).unwrap();
    let make = |extensions: &str, days: &str| {
        world.vault.run(&format!(
            "printf '%s\\n' subjectKeyIdentifier=hash {extensions} > x.ext\n\
             openssl x509 -req -in {name}.csr -signkey {name}.key -passin env:ROOT_PASS -days {days} -extfile x.ext -out x.pem"
        ));
        world.vault.read("x.pem")
    };
    let ca = "basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign";
    for (contents, words) in [
        (format!("{good}{key}"), "holds a private key"),
        (key.replace('\n', " "), "holds a private key"),
        (good[..good.len() / 2].to_owned(), "not yet whole"),
        (String::new(), "not yet whole"),
        (world.vault.read(&format!("{name}.csr")), "CERTIFICATE REQUEST"),
        (format!("{good}{good}"), "holds 2 certificates"),
        (fs::read_to_string(former).unwrap(), "was brought before"),
        ("x".repeat(300_000), "longer than 256 KiB"),
        (make(ca, "100"), "ends at"),
        (make("keyUsage=critical,keyCertSign", "400"), "not a CA"),
        (make("basicConstraints=CA:TRUE keyUsage=critical,keyCertSign", "400"), "not critical"),
        (make(&format!("{ca} subjectAltName=URI:spiffe://other.test"), "400"), "another trust domain"),
    ] {
        let path = bring(&world.folder, &name, &contents);
        assert_eq!(pending(world.stage("one.root").await), name, "{words}");
        let health = world.authority.check(&context("check")).await;
        assert_eq!(health.state, HealthState::Degraded, "{words}");
        assert!(health.detail.contains(words), "{words}: {}", health.detail);
        assert!(!health.detail.contains("MII"), "nothing of the contents is told: {}", health.detail);
        assert_eq!(fs::read_to_string(&path).unwrap(), contents, "it stays");
        assert_eq!(world.authority.roots(&context("roots")).await.unwrap().roots.len(), 1);
    }
    let inbox = world.folder.join("inbox").join(format!("{name}.pem"));
    fs::remove_file(&inbox).unwrap();
    symlink(world.vault.path(&format!("{name}.pem")), &inbox).unwrap();
    assert_eq!(pending(world.stage("one.root").await), name);
    assert!(world.said().await.contains("no plain file"), "{}", world.said().await);
    fs::remove_file(&inbox).unwrap();
    bring(&world.folder, &name, &good);
    assert!(matches!(world.stage("one.root").await, Outcome::Ready(_)));
    assert_eq!(world.authority.check(&context("check")).await.state, HealthState::Ok);
    assert!(!inbox.exists() && world.folder.join("done").join(format!("{name}.pem")).exists());
}

#[tokio::test]
async fn a_wrong_issuer_stays_where_it_is_and_the_wait_goes_on() {
    let world = World::new();
    let root = world.root("one.root").await;
    world.root("other.root").await;
    let request = issuer_request(root).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let text = fs::read_to_string(world.request(&name)).unwrap();
    let good = world.vault.follow(&world.request(&name));
    let (own, other) = {
        let own =
            text.lines().find_map(|line| line.strip_prefix("root-ceremony:")).unwrap().trim().to_owned();
        let files =
            fs::read_dir(world.folder.join("done")).unwrap().map(|entry| stem(&entry.unwrap().path()));
        let other = files.into_iter().find(|name| *name != own).unwrap();
        (own, other)
    };
    let make = |changed: &dyn Fn(String) -> String| {
        world.vault.run(&changed(commands(&text)));
        world.vault.read(&format!("{name}.pem"))
    };
    let other_key = |commands: String| {
        let make = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out x.key\n\
                    openssl req -new -key x.key -subj /CN=x -out x.csr\n";
        format!("{make}{}", commands.replacen(&format!("-in {name}.txt"), "-in x.csr", 1))
    };
    for (contents, words) in [
        (make(&other_key), "another key than the CSR's"),
        (
            make(&|text| {
                text.replace(&format!("{own}.key"), &format!("{other}.key"))
                    .replace(&format!("{own}.pem"), &format!("{other}.pem"))
            }),
            "root",
        ),
        (make(&|text| text.replace(",pathlen:0", "")), "path length"),
        (make(&|text| text.replace("CA:TRUE,pathlen:0", "CA:FALSE")), "not a CA"),
        (make(&|text| text.replace("-days 31", "-days 20")), "ends at"),
        (make(&|text| text.replace("-days 31", "-days 4000")), "after its root"),
        (make(&|text| text.replace("spiffe://example.org", "spiffe://other.test")), "another trust domain"),
        (make(&|text| text.replace(" keyUsage=critical,keyCertSign,cRLSign", "")), "keyCertSign"),
    ] {
        bring(&world.folder, &name, &contents);
        assert_eq!(pending(world.sign("one.issuer", &request).await), name, "{words}");
        assert!(world.said().await.contains(words), "{words}: {}", world.said().await);
    }
    // The whole chain, as many write it.
    bring(&world.folder, &name, &format!("{good}{}", world.vault.read(&format!("{own}.pem"))));
    match world.sign("one.issuer", &request).await {
        Outcome::Ready(chain) => assert_eq!(chain.certificates.len(), 1, "the root is not part of it"),
        pending => panic!("{pending:?}: {}", world.said().await),
    }
}

#[tokio::test]
async fn what_is_changed_on_the_way_does_not_change_what_is_taken() {
    let world = World::new();
    let root = world.root("one.root").await;
    let request = issuer_request(root).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let path = world.request(&name);
    let text = fs::read_to_string(&path).unwrap();
    world.vault.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out x.key\nopenssl req -new -key x.key -subj /CN=x -out x.csr");
    let (before, after) =
        (text.find("-----BEGIN CERTIFICATE REQUEST").unwrap(), text.find("\nThe root that").unwrap());
    let forged = format!("{}{}{}", &text[..before], world.vault.read("x.csr"), &text[after..]);
    fs::write(&path, forged).unwrap();
    assert!(
        Folder::at(&world.folder).waiting().unwrap().is_empty(),
        "its fingerprint does not fit: it is no ceremony"
    );
    let signed = world.vault.follow(&path);
    bring(&world.folder, &name, &signed);
    assert_eq!(pending(world.sign("one.issuer", &request).await), name);
    assert!(world.said().await.contains("another key"), "{}", world.said().await);
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "and the true text is put back");
}

#[tokio::test]
async fn days_and_restarts_do_no_harm() {
    let mut world = World::new();
    let root_name = pending(world.stage("one.root").await);
    for day in 0..5 {
        world.clock.advance(DAY);
        world.restart();
        assert_eq!(pending(world.stage("one.root").await), root_name, "day {day}");
        assert_eq!(requests(&world.folder).len(), 1, "nothing is asked twice");
        fs::remove_file(world.request(&root_name)).unwrap();
        assert_eq!(pending(world.stage("one.root").await), root_name);
        assert!(world.request(&root_name).exists(), "a text that was lost goes out again");
    }
    // The offline machine's clock is the real one, five days behind by now.
    let signed = world.vault.follow(&world.request(&root_name));
    bring(&world.folder, &root_name, &signed);
    world.restart();
    let Outcome::Ready(root) = world.stage("one.root").await else { panic!("{}", world.said().await) };
    let request = issuer_request(RootId::of(&root)).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let polled = |world: &World| {
        let (authority, ticket) = (Arc::clone(&world.authority), plugins::Ticket::new(name.clone()));
        async move { authority.poll(&context("poll"), &ticket).await.unwrap() }
    };
    world.clock.advance(3 * DAY);
    world.restart();
    assert_eq!(pending(polled(&world).await), name);
    world.vault.run(&format!("cp {} {name}.txt", world.request(&name).display()));
    let longer = commands(&world.vault.read(&format!("{name}.txt"))).replace("-days 31", "-days 45");
    world.vault.run(&longer);
    bring(&world.folder, &name, &world.vault.read(&format!("{name}.pem")));
    let Outcome::Ready(chain) = polled(&world).await else { panic!("{}", world.said().await) };
    world.restart();
    assert_eq!(world.sign("one.issuer", &request).await, Outcome::Ready(chain.clone()));
    assert_eq!(polled(&world).await, Outcome::Ready(chain), "the ticket is good for ever");
    assert_eq!(world.stage("one.root").await, Outcome::Ready(root));
}

#[tokio::test]
async fn a_folder_that_everybody_may_write_into_is_refused() {
    let world = World::new();
    let name = pending(world.stage("one.root").await);
    let inbox = world.folder.join("inbox");
    bring(&world.folder, &name, &world.vault.follow(&world.request(&name)));
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o777)).unwrap();
    let request = StageRequest::new(domain(), 365 * DAY, KeySpec::P256);
    let staged = world.authority.staging().unwrap().stage(&context("one.root"), &request).await;
    assert!(
        matches!(&staged, Err(PluginError::AuthorityDown { detail }) if detail.contains("chmod")),
        "{staged:?}"
    );
    assert_eq!(world.authority.check(&context("check")).await.state, HealthState::Down);
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(world.stage("one.root").await, Outcome::Ready(_)));
}

#[tokio::test]
async fn an_abandoned_ceremony_is_not_complained_about() {
    let world = World::new();
    let first = pending(world.stage("one.root").await);
    assert!(world.said().await.contains(&first));
    let second = pending(world.stage("two.root").await);
    let said = world.said().await;
    assert!(said.contains(&second) && !said.contains(&first), "{said}");
    let waits = world.authority.check(&context("check")).await;
    assert!(
        waits.waits && waits.state == HealthState::Ok,
        "a person is waited for, and nothing is wrong: {waits:?}"
    );
    world.clock.advance(DAY);
    assert_eq!(
        world.authority.check(&context("check")).await.state,
        HealthState::Ok,
        "nobody asked for a day"
    );
    let shared = &world.authority.describe();
    assert!(!shared.exclusive, "others may issue under an offline root");
    let own = opened(&world.folder, &world.state, Arc::new(SystemClock), "exclusive = true");
    assert!(own.describe().exclusive);
}

#[tokio::test]
async fn a_request_that_is_taken_back_leaves_the_outbox_and_may_be_asked_again() {
    let world = World::new();
    let root = world.root("one.root").await;
    let request = issuer_request(root).await;
    let name = pending(world.sign("one.issuer", &request).await);
    let withdrawing = world.authority.withdrawing().unwrap();
    let open = withdrawing.open_requests(&context("look")).await.unwrap();
    assert_eq!(open, [RequestId::parse("one.issuer").unwrap()], "the root was brought, and waits for nobody");
    for id in ["one.issuer", "one.issuer", "one.root", "never.asked"] {
        withdrawing.withdraw(&context("withdraw"), &RequestId::parse(id).unwrap()).await.unwrap();
    }
    assert!(!world.request(&name).exists() && Folder::at(&world.folder).waiting().unwrap().is_empty());
    assert_eq!(world.said().await, "", "nobody is asked for anything");
    assert!(world.folder.join("done").join(format!("{name}.withdrawn.txt")).exists(), "it is kept");
    assert_eq!(pending(world.sign("one.issuer", &request).await), name, "asked again it begins anew");
    assert!(world.request(&name).exists());
}

#[tokio::test]
async fn a_root_whose_rotation_was_given_up_may_be_brought_again() {
    let world = World::new();
    let first = pending(world.stage("one.root").await);
    let answer = world.vault.follow(&world.request(&first));
    bring(&world.folder, &first, &answer);
    let Outcome::Ready(der) = world.stage("one.root").await else { panic!("{}", world.said().await) };
    let second = pending(world.stage("two.root").await);
    bring(&world.folder, &second, &answer);
    let again = world.stage("two.root").await;
    assert_eq!(again, Outcome::Ready(der.clone()), "{}", world.said().await);
    assert_eq!(world.authority.roots(&context("roots")).await.unwrap().roots, [der], "it is announced once");
}
