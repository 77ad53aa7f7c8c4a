//! What is broken, when, and for how long. Every fault ends by itself.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::ca::{CaProcess, LEASE_SECS};
use super::load::Load;
use super::members::Member;
use super::plan::{self, Phase, Planned};
use super::store::Store;
use super::view::View;
use crate::options::Fault;

/// How long the CA stays away after it was killed.
const CA_AWAY: Duration = Duration::from_secs(3);
/// How long a server is paused, and cut off from the store.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(LEASE_SECS * 2);
/// How long an agent is cut off, and a proxy frozen.
const CUT_OFF: Duration = Duration::from_secs(8);

/// The faults of a run, and those that are in force.
#[derive(Debug)]
pub struct Faults {
    /// What is still to come.
    planned: Vec<Planned>,
    /// What came.
    made: Vec<Planned>,
    /// What is in force, and until when.
    ends: Vec<(Instant, Planned)>,
}

/// Everything that can be broken.
pub struct Mesh<'a> {
    /// The servers of the CA. Operators ask the first, and faults of replicas hit the last, which leads.
    pub cas: &'a mut [CaProcess],
    /// The store that they share, if they do.
    pub store: Option<&'a mut Store>,
    /// Agents.
    pub members: &'a mut Vec<Member>,
    /// Workloads and their traffic.
    pub load: &'a mut Load,
    /// Where it is told.
    pub view: &'a mut View,
}

impl Mesh<'_> {
    /// The server that operators ask.
    fn operated(&mut self) -> anyhow::Result<&mut CaProcess> {
        self.cas.first_mut().context("there is no server")
    }

    /// The server that leads: the one with the least name.
    fn lead(&mut self) -> anyhow::Result<&mut CaProcess> {
        anyhow::ensure!(self.cas.len() > 1, "this fault needs several servers: --replicas 3");
        self.cas.last_mut().context("there is no server")
    }
}

impl Faults {
    /// Those will come.
    pub const fn new(planned: Vec<Planned>) -> Self {
        Self { planned, made: Vec::new(), ends: Vec::new() }
    }

    /// Whether nothing is broken now.
    pub const fn none_in_force(&self) -> bool {
        self.ends.is_empty()
    }

    /// What was for a phase of this rotation that was over before it was seen comes in the next one.
    pub fn carry_over(&mut self, rotation: u32) {
        self.planned.iter_mut().filter(|one| one.rotation <= rotation).for_each(|one| {
            one.rotation = rotation + 1;
        });
    }

    /// What came so far.
    pub fn made(&self) -> &[Planned] {
        &self.made
    }

    /// What is still to come.
    pub fn to_come(&self) -> &[Planned] {
        &self.planned
    }

    /// Breaks what must be broken before a rotation is asked for: who is cut off must not see its first push.
    ///
    /// # Errors
    /// If a fault cannot be made.
    pub async fn before(&mut self, rotation: u32, mesh: &mut Mesh<'_>) -> anyhow::Result<()> {
        let early = |one: &Planned| match one.phase {
            Phase::Distributing => {
                matches!(one.fault, Fault::PartitionAgent | Fault::FreezeProxy)
            }
            Phase::Draining | Phase::Withdrawing => false,
        };
        self.fire(mesh, |one| one.rotation == rotation && early(one)).await
    }

    /// Breaks what belongs into a phase of a rotation.
    ///
    /// # Errors
    /// If a fault cannot be made.
    pub async fn during(
        &mut self,
        rotation: u32,
        phase: &str,
        mesh: &mut Mesh<'_>,
    ) -> anyhow::Result<()> {
        self.fire(mesh, |one| one.rotation == rotation && one.phase.name() == phase).await
    }

    /// Breaks whatever is left, where nothing is rotated.
    ///
    /// # Errors
    /// If a fault cannot be made.
    pub async fn now(&mut self, mesh: &mut Mesh<'_>) -> anyhow::Result<()> {
        self.fire(mesh, |_| true).await
    }

    /// Mends what has been broken for long enough.
    ///
    /// # Errors
    /// If the CA does not come back.
    pub async fn tend(&mut self, mesh: &mut Mesh<'_>) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<Planned> =
            self.ends.iter().filter(|(at, _)| *at <= now).map(|(_, over)| *over).collect();
        self.ends.retain(|(at, _)| *at > now);
        for Planned { fault, member: place, .. } in due {
            match fault {
                Fault::KillReplica => {
                    mesh.lead()?.restart().await?;
                    mesh.view.say("the killed server is back on the same state");
                }
                Fault::PauseReplica => {
                    mesh.lead()?.pause(false)?;
                    mesh.view.say("the paused server goes on");
                }
                Fault::PartitionStore => {
                    mesh.lead()?.cut_from_store(false);
                    mesh.view.say("the server reaches the store again");
                }
                Fault::KillStoreLeader => {
                    mesh.store.as_mut().context("there is no store to break")?.restart()?;
                    mesh.view.say("the killed member of the store is back");
                }
                Fault::KillCa => {
                    mesh.operated()?.restart().await?;
                    mesh.view.say("the CA is back on the same state");
                }
                Fault::PauseCa => {
                    mesh.operated()?.pause(false)?;
                    mesh.view.say("the paused CA goes on");
                }
                Fault::PartitionAgent => {
                    if let Some(member) = mesh.members.get(place) {
                        member.partition(false);
                        mesh.view.say(&format!("the agent of {} reaches the CA again", member.id));
                    }
                }
                Fault::FreezeProxy => {
                    mesh.load.freeze(place, false)?;
                    mesh.view.say("the frozen proxy goes on");
                }
                // They end with the word that begins them.
                Fault::RestartAgent | Fault::RestartProxy | Fault::UnableProxy | Fault::Random => {}
            }
        }
        Ok(())
    }

    async fn fire(
        &mut self,
        mesh: &mut Mesh<'_>,
        fits: impl Fn(&Planned) -> bool,
    ) -> anyhow::Result<()> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.planned).into_iter().partition(fits);
        self.planned = later;
        for planned in due {
            if self.ends.iter().any(|(_, other)| plan::is_too_much(*other, planned)) {
                // As long as that is broken, this would be two in one; it is carried over.
                self.planned.push(planned);
                continue;
            }
            let Planned { fault, member: place, .. } = planned;
            self.made.push(planned);
            let now = Instant::now();
            match fault {
                Fault::KillReplica => {
                    mesh.lead()?.kill().await?;
                    mesh.view.say("the server that leads was killed (SIGKILL)");
                    self.ends.push((now + CA_AWAY, planned));
                }
                Fault::PauseReplica => {
                    mesh.lead()?.pause(true)?;
                    mesh.view.say("the server that leads was paused (SIGSTOP)");
                    self.ends.push((now + LONGER_THAN_A_LEASE, planned));
                }
                Fault::PartitionStore => {
                    mesh.lead()?.cut_from_store(true);
                    mesh.view.say("the server that leads is cut off from the store");
                    self.ends.push((now + LONGER_THAN_A_LEASE, planned));
                }
                Fault::KillStoreLeader => {
                    mesh.store
                        .as_mut()
                        .context("there is no store to break")?
                        .kill_leader()
                        .await?;
                    mesh.view.say("the leader of the store was killed (SIGKILL)");
                    self.ends.push((now + CA_AWAY, planned));
                }
                Fault::KillCa => {
                    mesh.operated()?.kill().await?;
                    mesh.view.say("the CA was killed (SIGKILL)");
                    self.ends.push((now + CA_AWAY, planned));
                }
                Fault::PauseCa => {
                    mesh.operated()?.pause(true)?;
                    mesh.view.say("the CA was paused (SIGSTOP)");
                    self.ends.push((now + CA_AWAY, planned));
                }
                Fault::PartitionAgent => {
                    if let Some(member) = mesh.members.get(place) {
                        member.partition(true);
                        mesh.view
                            .say(&format!("the agent of {} is cut off from the CA", member.id));
                    }
                    self.ends.push((now + CUT_OFF, planned));
                }
                Fault::FreezeProxy => {
                    mesh.load.freeze(place, true)?;
                    mesh.view.say("one proxy is frozen");
                    self.ends.push((now + CUT_OFF, planned));
                }
                Fault::UnableProxy => {}
                Fault::RestartAgent => {
                    if let Some(member) = mesh.members.get_mut(place) {
                        member.restart().await?;
                        mesh.view.say(&format!("the agent of {} was restarted", member.id));
                    }
                }
                Fault::RestartProxy => {
                    mesh.load.restart(place)?;
                    mesh.view.say("one proxy was restarted");
                }
                Fault::Random => anyhow::bail!("what is drawn was not drawn"),
            }
        }
        Ok(())
    }
}
