//! An operator's word about one root: distrusted, trusted again, cut off; a standby root to sign, or wanted no more.

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::{
    Exposure as ExposureMessage, RootVerb, RuleRootRequest, RuleRootResponse, StrandedLeaf,
};
use rotation::{AuthorityName, Event, Mode, RequestId, State};
use rotation_driver::Word;
use trust::RootId;

use crate::wire;
use crate::words::{self, invalid, refused};
use control::ca::Ca;
use control::emergency;
use control::explain::{self, kind_name};
use control::exposure::{self, Exposure};

/// Says it, or only says what it would mean.
pub(crate) async fn rule(
    ca: &Ca,
    message: RuleRootRequest,
    authority: AuthorityName,
    caller: &str,
) -> Result<RuleRootResponse, Refusal> {
    let root = RootId::from_bytes(&message.root).ok_or_else(|| {
        invalid("a root is named by the 32 bytes of its SHA-256 fingerprint".to_owned())
    })?;
    let request_id = RequestId::parse(&message.request_id)
        .map_err(|error| invalid(format!("the request id: {error}")))?;
    let verb = message.verb();
    let word = match verb {
        RootVerb::Promote | RootVerb::Drop => words::word(&message.by, &message.reason, caller),
        _ => words::full_word(&message.by, &message.reason, caller),
    }?;
    let Word { by, reason } = word.clone();
    let event = match verb {
        RootVerb::Promote => Event::StandbyPromoted { request_id, root, mode: Mode::Auto },
        RootVerb::Drop => Event::StandbyDropped { request_id, root },
        RootVerb::Distrust => Event::RootDistrusted { request_id, root, authority, by, reason },
        RootVerb::TrustAgain => Event::RootTrustedAgain { request_id, root, by, reason },
        RootVerb::Cut => Event::DistrustedRootCut { request_id, root, by, reason },
        RootVerb::Unspecified => {
            return Err(invalid(
                "name a verb: promote, drop, distrust, trust-again or cut".to_owned(),
            ));
        }
    };
    let state = ca.driver.state();
    not_from_above(ca, &state, &root, verb)?;
    let next = rotation::step(&state, &event, ca.clock.now(), &ca.policy)
        .map_err(|refusal| refused(&refusal))?
        .next;
    let exposure =
        matches!(verb, RootVerb::Distrust | RootVerb::Cut).then(|| exposure::of(ca, root));
    let mut said: Vec<_> = comes(&state, &next).into_iter().collect();
    if verb == RootVerb::Distrust && state.phase != next.phase {
        said.extend(emergency::said(ca, &next, &ca.policy, ca.clock.now()));
    }
    if exposure.is_some() {
        said.extend(ca.cross.believed_all_the_same(&next, ca.clock.now()));
    }
    said.extend(exposure.iter().flat_map(|exposure| exposure.said(verb == RootVerb::Cut)));
    if exposure.is_some() && ca.replication.others_serve() {
        said.push(
            "these are the leaves that this server issued: ask each of the others with --dry-run, too".to_owned(),
        );
    }
    if !message.dry_run {
        confirmed(verb, root, &message.confirm)?;
        if let Some(exposure) = &exposure {
            tracing::warn!(
                root = %root.short(),
                verb = verb.as_str_name(),
                by = word.by,
                reason = word.reason,
                leaves = exposure.leaves,
                stranded = exposure.stranded_total,
                "an operator's word about a root"
            );
        }
        ca.driver.submit_as(event, word).await.map_err(|error| words::not_submitted(&error))?;
    }
    let rotation = Some(wire::rotation(explain::look(ca).await));
    Ok(RuleRootResponse { rotation, exposure: exposure.map(shown), said })
}

/// A root of the upstream CA comes and goes there.
fn not_from_above(ca: &Ca, state: &State, root: &RootId, verb: RootVerb) -> Result<(), Refusal> {
    let authority = state.roots.get(root).map(|entry| entry.authority.as_str());
    match authority.filter(|authority| ca.upstreams.has(authority)) {
        Some(authority) if verb != RootVerb::TrustAgain => {
            let text =
                format!("root {} is one of the upstream CA (authority {authority})", root.short());
            Err(Refusal::advised(
                Reason::RotationRefused,
                text,
                "do it there, and it is followed here",
            ))
        }
        _ => Ok(()),
    }
}

/// Who takes trust from leaves in use types which root is meant.
fn confirmed(verb: RootVerb, root: RootId, typed: &str) -> Result<(), Refusal> {
    if verb != RootVerb::Cut || typed.trim().eq_ignore_ascii_case(&root.to_string()) {
        return Ok(());
    }
    let text = format!("holders of leaves of root {} break when it is cut off", root.short());
    let advice = format!(
        "`banyan root cut {} --dry-run --reason TEXT` names them; to do it, type the whole fingerprint: --confirm {root}",
        root.short()
    );
    Err(Refusal::advised(Reason::RequestInvalid, text, &advice))
}

/// What comes of it first.
fn comes(state: &State, next: &State) -> Option<String> {
    if state.generation == next.generation {
        return Some("nothing changes: it was said before, or is so already".to_owned());
    }
    if state.phase == next.phase {
        return None;
    }
    let to = next.phase.changes().map(|(from, to)| (from.short(), to.short()));
    Some(match (next.phase.name(), to) {
        ("staging", _) => {
            let authority = next.phase.rotation().map(|rotation| rotation.authority.to_string());
            format!(
                "there is no standby root that can sign, so authority {} makes a new root, and everybody has to trust it before it signs",
                authority.unwrap_or_default()
            )
        }
        ("distributing", Some((_, to))) if state.sequence == next.sequence => format!(
            "root {to} is trusted already, so nothing is distributed: it signs when the trust gate has been judged anew"
        ),
        ("draining", Some((from, to))) => {
            format!(
                "root {to} signs at once, and leaves of root {from} are renewed at the pace of rotation.reissue_per_second"
            )
        }
        ("withdrawing", Some((from, _))) => format!("root {from} leaves the bundle at once"),
        (phase, _) => format!("what is under way is {phase} then"),
    })
}

pub(crate) fn shown(exposure: Exposure) -> ExposureMessage {
    let Exposure { leaves, workloads, namespaces, reachable, stranded, stranded_total } = exposure;
    let stranded = stranded.into_iter().map(|one| StrandedLeaf {
        identity: one.identity.to_string(),
        serial: one.serial.to_string(),
        kind: kind_name(one.kind).to_owned(),
        agent: one.agent.unwrap_or_default(),
        not_after: one.not_after.as_secs(),
        why: one.why.to_owned(),
    });
    ExposureMessage {
        leaves,
        workloads,
        namespaces,
        reachable,
        stranded: stranded.collect(),
        stranded_total,
    }
}
