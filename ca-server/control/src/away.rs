//! Agents that do not come. A server whose roots nobody trusts any more hears nothing, and looks well from inside: its data directory
//! is older than the mesh by more than one change of roots, so agents end the handshake before they could say so.

use std::time::Duration;

use auth::refusal::Reason;

use crate::ca::Ca;

/// Agents come back within seconds of a start; the last of many within four minutes.
const COME_BACK_WITHIN: Duration = Duration::from_secs(300);
/// As long as this, where clients say that they do not trust this server.
const TRUST_WITHIN: Duration = Duration::from_secs(10);
/// How things stand since the start.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Time since the start.
    since: Duration,
    /// Agents that were seen not long before it.
    expected: usize,
    /// Handshakes that clients ended because they do not trust this server, and requests for the way from a bundle that it does not
    /// know; none if the last one is long ago.
    distrusting: u64,
    /// Another server of the CA may serve them.
    others_serve: bool,
}

/// That no registered agent has come since the start although some should have.
pub(crate) fn condition(ca: &Ca) -> Option<String> {
    if ca.sessions.any_since_start() {
        return None;
    }
    let (since, expected) = ca.registry.expected();
    let distrusting =
        ca.metrics.distrusting() + ca.metrics.refused_for(Reason::BundleUnknown.as_str());
    let distrusting = ca.refusals.lately(distrusting, ca.clock.uptime());
    let others_serve = ca.replication.others_serve();
    said(Standing { since, expected, distrusting, others_serve })
}

fn said(standing: Standing) -> Option<String> {
    let Standing { since, expected, distrusting, others_serve } = standing;
    // They may all be elsewhere, and well.
    if others_serve && distrusting == 0 {
        return None;
    }
    let patience = if distrusting > 0 { TRUST_WITHIN } else { COME_BACK_WITHIN };
    if expected == 0 || since < patience {
        return None;
    }
    let ago = match since.as_secs() {
        secs if secs < 120 => format!("{secs} s"),
        secs => format!("{} min", secs / 60),
    };
    let agents = match expected {
        1 => "1 agent was".to_owned(),
        many => format!("{many} agents were"),
    };
    let head = format!(
        "no registered agent has connected since this server started {ago} ago, and {agents} seen shortly before"
    );
    let restored = "restore a newer backup of the data directory; if there is none, make each agent a new join token (`banyan token \
                    create`), move its bundle.json away and restart it";
    Some(match distrusting {
        0 => format!(
            "{head}: look at the log of one of them, and whether it reaches this server; if it does not trust this server's \
             certificate, the data directory is older than the mesh: {restored}"
        ),
        many => format!(
            "{head}; clients refused this server's certificate or its bundles {many} times: the data directory is older than the mesh, \
             as after an old backup was restored, or agents are led to the wrong server: {restored}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(secs: u64, expected: usize, distrusting: u64) -> Option<String> {
        let since = Duration::from_secs(secs);
        said(Standing { since, expected, distrusting, others_serve: false })
    }

    #[test]
    fn agents_that_another_server_may_serve_are_missed_only_where_clients_refuse_this_one() {
        let standing = |distrusting| {
            let since = Duration::from_secs(900);
            said(Standing { since, expected: 3, distrusting, others_serve: true })
        };
        assert_eq!(standing(0), None);
        assert!(standing(8).unwrap().contains("refused this server's certificate"));
    }

    #[test]
    fn agents_that_all_stay_away_are_missed_the_sooner_the_more_they_distrust() {
        assert_eq!(standing(299, 3, 0), None, "they have time to come back");
        assert!(standing(300, 3, 0).unwrap().contains("started 5 min ago, and 3 agents were seen"));
        assert_eq!(standing(9, 3, 8), None);
        let told = standing(11, 1, 8).unwrap();
        assert!(
            told.contains("started 11 s ago, and 1 agent was seen") && told.contains("8 times"),
            "{told}"
        );
        assert_eq!(
            standing(3_600, 0, 8),
            None,
            "untrusted clients alone say nothing: nobody was here before"
        );
    }
}
