//! How many files this process may have open: raised as far as the system allows, and the bounds fitted to it.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Limits;

/// Files that the agent needs for itself: its state, the CA, the runtime, the log.
const RESERVE: usize = 64;

/// Raises the limit of this process to its hard limit, and lowers the bounds of the socket if that is still too little: each
/// connection takes a file, and so does each process that is watched.
pub(crate) fn fitted(limits: Limits) -> Limits {
    let mut files = getrlimit(Resource::Nofile);
    if files.current != files.maximum {
        files.current = files.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, files) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            files = getrlimit(Resource::Nofile);
        }
    }
    let most = files.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let fitted = fit(limits, most);
    if fitted != limits {
        tracing::warn!(
            files = most,
            connections = fitted.connections,
            processes = fitted.processes,
            "the limit of open files is too low for limits.connections and limits.processes, which are lowered: raise LimitNOFILE \
             of the agent's unit, or ulimit -n"
        );
    }
    fitted
}

fn fit(limits: Limits, files: usize) -> Limits {
    let room = files.saturating_sub(RESERVE).max(2);
    let wanted = limits.connections.saturating_add(limits.processes);
    if wanted <= room {
        return limits;
    }
    let part = |of: usize| (of.saturating_mul(room) / wanted).max(1);
    Limits { connections: part(limits.connections), processes: part(limits.processes), ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_leave_files_for_the_agent_itself() {
        let limits = Limits { connections: 1024, streams: 4096, processes: 1024, issuing: 8 };
        assert_eq!(fit(limits, 1_048_576), limits);
        let fitted = fit(limits, 1024);
        assert_eq!((fitted.connections, fitted.processes, fitted.streams), (480, 480, 4096));
        assert_eq!(fit(limits, 10).connections, 1);
    }
}
