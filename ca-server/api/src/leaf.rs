//! `banyan.admin.v1.LeafService`: the rows of the ledger, and an operator's word that nobody holds one any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auth::refusal::{Reason, Refusal, echoed};
use ledger::{Cursor, Ended, LiveRow, RowFilter, RowKind};
use proto::banyan::admin::v1::leaf_service_server::LeafService;
use proto::banyan::admin::v1::{
    ForgetLeavesRequest, ForgetLeavesResponse, ForgottenLeaf, ListLeavesRequest,
    ListLeavesResponse, RevokeLeavesRequest, RevokeLeavesResponse, RevokedLeaf,
};
use registry::{Ban, BanRow};
use rotation_driver::Word;
use tonic::{Request, Response, Status};
use trust::{RootId, Serial, SpiffeId};

use crate::admin::Operators;
use crate::{page, wire, words};
use control::ca::Ca;
use control::explain::{KINDS, kind_name};
use control::leaves::Gate;
use control::revoked;

/// Leaves that one call names at most.
const SERIALS_MAX: usize = 1_000;
/// Leaves that go into one entry of the journal.
const JOURNALED_TOGETHER: usize = 32;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Leaves {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Leaves {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    /// One look at the ledger: bounded, so that a page may be short and yet not the last.
    fn list(&self, asked: &ListLeavesRequest) -> Result<ListLeavesResponse, Refusal> {
        let state = self.ca.driver.state();
        let gate = Gate::of(&self.ca, &state);
        let mut filter = self.filter(asked)?;
        if asked.holding {
            filter.root = filter.root.or_else(|| gate.draining());
        }
        let after = match asked.after.as_slice() {
            [] => None,
            bytes => {
                Some(Cursor::from_bytes(bytes).ok_or_else(|| invalid("`after` is of no page"))?)
            }
        };
        let page = self.ca.ledger.rows(&filter, after, page::limit(asked.limit));
        let wanted = |live: &&LiveRow| {
            let said = live.forgotten.stands()
                || live.forgotten.was_wrong()
                || self.ca.registry.revoked(&live.row.serial).is_some();
            let was_handed_out = live.ended != Some(Ended::Abandoned);
            was_handed_out
                && (!asked.holding || gate.is_held_by(live))
                && (!asked.forgotten || said)
        };
        let leaves =
            page.rows.iter().filter(wanted).map(|live| wire::leaf(&gate.leaf(live))).collect();
        Ok(ListLeavesResponse { leaves, next: page.next.map(Cursor::to_bytes).unwrap_or_default() })
    }

    fn filter(&self, asked: &ListLeavesRequest) -> Result<RowFilter, Refusal> {
        let root = match asked.root.as_slice() {
            [] => None,
            bytes => {
                Some(RootId::from_bytes(bytes).ok_or_else(|| invalid("`root` is no SHA-256"))?)
            }
        };
        let kind = match asked.kind.as_str() {
            "" => None,
            name => Some(kind(name)?),
        };
        let identity = match asked.identity.as_str() {
            "" => None,
            text => Some(SpiffeId::parse(text).map_err(|error| {
                invalid(format!("\"{}\" is no SPIFFE id: {error}", echoed(text)))
            })?),
        };
        let agent = match asked.agent.as_str() {
            "" => None,
            text => Some(agent_name(text)),
        };
        Ok(RowFilter {
            root,
            kind,
            agent,
            identity,
            ended_too: asked.forgotten || asked.ended,
            ..RowFilter::default()
        })
    }

    async fn forget(
        &self,
        asked: ForgetLeavesRequest,
        caller: &str,
    ) -> Result<ForgetLeavesResponse, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let rows = self.named(&asked.serials)?;
        let answer = preview(&self.ca, &rows);
        if asked.dry_run {
            return Ok(answer);
        }
        if let Some(held) = answer.leaves.iter().find(|leaf| leaf.held && !asked.force) {
            return Err(still_held(held));
        }
        forget(&self.ca, &rows, &word).await?;
        Ok(answer)
    }

    async fn revoke(
        &self,
        asked: RevokeLeavesRequest,
        caller: &str,
    ) -> Result<RevokeLeavesResponse, Refusal> {
        let word = words::full_word(&asked.by, &asked.reason, caller)?;
        let rows = self.named(&asked.serials)?;
        if let Some(own) = rows.iter().find(|live| live.row.kind == RowKind::AgentIdentity) {
            let agent = own.row.agent.as_deref().unwrap_or_default();
            let text = format!(
                "leaf {} is the own certificate of agent {agent}, by which it is told of everything",
                own.row.serial
            );
            let advice = format!(
                "`banyan agent ban {agent}` shuts it out, `banyan agent remove {agent}` has it join anew"
            );
            return Err(Refusal::advised(Reason::RequestInvalid, text, &advice));
        }
        let (registry, now) = (&self.ca.registry, self.ca.believed_now()?);
        let answer = {
            let state = self.ca.driver.state();
            let gate = Gate::of(&self.ca, &state);
            let revoked = |live: &LiveRow| {
                let former = registry.revoked(&live.row.serial);
                RevokedLeaf {
                    leaf: Some(wire::leaf(&gate.leaf(live))),
                    said: match &former {
                        Some(former) => revoked::again(live, former),
                        None => revoked::said(&self.ca, live),
                    },
                    former_by: former.map(|former| former.word.by).unwrap_or_default(),
                }
            };
            RevokeLeavesResponse { leaves: rows.iter().map(revoked).collect() }
        };
        if asked.dry_run {
            return Ok(answer);
        }
        let fresh = |live: &&LiveRow| registry.revoked(&live.row.serial).is_none();
        let fresh: Vec<&LiveRow> = rows.iter().filter(fresh).collect();
        for some in fresh.chunks(JOURNALED_TOGETHER) {
            journal(&self.ca, &word, "leaf revoke", some.iter().copied()).await?;
            let ban = |live: &&LiveRow| {
                let word = BanRow { by: word.by.clone(), reason: word.reason.clone(), at: now };
                let until = Some(self.ca.policy.over_at(live.row.not_after));
                (live.row.serial, Ban { word, until, agent: live.row.agent.clone() })
            };
            registry.revoke(some.iter().map(ban).collect()).await?;
        }
        if !fresh.is_empty() {
            self.ca.crl.wake();
            let (leaves, by, reason) = (fresh.len(), &word.by, &word.reason);
            tracing::warn!(leaves, by, reason, "leaves were revoked by an operator's word");
        }
        let mut by_agent: BTreeMap<String, Vec<Serial>> = BTreeMap::new();
        for live in fresh {
            if let Some(agent) = live.row.agent.clone() {
                by_agent.entry(agent).or_default().push(live.row.serial);
            }
        }
        for (agent, serials) in by_agent {
            // An agent of a former release renews at least.
            self.ca.sessions.ask_to_renew(&agent, serials);
            self.ca.sessions.judge_again(&agent);
        }
        Ok(answer)
    }

    fn named(&self, serials: &[Vec<u8>]) -> Result<Vec<LiveRow>, Refusal> {
        if serials.is_empty() || serials.len() > SERIALS_MAX {
            return Err(invalid(format!("name 1 to {SERIALS_MAX} serial numbers")));
        }
        let serial = |bytes: &Vec<u8>| {
            Serial::from_bytes(bytes)
                .ok_or_else(|| invalid("a serial number of this CA has 32 hexadecimal digits"))
        };
        let serials: BTreeSet<Serial> = serials.iter().map(serial).collect::<Result<_, _>>()?;
        serials.iter().map(|serial| self.row(serial)).collect()
    }

    fn row(&self, serial: &Serial) -> Result<LiveRow, Refusal> {
        let live = self.ca.ledger.find(serial).ok_or_else(|| {
            let advice = match self.ca.replication.is_alone() {
                true => "`banyan leaf list` shows those that are",
                false => {
                    "`banyan leaf list` shows those that are; ask at the server that issued it"
                }
            };
            Refusal::advised(
                Reason::LeafUnknown,
                format_args!("no leaf {serial} is alive here"),
                advice,
            )
        })?;
        if live.row.kind == RowKind::Own {
            let text = format!("leaf {serial} is this server's own: it is replaced by itself");
            return Err(Refusal::new(Reason::LeafHeld, text));
        }
        if live.ended.is_some() {
            let text =
                format!("leaf {serial} was given up or replaced already: no gate waits for it");
            return Err(Refusal::new(Reason::LeafUnknown, text));
        }
        Ok(live)
    }
}

#[tonic::async_trait]
impl LeafService for Leaves {
    async fn list_leaves(
        &self,
        request: Request<ListLeavesRequest>,
    ) -> Result<Response<ListLeavesResponse>, Status> {
        self.operators.answer(&self.ca, request, async |asked, _| self.list(&asked)).await
    }

    async fn revoke_leaves(
        &self,
        request: Request<RevokeLeavesRequest>,
    ) -> Result<Response<RevokeLeavesResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.revoke(asked, by).await)
            .await
    }

    async fn forget_leaves(
        &self,
        request: Request<ForgetLeavesRequest>,
    ) -> Result<Response<ForgetLeavesResponse>, Status> {
        self.operators
            .answer(&self.ca, request, async |asked, by| self.forget(asked, by).await)
            .await
    }
}

/// What it would mean to let these rows go.
fn preview(ca: &Ca, rows: &[LiveRow]) -> ForgetLeavesResponse {
    let state = ca.driver.state();
    let gate = Gate::of(ca, &state);
    let held = rows.iter().filter(|live| gate.is_held_by(live)).count();
    let (before, held) = (gate.holders(), u64::try_from(held).unwrap_or(u64::MAX));
    ForgetLeavesResponse {
        leaves: rows.iter().map(|live| wire::letting(&gate.preview(live))).collect(),
        gate: gate.name().filter(|_| held > 0).map(|gate| gate.to_string()).unwrap_or_default(),
        holds_before: before,
        holds_after: before.saturating_sub(held),
    }
}

/// Writes the word down, then lets the rows go; answers how many counted before.
pub(crate) async fn forget(ca: &Ca, rows: &[LiveRow], word: &Word) -> Result<u64, Refusal> {
    let rows: Vec<_> = rows.iter().filter(|live| live.counts()).collect();
    let mut forgotten = 0;
    for some in rows.chunks(JOURNALED_TOGETHER) {
        journal(ca, word, "leaf forget", some.iter().copied()).await?;
        let serials: Vec<Serial> = some.iter().map(|live| live.row.serial).collect();
        let gone = ca.ledger.forget_leaves(&serials).await.map_err(|error| {
            let text =
                format!("the ledger could not be written, so these leaves count on: {error}");
            Refusal::new(Reason::LedgerWriteFailed, text)
        })?;
        forgotten += u64::try_from(gone.len()).unwrap_or(u64::MAX);
    }
    if forgotten > 0 {
        tracing::warn!(
            leaves = forgotten,
            by = word.by,
            reason = word.reason,
            "leaves were forgotten by an operator's word"
        );
    }
    Ok(forgotten)
}

/// Which leaves, and whose.
async fn journal<'r>(
    ca: &Ca,
    word: &Word,
    verb: &str,
    rows: impl Iterator<Item = &'r LiveRow>,
) -> Result<(), Refusal> {
    let mut whose: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for live in rows {
        whose.entry(live.row.identity.to_string()).or_default().push(live.row.serial.to_string());
    }
    let about = whose.values().flatten().cloned().collect::<Vec<_>>().join(", ");
    let detail = whose.keys().cloned().collect::<Vec<_>>().join(", ");
    words::journal(ca, word, verb, about, detail).await
}

/// Whoever is connected can still say what is held, and is believed before an operator is.
fn still_held(held: &ForgottenLeaf) -> Refusal {
    let advice = "let its agent give it up (stop the workload), stop the agent, or repeat the command with --force";
    Refusal::advised(Reason::LeafHeld, format_args!("refused: {}", held.risk), advice)
}

fn kind(name: &str) -> Result<RowKind, Refusal> {
    KINDS.into_iter().find(|kind| kind_name(*kind) == name).ok_or_else(|| {
        let kinds = KINDS.map(kind_name).join(", ");
        let text = format!("\"{}\" is not a kind of leaf", echoed(name));
        Refusal::advised(Reason::RequestInvalid, text, &format!("the kinds are {kinds}"))
    })
}

/// An agent may be named by its SPIFFE id.
fn agent_name(given: &str) -> String {
    let id = SpiffeId::parse(given).ok();
    id.as_ref().and_then(SpiffeId::agent_name).unwrap_or(given).to_owned()
}

fn invalid(text: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::RequestInvalid, text)
}
