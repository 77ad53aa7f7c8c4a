//! A good rotation says nothing that calls for an operator, at the CA and at its agents. A binary of its own: it listens to the
//! log of the whole process.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use integration_tests::mesh::{LiveMesh, MeshPlan, eventually};

/// Warnings that such a rotation may have. It has none on a quiet machine.
const WARNINGS_MAX: usize = 4;

/// Lines of the log.
#[derive(Debug, Default, Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listen() -> Lines {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_which_an_agent_restarts_and_connections_age_logs_no_error_and_nobody_s_ca_is_away()
-> anyhow::Result<()> {
    let lines = listen();
    // Connections end by their age all the time.
    let sections = "[limits]\nconnection_age = \"10s\"\n".to_owned();
    let plan = MeshPlan { life: 3_600, agents: 2, sections, ..MeshPlan::default() };
    let mut mesh = LiveMesh::of(&plan, &()).await?;
    mesh.rotate("one").await?;
    if let Some(agent) = mesh.agents.first_mut() {
        agent.stop().await;
        agent.start().await?;
    }
    mesh.rotate("two").await?;
    eventually("a connection ended by its age, and came back", || async {
        let text = lines.text();
        text.contains("the CA drains") && text.contains("connected again")
    })
    .await?;
    let talk = mesh.stop().await?;
    assert!(talk.failed.is_empty(), "{} failed: {:#?}", talk.failed.len(), talk.failed.first());
    let log = lines.text();
    let of = |level: &str| {
        log.lines().filter(|line| line.contains(level)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(" ERROR "), Vec::<String>::new());
    let warnings = of(" WARN ");
    assert!(warnings.len() <= WARNINGS_MAX, "{warnings:#?}");
    assert!(!log.contains("CA away"), "{warnings:#?}");
    Ok(())
}
