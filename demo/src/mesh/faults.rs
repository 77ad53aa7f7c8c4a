//! What is broken, when, and for how long. Every fault ends by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::ca::CaProcess;
use super::load::Load;
use super::members::Member;
use super::view::View;
use crate::options::Fault;

/// How long the CA stays away after it was killed.
const CA_AWAY: Duration = Duration::from_secs(3);
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
    Reconnect,
    Thaw,
}

/// Everything that can be broken.
pub struct Mesh<'a> {
    /// The CA.
    pub ca: &'a mut CaProcess,
    /// Agents.
    pub members: &'a mut Vec<Member>,
    /// Workloads and their traffic.
    pub load: &'a mut Load,
    /// Where it is told.
    pub view: &'a mut View,
}

impl Faults {
    /// Spreads faults over rotations; without rotations all belong to the first.
    pub fn new(faults: &[Fault], rotations: u32) -> Self {
        let planned = faults.iter().zip(0..).map(|(fault, place): (&Fault, u32)| {
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
            Fault::KillCa => phase == "draining",
            Fault::PartitionAgent | Fault::FreezeProxy => false,
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
                End::CaBack => {
                    mesh.ca.restart().await?;
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
                Fault::KillCa => {
                    mesh.ca.kill().await?;
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
