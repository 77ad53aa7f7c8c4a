//! Names of secrets, as a holder asks for them, and what it may have by them.

use trust::{SpiffeId, TrustDomain};

/// A name that somebody asked for, understood and permitted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretName {
    /// As it was asked for; the answer carries it back.
    pub(crate) text: String,
    pub(crate) kind: SecretKind,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SecretKind {
    /// `default`, or a SPIFFE id that the caller is entitled to: chain and key.
    Leaf(SpiffeId),
    /// `ROOTCA`, or the SPIFFE id of our trust domain: its roots.
    Roots,
    /// `ALL`: the roots of each trust domain, with its name.
    All,
    /// The SPIFFE id of another trust domain: its roots.
    Foreign(TrustDomain),
}

/// A name that is not served to this caller. The texts name nobody else's secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameRefused {
    /// The caller's user id has no identity at all.
    #[error(
        "no workload is configured for this user id: add a [[workload]] entry to the agent's configuration"
    )]
    Nobody,
    /// A SPIFFE id that the caller is not entitled to.
    #[error("this user id is not entitled to `{0}`")]
    NotEntitled(String),
    /// Nothing by that name.
    #[error(
        "there is no secret `{0}`: ask for `default`, your SPIFFE id, `ROOTCA`, `ALL`, or a trust domain such as `spiffe://{1}`"
    )]
    Unknown(String, TrustDomain),
}

/// Longest part of a name that is echoed, in bytes.
const ECHO_MAX: usize = 128;

impl SecretName {
    /// Understands a name for a caller with these identities, the default one first.
    pub(crate) fn parse(
        text: &str,
        trust_domain: &TrustDomain,
        entitled: &[SpiffeId],
    ) -> Result<Self, NameRefused> {
        let default = entitled.first().ok_or(NameRefused::Nobody)?;
        let domain = text.strip_prefix("spiffe://").filter(|rest| !rest.contains('/'));
        let kind = match text {
            "default" => SecretKind::Leaf(default.clone()),
            "ROOTCA" => SecretKind::Roots,
            "ALL" => SecretKind::All,
            _ if domain == Some(trust_domain.as_str()) => SecretKind::Roots,
            _ => match entitled.iter().find(|id| id.as_str() == text) {
                Some(id) => SecretKind::Leaf(id.clone()),
                None if domain.is_none() && SpiffeId::parse(text).is_ok() => {
                    return Err(NameRefused::NotEntitled(echo(text)));
                }
                None if let Some(Ok(other)) = domain.map(TrustDomain::parse) => {
                    SecretKind::Foreign(other)
                }
                None => return Err(NameRefused::Unknown(echo(text), trust_domain.clone())),
            },
        };
        Ok(Self { text: text.to_owned(), kind })
    }
}

fn echo(text: &str) -> String {
    text.chars().take(ECHO_MAX).flat_map(char::escape_default).take(ECHO_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_for_one_thing_and_nobody_gets_anothers() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let id =
            |name: &str| SpiffeId::parse(&format!("spiffe://example.org/ns/a/sa/{name}")).unwrap();
        let entitled = [id("first"), id("second")];
        let kind = |text: &str| SecretName::parse(text, &domain, &entitled).map(|name| name.kind);
        assert_eq!(kind("default"), Ok(SecretKind::Leaf(id("first"))));
        assert_eq!(kind("spiffe://example.org/ns/a/sa/second"), Ok(SecretKind::Leaf(id("second"))));
        assert_eq!(kind("ROOTCA"), Ok(SecretKind::Roots));
        assert_eq!(kind("spiffe://example.org"), Ok(SecretKind::Roots));
        assert_eq!(kind("ALL"), Ok(SecretKind::All));
        assert!(matches!(
            kind("spiffe://example.org/ns/a/sa/third"),
            Err(NameRefused::NotEntitled(_))
        ));
        let other = TrustDomain::parse("other.org").unwrap();
        assert_eq!(kind("spiffe://other.org"), Ok(SecretKind::Foreign(other)));
        for other in
            ["", "rootca", "spiffe://Other.org", "spiffe://", "spiffe://example.org/", "default "]
        {
            assert!(matches!(kind(other), Err(NameRefused::Unknown(..))), "{other}");
        }
        let refused = SecretName::parse("default", &domain, &[]);
        assert_eq!(refused, Err(NameRefused::Nobody));
        let long = kind(&"\u{7}".repeat(5000)).unwrap_err().to_string();
        assert!(long.len() < 256 && long.is_ascii(), "{long}");
    }
}
