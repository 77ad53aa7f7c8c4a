//! Exit codes and how a failure is told.
//!
//! | code | word in JSON | meaning |
//! |---|---|---|
//! | 0 | | done |
//! | 1 | `failed` | it ran and the answer is bad: a handshake failed, the server is unhealthy, a rotation was given up |
//! | 2 | `usage` | the command line is wrong |
//! | 3 | `unreachable` | the server cannot be reached |
//! | 4 | `refused` | the server refused; the message says what would be accepted |
//! | 5 | `configuration` | a configuration file is wrong; every problem is listed |
//! | 6 | `unknown` | it is unknown whether it was done: repeat it with the same request id, which does nothing twice |
//! | 130 | `interrupted` | Ctrl-C: what was watched goes on, and what the demo started has ended |
//! | 141 | | whoever read standard output has gone, as at the end of `| head`; nothing is said |
//!
//! With `--json` a failure is one object on a line of standard error, `{"error":{"code","message","advice"}}`; standard
//! output holds answers alone.

use std::ffi::OsStr;
use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};
use tonic_types::StatusExt as _;

use crate::terminal;

/// Name of the advice among the values of `google.rpc.ErrorInfo`.
const ADVICE: &str = "advice";

/// What happened, and what to do about it where there is something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    message: String,
    advice: Option<String>,
}

impl Told {
    /// What happened.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), advice: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn advising(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()).filter(|advice| !advice.is_empty()), ..self }
    }
}

impl From<String> for Told {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Told {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Why a verb did not succeed, by what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It ran and failed. Exit code 1.
    #[error("{}", in_full(.0))]
    Failed(#[from] anyhow::Error),
    /// The command line makes no sense in a way that the parser cannot see. Exit code 2.
    #[error("{0}")]
    Usage(Told),
    /// No connection to the server. Exit code 3.
    #[error("{0}")]
    Unreachable(Told),
    /// The server said no. Exit code 4.
    #[error("{0}")]
    Refused(Told),
    /// A configuration file is wrong. Exit code 5.
    #[error("{0}")]
    Configuration(String),
    /// The answer was lost. Exit code 6.
    #[error("{0}")]
    Unknown(Told),
    /// The user pressed Ctrl-C. Exit code 130.
    #[error("{0}")]
    Interrupted(Told),
    /// Nobody reads standard output any more. Exit code 141, which shells give to a program that a closed pipe ended.
    #[error("nobody reads standard output any more")]
    ReaderGone,
}

impl Failure {
    /// The process's exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
            Self::Configuration(_) => 5,
            Self::Unknown(_) => 6,
            Self::Interrupted(_) => 130,
            Self::ReaderGone => 141,
        }
    }

    /// The same for programs that read JSON.
    const fn word(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Usage(_) => "usage",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Configuration(_) => "configuration",
            Self::Unknown(_) => "unknown",
            Self::Interrupted(_) => "interrupted",
            Self::ReaderGone => "reader-gone",
        }
    }

    /// What happened, apart from what to do.
    fn told(&self) -> Told {
        match self {
            Self::Usage(told)
            | Self::Unreachable(told)
            | Self::Refused(told)
            | Self::Unknown(told)
            | Self::Interrupted(told) => told.clone(),
            Self::Failed(_) | Self::Configuration(_) | Self::ReaderGone => {
                Told::new(self.to_string())
            }
        }
    }

    fn as_json(&self) -> Value {
        let Told { message, advice } = self.told();
        json!({ "error": { "code": self.word(), "message": message, "advice": advice } })
    }
}

/// Whether a command line asks for JSON, wherever in it the option stands.
pub fn wants_json<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> bool {
    arguments.into_iter().any(|argument| argument.as_ref() == "--json")
}

/// Tells the failure on standard error and gives its exit code.
pub fn report(failure: &Failure, as_json: bool) -> ExitCode {
    // One that came up through other errors keeps its meaning.
    let failure = match failure {
        Failure::Failed(error) => error.downcast_ref::<Failure>().unwrap_or(failure),
        other => other,
    };
    match failure {
        Failure::ReaderGone => {}
        failure if as_json => terminal::error_text(&format!("{}\n", failure.as_json())),
        failure => terminal::error_line(&format!("banyan: {failure}")),
    }
    ExitCode::from(failure.code())
}

/// An error with its causes. One that the errors above it have told already is not told again.
pub fn in_full(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match () {
        () if told.is_empty() => cause,
        () if told.contains(&cause) => told,
        () => format!("{told}: {cause}"),
    })
}

/// Turns the status of an admin call into the failure that tells the user what to do.
pub fn from_status(status: &tonic::Status) -> Failure {
    match status.code() {
        // Whoever says why has answered.
        _ if reason(status).is_some() => Failure::Refused(refused(status)),
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => Failure::Unreachable(
            Told::new(format!("the server does not answer: {}", status.message()))
                .advising("check that `banyan serve` is running, and try again"),
        ),
        _ => Failure::Refused(refused(status)),
    }
}

/// The reason that a server of this project gives with each of its refusals; none if the status was made on the way.
pub fn reason(status: &tonic::Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// A refusal has its advice in the details, and at the end of its text for who reads that alone.
fn refused(status: &tonic::Status) -> Told {
    let info = status.get_error_details().error_info().cloned();
    let Some(advice) = info.and_then(|mut info| info.metadata.remove(ADVICE)) else {
        return Told::new(status.message());
    };
    let message = status.message().strip_suffix(&format!("; {advice}")).unwrap_or(status.message());
    Told::new(message).advising(advice)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_own_code() {
        let all = [
            Failure::Failed(anyhow::anyhow!("x")),
            Failure::Usage("x".into()),
            Failure::Unreachable("x".into()),
            Failure::Refused("x".into()),
            Failure::Configuration(String::new()),
            Failure::Unknown("x".into()),
            Failure::Interrupted("x".into()),
            Failure::ReaderGone,
        ];
        assert_eq!(all.map(|failure| failure.code()), [1, 2, 3, 4, 5, 6, 130, 141]);
    }

    #[test]
    fn a_silent_server_is_unreachable_and_a_refusal_is_a_refusal() {
        assert_eq!(from_status(&tonic::Status::unavailable("x")).code(), 3);
        assert_eq!(from_status(&tonic::Status::permission_denied("x")).code(), 4);
        let details = ErrorDetails::with_error_info("RECORD_UNAVAILABLE", "banyan", HashMap::new());
        let text = "nothing changed: the record store failed";
        let told = tonic::Status::with_error_details(tonic::Code::Unavailable, text, details);
        let told = from_status(&told);
        assert!(told.code() == 4 && told.to_string() == text, "whoever says why answers: {told}");
    }

    #[test]
    fn a_failure_in_json_tells_what_happened_apart_from_what_to_do() {
        let told = |failure: Failure| failure.as_json()["error"].clone();
        let refused = Failure::Refused(Told::new("no; not now").advising("start one; or wait"));
        assert_eq!(refused.to_string(), "no; not now; start one; or wait");
        assert_eq!(
            told(refused),
            json!({ "code": "refused", "message": "no; not now", "advice": "start one; or wait" })
        );
        let plain = told(Failure::Usage("one; two".into()));
        assert_eq!(plain, json!({ "code": "usage", "message": "one; two", "advice": null }));
        let failed = told(Failure::Failed(anyhow::anyhow!("not healthy: one; two")));
        assert_eq!(
            (&failed["message"], &failed["advice"]),
            (&json!("not healthy: one; two"), &Value::Null)
        );
        assert!(wants_json(["banyan", "status", "--json"]) && !wants_json(["banyan", "status"]));
    }

    #[test]
    fn the_advice_of_a_refusal_is_what_the_server_names_as_such_and_no_semicolon_decides() {
        let status = |text: &str, advice: Option<&str>| {
            let values = advice.map(|advice| (ADVICE.to_owned(), advice.to_owned()));
            let details = ErrorDetails::with_error_info(
                "ROTATION_REFUSED",
                "banyan",
                HashMap::from_iter(values),
            );
            tonic::Status::with_error_details(tonic::Code::FailedPrecondition, text, details)
        };
        for (text, advice, message) in [
            (
                "not now; wait, or abort; then start",
                Some("abort; then start"),
                "not now; wait, or abort; then start",
            ),
            ("not now: a; b; abort; then start", Some("abort; then start"), "not now: a; b"),
            ("one; two", None, "one; two"),
        ] {
            let told = from_status(&status(text, advice)).as_json();
            assert_eq!(told["error"]["message"], message, "{text}");
            assert_eq!(told["error"]["advice"], json!(advice), "{text}");
        }
        assert_eq!(
            from_status(&tonic::Status::not_found("x; y")).as_json()["error"]["message"],
            "x; y"
        );
    }

    #[test]
    fn a_cause_is_told_once_whether_the_error_above_it_tells_it_or_not() {
        let refused = || std::io::Error::other("Connection refused (os error 111)");
        let telling = anyhow::Error::from(refused())
            .context("tcp connect error: Connection refused (os error 111)");
        let failure = Failure::Failed(telling.context("cannot reach ca:1"));
        assert_eq!(
            failure.to_string(),
            "cannot reach ca:1: tcp connect error: Connection refused (os error 111)"
        );
        let silent = anyhow::Error::from(refused()).context("cannot reach ca:1");
        assert_eq!(in_full(&silent), "cannot reach ca:1: Connection refused (os error 111)");
    }

    #[test]
    fn a_reader_that_has_gone_is_known_below_other_errors() {
        let error = anyhow::Error::from(Failure::ReaderGone).context("cannot print the report");
        assert_eq!(report(&Failure::Failed(error), false), ExitCode::from(141));
    }
}
