//! A plan from its beginning to its end, in one thread, over a time that passes as fast as everybody is done.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::chance::in_millis;
use crate::error::PlanError;
use crate::forecast::{Forecast, Seen};
use crate::mesh::Mesh;
use crate::question::{Mesh as Asked, Question};
use crate::server::Server;
use crate::watcher::{Phases, Watcher, signed};

/// Looks at the mesh in one life of a leaf, about.
const LOOKS_PER_LEAF: u32 = 720;

/// Answers a question.
///
/// # Errors
/// [`PlanError`].
pub fn plan(question: &Question) -> Result<Forecast, PlanError> {
    question.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(PlanError::broken)?;
    runtime.block_on(run(question))
}

async fn run(question: &Question) -> Result<Forecast, PlanError> {
    let (server, _running) = Server::start(question).await?;
    let mut mesh = Mesh::settle(question, &server).await?;
    let before = server.driver.state();
    let old = before.signing_root().ok_or_else(|| PlanError::broken("no root signs"))?;
    let phases = Arc::new(Phases::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&phases).note(server.driver.clone(), Arc::clone(&server.clock)));

    let usual_from = server.clock.elapsed_millis();
    let begin = usual_from + in_millis(question.lead_in());
    let mut watcher = Watcher::new(old, before.sequence, begin);
    let grain = question.grain();
    let look_every = in_millis((question.leaf_ttl / LOOKS_PER_LEAF).max(grain * 2));
    let ends_at = begin + in_millis(question.patience());
    let (mut next_look, mut asked, mut over_at) = (0, false, None);
    let mut ticks = tokio::time::interval(grain);
    loop {
        ticks.tick().await;
        let now = server.clock.elapsed_millis();
        if !asked && now >= begin {
            server.rotate().await?;
            if let Asked::Sketched(sketch) = &question.mesh {
                mesh.come_back(now, sketch.back_after);
            }
            asked = true;
        }
        mesh.hear(&server);
        mesh.live(&server).await?;
        watcher.look_at_gate(&server).await;
        if now >= next_look {
            watcher.look(&server, &mesh.traffic).await;
            next_look = now + look_every;
        }
        let state = server.driver.state();
        if asked
            && over_at.is_none()
            && state.phase.is_steady()
            && state.signing_root() != Some(old)
        {
            over_at = Some(now);
        }
        if over_at.is_some() || now >= ends_at {
            watcher.look(&server, &mesh.traffic).await;
            break;
        }
    }
    let horizon = server.driver.state().roots.get(&old).and_then(|entry| entry.horizon);
    Ok(Forecast::of(
        question,
        &Seen {
            phases: phases.all(),
            watcher: &watcher,
            traffic: &mesh.traffic,
            usual_from,
            begin,
            began_at: crate::clock::BEGINNING.as_secs() + signed(begin) / 1_000,
            ended: server.clock.elapsed_millis(),
            is_over: over_at.is_some(),
            horizon,
        },
    ))
}
