//! What befalls a simulated CA: operators, faults, and at last the calm in which everything must come to rest.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use rotation::evidence::GateName;
use rotation::{AuthorityName, Event, Mode, RequestId, State};
use rotation_driver::{EvidenceSource as _, RecordStore as _, SharedRecord, replay};
use trust::TrustDomain;

use crate::machine::Machine;
use crate::observer;
use crate::process::Process;
use crate::settings::{AUTHORITY, LEAF_MAX, POLICY, TRUST_DOMAIN};
use crate::store::Truth;
use crate::trap::Blow;
use crate::world::World;

const HOUR_MILLIS: i64 = 3_600_000;
/// What is added to the stated bound of a rotation: starts, pauses between tries, and the end of the withdrawal.
const SLACK: Duration = Duration::from_secs(150);

/// How long an operator waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The operators of a CA, and what else happens to it.
pub(crate) struct Story {
    pub(crate) world: Arc<World>,
}

impl Story {
    /// Lives through faults, then through the calm after them.
    pub(crate) async fn tell(&self) {
        let (until, pause) = self.world.roll(|dice| {
            let pause = [2_500, 6_000, 10_000, 16_000].get(dice.index(4)).copied();
            (dice.millis(60_000, 300_000), pause.unwrap_or(10_000))
        });
        while self.world.elapsed() < until && !self.is_over() {
            tokio::time::sleep(self.world.roll(|dice| dice.millis(200, pause))).await;
            self.event().await;
        }
        self.calm().await;
    }

    /// A quiet life: a CA comes up, its root is replaced, and replaced again. At most one durable operation fails, in the first
    /// half of it. Answers how many there were in that half.
    pub(crate) async fn tell_quietly(&self) -> u64 {
        self.world.calm_down();
        let mut operations = 0;
        for request in ["first", "second"] {
            if !self.comes_to_rest("what was under way").await {
                return operations;
            }
            self.rotates_once(request).await;
            if !self.comes_to_rest(request).await {
                return operations;
            }
            if operations == 0 {
                operations = self.world.trap.operations();
            }
        }
        if self.world.trap.is_set() {
            self.world.violated("the operation that should fail did not come".to_owned());
        }
        self.everybody_has_a_leaf().await;
        self.journal_holds().await;
        operations
    }

    /// Asks for a rotation under one request id until it is begun, or was.
    async fn rotates_once(&self, request: &str) {
        let (Ok(authority), Ok(request_id)) =
            (AuthorityName::parse(AUTHORITY), RequestId::parse(request))
        else {
            return;
        };
        let deadline = self.world.elapsed() + SLACK;
        while self.world.elapsed() < deadline && !self.is_over() {
            let begun = self.world.observer.state().is_some_and(|state| {
                let now = state.phase.rotation();
                now.is_some_and(|now| now.request_id == request_id)
                    || state.done.contains(&request_id)
            });
            if begun {
                return;
            }
            if let Some(process) = self.any_process() {
                let (request_id, authority) = (request_id.clone(), authority.clone());
                let mode = Mode::Auto;
                let event = Event::RotationRequested {
                    request_id,
                    authority,
                    mode,
                    stage_again: None,
                    canary: None,
                };
                let asked = process.ca.driver.submit_by(event, "operator");
                // A process that dies meanwhile never answers.
                let said = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
                    Ok(Ok(_)) => String::new(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer".to_owned(),
                };
                self.world.note(&"operator", &format_args!("asks for {request}: {said}"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if !self.is_over() {
            self.world.violated(format!("the rotation {request} cannot be begun"));
        }
    }

    fn is_over(&self) -> bool {
        self.world.violation().is_some()
    }

    fn any_machine(&self) -> Option<Arc<Machine>> {
        self.world
            .roll(|dice| self.world.machines.get(dice.index(self.world.machines.len())).cloned())
    }

    fn any_process(&self) -> Option<Arc<Process>> {
        self.any_machine()?.process()
    }

    async fn event(&self) {
        let Some(machine) = self.any_machine() else { return };
        match self.world.roll(|dice| dice.below(100)) {
            0..26 => self.operator_begins(),
            26..40 => self.operator_says(),
            40..50 => self.operators_activate(),
            50..66 => self.hit(&machine),
            66..78 => self.cut_off(machine),
            78..86 => self.freeze(machine),
            86..92 => self.step_clock(machine),
            _ => self.fail_disk(&machine),
        }
    }

    /// How long something lasts: mostly short, at times longer than every leaf.
    fn lasts(&self) -> Duration {
        self.world.roll(|dice| match dice.happens(150) {
            true => dice.millis(60_000, 150_000),
            false => dice.millis(500, 25_000),
        })
    }

    fn note(&self, machine: &Machine, what: &dyn Display) {
        self.world.note(machine, what);
    }

    /// Somebody asks a server for something, and does not wait for its answer.
    fn ask(&self, event: Event) {
        let Some(process) = self.any_process() else { return };
        let name = event.name();
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            let asked = process.ca.driver.submit_by(event, "operator").await;
            let said = asked.err().map(|error| error.to_string()).unwrap_or_default();
            world.note(&"operator", &format_args!("{name}: {said}"));
        });
    }

    fn request_id(&self) -> Option<RequestId> {
        RequestId::parse(&format!("request-{}", self.world.unique())).ok()
    }

    fn operator_begins(&self) {
        let mode = match self.world.roll(|dice| dice.happens(250)) {
            true => Mode::Manual,
            false => Mode::Auto,
        };
        let (Some(request_id), Ok(authority)) =
            (self.request_id(), AuthorityName::parse(AUTHORITY))
        else {
            return;
        };
        self.ask(Event::RotationRequested {
            request_id,
            authority,
            mode,
            stage_again: None,
            canary: None,
        });
    }

    fn operator_says(&self) {
        let Some(request_id) = self.request_id() else { return };
        self.ask(match self.world.roll(|dice| dice.below(5)) {
            0 => Event::HoldRequested { request_id },
            1 | 2 => Event::ResumeRequested { request_id },
            3 => Event::AbortRequested { request_id },
            _ => Event::RollbackRequested { request_id },
        });
    }

    /// Two operators let the new root sign, each at a server.
    fn operators_activate(&self) {
        for _ in 0..2 {
            let (Some(process), Some(request_id)) = (self.any_process(), self.request_id()) else {
                continue;
            };
            let (world, broken) = (Arc::clone(&self.world), self.world.options.broken);
            tokio::spawn(async move {
                let (ca, state) = (&process.ca, process.ca.driver.state());
                let source = process.source(broken);
                let Ok(evidence) = source.read(&state).await else { return };
                let event = Event::ActivateRequested { request_id, evidence };
                let asked = ca.driver.submit_by(event, "operator").await;
                let said = asked.err().map(|error| error.to_string()).unwrap_or_default();
                world.note(&"operator", &format_args!("activate: {said}"));
            });
        }
    }

    fn hit(&self, machine: &Machine) {
        let blow = match self.world.roll(|dice| dice.below(10)) {
            0..2 => Blow::Stop,
            2..6 => Blow::Kill,
            6..9 => Blow::PowerCut,
            _ => Blow::NewDisk,
        };
        if blow != Blow::Stop {
            self.world.count(|counts| counts.crashes += 1);
        }
        self.world.trap.hit(machine.number, blow);
    }

    fn cut_off(&self, machine: Arc<Machine>) {
        self.world.count(|counts| counts.partitions += 1);
        self.note(&machine, &"is cut off from the store");
        machine.cut_off(true);
        let (world, lasts) = (Arc::clone(&self.world), self.lasts());
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            reconnect(&world, &machine);
        });
    }

    fn freeze(&self, machine: Arc<Machine>) {
        self.note(&machine, &"is held up");
        machine.freeze(true);
        let lasts = self.lasts();
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            machine.freeze(false);
            world.note(&machine, &"goes on");
        });
    }

    /// Somebody sets a wall clock, and sets it right again. Only while a process runs that noted it before: nobody can find out
    /// that a clock was wrong from the beginning.
    fn step_clock(&self, machine: Arc<Machine>) {
        if machine.process().is_none() || !machine.clock.is_right() {
            return;
        }
        let back = self.world.roll(|dice| dice.happens(500));
        let millis = if back { -HOUR_MILLIS } else { HOUR_MILLIS };
        self.note(&machine, &format_args!("has its wall clock set by {millis} ms"));
        machine.clock.set_off(millis);
        let (world, lasts) =
            (Arc::clone(&self.world), self.world.roll(|dice| dice.millis(500, 60_000)));
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            machine.clock.set_off(0);
            world.note(&machine, &"has its wall clock set right");
        });
    }

    fn fail_disk(&self, machine: &Machine) {
        match self.world.roll(|dice| dice.happens(500)) {
            true => machine.medium.fail_syncs(1),
            false => machine
                .medium
                .fail_appends(1 + u32::from(self.world.roll(|dice| dice.happens(500)))),
        }
        self.note(machine, &"has a disk that fails");
    }

    /// Nothing fails any more: within the stated bounds all servers serve, the rotation that is under way ends, and so does another.
    async fn calm(&self) {
        self.world.calm_down();
        self.world.note(&"story", &"calm");
        for machine in &self.world.machines {
            machine.medium.heal();
            machine.freeze(false);
            machine.clock.set_off(0);
            reconnect(&self.world, machine);
        }
        if !self.comes_to_rest("what was under way").await {
            return;
        }
        self.operator_begins_surely().await;
        if !self.comes_to_rest("another rotation").await {
            return;
        }
        self.everybody_has_a_leaf().await;
        self.journal_holds().await;
    }

    /// Waits until nothing is under way and every machine serves; operators do what only they can do.
    async fn comes_to_rest(&self, what: &str) -> bool {
        let deadline =
            self.world.elapsed() + POLICY.rotation_at_most() + POLICY.withdrawal_max + SLACK;
        while self.world.elapsed() < deadline && !self.is_over() {
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            let state = self.world.observer.state();
            let Some(state) = state else { continue };
            if self.is_at_rest(&state) {
                return true;
            }
            self.help(&state);
        }
        if !self.is_over() {
            let (state, machines) = (self.world.observer.state(), &self.world.machines);
            let phase =
                state.as_ref().map(|state| format!("{:?}", state.phase)).unwrap_or_default();
            let away: Vec<_> = machines
                .iter()
                .filter(|machine| machine.process().is_none())
                .map(ToString::to_string)
                .collect();
            self.world.violated(format!(
                "{what} does not come to rest in time: {phase}; servers that do not serve: {away:?}"
            ));
        }
        false
    }

    fn is_at_rest(&self, state: &State) -> bool {
        let serves = |machine: &Arc<Machine>| {
            machine.process().is_some_and(|process| {
                process.ca.cell.load().generation() >= state.generation
                    && process.ca.replication.may_issue().is_ok()
            })
        };
        state.phase.is_steady()
            && state.pending.is_empty()
            && self.world.machines.iter().all(serves)
    }

    fn help(&self, state: &State) {
        let Some(request_id) = self.request_id() else { return };
        let Some(rotation) = state.phase.rotation() else { return };
        if rotation.held_since.is_some() {
            return self.ask(Event::ResumeRequested { request_id });
        }
        if state.phase.gate_name().is_some_and(GateName::waits_for_activation)
            && rotation.mode == Mode::Manual
        {
            self.operators_activate();
        }
    }

    async fn operator_begins_surely(&self) {
        let Ok(authority) = AuthorityName::parse(AUTHORITY) else { return };
        for _ in 0..30 {
            let (Some(process), Some(request_id)) = (self.any_process(), self.request_id()) else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let (mode, authority) = (Mode::Auto, authority.clone());
            let event = Event::RotationRequested {
                request_id,
                authority,
                mode,
                stage_again: None,
                canary: None,
            };
            match process.ca.driver.submit_by(event, "operator").await {
                Ok(_) => return,
                Err(error) => self.world.note(&"operator", &format_args!("is refused: {error}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.world.violated("no rotation can be begun in the calm".to_owned());
    }

    async fn everybody_has_a_leaf(&self) {
        // Whoever was away before the calm is away for longer than a leaf lives.
        let deadline = self.world.elapsed() + LEAF_MAX * 3;
        let mut lacking = observer::without_leaf(&self.world.observer);
        while !lacking.is_empty() && self.world.elapsed() < deadline && !self.is_over() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            lacking = observer::without_leaf(&self.world.observer);
        }
        if !lacking.is_empty() && !self.is_over() {
            self.world.violated(format!("without a leaf in the calm: {lacking:?}"));
        }
    }

    async fn journal_holds(&self) {
        if self.is_over() {
            return;
        }
        let record = SharedRecord::new(Arc::new(Truth(Arc::clone(&self.world.central))));
        let entries = record.journal(0, usize::MAX).await.unwrap_or_default();
        let Ok(domain) = TrustDomain::parse(TRUST_DOMAIN) else { return };
        let state = self.world.observer.state();
        match replay(domain, &entries) {
            Err(error) => self.world.violated(format!("the journal does not hold: {error}")),
            Ok(replayed) if state.as_deref() != Some(&replayed.state) => {
                self.world.violated("the journal leads to another record".to_owned());
            }
            Ok(_) => {}
        }
    }
}

fn reconnect(world: &World, machine: &Machine) {
    if machine.is_cut_off() {
        machine.cut_off(false);
        world.central.look_everywhere(machine);
        world.note(machine, &"reaches the store again");
    }
}
