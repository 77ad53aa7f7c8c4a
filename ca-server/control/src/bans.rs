//! Bans as operators see them: whom one is about, and what comes of it.

use ledger::{LiveRow, Row, RowKind};
use registry::{Ban, BanSubject};
use rotation::evidence::GateName;
use trust::plain::counted;
use trust::{SpiffeId, Timestamp};

use crate::ca::Ca;
use crate::crl;
use crate::leaves::Gate;

/// Leaves of this server that a ban is about, those that live longest first.
pub fn covered(ca: &Ca, subject: &BanSubject) -> Vec<LiveRow> {
    let agents = ca.registry.agents_banned_by(subject);
    let of_agent = |row: &Row| row.agent.as_ref().is_some_and(|agent| agents.contains(agent));
    let mut rows = ca.ledger.rows_where(|row| match subject {
        BanSubject::Agent(_) => of_agent(row),
        BanSubject::Identity(cover) => !row.identity.is_reserved() && cover.has(&row.identity),
        // An agent that may call no more renews nothing of what it holds.
        BanSubject::Key(key) => row.spki == *key || of_agent(row),
        BanSubject::Leaf(serial) => row.serial == *serial,
        BanSubject::Issuer(issuer) => row.issuer == *issuer,
    });
    rows.retain(|live| live.row.kind != RowKind::Own);
    rows.sort_by_key(|live| std::cmp::Reverse(live.row.not_after));
    rows
}

/// Why the holder of this leaf gets no newer one; none if it may.
pub fn of_row(ca: &Ca, row: &Row) -> Option<String> {
    let by_agent = || {
        let (_, banned) = ca.registry.agent(row.agent.as_deref()?)?;
        banned.then(|| format!("agent {} is banned", row.agent.as_deref().unwrap_or_default()))
    };
    let of_it = || {
        let (subject, ban) = ca.registry.ban_on(&row.identity, &row.spki)?;
        Some(format!("{subject} is banned by {}", ban.word.by))
    };
    let why = of_it().or_else(by_agent)?;
    Some(format!("{why}, so it gets no newer leaf: `banyan ban list`"))
}

/// What comes of a ban, one sentence each.
pub fn said(ca: &Ca, subject: &BanSubject, ban: &Ban, rows: &[LiveRow]) -> Vec<String> {
    let mut said = Vec::new();
    let until = ban.until.map(|until| format!(" until {until}")).unwrap_or_default();
    said.push(match subject {
        BanSubject::Agent(name) => {
            format!("agent {name} may not join, call or renew{until}; its stream ends at once")
        }
        BanSubject::Identity(cover) => {
            format!("nobody gets a certificate for {cover}, new or renewed{until}")
        }
        BanSubject::Leaf(serial) => format!("leaf {serial} is no credential any more{until}"),
        BanSubject::Issuer(issuer) => format!("issuer {issuer} is distrusted{until}"),
        BanSubject::Key(key) => {
            format!("nobody gets a certificate for key {key}, or by it for another one{until}")
        }
    });
    said.push(match rows.first() {
        None => "no leaf of this server that may live is covered".to_owned(),
        Some(last) => {
            let (leaves, until) = (counted(rows.len(), "leaf", "leaves"), last.row.not_after);
            let are = if rows.len() == 1 { "is" } else { "are" };
            let is_listed = matches!(subject, BanSubject::Identity(_) | BanSubject::Key(_));
            match crl::holders::refusing(ca).filter(|_| is_listed) {
                Some(lists) => format!(
                    "{leaves} of this server {are} covered: {lists} refuse them within seconds; everybody else believes each until its end, the last at {until}"
                ),
                None => format!(
                    "{leaves} of this server {are} covered, and a ban ends none of them: peers believe each until its end, the last at {until}; \
                     `banyan leaf revoke` takes single ones from agents at once"
                ),
            }
        }
    });
    said.extend(held_up(ca, rows));
    if ca.replication.others_serve() {
        said.push(
            "it holds at every server of this CA; these are the leaves that this one issued: ask each of the others with --dry-run, too"
                .to_owned(),
        );
    }
    said
}

/// What a rotation under way waits for longer.
fn held_up(ca: &Ca, rows: &[LiveRow]) -> Option<String> {
    let state = ca.driver.state();
    let gate = Gate::of(ca, &state);
    let held: Vec<_> = rows.iter().filter(|live| gate.is_held_by(live)).collect();
    let name = gate.name().filter(|name| *name != GateName::Converged)?;
    let last = held.iter().map(|live| live.row.not_after).max()?;
    Some(format!(
        "the {name} gate of the rotation under way waits for {} of these, until {} at the latest: they are not renewed any more",
        counted(held.len(), "leaf", "leaves"),
        ca.policy.over_at(last)
    ))
}

/// Bans of identities and keys that stand, in one sentence. Names of agents are counted where agents are.
pub fn standing(ca: &Ca, now: Timestamp) -> Option<String> {
    let all = ca.registry.all_bans_after("", usize::MAX).into_iter();
    let others = all.filter(|(subject, _)| !matches!(subject, BanSubject::Agent(_)));
    let stand = others.filter(|(_, ban)| ban.stands(now)).count();
    (stand > 0).then(|| {
        format!(
            "{} of who gets no certificate: `banyan ban list`",
            counted(stand, "ban stands", "bans stand")
        )
    })
}

/// Whether a ban is about everybody.
pub fn is_of_everybody(ca: &Ca, subject: &BanSubject) -> bool {
    let everybody = format!("{}/*", ca.id.trust_domain().id());
    matches!(subject, BanSubject::Identity(cover) if cover.to_string() == everybody)
}

/// Whether a ban is about whoever has this identity.
pub fn is_about(subject: &BanSubject, identity: &SpiffeId) -> bool {
    matches!(subject, BanSubject::Identity(cover) if cover.has(identity))
}
