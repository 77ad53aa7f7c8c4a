//! The demo's rotations: asked for as an operator does, watched from outside, and timed phase by phase.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use console::{admin_socket, rotation as words};
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, Rotation, StartRotationRequest, Verb,
};
use tokio::time::Instant;
use tonic::Code;
use trust::Cohort;

/// Longest wait for an answer of a CA that may be dead just now.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What was seen of the rotations so far.
#[derive(Debug)]
pub struct Rotations {
    socket: PathBuf,
    wanted: u32,
    canary: Option<Cohort>,
    started: u32,
    under_way: bool,
    phase: (String, Instant),
    /// Seconds in each phase, over all rotations.
    pub phase_seconds: BTreeMap<String, f64>,
    /// What each gate rested on when it opened, as the CA said last before.
    pub rested_on: Vec<String>,
    last: Option<Rotation>,
    /// When the last rotation was over.
    over_at: Option<Instant>,
}

/// What a look at the CA showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The CA did not answer.
    Nothing,
    /// The phase is the same as before.
    Same,
    /// A phase began.
    Phase(String),
}

impl Rotations {
    /// Will ask for so many rotations, each with this cohort first.
    pub fn new(socket: PathBuf, wanted: u32, canary: Option<Cohort>) -> Self {
        Self {
            socket,
            wanted,
            canary,
            started: 0,
            under_way: false,
            phase: ("steady".to_owned(), Instant::now()),
            phase_seconds: BTreeMap::new(),
            rested_on: Vec::new(),
            last: None,
            over_at: None,
        }
    }

    /// How many are over.
    pub fn completed(&self) -> u32 {
        self.started - u32::from(self.under_way)
    }

    /// Number of the next one, if it may be asked for now.
    pub fn next(&self) -> Option<u32> {
        (!self.under_way && self.started < self.wanted).then_some(self.started + 1)
    }

    /// Number of the one that is under way, or was last.
    pub const fn number(&self) -> u32 {
        self.started
    }

    /// Whether one is under way.
    pub const fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// The phase that was seen last.
    pub fn phase(&self) -> &str {
        &self.phase.0
    }

    /// Since when nothing is left to do.
    pub fn all_over_since(&self) -> Option<Instant> {
        if self.under_way || self.started < self.wanted { None } else { self.over_at }
    }

    /// Whether no rotation was asked for at all.
    pub const fn none_wanted(&self) -> bool {
        self.wanted == 0
    }

    /// The last that the CA said.
    pub const fn last(&self) -> Option<&Rotation> {
        self.last.as_ref()
    }

    /// Asks for the next rotation.
    ///
    /// # Errors
    /// If the CA refuses or does not answer.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let mut client = admin_socket::rotations(&self.socket).await?;
        let request = StartRotationRequest {
            request_id: format!("demo-{}", self.started + 1),
            canary: self.canary.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..StartRotationRequest::default()
        };
        client.start_rotation(request).await.context("the CA refuses to rotate")?;
        self.started += 1;
        self.under_way = true;
        Ok(())
    }

    /// Lets the new root sign for a greater cohort; says whether the CA was there to take it.
    ///
    /// # Errors
    /// If the CA refuses.
    pub async fn widen(&self, cohort: &Cohort) -> anyhow::Result<bool> {
        let request = DecideRotationRequest {
            request_id: format!("demo-{}-wider", self.started),
            verb: Verb::Widen.into(),
            by: "demo".to_owned(),
            reason: "the cohort is well".to_owned(),
            cohort: cohort.to_string(),
        };
        let Ok(mut client) = admin_socket::rotations(&self.socket).await else { return Ok(false) };
        match client.decide_rotation(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::Unavailable => Ok(false),
            Err(status) => Err(status).context("the CA refuses to widen the cohort"),
        }
    }

    /// Looks at the CA, and notes what changed.
    pub async fn look(&mut self) -> Seen {
        let asked = async {
            let mut client = admin_socket::rotations(&self.socket).await.ok()?;
            Some(client.get_rotation(GetRotationRequest {}).await.ok()?.into_inner())
        };
        let Ok(Some(rotation)) = tokio::time::timeout(ANSWER_WITHIN, asked).await else {
            return Seen::Nothing;
        };
        let seen = self.note(&rotation);
        self.last = Some(rotation);
        seen
    }

    fn note(&mut self, rotation: &Rotation) -> Seen {
        let done = format!("demo-{}", self.started);
        if self.under_way && rotation.phase == "steady" && rotation.done.contains(&done) {
            self.under_way = false;
            self.over_at = Some(Instant::now());
        }
        if rotation.phase == self.phase.0 {
            return Seen::Same;
        }
        let former = std::mem::replace(&mut self.phase, (rotation.phase.clone(), Instant::now()));
        if former.0 != "steady" {
            *self.phase_seconds.entry(former.0).or_default() += former.1.elapsed().as_secs_f64();
        }
        if let Some(gate) = self.last.as_ref().and_then(|last| last.gate.as_ref()) {
            let grounds = gate.rests_on.join(", ");
            self.rested_on
                .push(format!("rotation {}: the {} gate: {grounds}", self.started, gate.name));
        }
        Seen::Phase(rotation.phase.clone())
    }

    /// What holds the present gate, in words.
    pub fn explained(&self) -> String {
        self.last.as_ref().map_or_else(|| "the CA never answered".to_owned(), words::explain)
    }
}
