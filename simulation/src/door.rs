//! Calls to a simulated server: what `ca-server/api` does around the same parts, without messages.

use std::sync::{Arc, LazyLock};

use control::peers::calls::Word;
use control::peers::outbox::Voice;
use control::seen::Stored;
use issuance::{AuthorizedRequest, Holder};
use ledger::{EvidenceClass, EvidenceError, Proof, Witness};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rotation::SegmentId;
use trust::csr::{ParsedCsr, VerifiedCsr};
use trust::{Bundle, Sequence, Serial, SpiffeId};

use crate::machine::Machine;
use crate::observer::{self, Leaf};
use crate::process::Process;
use crate::world::World;

/// A leaf, and the bundle of its reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) leaf: Leaf,
    pub(crate) bundle: Bundle,
}

/// The stream of an agent to one process, for what it says of leaves of others.
#[derive(Debug)]
pub(crate) struct Stream {
    segment: SegmentId,
    voice: Voice,
}

/// What an agent says of its leaves.
#[derive(Debug)]
pub(crate) struct Said<'a> {
    /// The bundle that the holders of a leaf have applied.
    pub(crate) applied: &'a [(Serial, u64)],
    /// Leaves that nobody holds any more.
    pub(crate) over: &'a [Serial],
}

/// Who asks for a leaf.
#[derive(Debug, Clone)]
pub(crate) enum Asks {
    /// A workload by itself.
    Alone,
    /// An agent, which has this bundle stored.
    Agent { name: String, stored: Stored },
}

/// The one key of all workloads: what matters of a key is elsewhere.
static CSR: LazyLock<Option<VerifiedCsr>> = LazyLock::new(|| {
    let key = KeyPair::generate().ok()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let der = params.serialize_request(&key).ok()?;
    ParsedCsr::from_der(der.der()).ok()?.verify().ok()
});

/// One way between an agent and a server; the other end, if it is there.
pub(crate) async fn reach(world: &World, machine: &Machine) -> Option<Arc<Process>> {
    let slow = world.goes_wrong(30);
    let most = if slow { 4_000 } else { 20 };
    tokio::time::sleep(world.roll(|dice| dice.millis(1, most))).await;
    machine.awake().await;
    machine.process().filter(|process| !process.is_dead() && !world.goes_wrong(10))
}

/// The way back: the answer is lost, or comes late.
async fn answered<T>(world: &World, machine: &Machine, process: &Process, answer: T) -> Option<T> {
    machine.awake().await;
    if process.is_dead() || world.goes_wrong(10) {
        return None;
    }
    let slow = world.goes_wrong(30);
    let most = if slow { 40_000 } else { 20 };
    tokio::time::sleep(world.roll(|dice| dice.millis(1, most))).await;
    Some(answer)
}

/// Asks for the bundle in force.
pub(crate) async fn bundle(world: &World, machine: &Machine) -> Option<Bundle> {
    let process = reach(world, machine).await?;
    process.ca.replication.may_release().ok()?;
    let bundle = process.ca.cell.load().bundle().clone();
    observer::lets_go(&world.observer, machine);
    observer::shown(&world.observer, &bundle);
    answered(world, machine, &process, bundle).await
}

/// Asks for a leaf.
pub(crate) async fn issue(
    world: &World,
    machine: &Machine,
    identity: &SpiffeId,
    asks: Asks,
) -> Option<Reply> {
    let process = reach(world, machine).await?;
    let ca = &process.ca;
    ca.replication.may_release().ok()?;
    let snapshot = ca.cell.load();
    if world.goes_wrong(100) {
        // A request that is slow between its snapshot and its row.
        let most = if world.roll(|dice| dice.happens(100)) { 100_000 } else { 6_000 };
        tokio::time::sleep(world.roll(|dice| dice.millis(10, most))).await;
        machine.awake().await;
    }
    let (csr, root) = (CSR.clone()?, snapshot.signer().root());
    let request = match asks {
        Asks::Alone => AuthorizedRequest::new(identity.clone(), csr, Holder::CsrOnly, None).ok()?,
        Asks::Agent { name, stored } => {
            let word = ca.word_of(&name, stored, &snapshot).ok()?;
            let holder = Holder::BehindAgent(name);
            AuthorizedRequest::new(identity.clone(), csr, holder, None).ok()?.with_word(word)
        }
    };
    let issued = match ca.issue(&request, snapshot).await {
        Ok(issued) => issued,
        Err(error) => {
            world.note(machine, &format_args!("issues nothing to {identity}: {error:?}"));
            return None;
        }
    };
    let leaf = Leaf {
        serial: issued.serial(),
        root,
        validity: issued.lifetime().validity,
        born: issued.sequence().0,
    };
    observer::lets_go(&world.observer, machine);
    let reply = Reply { leaf, bundle: issued.bundle().clone() };
    drop(issued);
    machine.awake().await;
    if process.is_dead() {
        return None;
    }
    world.note(machine, &format_args!("issues to {identity}, born at {}", leaf.born));
    observer::released(&world.observer, &process.segment, &leaf);
    observer::shown(&world.observer, &reply.bundle);
    answered(world, machine, &process, reply).await
}

/// Says which bundle the holders of leaves have applied, and which leaves nobody holds any more.
pub(crate) async fn say(
    world: &World,
    machine: &Machine,
    agent: &str,
    stream: &mut Option<Stream>,
    said: &Said<'_>,
) -> Option<()> {
    let process = reach(world, machine).await?;
    let ca = &process.ca;
    ca.replication.may_release().ok()?;
    let voice = match stream {
        Some(open) if open.segment == process.segment => &open.voice,
        other => {
            let (segment, voice) = (process.segment.clone(), ca.peers.voice(agent));
            &other.insert(Stream { segment, voice }).voice
        }
    };
    let (present, at) = (ca.cell.load().bundle().sequence(), ca.clock.now());
    let (by, class) = (Witness::Agent(agent), EvidenceClass::Applied);
    for (serial, sequence) in
        said.applied.iter().filter(|(_, sequence)| Sequence(*sequence) <= present)
    {
        let applied = Sequence(*sequence);
        let taken = ca.ledger.ack(by, *serial, Proof { applied, class, at }).await;
        if matches!(taken, Err(EvidenceError::UnknownRow(_))) {
            voice.say(*serial, Word::Applied(applied, class));
        }
    }
    for serial in said.over {
        let taken = ca.ledger.release(by, *serial).await;
        if matches!(taken, Err(EvidenceError::UnknownRow(_))) {
            voice.say(*serial, Word::Released);
        }
    }
    answered(world, machine, &process, ()).await
}
