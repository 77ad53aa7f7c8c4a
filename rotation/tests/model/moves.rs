//! What may happen next.

use std::collections::BTreeMap;
use std::time::Duration;

use rotation::evidence::{Subscribers, Tally};
use rotation::{Contents, Effect, Event, Evidence, Phase, Policy, SegmentState};
use trust::{Generation, RootId, Sequence};

use crate::mesh::{Agent, C, Handshake, Leaf, P, Q, Request, Root, Row, Setting, Without, World, trusts};
use crate::words::{FAR, at, policy, root, segment, taken};

/// Every next world, with the name of the move.
pub(crate) fn moves(world: &World, setting: &Setting) -> Vec<(String, World)> {
    let mut next = Vec::new();
    let mut add = |name: &str, who: usize, world: Option<World>| {
        next.extend(world.map(|world| (format!("{name} {}", ["p", "q", "c"][who]), world)));
    };
    for member in [P, Q, C] {
        add("request by", member, request(world, setting, member));
        add("row for", member, row(world, setting, member));
        add("reply to", member, reply(world, setting, member));
    }
    for agent in [P, Q] {
        add("bundle known to the agent of", agent, learn(world, setting, agent));
        add("bundle on the disk of the agent of", agent, persist(world, agent));
        add("bundle applied by", agent, push(world, agent));
        add("leaf handed to", agent, hand_over(world, setting, agent));
        add("holder on the disk of the agent of", agent, remember(world, agent));
        add("restart of the agent of", agent, restart(world, agent));
    }
    next.extend(in_force(world, setting).map(|world| ("change in force".to_owned(), world)));
    next.extend(judged(world, setting).map(|world| ("evidence".to_owned(), world)));
    next.extend(operated(world, setting));
    next.extend(crash(world, setting).map(|world| ("restart of the replica".to_owned(), world)));
    next.extend(tick(world, setting).map(|world| (format!("tick {}", world.tick), world)));
    next.into_iter().map(|(name, next)| (name, with_handshakes(world, setting, next))).collect()
}

/// The policy of the machine; what it is told may be less than what the mesh does.
fn limits(setting: &Setting) -> Policy {
    let settle = if setting.without == Without::Settle { 0 } else { setting.handshake };
    let skew = if setting.without == Without::TwiceTheSkew { 0 } else { setting.skew };
    policy(settle.unsigned_abs(), skew.unsigned_abs())
}

fn known(id: RootId) -> Root {
    if id == root("A") { Root::A } else { Root::B }
}

fn id_of(name: Root) -> RootId {
    root(if name == Root::A { "A" } else { "B" })
}

fn bundle(world: &World) -> u8 {
    let with_a = world.record.roots[&root("A")].state.is_trusted();
    match u8::try_from(world.record.sequence.0).unwrap() {
        3 if with_a => 4,
        sequence => sequence,
    }
}

/// A request takes a snapshot. Agents ask when their leaf is over or of a root that no longer signs.
fn request(world: &World, setting: &Setting, member: usize) -> Option<World> {
    let signer = world.record.signer()?.root;
    let limit = world.record.leaf_limit(&signer, &segment(world.segment))?.as_secs() - 1_000;
    let leaf = world.members[member].leaf.filter(|leaf| leaf.end > world.tick);
    let wanted = match member {
        C => world.client_requests > 0,
        agent => world.agents[agent].leaf.is_none() && leaf.is_none_or(|leaf| leaf.root != known(signer)),
    };
    if !wanted || world.requests[member].is_some() || limit <= world.tick {
        return None;
    }
    let mut next = world.clone();
    next.client_requests -= u8::from(member == C);
    let mut request = Request {
        generation: world.record.generation.0,
        bundle: bundle(world),
        root: known(signer),
        limit,
        segment: world.segment,
        leaf: None,
    };
    if setting.without == Without::Horizon {
        request.limit = FAR;
    }
    next.requests[member] = Some(request);
    // One member with a request that waits for its row is enough.
    let waits = member == C || setting.client_leaf == 0 && member == Q;
    if waits { Some(next) } else { row(&next, setting, member) }
}

/// The row is durable: its end is within what the request captured.
fn row(world: &World, setting: &Setting, member: usize) -> Option<World> {
    let request = world.requests[member].filter(|request| request.leaf.is_none())?;
    let life = if member == C { setting.client_leaf } else { FAR };
    let end = (world.tick + life).min(request.limit);
    if end <= world.tick {
        return None;
    }
    let mut next = world.clone();
    let row = u8::try_from(world.rows.len()).unwrap();
    let (root, born) = (request.root, request.bundle);
    let applied = if member == C { born } else { 0 };
    next.rows.push(Row { member, root, end, born, applied, ended: false, segment: request.segment });
    next.requests[member] = Some(Request { leaf: Some(Leaf { root, end, row }), ..request });
    Some(next)
}

/// The reply arrives. A client takes leaf and bundle at once; an agent knows the bundle before it uses the leaf.
fn reply(world: &World, setting: &Setting, member: usize) -> Option<World> {
    let request = world.requests[member]?;
    let leaf = request.leaf?;
    let mut next = world.clone();
    next.requests[member] = None;
    if member == C {
        next.members[C].leaf = Some(leaf);
        next.members[C].trust = request.bundle;
        return Some(next);
    }
    next.agents[member].leaf = Some((leaf, request.bundle));
    if setting.without != Without::BundleBeforeLeaf {
        know(&mut next, setting, member, request.bundle);
    }
    Some(next)
}

fn learn(world: &World, setting: &Setting, agent: usize) -> Option<World> {
    (world.agents[agent].seen < bundle(world)).then(|| {
        let mut next = world.clone();
        know(&mut next, setting, agent, bundle(world));
        next
    })
}

/// A bundle is on the disk before anything is done with it.
fn know(world: &mut World, setting: &Setting, agent: usize, bundle: u8) {
    let agent = &mut world.agents[agent];
    agent.seen = agent.seen.max(bundle);
    if setting.without != Without::DurableBeforePush {
        agent.disk = agent.seen;
    }
}

fn persist(world: &World, agent: usize) -> Option<World> {
    (world.agents[agent].disk < world.agents[agent].seen).then(|| {
        let mut next = world.clone();
        next.agents[agent].disk = world.agents[agent].seen;
        next
    })
}

/// The proxy takes what its agent has; a leaf that the bundle does not trust goes with it. From {A} straight to {B} the
/// union is in between, which is bundle 2.
fn push(world: &World, agent: usize) -> Option<World> {
    let (seen, trust) = (world.agents[agent].seen, world.members[agent].trust);
    if seen == trust {
        return None;
    }
    let to = if trust == 1 { seen.min(2) } else { seen };
    let waits = world.agents[agent].leaf.is_some_and(|(leaf, _)| trusts(to, leaf.root));
    let mut next = world.clone();
    let member = &mut next.members[agent];
    if member.leaf.is_some_and(|leaf| !trusts(to, leaf.root)) {
        // Removing trust: the new leaf first, if one is on its way.
        if waits {
            return None;
        }
        member.leaf = None;
    }
    member.trust = to;
    Some(next)
}

/// The proxy takes the leaf, once it has the bundle that the leaf came with; one without trust is dropped.
fn hand_over(world: &World, setting: &Setting, agent: usize) -> Option<World> {
    let (leaf, bundle) = world.agents[agent].leaf?;
    let trust = world.members[agent].trust;
    let first = setting.without == Without::BundleBeforeLeaf;
    if trust < bundle && !first {
        return None;
    }
    let mut next = world.clone();
    next.agents[agent].leaf = None;
    if first || trusts(trust, leaf.root) {
        next.members[agent].leaf = Some(leaf);
        next.agents[agent].knows_holder = true;
        next.agents[agent].holder_on_disk |= setting.without != Without::HolderBeforeLeaf;
    }
    Some(next)
}

fn remember(world: &World, agent: usize) -> Option<World> {
    let Agent { knows_holder, holder_on_disk, .. } = world.agents[agent];
    (knows_holder && !holder_on_disk).then(|| {
        let mut next = world.clone();
        next.agents[agent].holder_on_disk = true;
        next
    })
}

/// The agent tells the CA what its proxy applied, and which leaves nobody holds any more. A report that comes later says
/// no less, so it is enough that it comes whenever the machine looks.
fn report(world: &mut World, setting: &Setting, agent: usize) {
    let (seen, member) = (world.agents[agent], world.members[agent]);
    let applied = match setting.without {
        Without::AckOnApply => seen.seen,
        // With no holder known there is nobody to wait for.
        _ if !seen.knows_holder => seen.seen,
        _ => member.trust,
    };
    let in_hand = [member.leaf, seen.leaf.map(|(leaf, _)| leaf), world.requests[agent].and_then(|r| r.leaf)];
    for (number, row) in world.rows.iter_mut().enumerate().filter(|(_, row)| row.member == agent) {
        let held = in_hand.iter().flatten().any(|leaf| usize::from(leaf.row) == number);
        row.applied = row.applied.max(applied);
        row.ended |= !held;
    }
}

/// The agent's memory is gone, its disk is not; the proxy runs on.
fn restart(world: &World, agent: usize) -> Option<World> {
    let mut next = world.clone();
    next.agent_crashes = world.agent_crashes.checked_sub(1)?;
    let Agent { disk, holder_on_disk, .. } = world.agents[agent];
    next.agents[agent] =
        Agent { seen: disk, knows_holder: holder_on_disk, leaf: None, ..world.agents[agent] };
    Some(next)
}

/// Handshakes that were opened with the sides that members had before this move go on.
fn with_handshakes(world: &World, setting: &Setting, mut next: World) -> World {
    for (opener, side) in world.members.iter().enumerate() {
        if *side != next.members[opener] && side.leaf.is_some() && setting.handshake > 0 {
            let over = world.tick + setting.handshake;
            next.handshakes.retain(|former| (former.opener, former.side) != (opener, *side));
            next.handshakes.push(Handshake { opener, side: *side, over });
        }
    }
    next.handshakes.sort_by_key(|handshake| (handshake.over, handshake.opener, handshake.side.trust));
    next
}

/// Bundle or signer are in force and the segment is sealed: no request without a row is older than the change.
fn in_force(world: &World, setting: &Setting) -> Option<World> {
    let (policy, tick) = (limits(setting), world.tick);
    let since = match &world.record.phase {
        Phase::Distributing(phase) => phase.bundle.generation,
        Phase::Draining(phase) => phase.switched,
        Phase::Withdrawing(phase) => phase.bundle.generation,
        _ => return None,
    };
    let older = |request: &Request| {
        request.leaf.is_none() && request.generation < since.0 && request.segment == world.segment
    };
    let waits = setting.without != Without::RowBeforeSignature && setting.without != Without::GateT;
    if waits && world.requests.iter().flatten().any(older) {
        return None;
    }
    let mut next = world.clone();
    for pending in &world.record.pending {
        let event = match pending.effect {
            Effect::PublishBundle { sequence } => Event::BundlePublished { sequence },
            Effect::SwitchSigner { root, issuer } => Event::SignerSwitched { root, issuer },
            Effect::StageRoot { .. } | Effect::RequestIssuer { .. } => continue,
        };
        next.record = taken(&next.record, &event, tick, &policy).unwrap();
    }
    raise(&mut next, setting);
    let seal = Event::SegmentSealed { segment: segment(world.segment), generation: since };
    next.record = taken(&next.record, &seal, tick, &policy).unwrap_or(next.record);
    (next.record != world.record).then_some(next)
}

/// Gives the present segment a bound under the root that signs, if it has none.
fn raise(world: &mut World, setting: &Setting) {
    let Some(signer) = world.record.signer() else { return };
    let id = segment(world.segment);
    if world.record.leaf_limit(&signer.root, &id).is_none() {
        let ahead = if signer.root == root("A") { setting.bound } else { FAR };
        let wish = Event::HorizonRequested { root: signer.root, segment: id, until: at(world.tick + ahead) };
        if let Some(record) = taken(&world.record, &wish, world.tick, &limits(setting)) {
            world.record = record;
        }
    }
}

/// The driver tells the machine what the ledger says.
fn judged(world: &World, setting: &Setting) -> Option<World> {
    let mut next = world.clone();
    report(&mut next, setting, P);
    report(&mut next, setting, Q);
    let event = Event::EvidenceReported { evidence: evidence(&next, setting) };
    next.record = taken(&next.record, &event, world.tick, &limits(setting))?;
    // A closed segment of a replica that runs: it opens another one.
    let closed = next.record.segments.get(&segment(next.segment)).is_some_and(rotation::Segment::is_closed);
    if closed {
        incarnate(&mut next, setting, true);
    }
    Some(next)
}

fn evidence(world: &World, setting: &Setting) -> Evidence {
    let policy = limits(setting);
    let counted = |row: &&Row| !row.ended && !policy.has_passed(at(row.end), at(world.tick));
    let tally = |rows: &mut dyn Iterator<Item = &Row>| {
        let rows: Vec<&Row> = rows.collect();
        let latest = rows.iter().map(|row| at(row.end)).max();
        Tally { count: u64::try_from(rows.len()).unwrap(), latest }
    };
    let now = u8::try_from(world.record.sequence.0).unwrap();
    let unproven = |row: &&Row| setting.without != Without::GateT && row.born < now && row.applied < now;
    let live = |wanted: Root| {
        let told = setting.without != Without::GateL;
        tally(&mut world.rows.iter().filter(counted).filter(|row| told && row.root == wanted))
    };
    let read = world.record.segments.iter().filter_map(|(id, segment)| match segment.state {
        SegmentState::Sealed { generation } => Some((id.clone(), generation)),
        SegmentState::Closed(Contents::Read) => Some((id.clone(), Generation(0))),
        SegmentState::Open | SegmentState::Closed(Contents::Unread) => None,
    });
    Evidence {
        at: at(world.tick),
        uptime: Duration::from_secs(world.tick.unsigned_abs()),
        sequence: Sequence(u64::from(now)),
        unproven: tally(&mut world.rows.iter().filter(counted).filter(unproven)),
        own_trust: Tally::default(),
        waived: 0,
        live: [Root::A, Root::B].map(|name| (id_of(name), live(name))).into(),
        read: read.collect(),
        subscribers: Subscribers::default(),
        foreign: BTreeMap::new(),
        let_go: std::collections::BTreeSet::new(),
    }
}

/// What an operator asks for, each once: a request id is carried out once.
fn operated(world: &World, setting: &Setting) -> Vec<(String, World)> {
    if !setting.operator {
        return Vec::new();
    }
    let id = |text: &str| text.parse().unwrap();
    let verbs = [
        Event::HoldRequested { request_id: id("hold") },
        Event::ResumeRequested { request_id: id("resume") },
        Event::AbortRequested { request_id: id("abort") },
        Event::RollbackRequested { request_id: id("back") },
        Event::ActivateRequested { request_id: id("forward"), evidence: evidence(world, setting) },
    ];
    let held = |verb: &&Event| matches!(verb, Event::HoldRequested { .. } | Event::ResumeRequested { .. });
    let moved = verbs.iter().filter(|verb| setting.holds || !held(verb)).filter_map(|verb| {
        let record = taken(&world.record, verb, world.tick, &limits(setting))?;
        Some((verb.name().to_owned(), World { record, ..world.clone() }))
    });
    moved.collect()
}

fn crash(world: &World, setting: &Setting) -> Option<World> {
    let mut next = world.clone();
    next.replica_crashes = world.replica_crashes.checked_sub(1)?;
    incarnate(&mut next, setting, !setting.disk_is_lost);
    Some(next)
}

/// The replica opens a new segment. What it had not written is gone; replies may still be on their way.
fn incarnate(world: &mut World, setting: &Setting, has_read: bool) {
    let (policy, former) = (limits(setting), world.segment);
    world.segment += 1;
    for request in &mut world.requests {
        *request = request.filter(|request| request.leaf.is_some());
    }
    if !has_read {
        world.rows.iter_mut().filter(|row| row.segment == former).for_each(|row| row.ended = true);
    }
    let said = has_read || setting.without == Without::SegmentBound;
    let over = world.record.segments.get(&segment(former)).is_some_and(rotation::Segment::is_closed);
    let read = if said && !over { [segment(former)].into() } else { [].into() };
    let opened =
        Event::SegmentOpened { replica: "ca".parse().unwrap(), segment: segment(world.segment), read };
    world.record = taken(&world.record, &opened, world.tick, &policy).unwrap();
    if let Some(record) = taken(&world.record, &Event::DriverStarted, world.tick, &policy) {
        world.record = record;
    }
    raise(world, setting);
}

fn tick(world: &World, setting: &Setting) -> Option<World> {
    let tick = world.tick + 1;
    let mut next = World { tick, ..world.clone() };
    next.handshakes.retain(|handshake| handshake.over > tick);
    (tick <= setting.ticks).then_some(next)
}
