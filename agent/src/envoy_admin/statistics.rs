//! What an Envoy says of its counters, and what happened since it was asked before.

use std::collections::BTreeMap;

use crate::counted::Sums;

/// Asks for the few counters that are about handshakes: `\.ssl\.(handshake|connection_error|fail_verify)`.
pub(super) const PATH: &str =
    "/stats?filter=%5C.ssl%5C.%28handshake%7Cconnection_error%7Cfail_verify%29";
/// Longest answer.
pub(super) const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Most counters that one endpoint may have.
const COUNTERS_MAX: usize = 50_000;

/// The counters of one endpoint, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics(BTreeMap<String, u64>);

#[derive(Clone, Copy)]
enum Kind {
    Handshake,
    ConnectionError,
    RefusedPeer,
}

fn kind(name: &str) -> Option<Kind> {
    if !name.starts_with("listener.") && !name.starts_with("cluster.") {
        return None;
    }
    match name.rsplit_once(".ssl.")?.1 {
        "handshake" => Some(Kind::Handshake),
        "connection_error" => Some(Kind::ConnectionError),
        rest if rest.starts_with("fail_verify_") => Some(Kind::RefusedPeer),
        _ => None,
    }
}

impl Statistics {
    /// Reads the text of an answer; counters that are about something else are skipped.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for (at, line) in (1..).zip(text.lines()) {
            let Some((name, value)) = line.split_once(": ") else {
                return Err(format!("line {at} of its answer is no counter (`name: number`)"));
            };
            if kind(name).is_none() {
                continue;
            }
            let Ok(value) = value.trim().parse() else {
                return Err(format!("line {at} of its answer has no number"));
            };
            if all.insert(name.to_owned(), value).is_some() {
                return Err(format!("line {at} of its answer names a counter again"));
            }
            if all.len() > COUNTERS_MAX {
                return Err(format!("it has more than {COUNTERS_MAX} counters of handshakes"));
            }
        }
        Ok(Self(all))
    }

    /// What was counted since `before`. A counter that is lower than it was began again at zero, and so did one that was not there.
    pub(super) fn since(&self, before: &Self) -> Sums {
        let mut sums = Sums::default();
        for (name, value) in &self.0 {
            let counted = match before.0.get(name) {
                Some(known) => value.checked_sub(*known).unwrap_or(*value),
                None => *value,
            };
            let mut one = Sums::default();
            match kind(name) {
                Some(Kind::Handshake) => one.handshakes = counted,
                Some(Kind::ConnectionError) => one.connection_errors = counted,
                Some(Kind::RefusedPeer) => one.refused_peers = counted,
                None => {}
            }
            sums.add(one);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(handshakes: u64, connection_errors: u64, refused_peers: u64) -> Sums {
        Sums { handshakes, connection_errors, refused_peers }
    }

    #[test]
    fn listeners_and_clusters_are_summed_and_what_is_about_something_else_is_skipped() {
        let text = "cluster.stock.ssl.connection_error: 1\ncluster.stock.ssl.fail_verify_san: 2\n\
                    cluster.stock.ssl.handshake: 10\nlistener.127.0.0.1_8443.ssl.fail_verify_error: 3\n\
                    listener.127.0.0.1_8443.ssl.fail_verify_no_cert: 4\nlistener.127.0.0.1_8443.ssl.handshake: 5\n\
                    cluster.a.ssl.ciphers.TLS_AES_128_GCM_SHA256: 7\nserver.ssl.handshake: 9\n\
                    cluster.a.upstream_cx_length_ms: P0(nan,1.0) P25(nan,1.025)\n";
        let read = Statistics::parse(text).unwrap();
        assert_eq!(read.since(&Statistics::default()), sums(15, 1, 9));
        assert_eq!(Statistics::parse(""), Ok(Statistics::default()));
    }

    #[test]
    fn a_counter_that_begins_again_counts_from_zero_and_one_that_goes_takes_nothing_away() {
        let read = |text: &str| Statistics::parse(text).unwrap();
        let before = read("cluster.a.ssl.handshake: 100\ncluster.b.ssl.handshake: 50");
        let after = read("cluster.a.ssl.handshake: 101\ncluster.b.ssl.handshake: 3");
        assert_eq!(after.since(&before), sums(4, 0, 0), "b was reset");
        let without = read("cluster.a.ssl.handshake: 101");
        assert_eq!(without.since(&after), sums(0, 0, 0), "b was taken out of the configuration");
        assert_eq!(read("cluster.c.ssl.handshake: 2").since(&without), sums(2, 0, 0));
    }

    #[test]
    fn an_answer_that_is_no_list_of_counters_is_refused_with_the_line() {
        for (text, why) in [
            ("cluster.a.ssl.handshake: 1\n<html>", "line 2 of its answer is no counter"),
            ("cluster.a.ssl.handshake: -1", "line 1 of its answer has no number"),
            ("cluster.a.ssl.handshake: 99999999999999999999", "line 1 of its answer has no number"),
            ("cluster.a.ssl.handshake: 1\ncluster.a.ssl.handshake: 2", "names a counter again"),
        ] {
            let said = Statistics::parse(text).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let line = |number| format!("cluster.{number}.ssl.handshake: 1\n");
        let many: String = (0..=COUNTERS_MAX).map(line).collect();
        assert!(Statistics::parse(&many).unwrap_err().contains("more than"));
        let most = [u64::MAX, u64::MAX].map(|value| value.to_string());
        let text =
            format!("cluster.a.ssl.handshake: {}\ncluster.b.ssl.handshake: {}", most[0], most[1]);
        let read = Statistics::parse(&text).unwrap();
        assert_eq!(read.since(&Statistics::default()).handshakes, u64::MAX, "no sum overflows");
    }
}
