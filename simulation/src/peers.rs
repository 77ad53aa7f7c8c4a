//! Calls between simulated servers: what agents said of leaves of another one is passed on.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use auth::authn::mtls::RowWord;
use control::peers::calls::{AgentLeaves, CallError, PeerCalls, Place, Statement, Word};
use ledger::{EvidenceError, Proof, Witness};
use trust::{CertificateId, Serial};

use crate::machine::Machine;
use crate::run::Run;

/// What one server calls the others by.
pub(crate) struct Calls {
    pub(crate) run: Arc<Run>,
    pub(crate) machines: Vec<Arc<Machine>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

fn unreachable() -> CallError {
    CallError::Unreachable("simulated".to_owned())
}

#[async_trait]
impl PeerCalls for Calls {
    async fn look_up(
        &self,
        _: &Place,
        _: CertificateId,
        _: Serial,
    ) -> Result<Option<RowWord>, CallError> {
        // Nobody shows a certificate here.
        Err(unreachable())
    }

    async fn tell(
        &self,
        peer: &Place,
        statements: Vec<Statement>,
    ) -> Result<Vec<Serial>, CallError> {
        let named = |machine: &&Arc<Machine>| machine.to_string() == peer.name.as_str();
        let machine = self.machines.iter().find(named).ok_or_else(unreachable)?;
        tokio::time::sleep(self.run.roll(|dice| dice.millis(1, 20))).await;
        machine.awake().await;
        let process = machine.process().filter(|process| !process.is_dead());
        let process = process.filter(|_| !self.run.goes_wrong(30)).ok_or_else(unreachable)?;
        let (ca, mut ours) = (&process.ca, Vec::new());
        let (present, at) = (ca.cell.load().bundle().sequence(), ca.clock.now());
        for Statement { agent, serial, word } in statements {
            let by = Witness::Agent(&agent);
            let taken = match word {
                Word::Applied(applied, _) if applied > present => return Err(unreachable()),
                Word::Applied(applied, class) => {
                    ca.ledger.ack(by, serial, Proof { applied, class, at }).await
                }
                Word::Released => ca.ledger.release(by, serial).await,
            };
            if !matches!(taken, Err(EvidenceError::UnknownRow(_) | EvidenceError::NotYours { .. }))
            {
                ours.push(serial);
            }
        }
        if self.run.goes_wrong(30) {
            return Err(unreachable());
        }
        Ok(ours)
    }

    async fn ask_to_renew(&self, _: &Place, _: Vec<AgentLeaves>) -> Result<(), CallError> {
        Err(unreachable())
    }
}
