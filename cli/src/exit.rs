//! Exit codes and how a failure is told.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it ran and the answer is bad: a handshake failed, the server is unhealthy, an operation failed |
//! | 2 | the command line is wrong |
//! | 3 | the server can not be reached |
//! | 4 | the server refused; the message says what would be accepted |
//! | 5 | a configuration file is wrong; every problem is listed |
//! | 6 | it is unknown whether it was done: repeat it with the same request id, which does nothing twice |
//! | 130 | Ctrl-C while watching; what is watched goes on |

use std::process::ExitCode;

/// Why a verb did not succeed, by what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It ran and failed. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// The command line makes no sense in a way that the parser can not see. Exit code 2.
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
    /// The user stopped watching. Exit code 130.
    #[error("{0}")]
    Interrupted(String),
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
        }
    }
}

/// Prints the failure to standard error and gives its exit code.
pub fn report(failure: &Failure) -> ExitCode {
    eprintln!("banyan: {failure}");
    ExitCode::from(failure.code())
}

/// Turns the status of an admin call into the failure that tells the user what to do.
pub fn from_status(status: &tonic::Status) -> Failure {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => Failure::Unreachable(format!(
            "the server does not answer: {}; check that `banyan serve` runs and try again",
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
        ];
        assert_eq!(all.map(|failure| failure.code()), [1, 2, 3, 4, 5, 6, 130]);
    }

    #[test]
    fn a_silent_server_is_unreachable_and_a_refusal_is_a_refusal() {
        assert_eq!(from_status(&tonic::Status::unavailable("x")).code(), 3);
        assert_eq!(from_status(&tonic::Status::permission_denied("x")).code(), 4);
    }
}
