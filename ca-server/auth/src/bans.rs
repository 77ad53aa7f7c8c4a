//! What whoever is banned is told: what is banned, and whom to ask. Why it is, they are not.

use trust::Serial;

use crate::refusal::{Reason, Refusal, echoed};

/// An operator's word that somebody gets no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingBan {
    /// Whether it is of the key, so that another one might do.
    pub is_of_key: bool,
    /// Whom it is about.
    pub of: String,
    /// Who said so.
    pub by: String,
    /// The command that lifts it.
    pub lifted_with: String,
}

/// What whoever shows a revoked leaf is told.
pub fn revoked(serial: &Serial, by: &str) -> Refusal {
    let text = format!("an operator of the CA revoked the client certificate {serial}");
    let advice =
        format!("authenticate with another credential, or ask {}, who knows why", echoed(by));
    Refusal::advised(Reason::CertificateRevoked, text, &advice)
}

impl StandingBan {
    /// What whoever asks for the certificate is told: what is banned, and whom to ask.
    pub fn refusal(&self) -> Refusal {
        let (reason, more) = match self.is_of_key {
            true => (Reason::KeyBlocked, ", whoever shows it or has it certified"),
            false => (Reason::IdentityBanned, ": no certificate is issued or renewed for it"),
        };
        let text = format!("an operator of the CA banned {}{more}", self.of);
        Refusal::advised(reason, text, &self.advice())
    }

    /// What an agent with a banned key is told.
    pub fn refusal_of_agent(&self) -> Refusal {
        let text = format!("an operator of the CA banned {}, which is this agent's", self.of);
        Refusal::advised(Reason::AgentBanned, text, &self.advice())
    }

    fn advice(&self) -> String {
        format!(
            "ask {}, who knows why, or another operator; {} lifts it",
            echoed(&self.by),
            self.lifted_with
        )
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn who_is_banned_is_told_what_is_and_whom_to_ask() {
        let ban = |is_of_key, of: &str| StandingBan {
            is_of_key,
            of: of.to_owned(),
            by: "ann (uid 0)".to_owned(),
            lifted_with: "`banyan ban remove`".to_owned(),
        };
        let of_identity = ban(false, "identity spiffe://example.org/ns/shop/*").refusal();
        let of_key = ban(true, "key ab").refusal();
        let of_agent = ban(true, "key ab").refusal_of_agent();
        for (refusal, reason) in [
            (&of_identity, Reason::IdentityBanned),
            (&of_key, Reason::KeyBlocked),
            (&of_agent, Reason::AgentBanned),
        ] {
            assert_eq!((refusal.reason(), reason.code()), (reason, Code::PermissionDenied));
            assert!(refusal.message().contains("ask ann (uid 0)"), "{refusal:?}");
        }
        assert!(of_identity.text().contains("spiffe://example.org/ns/shop/*"), "{of_identity:?}");
    }
}
