//! A server whose keys are on a real SoftHSM2 token.
//!
//! The module reads its configuration from the environment of its process, so each test runs once more in a child that
//! has a folder of tokens of its own.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use futures::future::join_all;
use proto::banyan::admin::v1::ListRootsRequest;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rcgen::KeyPair;
use support::{Place, admin, agent, channel, eventually, reason, stop, workload, write_private};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const WEB: &str = "spiffe://example.org/web";
const PIN: &str = "4711-banyan";
/// Names the folder to the child.
const FOLDER: &str = "BANYAN_TEST_SOFTHSM";
/// Where distributions put the module.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A folder with the token `mesh` in it.
struct SoftHsm(PathBuf);

/// Runs a test in a child process.
fn in_own_process(test: &str, run: impl AsyncFnOnce(SoftHsm)) {
    if let Some(folder) = env::var_os(FOLDER) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(run(SoftHsm(folder.into())));
    }
    let folder = tempfile::tempdir().unwrap();
    let hsm = SoftHsm(folder.path().to_owned());
    fs::create_dir(hsm.tokens()).unwrap();
    let conf = folder.path().join("softhsm2.conf");
    let tokens = hsm.tokens();
    fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .unwrap();
    let mut util = Command::new("softhsm2-util");
    util.args(["--init-token", "--free", "--label", "mesh", "--pin", PIN, "--so-pin", "so-secret"]);
    let made = util.env("SOFTHSM2_CONF", &conf).output();
    let made = made.unwrap_or_else(|error| {
        panic!("softhsm2-util: {error}: run `sudo apt-get install softhsm2`")
    });
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut child = Command::new(env::current_exe().unwrap());
    child
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .env("SOFTHSM2_CONF", conf);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{test}: {}", output.status);
}

impl SoftHsm {
    fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    fn pull(&self) {
        fs::rename(self.tokens(), self.0.join("pulled")).unwrap();
    }

    fn put_back(&self) {
        fs::rename(self.0.join("pulled"), self.tokens()).unwrap();
    }
}

/// Settings of the backend.
fn backend(more: &str) -> String {
    let module = MODULES.into_iter().find(|path| Path::new(path).exists());
    let module =
        module.unwrap_or_else(|| panic!("no SoftHSM2: run `sudo apt-get install softhsm2`"));
    format!(
        "backend = \"pkcs11\"\nmodule = \"{module}\"\ntoken = \"mesh\"\npin_file = \"pin\"\n{more}"
    )
}

fn place(keys: &str, extra: &str) -> Place {
    let place = Place::with_keys(keys, extra);
    write_private(&place.path().join("pin"), PIN.as_bytes());
    write_private(&place.path().join("passphrase"), b"correct horse battery staple");
    place
}

async fn root_ids(running: &ca_server::Running) -> Vec<Vec<u8>> {
    let roots = admin(running)
        .await
        .list_roots(ListRootsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .roots;
    roots.into_iter().map(|root| root.id).collect()
}

async fn issue(client: &AgentServiceClient<Channel>) -> Result<(), Status> {
    workload(&mut client.clone(), WEB, &KeyPair::generate().unwrap()).await.map(|_| ())
}

#[test]
fn root_and_issuer_keys_on_a_token_serve_across_restarts_and_a_pulled_token() {
    let test = "root_and_issuer_keys_on_a_token_serve_across_restarts_and_a_pulled_token";
    in_own_process(test, async |hsm| {
        let place = place(&format!("[keys]\n{}", backend("")), "");
        let running = place.start().await.unwrap();
        let root = root_ids(&running).await;
        assert_eq!(root.len(), 1);
        let identity = agent(&running, "node-1", &[WEB]).await;
        let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
        issue(&AgentServiceClient::new(channel(&running, Some(identity)).await)).await.unwrap();
        stop(running).await;

        let running = place.start().await.unwrap();
        assert_eq!(root_ids(&running).await, root);
        let client = AgentServiceClient::new(
            channel(&running, Some(support::Identity { chain, key })).await,
        );
        issue(&client).await.unwrap();
        let files = fs::read_dir(place.data()).unwrap().map(|entry| entry.unwrap().path());
        assert!(!files.into_iter().any(|path| path.ends_with("keys")), "no key is in a file");

        hsm.pull();
        let away = issue(&client).await.unwrap_err();
        assert_eq!(
            (away.code(), reason(&away).as_str()),
            (Code::Unavailable, "KEY_BACKEND_UNAVAILABLE")
        );
        assert!(away.get_details_retry_info().is_some());
        hsm.put_back();
        eventually("leaves with the token back", async || issue(&client).await.is_ok()).await;
        stop(running).await;
    });
}

#[test]
fn a_token_that_is_too_slow_is_resource_exhausted_and_the_server_serves_on() {
    let test = "a_token_that_is_too_slow_is_resource_exhausted_and_the_server_serves_on";
    in_own_process(test, async |_| {
        let place = place(&format!("[keys]\n{}", backend("threads = 1\nqueue = 1\n")), "");
        let running = place.start().await.unwrap();
        let identity = agent(&running, "node-1", &[WEB]).await;
        let client = AgentServiceClient::new(channel(&running, Some(identity)).await);
        // A connection that has shown no credential yet may have few requests under way.
        issue(&client).await.unwrap();
        let answers = join_all((0..200).map(|_| issue(&client))).await;
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(answers.iter().any(Result::is_ok));
        assert!(!refused.is_empty(), "200 at once wait in a queue of one");
        for status in refused {
            assert_eq!(
                (status.code(), reason(status).as_str()),
                (Code::ResourceExhausted, "KEY_BACKEND_BUSY")
            );
            assert!(status.get_details_retry_info().is_some());
        }
        issue(&client).await.unwrap();
        stop(running).await;
    });
}

#[test]
fn a_root_key_on_a_token_that_is_away_keeps_no_leaf_back() {
    in_own_process("a_root_key_on_a_token_that_is_away_keeps_no_leaf_back", async |hsm| {
        let authority = format!(
            "[authority.main]\nplugin = \"self-signed\"\n[authority.main.keys]\n{}",
            backend("")
        );
        let place = place("[keys]\npassphrase_file = \"passphrase\"\n", &authority);
        let running = place.start().await.unwrap();
        let root = root_ids(&running).await;
        stop(running).await;

        hsm.pull();
        let running = place.start().await.unwrap();
        assert_eq!(root_ids(&running).await, root);
        let identity = agent(&running, "node-1", &[WEB]).await;
        issue(&AgentServiceClient::new(channel(&running, Some(identity)).await)).await.unwrap();
        stop(running).await;
    });
}

#[test]
fn a_wrong_pin_ends_the_start_with_its_setting() {
    in_own_process("a_wrong_pin_ends_the_start_with_its_setting", async |_| {
        let place = place(&format!("[keys]\n{}", backend("")), "");
        write_private(&place.path().join("pin"), b"1234-wrong");
        let refused = place.start().await.unwrap_err().to_string();
        assert!(refused.contains("[keys]") && refused.contains("`pin_file`"), "{refused}");
        assert!(!refused.contains("1234"), "{refused}");
    });
}

#[test]
fn settings_of_the_backend_are_checked_before_anything_is_opened() {
    let place = Place::with_keys("[keys]\nbackend = \"pkcs11\"\npin = \"1234\"\n", "");
    let problems = ca_server::Server::check(&place.config()).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.clone()).collect();
    assert_eq!(fields, ["keys.module", "keys.token", "keys.pin_file", "keys.pin"]);
    let place = Place::with_keys("[keys]\nbackend = \"flie\"\n", "");
    let problems = ca_server::Server::check(&place.config()).unwrap_err().to_string();
    assert!(problems.contains("keys.backend") && problems.contains("pkcs11"), "{problems}");
}
