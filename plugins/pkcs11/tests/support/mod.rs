//! SoftHSM2 tokens in a folder of their own, for one test in a process of its own.
//!
//! The module reads `SOFTHSM2_CONF` of its process when it is initialised, so each test runs once more in a child whose
//! environment names its folder.
#![expect(clippy::expect_used, reason = "clippy takes helpers of tests for product code")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use host::SystemClock;
use plugin_pkcs11::{Pkcs11Keys, Pkcs11Plugin};
use plugins::ConfigProblem;

/// The user's PIN of every token.
pub(crate) const PIN: &str = "4711-banyan";
/// The security officer's.
pub(crate) const SO_PIN: &str = "so-secret";
/// DER of the object identifier of P-256.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Names the folder to the child.
const FOLDER: &str = "BANYAN_TEST_SOFTHSM";
/// Where distributions put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A folder with tokens in it.
pub(crate) struct SoftHsm {
    folder: PathBuf,
}

/// Runs a test in a child process with its own tokens of these labels.
pub(crate) fn in_own_process(test: &str, tokens: &[&str], run: impl AsyncFnOnce(SoftHsm)) {
    if let Some(folder) = env::var_os(FOLDER) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        return runtime.block_on(run(SoftHsm { folder: folder.into() }));
    }
    let folder = tempfile::tempdir().expect("folder");
    let hsm = SoftHsm { folder: folder.path().to_owned() };
    hsm.set_up(tokens);
    let mut child = Command::new(env::current_exe().expect("this program"));
    child
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .env("SOFTHSM2_CONF", hsm.conf());
    let output = child.output().expect("the child runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{test}: {}", output.status);
}

impl SoftHsm {
    fn set_up(&self, tokens: &[&str]) {
        fs::create_dir(self.tokens()).expect("token folder");
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            self.tokens().display()
        );
        fs::write(self.conf(), conf).expect("configuration");
        self.write_pin(PIN);
        for label in tokens {
            self.util(&[
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                PIN,
                "--so-pin",
                SO_PIN,
            ]);
        }
    }

    fn util(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.conf())
            .output();
        let output = output.expect("softhsm2-util is missing: run `sudo apt-get install softhsm2`");
        assert!(
            output.status.success(),
            "softhsm2-util: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn conf(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    pub(crate) fn write_pin(&self, pin: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.join("pin");
        fs::write(&path, format!("{pin}\n")).expect("PIN file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    /// Takes every token away.
    pub(crate) fn pull(&self) {
        fs::rename(self.tokens(), self.folder.join("pulled")).expect("pulled");
    }

    pub(crate) fn put_back(&self) {
        fs::rename(self.folder.join("pulled"), self.tokens()).expect("put back");
    }

    /// The settings of a backend over a token, and more of them.
    pub(crate) fn settings(&self, token: &str, more: &str) -> toml::Table {
        let text =
            format!("module = \"{}\"\ntoken = \"{token}\"\npin_file = \"pin\"\n{more}", module());
        text.parse().expect("toml")
    }

    pub(crate) fn plugin(&self) -> Pkcs11Plugin {
        Pkcs11Plugin { base: self.folder.clone(), clock: Arc::new(SystemClock) }
    }

    pub(crate) fn try_open(
        &self,
        token: &str,
        more: &str,
    ) -> Result<Pkcs11Keys, Vec<ConfigProblem>> {
        self.plugin().open_keys(&self.settings(token, more))
    }

    pub(crate) fn open(&self, token: &str, more: &str) -> Pkcs11Keys {
        self.try_open(token, more).expect("opens")
    }

    /// A session of the test's own.
    pub(crate) fn session(&self, token: &str, user: UserType, pin: &str) -> Session {
        let context = Pkcs11::new(module()).expect("module");
        let slots = context.get_slots_with_token().expect("slots");
        let is_it =
            |slot: &_| context.get_token_info(*slot).is_ok_and(|info| info.label() == token);
        let session =
            context.open_rw_session(slots.into_iter().find(is_it).expect("slot")).expect("session");
        match session.login(user, Some(&AuthPin::new(pin.into()))) {
            Ok(())
            | Err(cryptoki::error::Error::Pkcs11(
                cryptoki::error::RvError::UserAlreadyLoggedIn,
                _,
            )) => session,
            Err(error) => panic!("login: {error}"),
        }
    }

    /// Ends every session and login of the process, behind the backend's back.
    pub(crate) fn restart_module(&self) {
        let context = Pkcs11::new(module()).expect("module");
        context.clone().finalize().expect("ended");
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("begun");
    }

    /// Makes a pair whose public and private half have these labels and ids.
    pub(crate) fn make_pair(&self, session: &Session, public: (&str, &str), private: (&str, &str)) {
        let named =
            |(label, id): (&str, &str)| [Attribute::Label(label.into()), Attribute::Id(id.into())];
        let mut publics = vec![Attribute::Token(true), Attribute::Verify(true)];
        publics.push(Attribute::EcParams(P256.to_vec()));
        publics.extend(named(public));
        let mut privates =
            vec![Attribute::Token(true), Attribute::Private(true), Attribute::Sign(true)];
        privates.extend(named(private));
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &publics, &privates).expect("pair");
    }

    /// Leaves the mark of a destroyed key.
    pub(crate) fn mark_destroyed(&self, session: &Session, id: &str) {
        let mark = [
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Application(b"banyan".to_vec()),
            Attribute::Label(id.into()),
            Attribute::Value(b"destroyed".to_vec()),
        ];
        session.create_object(&mark).expect("mark");
    }
}

/// Asks until there is an answer, for at most a minute.
pub(crate) async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it happened in time")
}

fn module() -> &'static str {
    let module = MODULES.into_iter().find(|path| Path::new(path).exists());
    module.expect("SoftHSM2's module is missing: run `sudo apt-get install softhsm2`")
}
