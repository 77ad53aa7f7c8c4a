//! Who wants something, and why: for the journal.

use clap::Args;

/// Options of verbs that the journal keeps.
#[derive(Debug, Args, Clone, Default)]
pub struct WordOptions {
    /// Who wants it, for the journal [default: the user who runs this]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl WordOptions {
    /// The name that was given, or the user's. The server adds whom the kernel or TLS says it is.
    #[must_use]
    pub fn by(&self) -> String {
        by_or_user(self.by.as_deref())
    }

    /// The reason, as far as one was given.
    #[must_use]
    pub fn reason(&self) -> String {
        self.reason.clone().unwrap_or_default()
    }
}

/// Options of verbs that the journal keeps, and that it keeps for nothing without a reason.
#[derive(Debug, Args, Clone, Default)]
pub struct ReasonedOptions {
    /// Who wants it, for the journal [default: the user who runs this]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

impl ReasonedOptions {
    /// As [`WordOptions::by`].
    #[must_use]
    pub fn by(&self) -> String {
        by_or_user(self.by.as_deref())
    }
}

/// A name that was given, or the user's; empty if the environment tells none: then the server takes whom the kernel or TLS
/// says it is.
fn by_or_user(by: Option<&str>) -> String {
    let user = || {
        let known = ["SUDO_USER", "USER", "LOGNAME"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok());
        known.into_iter().find(|name| !name.trim().is_empty())
    };
    by.map(str::to_owned).or_else(user).unwrap_or_default()
}
