//! What is broken, when, and for how long. Every fault ends by itself.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::ca::{CaProcess, LEASE_SECS};
use super::load::Load;
use super::members::Member;
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
    /// What comes in which rotation.
    planned: Vec<(u32, Fault)>,
    ends: Vec<(Instant, End)>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    CaBack,
    ReplicaBack,
    ReplicaGoesOn,
    StoreReached,
    StoreLeaderBack,
    Reconnect,
    Thaw,
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
    /// Spreads faults over rotations; without rotations all belong to the first.
    pub fn new(faults: &[Fault], rotations: u32) -> Self {
        // That one is there from the start: `unable`.
        let faults = faults.iter().filter(|fault| **fault != Fault::UnableProxy);
        let planned = faults.zip(0..).map(|(fault, place): (&Fault, u32)| {
            (place.checked_rem(rotations).map_or(1, |turn| turn + 1), *fault)
        });
        Self { planned: planned.collect(), ends: Vec::new() }
    }

    /// Whether everything was broken and is whole again.
    pub const fn are_over(&self) -> bool {
        self.planned.is_empty() && self.ends.is_empty()
    }

    /// Breaks what must be broken before a rotation is asked for: who is cut off must not see its first push.
    ///
    /// # Errors
    /// If a fault cannot be made.
    pub async fn before(&mut self, rotation: u32, mesh: &mut Mesh<'_>) -> anyhow::Result<()> {
        let early = |fault: Fault| matches!(fault, Fault::PartitionAgent | Fault::FreezeProxy);
        self.fire(mesh, |number, fault| number == rotation && early(fault)).await
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
        let fits = |fault: Fault| match fault {
            Fault::RestartAgent => phase == "distributing",
            Fault::KillCa | Fault::KillStoreLeader => phase == "draining",
            Fault::KillReplica | Fault::PauseReplica | Fault::PartitionStore => {
                phase == "distributing"
            }
            Fault::PartitionAgent | Fault::FreezeProxy | Fault::UnableProxy => false,
        };
        self.fire(mesh, |number, fault| number == rotation && fits(fault)).await
    }

    /// Breaks whatever is left, where nothing is rotated.
    ///
    /// # Errors
    /// If a fault cannot be made.
    pub async fn now(&mut self, mesh: &mut Mesh<'_>) -> anyhow::Result<()> {
        self.fire(mesh, |_, _| true).await
    }

    /// Mends what has been broken for long enough.
    ///
    /// # Errors
    /// If the CA does not come back.
    pub async fn tend(&mut self, mesh: &mut Mesh<'_>) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<End> =
            self.ends.iter().filter(|(at, _)| *at <= now).map(|(_, end)| *end).collect();
        self.ends.retain(|(at, _)| *at > now);
        for end in due {
            match end {
                End::ReplicaBack => {
                    mesh.lead()?.restart().await?;
                    mesh.view.say("the killed server is back on the same state");
                }
                End::ReplicaGoesOn => {
                    mesh.lead()?.pause(false)?;
                    mesh.view.say("the paused server goes on");
                }
                End::StoreReached => {
                    mesh.lead()?.cut_from_store(false);
                    mesh.view.say("the server reaches the store again");
                }
                End::StoreLeaderBack => {
                    mesh.store.as_mut().context("there is no store to break")?.restart()?;
                    mesh.view.say("the killed member of the store is back");
                }
                End::CaBack => {
                    mesh.operated()?.restart().await?;
                    mesh.view.say("the CA is back on the same state");
                }
                End::Reconnect => {
                    if let Some(member) = mesh.members.last() {
                        member.partition(false);
                        mesh.view.say(&format!("the agent of {} reaches the CA again", member.id));
                    }
                }
                End::Thaw => {
                    mesh.load.freeze_last(false)?;
                    mesh.view.say("the frozen proxy goes on");
                }
            }
        }
        Ok(())
    }

    async fn fire(
        &mut self,
        mesh: &mut Mesh<'_>,
        fits: impl Fn(u32, Fault) -> bool,
    ) -> anyhow::Result<()> {
        let (now_due, later) = std::mem::take(&mut self.planned)
            .into_iter()
            .partition(|(number, fault)| fits(*number, *fault));
        self.planned = later;
        let due: Vec<(u32, Fault)> = now_due;
        for (_, fault) in due {
            let now = Instant::now();
            match fault {
                Fault::KillReplica => {
                    mesh.lead()?.kill().await?;
                    mesh.view.say("the server that leads was killed (SIGKILL)");
                    self.ends.push((now + CA_AWAY, End::ReplicaBack));
                }
                Fault::PauseReplica => {
                    mesh.lead()?.pause(true)?;
                    mesh.view.say("the server that leads was paused (SIGSTOP)");
                    self.ends.push((now + LONGER_THAN_A_LEASE, End::ReplicaGoesOn));
                }
                Fault::PartitionStore => {
                    mesh.lead()?.cut_from_store(true);
                    mesh.view.say("the server that leads is cut off from the store");
                    self.ends.push((now + LONGER_THAN_A_LEASE, End::StoreReached));
                }
                Fault::KillStoreLeader => {
                    mesh.store
                        .as_mut()
                        .context("there is no store to break")?
                        .kill_leader()
                        .await?;
                    mesh.view.say("the leader of the store was killed (SIGKILL)");
                    self.ends.push((now + CA_AWAY, End::StoreLeaderBack));
                }
                Fault::KillCa => {
                    mesh.operated()?.kill().await?;
                    mesh.view.say("the CA was killed (SIGKILL)");
                    self.ends.push((now + CA_AWAY, End::CaBack));
                }
                Fault::PartitionAgent => {
                    if let Some(member) = mesh.members.last() {
                        member.partition(true);
                        mesh.view
                            .say(&format!("the agent of {} is cut off from the CA", member.id));
                    }
                    self.ends.push((now + CUT_OFF, End::Reconnect));
                }
                Fault::FreezeProxy => {
                    mesh.load.freeze_last(true)?;
                    mesh.view.say("one proxy is frozen");
                    self.ends.push((now + CUT_OFF, End::Thaw));
                }
                Fault::UnableProxy => {}
                Fault::RestartAgent => {
                    if let Some(member) = mesh.members.first_mut() {
                        member.restart().await?;
                        mesh.view.say(&format!("the agent of {} was restarted", member.id));
                    }
                }
            }
        }
        Ok(())
    }
}
