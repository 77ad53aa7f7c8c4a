//! `banyan.admin.v1.WaiverService`: whose trust gates do not wait for, by an operator's word and for a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::waiver_service_server::WaiverService;
use proto::banyan::admin::v1::{
    AddWaiverRequest, AddWaiverResponse, ListWaiversRequest, ListWaiversResponse,
    RemoveWaiverRequest, RemoveWaiverResponse, Waiver,
};
use registry::{RegistryError, WaiverRow};
use rotation::evidence::GateName;
use tonic::{Request, Response, Status};
use trust::Timestamp;
use trust::plain::{counted, span};

use crate::admin::Operators;
use crate::words::{self, invalid};
use crate::{covers, page, relying_parties, wire};
use control::ca::Ca;
use control::leaves::{Gate, Letting};

/// How long a waiver stands.
const LASTS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(90 * 86_400)];
/// Leaves that an answer names.
const LEAVES_MAX: usize = 1_000;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Waivers {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Waivers {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    fn list(&self, asked: &ListWaiversRequest) -> ListWaiversResponse {
        let now = self.ca.clock.now();
        let all = self.ca.registry.waivers().into_iter();
        let after = all.filter(|(name, _)| *name > asked.after);
        let rows = after.map(|(name, row)| shown(name, row, now)).collect();
        let (waivers, next) =
            page::cut_messages(rows, asked.limit, |last: &Waiver| last.name.clone());
        ListWaiversResponse { waivers, next: next.unwrap_or_default() }
    }

    async fn add(
        &self,
        asked: AddWaiverRequest,
        caller: &str,
    ) -> Result<AddWaiverResponse, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let name = relying_parties::name(asked.name)?;
        let covers = covers::read(&self.ca, &asked.covers)?;
        if covers.is_empty() {
            let text = "a waiver covers somebody: name SPIFFE ids, or such with /* behind them for all below";
            return Err(invalid(text.to_owned()));
        }
        let now = self.ca.believed_now()?;
        let until = until([asked.lasts_seconds, asked.until], now)?;
        let row = WaiverRow {
            until,
            by: word.by.clone(),
            reason: word.reason.clone(),
            at: now,
            covers: covers.clone(),
        };
        let letting = {
            let state = self.ca.driver.state();
            let gate = Gate::of(&self.ca, &state);
            let letting = gate.waiving(&covers);
            let name = gate.name().filter(|name| *name != GateName::Leaves);
            Preview { letting, gate: name, holds: name.map_or(0, |_| gate.holders()) }
        };
        let answer = letting.answer(shown(name.clone(), row.clone(), now));
        if asked.dry_run {
            return Ok(answer);
        }
        if let Some(held) = letting.held().filter(|_| !asked.force) {
            return Err(still_held(held, letting.letting.len()));
        }
        let texts: Vec<_> = covers.iter().map(ToString::to_string).collect();
        let detail = format!("until {}, covers {}", row.until, texts.join(", "));
        words::journal(&self.ca, &word, "waiver add", &name, detail).await?;
        tracing::warn!(
            waiver = name,
            until = %row.until,
            by = word.by,
            reason = word.reason,
            leaves = letting.letting.len(),
            "gates do not wait for the trust of some holders, by an operator's word"
        );
        self.ca.registry.add_waiver(name, row).await?;
        Ok(answer)
    }

    async fn remove(&self, asked: RemoveWaiverRequest, caller: &str) -> Result<(), Refusal> {
        let word = words::word(&asked.by, &asked.reason, caller)?;
        let name = relying_parties::name(asked.name)?;
        // What is not there is not written down either.
        if !self.ca.registry.waivers().iter().any(|(known, _)| *known == name) {
            return Err(RegistryError::WaiverUnknown(name).into());
        }
        words::journal(&self.ca, &word, "waiver remove", &name, "").await?;
        self.ca.registry.remove_waiver(name.clone()).await?;
        tracing::info!(waiver = name, by = word.by, "waiver removed");
        Ok(())
    }
}

/// When it is over, by how long it shall stand or by the time itself.
fn until([lasts, until]: [i64; 2], now: Timestamp) -> Result<Timestamp, Refusal> {
    let lasts = match (lasts, until) {
        (lasts, 0) => u64::try_from(lasts).ok().map(Duration::from_secs),
        (0, until) => Some(Timestamp::from_secs(until).since(now)),
        _ => {
            return Err(invalid(
                "write how long it stands or when it is over, not both".to_owned(),
            ));
        }
    };
    let [least, most] = LASTS;
    let fits = lasts.filter(|lasts| (least..=most).contains(lasts));
    let refused =
        || invalid(format!("a waiver stands for {} to {} from now", span(least), span(most)));
    fits.map(|lasts| now.plus(lasts)).ok_or_else(refused)
}

/// What a waiver would mean now.
struct Preview {
    letting: Vec<Letting>,
    gate: Option<GateName>,
    holds: u64,
}

impl Preview {
    fn answer(&self, waiver: Waiver) -> AddWaiverResponse {
        AddWaiverResponse {
            waiver: Some(waiver),
            leaves: self.letting.iter().take(LEAVES_MAX).map(wire::letting).collect(),
            leaves_total: u64::try_from(self.letting.len()).unwrap_or(u64::MAX),
            gate: self.gate.map(|gate| gate.to_string()).unwrap_or_default(),
            holds_before: self.holds,
        }
    }

    /// One whose agent is connected, so that it is in use.
    fn held(&self) -> Option<&Letting> {
        self.letting.iter().find(|letting| letting.leaf.agent_connected)
    }
}

fn still_held(held: &Letting, all: usize) -> Refusal {
    let row = &held.leaf.live.row;
    let text = format!(
        "{} whose holders are not known to trust the bundle, and the agent of {} is connected: it would break when the new root \
         signs",
        counted(all, "leaf is covered", "leaves are covered"),
        row.identity
    );
    Refusal::advised(
        Reason::LeafHeld,
        text,
        "`banyan rotate explain` says what it waits for; `--dry-run` names all of them; `--force` goes on without them",
    )
}

fn shown(name: String, row: WaiverRow, now: Timestamp) -> Waiver {
    let stands = row.stands(now);
    let WaiverRow { covers, until, by, reason, at } = row;
    let covers: BTreeSet<_> = covers.iter().map(ToString::to_string).collect();
    Waiver {
        name,
        covers: covers.into_iter().collect(),
        until: until.as_secs(),
        stands,
        by,
        reason,
        at: at.as_secs(),
    }
}

#[tonic::async_trait]
impl WaiverService for Waivers {
    async fn list_waivers(
        &self,
        request: Request<ListWaiversRequest>,
    ) -> Result<Response<ListWaiversResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, _| Ok(self.list(&asked))).await
    }

    async fn add_waiver(
        &self,
        request: Request<AddWaiverRequest>,
    ) -> Result<Response<AddWaiverResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, by| self.add(asked, by).await).await
    }

    async fn remove_waiver(
        &self,
        request: Request<RemoveWaiverRequest>,
    ) -> Result<Response<RemoveWaiverResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| {
                self.remove(asked, by).await.map(|()| RemoveWaiverResponse {})
            })
            .await
    }
}
