//! From messages to what they mean, and back.

use auth::authn::mtls::{RowWord, Standing};
use control::peers::calls::{AgentLeaves, CallError, Statement, Word};
use ledger::EvidenceClass;
use proto::banyan::agent::v1 as agent;
use proto::banyan::replica::v1 as message;
use trust::{CertificateId, SpiffeId, SpkiHash};

pub(crate) fn row(row: message::Row) -> Result<RowWord, CallError> {
    let standing = match message::Standing::try_from(row.standing) {
        Ok(message::Standing::Live) => Standing::Live,
        Ok(message::Standing::Superseded) => Standing::Superseded,
        Ok(message::Standing::Released) => Standing::Released,
        Ok(message::Standing::Forgotten) => Standing::Forgotten,
        Ok(message::Standing::Unspecified) | Err(_) => {
            return Err(CallError::Malformed("the standing of a row"));
        }
    };
    let certificate = match row.certificate.as_slice() {
        [] => None,
        bytes => {
            let id = CertificateId::from_bytes(bytes);
            Some(id.ok_or(CallError::Malformed("the certificate of a row"))?)
        }
    };
    Ok(RowWord {
        spki: SpkiHash::from_bytes(&row.spki).ok_or(CallError::Malformed("the key of a row"))?,
        identity: SpiffeId::parse(&row.identity)
            .map_err(|_| CallError::Malformed("the identity of a row"))?,
        certificate,
        standing,
    })
}

pub(crate) fn statement(statement: Statement) -> message::Statement {
    let word = match statement.word {
        Word::Applied(sequence, class) => {
            let evidence = evidence(class).into();
            message::statement::Word::Applied(message::Applied { sequence: sequence.0, evidence })
        }
        Word::Released => message::statement::Word::Released(message::Released {}),
    };
    message::Statement {
        agent: statement.agent,
        serial: statement.serial.as_bytes().to_vec(),
        word: Some(word),
    }
}

pub(crate) fn agent_leaves((agent, serials): AgentLeaves) -> message::AgentLeaves {
    let serials = serials.iter().map(|serial| serial.as_bytes().to_vec()).collect();
    message::AgentLeaves { agent, serials }
}

/// No agent says that something is only assumed.
const fn evidence(class: EvidenceClass) -> agent::EvidenceClass {
    match class {
        EvidenceClass::Assumed => agent::EvidenceClass::Unspecified,
        EvidenceClass::Sent => agent::EvidenceClass::Sent,
        EvidenceClass::Delivered => agent::EvidenceClass::Delivered,
        EvidenceClass::Applied => agent::EvidenceClass::Applied,
        EvidenceClass::HandshakeObserved => agent::EvidenceClass::Handshake,
    }
}
