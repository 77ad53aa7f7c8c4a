//! `banyan.replica.v1.PeerService`: what the other servers of this CA ask and tell.
//!
//! Every call is judged by the certificate of its server, [`Ca::colleague`], before anything else.

use std::sync::Arc;
use std::time::Duration;

use auth::authn::mtls::{RowWord, Standing};
use auth::refusal::{Reason, Refusal};
use ledger::{EvidenceError, Proof, Witness};
use proto::banyan::replica::v1 as wire;
use proto::banyan::replica::v1::peer_service_server::PeerService;
use proto::banyan::replica::v1::statement::Word as Said;
use tonic::{Request, Response, Status};
use trust::{CertificateId, Sequence, Serial};

use crate::call::Call;
use crate::wire::class;
use control::ca::Ca;
use control::peers::calls::{RENEWALS_MAX, STATEMENTS_MAX, Word};
use control::peers::owners::owner_of;

/// How long a caller waits for this server to serve the bundle that it speaks of.
const BUNDLE_WITHIN: Duration = Duration::from_millis(300);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct PeerCalls {
    ca: Arc<Ca>,
}

/// One statement, as far as it makes sense here.
struct Told {
    agent: String,
    serial: Serial,
    word: Word,
}

impl PeerCalls {
    pub(crate) const fn new(ca: Arc<Ca>) -> Self {
        Self { ca }
    }

    fn row(&self, asked: &wire::LookUpRequest) -> Result<wire::LookUpResponse, Refusal> {
        let issuer = CertificateId::from_bytes(&asked.issuer);
        let issuer = issuer.ok_or_else(|| malformed("issuer"))?;
        let serial = Serial::from_bytes(&asked.serial).ok_or_else(|| malformed("serial"))?;
        let state = self.ca.driver.state();
        if owner_of(&state, &issuer) != Some(&self.ca.replica) {
            let text = "the record as this server knows it says of this issuer that another server has it: retry";
            return Err(Refusal::new(Reason::NotReady, text));
        }
        let live = self.ca.ledger.find(&serial).filter(|live| live.row.issuer == issuer);
        let row = live.as_ref().map(RowWord::from);
        if row.as_ref().is_some_and(|row| row.standing == Standing::Forgotten) {
            // The handshake with the server that asks has proven that somebody holds it.
            if let Err(error) = self.ca.ledger.held(Witness::Server, serial) {
                tracing::debug!(%serial, %error, "a forgotten leaf was shown elsewhere, and has ended");
            }
        }
        Ok(wire::LookUpResponse { row: row.map(shown) })
    }

    async fn hear(&self, asked: wire::TellRequest) -> Result<wire::TellResponse, Refusal> {
        if asked.statements.len() > STATEMENTS_MAX {
            let text = format!("a call has at most {STATEMENTS_MAX} statements");
            return Err(Refusal::new(Reason::RequestInvalid, text));
        }
        let told: Option<Vec<Told>> = asked.statements.into_iter().map(told).collect();
        let told = told.ok_or_else(|| malformed("statement"))?;
        self.serves(&told).await?;
        let mut ours = Vec::new();
        for Told { agent, serial, word } in told {
            let by = Witness::Agent(&agent);
            let taken = match word {
                Word::Applied(applied, class) => {
                    let proof = Proof { applied, class, at: self.ca.clock.now() };
                    self.ca.ledger.ack(by, serial, proof).await
                }
                Word::Released => self.ca.ledger.release(by, serial).await,
            };
            match taken {
                Ok(_) | Err(EvidenceError::Ended(_) | EvidenceError::Forgotten(_)) => {
                    ours.push(serial.as_bytes().to_vec());
                }
                // Of another server's leaf, or of one that is over.
                Err(EvidenceError::UnknownRow(_)) => {}
                Err(error @ EvidenceError::NotYours { .. }) => {
                    tracing::debug!(agent, %serial, %error, "evidence that was passed on is not taken");
                }
                Err(EvidenceError::Ledger(error)) => {
                    return Err(Refusal::new(Reason::LedgerWriteFailed, error.to_string()));
                }
            }
        }
        Ok(wire::TellResponse { ours })
    }

    /// Waits until this server serves what is spoken of: nothing counts here that would not if the agent had said it here.
    async fn serves(&self, told: &[Told]) -> Result<(), Refusal> {
        let applied = told.iter().filter_map(|told| match told.word {
            Word::Applied(sequence, _) => Some(sequence),
            Word::Released => None,
        });
        let Some(newest) = applied.max() else { return Ok(()) };
        let mut bundles = self.ca.bundles.clone();
        let serves = bundles.wait_for(|bundle| bundle.sequence() >= newest);
        match tokio::time::timeout(BUNDLE_WITHIN, serves).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let text = format!("this server does not serve bundle {newest} yet: retry");
                Err(Refusal::new(Reason::NotReady, text))
            }
        }
    }

    fn pass_on(&self, asked: wire::AskToRenewRequest) -> Result<wire::AskToRenewResponse, Refusal> {
        let leaves: usize = asked.agents.iter().map(|leaves| leaves.serials.len()).sum();
        if leaves > RENEWALS_MAX {
            let text = format!("a call has at most {RENEWALS_MAX} leaves");
            return Err(Refusal::new(Reason::RequestInvalid, text));
        }
        let mut taken = 0;
        for wire::AgentLeaves { agent, serials } in asked.agents {
            let serials: Vec<_> =
                serials.iter().filter_map(|bytes| Serial::from_bytes(bytes)).collect();
            let count = u32::try_from(serials.len()).unwrap_or(u32::MAX);
            if count > 0 && self.ca.sessions.ask_to_renew(&agent, serials) {
                taken += count;
            }
        }
        Ok(wire::AskToRenewResponse { asked: taken })
    }

    /// Judges the caller, then answers.
    async fn answer<M, A>(
        &self,
        request: Request<M>,
        work: impl AsyncFnOnce(&Self, M) -> Result<A, Refusal>,
    ) -> Result<Response<A>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        call.colleague().map_err(|refusal| call.refuse(refusal))?;
        let answered = work(self, message).await;
        answered.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }
}

#[tonic::async_trait]
impl PeerService for PeerCalls {
    async fn look_up(
        &self,
        request: Request<wire::LookUpRequest>,
    ) -> Result<Response<wire::LookUpResponse>, Status> {
        self.answer(request, async |this, asked| this.row(&asked)).await
    }

    async fn tell(
        &self,
        request: Request<wire::TellRequest>,
    ) -> Result<Response<wire::TellResponse>, Status> {
        self.answer(request, async |this, asked| this.hear(asked).await).await
    }

    async fn ask_to_renew(
        &self,
        request: Request<wire::AskToRenewRequest>,
    ) -> Result<Response<wire::AskToRenewResponse>, Status> {
        self.answer(request, async |this, asked| this.pass_on(asked)).await
    }
}

fn shown(row: RowWord) -> wire::Row {
    let standing = match row.standing {
        Standing::Live => wire::Standing::Live,
        Standing::Superseded => wire::Standing::Superseded,
        Standing::Released => wire::Standing::Released,
        Standing::Forgotten => wire::Standing::Forgotten,
    };
    wire::Row {
        spki: row.spki.as_bytes().to_vec(),
        identity: row.identity.to_string(),
        certificate: row.certificate.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        standing: standing.into(),
    }
}

/// `None` for what makes no sense. What a newer release says beyond this is passed over there: it has the class that it has here.
fn told(statement: wire::Statement) -> Option<Told> {
    let serial = Serial::from_bytes(&statement.serial)?;
    let word = match statement.word? {
        Said::Applied(applied) => {
            Word::Applied(Sequence(applied.sequence), class(applied.evidence)?)
        }
        Said::Released(_) => Word::Released,
    };
    Some(Told { agent: statement.agent, serial, word })
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Reason::RequestInvalid, format!("the {what} is malformed"))
}
