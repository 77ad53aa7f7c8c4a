//! One case: what is sent, how it must be refused, and that nothing else happens.

use std::time::Duration;

use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{Refused, TestCa, TestClient};
use tonic::Code;

/// Longest piece of a client's input in a text, in bytes.
const ECHO_LEN_MAX: usize = 256;
/// Longest text of a refusal, in bytes.
const TEXT_LEN_MAX: usize = 512;

/// One way to be hostile.
pub(crate) struct Case {
    /// Its heading.
    pub(crate) heading: &'static str,
    attempt: Attempt,
    code: Code,
    reason: &'static str,
    /// Texts that must appear nowhere.
    secrets: Vec<String>,
}

impl Case {
    pub(crate) fn new(
        heading: &'static str,
        attempt: Attempt,
        code: Code,
        reason: &'static str,
    ) -> Self {
        // The last part of a bearer token is what makes it one.
        let bearer = |value: &String| value.rsplit_once('.').map(|(_, secret)| secret.to_owned());
        let secrets = attempt.authorization.iter().filter_map(bearer);
        let secrets = secrets.filter(|secret| secret.len() >= 16).collect();
        Self { heading, attempt, code, reason, secrets }
    }

    /// A CSR from a good caller, refused as an invalid argument.
    pub(crate) fn csr(
        ca: &TestCa,
        heading: &'static str,
        pem: impl Into<String>,
        reason: &'static str,
    ) -> Self {
        Self::new(heading, Attempt::with_csr(ca, pem), Code::InvalidArgument, reason)
    }

    /// The same for a case whose message holds this secret.
    pub(crate) fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }
}

/// Sends every case on one connection, which must serve a good request in the end.
pub(crate) async fn judge(ca: &TestCa, client: &TestClient, cases: Vec<Case>) {
    for case in cases {
        assert_refused(ca, client, &case).await;
    }
    let before = ca.books();
    client.create_good(ca).await;
    assert_eq!(ca.books().intents, before.intents + 1, "the good request has its row");
    assert_eq!(client.connections(), 1, "the connection survives every refusal");
}

/// Sends one case, and looks at everything that it could have left behind.
pub(crate) async fn assert_refused(ca: &TestCa, client: &TestClient, case: &Case) {
    let Case { heading, attempt, code, reason, secrets } = case;
    // The audit writes so many refusals in a second one by one.
    ca.clock().advance(Duration::from_secs(1));
    let (before, counted) = (ca.settled_books().await, ca.refused_metric(reason).await);
    let refused = match client.create(attempt).await {
        Err(refused) => refused,
        Ok(answer) => panic!("{heading}: taken, {:?}", answer.leaf),
    };
    let seen = (refused.code, refused.reason.as_str(), refused.domain.as_str());
    assert_eq!(seen, (*code, *reason, "banyan"), "{heading}: {}", refused.text);
    let says_when = matches!(code, Code::Unavailable | Code::ResourceExhausted);
    assert_eq!(refused.retry_after.is_some(), says_when, "{heading}");

    let after = ca.books_with_refusals(before.refused.len() + 1).await;
    assert_eq!(
        (after.intents, after.issued),
        (before.intents, before.issued),
        "{heading}: nothing is signed"
    );
    let new = &after.refused[before.refused.len()..];
    let reasons: Vec<_> = new.iter().map(ledger::AuditRefusal::reason).collect();
    assert_eq!(reasons, [*reason], "{heading}: one audit record");
    assert_eq!(ca.refused_metric(reason).await, counted + 1, "{heading}: counted once");

    assert_little_is_echoed(heading, attempt, &refused);
    let audit = format!("{new:?}");
    for secret in secrets {
        assert!(!refused.text.contains(secret.as_str()), "{heading}: a secret in {}", refused.text);
        assert!(!audit.contains(secret.as_str()), "{heading}: a secret in the audit: {audit}");
        assert_eq!(ca.files_with(secret.as_bytes()), Vec::<std::path::PathBuf>::new(), "{heading}");
    }
}

fn assert_little_is_echoed(heading: &str, attempt: &Attempt, refused: &Refused) {
    let text = refused.text.as_bytes();
    assert!(text.len() <= TEXT_LEN_MAX, "{heading}: {}", refused.text);
    assert!(!refused.text.chars().any(char::is_control), "{heading}: {:?}", refused.text);
    let sent = attempt.authorization.iter().chain(attempt.headers.iter().map(|(_, value)| value));
    for sent in sent.chain([&attempt.csr]) {
        let echoes = |part: &[u8]| sent.as_bytes().windows(part.len()).any(|window| window == part);
        assert!(!text.windows(ECHO_LEN_MAX + 1).any(echoes), "{heading}: {}", refused.text);
    }
}
