//! Open files: as many as the system grants, with some kept for what must work when connections take all others.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::plain::PLAIN_CONNECTIONS_MAX;
use crate::unix::ADMIN_CONNECTIONS_MAX;

/// Files of the server itself: record, registry, ledger, key files, calls to authorities.
const OWN_FILES: usize = 192;
/// The fewest connections that are tried, whatever the system grants.
const CONNECTIONS_MIN: usize = 16;

/// How many TLS connections are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Connections.
    pub connections: usize,
    /// Why they are fewer than configured, and what to do; `None` if they are not.
    pub shortage: Option<String>,
}

/// Asks the system for as many files as it grants, and says how many connections that leaves of those `wanted`.
pub fn places(wanted: usize) -> Places {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files (RLIMIT_NOFILE) stays as it is");
        }
    }
    let granted = getrlimit(Resource::Nofile).current;
    within(wanted, granted.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX)))
}

fn within(wanted: usize, files: usize) -> Places {
    let reserve = OWN_FILES + PLAIN_CONNECTIONS_MAX + ADMIN_CONNECTIONS_MAX;
    let left = files.saturating_sub(reserve).max(CONNECTIONS_MIN);
    if wanted <= left {
        return Places { connections: wanted, shortage: None };
    }
    let needed = wanted.saturating_add(reserve);
    let shortage = format!(
        "this process may open {files} files, so {left} connections are served and not {wanted} (limits.connections): \
         raise the limit to {needed} (LimitNOFILE= of systemd, ulimit -Hn) or set limits.connections to {left}, \
         then restart"
    );
    Places { connections: left, shortage: Some(shortage) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_for_health_and_operators_and_a_shortage_is_said_with_what_to_set() {
        assert_eq!(within(10_000, usize::MAX), Places { connections: 10_000, shortage: None });
        let few = within(10_000, 1_024);
        assert_eq!(few.connections, 640);
        let said = few.shortage.unwrap();
        assert!(said.contains("raise the limit to 10384"), "{said}");
        assert!(said.contains("limits.connections to 640"), "{said}");
        assert_eq!(within(640, 1_024), Places { connections: 640, shortage: None });
        assert_eq!(within(10, 20), Places { connections: 10, shortage: None });
    }
}
