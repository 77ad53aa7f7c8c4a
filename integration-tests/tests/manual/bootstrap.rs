//! The first root of all is an offline one.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use host::{RealDisk, SystemClock};
use integration_tests::faults::{CaDir, Door, FaultPlan, Member};
use integration_tests::mesh::eventually;

use super::offline::{OFFLINE, Offline};

/// What the server logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn says(&self, words: &str) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8_lossy(&said).contains(words)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_says_what_to_carry_and_serves_once_it_is_brought() -> anyhow::Result<()> {
    let log = Log::default();
    let written = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone());
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    let ca_dir = CaDir::new(&format!("[root]\nauthority = \"offline\"\n{OFFLINE}"))?;
    let (offline, fault_plan) = (Offline::of(&ca_dir)?, FaultPlan::default());
    let start = || ca_dir.start_with(Arc::new(RealDisk), Arc::new(SystemClock), &fault_plan);
    let told = async {
        let name = offline.ceremony("root").await?;
        let says = || {
            std::future::ready(
                log.says("no root yet") && log.says(&format!("ceremony {name} waits")),
            )
        };
        eventually("the server says what it waits for", says).await?;
        anyhow::Ok(name)
    };
    let name = tokio::select! {
        started = start() => anyhow::bail!("it waits, and does not end: {started:?}"),
        name = told => name?,
    };
    // Somebody gave up, and starts it again: it is the same ceremony.
    let (mut root, mut running) = (String::new(), None);
    let carry = async {
        anyhow::ensure!(
            offline.ceremony("root").await? == name,
            "a restart asks for nothing twice"
        );
        root = offline.follow(&name, |commands| commands).await?;
        offline.bring(&name, &root)?;
        let name = offline.ceremony("issuer").await?;
        let issuer = offline.follow(&name, |commands| commands).await?;
        offline.bring(&name, &issuer)
    };
    let serve = async {
        loop {
            match start().await? {
                // The former start is still letting go of its files.
                Err(error) if error.to_string().contains("in use by") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                started => {
                    running = Some(started?);
                    return anyhow::Ok(());
                }
            }
        }
    };
    tokio::try_join!(carry, serve)?;
    let running = running.context("it serves")?;
    let door = Door::of(&running)?;
    Member::join(&door, "agent").await?.issue().await?;
    assert!(running.bundle().contains(&trust::RootId::of(pem::parse(&root)?.contents())));
    CaDir::stop(running).await
}
