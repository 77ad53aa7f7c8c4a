//! Who is there: agents with their proxies, and clients that ask for themselves; when each renews, hears of a bundle, and says so.

use std::time::Duration;

mod before;

use ledger::{EvidenceClass, Proof, RowKind, Witness, Word};
use trust::renewal::renew_after_millis;
use trust::{Clock as _, Sequence, Serial, SpiffeId, TrustDomain};

use crate::agenda::Agenda;
use crate::chance::{Chance, in_millis};
use crate::error::PlanError;
use crate::question::Share;
use crate::server::{Issued, Server, Wanted};
use crate::traffic::Traffic;

/// One way between a member and the server.
const WAY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];
/// From a bundle at an agent to the word of its proxies that they applied it.
const APPLIES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// Within which an agent spreads what it is asked to renew, as the server asks it to.
const SPREAD: Duration = Duration::from_secs(1);
/// How long a member waits that was refused.
const RETRY: Duration = Duration::from_secs(10);
/// How far clients that ask for themselves spread their renewals, to both sides, in thousandths of a leaf's life.
const CSR_JITTER_PERMILLE: u64 = 10;
/// Members that share an identity, as the replicas of one workload do.
const MEMBERS_PER_IDENTITY: usize = 100;
/// Leaves that are asked for at once.
const BATCH: usize = 8_192;

/// An agent with what is behind it, or a client that asks for itself.
#[derive(Debug)]
struct Member {
    alone: bool,
    online: bool,
    /// The newest bundle that it has stored.
    stored: Sequence,
    /// Its holders.
    first: usize,
    count: usize,
}

/// Who uses one leaf at a time.
#[derive(Debug)]
struct Holder {
    kind: RowKind,
    member: usize,
    own_trust: bool,
    serial: Option<Serial>,
    /// Renewals so far: a date of before means nothing.
    turn: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Renew { holder: usize, turn: u32 },
    Bundle { member: usize, sequence: Sequence },
    Applied { member: usize, sequence: Sequence },
    Release { holder: usize, serial: Serial },
    Back { member: usize },
}

/// The mesh of a plan.
pub(crate) struct Mesh {
    members: Vec<Member>,
    holders: Vec<Holder>,
    agenda: Agenda<Due>,
    chance: Chance,
    identities: Vec<SpiffeId>,
    domain: TrustDomain,
    csr_renews_at: Share,
    /// The bundle that everybody was told of last.
    told: Sequence,
    pub(crate) traffic: Traffic,
}

impl Mesh {
    /// Those who are away come back so long after now.
    pub(crate) fn come_back(&mut self, now: u64, after: Option<Duration>) {
        let Some(after) = after else { return };
        let away = self.members.iter().enumerate().filter(|(_, member)| !member.online);
        let away: Vec<_> = away.map(|(at, _)| at).collect();
        for member in away {
            let late = self.chance.millis(Duration::ZERO, SPREAD);
            self.at(now + in_millis(after) + late, Due::Back { member });
        }
    }

    /// From the arrival of a leaf to its renewal by an agent.
    fn renewal(&mut self, left: u64) -> u64 {
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        u64::try_from(renew_after_millis(left, self.chance.draw())).unwrap_or(0).max(1)
    }

    /// The same by a client that asks for itself.
    fn csr_renewal(&mut self, left: u64) -> u64 {
        let jitter = self.chance.below(2 * CSR_JITTER_PERMILLE + 1);
        let millionths = self.csr_renews_at.millionths() + jitter * 1_000;
        let millionths = millionths.saturating_sub(CSR_JITTER_PERMILLE * 1_000);
        (left.saturating_mul(millionths) / 1_000_000).max(1)
    }

    fn at(&mut self, millis: u64, due: Due) {
        self.agenda.enter(millis, due);
    }

    fn way(&mut self) -> u64 {
        let [from, to] = WAY;
        self.chance.millis(from, to)
    }

    fn wanted(&mut self, holder: usize, left: Option<Duration>) -> Option<Wanted> {
        let Holder { kind, member: at, own_trust, .. } = *self.holders.get(holder)?;
        let member = self.members.get(at)?;
        let agent = (!member.alone).then(|| agent_name(at));
        let word = match kind {
            _ if own_trust => Word::OwnTrust,
            RowKind::AgentHeld | RowKind::AgentIdentity => Word::Trusting(member.stored),
            RowKind::CsrOnly | RowKind::ChannelTrusted | RowKind::Own | RowKind::Probe => {
                Word::None
            }
        };
        Some(Wanted { kind, agent, identity: self.identity(at)?, word, left })
    }

    fn identity(&mut self, member: usize) -> Option<SpiffeId> {
        let at = member / MEMBERS_PER_IDENTITY;
        while self.identities.len() <= at {
            let path = format!("/ns/plan/sa/workload-{}", self.identities.len());
            self.identities.push(SpiffeId::for_path(&self.domain, &path).ok()?);
        }
        self.identities.get(at).cloned()
    }

    /// Hears what the server has to say since the last time: a new bundle, and what it asks to be renewed.
    pub(crate) fn hear(&mut self, server: &Server) {
        let now = server.clock.elapsed_millis();
        if let Some(shown) = server.shown()
            && shown.sequence != self.told
        {
            self.told = shown.sequence;
            let bytes = shown.bundle().values().map(|der| der.as_bytes().len() as u64).sum();
            self.traffic.bundle_is(bytes);
            for member in 0..self.members.len() {
                self.tell(now, member);
            }
        }
        for (agent, serials) in server.asked() {
            let Some(member) = agent_number(&agent) else { continue };
            self.asked_to_renew(now, member, &serials);
        }
    }

    /// Pushes the newest bundle to an agent that is connected.
    fn tell(&mut self, now: u64, at: usize) {
        if self.members.get(at).is_some_and(|member| member.online && !member.alone) {
            self.traffic.pushed();
            let (arrives, sequence) = (now + self.way(), self.told);
            self.at(arrives, Due::Bundle { member: at, sequence });
        }
    }

    fn asked_to_renew(&mut self, now: u64, at: usize, serials: &[Serial]) {
        let Some(Member { online: true, first, count, .. }) = self.members.get(at) else { return };
        for holder in *first..first + count {
            let Some(Holder { serial: Some(serial), turn, .. }) = self.holders.get(holder) else {
                continue;
            };
            if serials.contains(serial) {
                let turn = *turn;
                let within = self.chance.millis(Duration::ZERO, SPREAD);
                let at = now + self.way() + within;
                self.at(at, Due::Renew { holder, turn });
            }
        }
    }

    /// Does what is due.
    pub(crate) async fn live(&mut self, server: &Server) -> Result<(), PlanError> {
        let now = server.clock.elapsed_millis();
        loop {
            let mut asking = Vec::new();
            while asking.len() < BATCH
                && let Some((at, due)) = self.agenda.next_until(now)
            {
                match due {
                    Due::Renew { holder, turn } => asking.extend(self.asks(at, holder, turn)),
                    Due::Bundle { member, sequence } => self.stores(at, member, sequence),
                    Due::Applied { member, sequence } => {
                        self.applies(member, sequence, server).await?;
                    }
                    Due::Release { holder, serial } => {
                        self.releases(holder, serial, server).await?;
                    }
                    Due::Back { member } => self.is_back(at, member),
                }
            }
            if asking.is_empty() {
                return Ok(());
            }
            self.issue(asking, server).await?;
        }
    }

    /// A holder wants a leaf now, unless it was renewed meanwhile or its member cannot.
    fn asks(&mut self, at: u64, holder: usize, turn: u32) -> Option<(u64, usize)> {
        let one = self.holders.get(holder).filter(|one| one.turn == turn)?;
        let member = self.members.get(one.member).filter(|member| member.online)?;
        if !member.alone && member.stored < self.told {
            // The server gives an agent no leaf before it has stored the bundle in force.
            self.at(at + in_millis(SPREAD), Due::Renew { holder, turn });
            return None;
        }
        Some((at, holder))
    }

    async fn issue(&mut self, asking: Vec<(u64, usize)>, server: &Server) -> Result<(), PlanError> {
        let (mut asked, mut wanted) = (Vec::new(), Vec::new());
        for (at, holder) in asking {
            if let Some(one) = self.wanted(holder, None) {
                asked.push((at, holder));
                wanted.push(one);
            }
        }
        let issued = server.issue(wanted).await?;
        for ((at, holder), issued) in asked.into_iter().zip(issued) {
            self.traffic.asked(at, issued.is_some());
            let arrives = at + self.way() + self.way();
            let Some(Holder { kind, member, serial, turn, .. }) = self.holders.get_mut(holder)
            else {
                continue;
            };
            *turn += 1;
            let (kind, member, turn, former) = (*kind, *member, *turn, *serial);
            let Some(Issued { serial: new, not_after }) = issued else {
                self.at(at + in_millis(RETRY), Due::Renew { holder, turn });
                continue;
            };
            *serial = Some(new);
            if kind == RowKind::CsrOnly {
                self.traffic.delivered();
            }
            let left = in_millis(not_after.since(server.clock.now()));
            let renews = match self.members.get(member).is_some_and(|member| member.alone) {
                true => self.csr_renewal(left),
                false => self.renewal(left),
            };
            self.at(arrives + renews, Due::Renew { holder, turn });
            if let Some(former) = former.filter(|_| kind != RowKind::CsrOnly) {
                let [from, to] = APPLIES;
                let over = arrives + self.chance.millis(from, to);
                self.at(over, Due::Release { holder, serial: former });
            }
        }
        Ok(())
    }

    fn stores(&mut self, at: u64, member: usize, sequence: Sequence) {
        let Some(one) = self.members.get_mut(member).filter(|member| member.online) else { return };
        one.stored = one.stored.max(sequence);
        let [from, to] = APPLIES;
        let applied = at + self.chance.millis(from, to);
        self.at(applied, Due::Applied { member, sequence });
    }

    async fn applies(
        &mut self,
        at: usize,
        sequence: Sequence,
        server: &Server,
    ) -> Result<(), PlanError> {
        let Some(Member { online: true, first, count, .. }) = self.members.get(at) else {
            return Ok(());
        };
        self.traffic.said();
        let agent = agent_name(at);
        let proof =
            Proof { applied: sequence, class: EvidenceClass::Applied, at: server.clock.now() };
        for holder in self.holders.iter().skip(*first).take(*count) {
            let Some(serial) = holder.serial.filter(|_| !holder.own_trust) else { continue };
            // A leaf that has ended meanwhile proves nothing and holds nothing.
            let _ = server.ledger.ack(Witness::Agent(&agent), serial, proof).await;
        }
        Ok(())
    }

    async fn releases(
        &self,
        holder: usize,
        serial: Serial,
        server: &Server,
    ) -> Result<(), PlanError> {
        let Some(one) = self.holders.get(holder) else { return Ok(()) };
        let agent = agent_name(one.member);
        // It may have ended meanwhile.
        let _ = server.ledger.release(Witness::Agent(&agent), serial).await;
        Ok(())
    }

    /// A member that was away is here again: it hears the bundle first, and then renews what it missed.
    fn is_back(&mut self, at: u64, member: usize) {
        let Some(one) = self.members.get_mut(member) else { return };
        one.online = true;
        let (first, count) = (one.first, one.count);
        self.tell(at, member);
        for holder in first..first + count {
            let Some(turn) = self.holders.get(holder).map(|holder| holder.turn) else { continue };
            let within = at + self.way() + self.chance.millis(SPREAD, SPREAD * 2);
            self.at(within, Due::Renew { holder, turn });
        }
    }
}

fn agent_name(member: usize) -> String {
    format!("a{member}")
}

fn agent_number(name: &str) -> Option<usize> {
    name.strip_prefix('a')?.parse().ok()
}
