//! Exit codes and how a failure is told.
//!
//! | code | word in JSON | meaning |
//! |---|---|---|
//! | 0 | | done |
//! | 1 | `failed` | it ran and the answer is bad: a handshake failed, the server is unhealthy, an operation failed |
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
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::terminal;

/// Why a verb did not succeed, by what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It ran and failed. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// It ran and failed, and there is something to do about it. Exit code 1.
    #[error("{message}; {advice}")]
    Advised {
        /// What failed.
        message: String,
        /// What to do.
        advice: String,
    },
    /// The command line makes no sense in a way that the parser cannot see. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// No connection to the server. Exit code 3.
    #[error("{0}")]
    Unreachable(String),
    /// The server said no. Exit code 4.
    #[error("{0}")]
    Refused(String),
    /// A configuration file is wrong. Exit code 5.
    #[error("{0}")]
    Configuration(String),
    /// The answer was lost. Exit code 6.
    #[error("{0}")]
    Unknown(String),
    /// The user pressed Ctrl-C. Exit code 130.
    #[error("{0}")]
    Interrupted(String),
    /// Nobody reads standard output any more. Exit code 141, which shells give to a program that a closed pipe ended.
    #[error("nobody reads standard output any more")]
    ReaderGone,
}

impl Failure {
    /// The process's exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Advised { .. } => 1,
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
            Self::Failed(_) | Self::Advised { .. } => "failed",
            Self::Usage(_) => "usage",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Configuration(_) => "configuration",
            Self::Unknown(_) => "unknown",
            Self::Interrupted(_) => "interrupted",
            Self::ReaderGone => "reader-gone",
        }
    }

    /// What happened, and what to do. Texts that have both say what happened first, and separate them by a semicolon.
    fn parts(&self) -> (String, Option<String>) {
        let text = self.to_string();
        let parts = match self {
            Self::Advised { message, advice } => return (message.clone(), Some(advice.clone())),
            Self::Refused(_) => text.split_once("; "),
            Self::Usage(_) | Self::Unreachable(_) | Self::Unknown(_) | Self::Interrupted(_) => {
                text.rsplit_once("; ")
            }
            Self::Failed(_) | Self::Configuration(_) | Self::ReaderGone => None,
        };
        match parts {
            Some((message, advice)) => (message.to_owned(), Some(advice.to_owned())),
            None => (text, None),
        }
    }

    fn as_json(&self) -> Value {
        let (message, advice) = self.parts();
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
        failure => terminal::error_text(&format!("banyan: {failure}\n")),
    }
    ExitCode::from(failure.code())
}

/// Turns the status of an admin call into the failure that tells the user what to do.
pub fn from_status(status: &tonic::Status) -> Failure {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => Failure::Unreachable(format!(
            "the server does not answer: {}; check that `banyan serve` is running, and try again",
            status.message()
        )),
        _ => Failure::Refused(status.message().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_own_code() {
        let all = [
            Failure::Failed(anyhow::anyhow!("x")),
            Failure::Usage(String::new()),
            Failure::Unreachable(String::new()),
            Failure::Refused(String::new()),
            Failure::Configuration(String::new()),
            Failure::Unknown(String::new()),
            Failure::Interrupted(String::new()),
            Failure::ReaderGone,
        ];
        assert_eq!(all.map(|failure| failure.code()), [1, 2, 3, 4, 5, 6, 130, 141]);
    }

    #[test]
    fn a_silent_server_is_unreachable_and_a_refusal_is_a_refusal() {
        assert_eq!(from_status(&tonic::Status::unavailable("x")).code(), 3);
        assert_eq!(from_status(&tonic::Status::permission_denied("x")).code(), 4);
    }

    #[test]
    fn a_failure_in_json_tells_what_happened_apart_from_what_to_do() {
        let refused = Failure::Refused("no rotation is under way; start one first; or wait".to_owned());
        let told = json!({ "error": {
            "code": "refused", "message": "no rotation is under way", "advice": "start one first; or wait",
        } });
        assert_eq!(refused.as_json(), told);
        let failed = Failure::Failed(anyhow::anyhow!("not healthy: one; two"));
        assert_eq!(failed.as_json()["error"]["message"], "not healthy: one; two");
        assert_eq!(failed.as_json()["error"]["advice"], Value::Null);
        assert!(wants_json(["banyan", "status", "--json"]) && !wants_json(["banyan", "status"]));
    }

    #[test]
    fn a_reader_that_has_gone_is_known_below_other_errors() {
        let error = anyhow::Error::from(Failure::ReaderGone).context("cannot print the report");
        assert_eq!(report(&Failure::Failed(error), false), ExitCode::from(141));
    }
}
