//! A backup is put back; agents tell what they hold; and an operator lets the record go on.

use rotation::{Event, Mode, Phase};
use trust::Sequence;

use crate::entities::{P, Q};
use crate::evidence::end;
use crate::kept::Kept;
use crate::mesh::{Restored, Setting, Without, World};
use crate::moves::Next;
use crate::replica::raise;
use crate::words::{Distributed, distributing, segment, signing};

pub(crate) fn moves(next: &mut Next<'_>) {
    let (world, setting) = (next.world, next.setting);
    if setting.restored == Restored::No {
        return;
    }
    next.happens("the replica is restored", restore(world, setting));
    for proxy in [P, Q] {
        next.add("what it holds is told by the agent:", proxy, tell(world, setting, proxy));
    }
    next.happens("the operator lets the record go on", go_on(world, setting));
}

/// Record and ledger are those of the backup. What was issued since is not known any more.
fn restore(world: &World, setting: &Setting) -> Option<World> {
    // Of before the rotation an operator says that no other root had begun to sign: then nothing lives that the backup does not
    // trust.
    let backup = match (setting.restored, &world.record.phase) {
        (Restored::Former, Phase::Distributing(_)) => signing(setting.bound),
        (Restored::SameBundle, Phase::Distributing(_) | Phase::Draining(_)) => {
            let bound = setting.bound;
            distributing(&Distributed { mode: Mode::Auto, bound, others: 0, canary: false })
        }
        _ => return None,
    };
    let mut next = World { restores: world.restores.checked_sub(1)?, ..world.clone() };
    let applied = if setting.restored == Restored::Former { 1 } else { 2 };
    next.record = Kept::record(backup);
    for request in &mut next.requests {
        *request = request.filter(|request| request.leaf.is_some());
    }
    next.rows.iter_mut().filter(|row| row.segment > 0).for_each(end);
    next.rows.iter_mut().for_each(|row| row.applied = row.applied.min(applied));
    if setting.restored == Restored::SameBundle && setting.without != Without::Recovery {
        let (request_id, reason) = ("restore".parse().unwrap(), String::new());
        let recovers = Event::RecoveryRequested { request_id, reason, live: [].into() };
        next.record = next.take(&recovers, setting).unwrap();
    }
    next.segment += 1;
    let opened = Event::SegmentOpened {
        replica: "ca".parse().unwrap(),
        segment: segment(next.segment),
        read: next.record.segments.keys().cloned().collect(),
    };
    next.record = next.take(&opened, setting).unwrap();
    next.record = next.take(&Event::DriverStarted, setting).unwrap_or(next.record);
    raise(&mut next, setting);
    Some(next)
}

/// An agent comes back and names its bundle, which is newer than all that the record has published, or another one.
fn tell(world: &World, setting: &Setting, proxy: usize) -> Option<World> {
    let (agent, bundle) = (&world.agents[proxy], world.bundle());
    let has = agent.disk;
    let tells = has.sequence > bundle.sequence || has.sequence == bundle.sequence && has != bundle;
    if !agent.up || !tells {
        return None;
    }
    let newer = Some(has).filter(|has| has.sequence > bundle.sequence);
    let heard = world.heard.max(newer);
    let (agent, sequence) = (["p", "q"][proxy].to_owned(), Sequence(u64::from(has.sequence)));
    let word = Event::BundleSighted { agent, sequence, digest: None };
    let record = match setting.without {
        Without::Fence => world.record,
        _ => world.take(&word, setting).unwrap_or(world.record),
    };
    let next = World { record, heard, ..world.clone() };
    (next != *world).then_some(next)
}

fn go_on(world: &World, setting: &Setting) -> Option<World> {
    let (agent, seen) = world.record.seen.highest()?;
    let (request_id, reason) =
        (format!("continue-{}", world.record.sequence.0).parse().unwrap(), String::new());
    let event = match setting.without {
        Without::GoesOnAbove => {
            Event::SightingDismissed { request_id, agent: agent.clone(), reason }
        }
        _ => Event::ContinueRequested { request_id, above: seen.sequence, reason, waits: false },
    };
    world.take(&event, setting).map(|record| World { record, ..world.clone() })
}
