//! What the authority of a rotation that somebody thinks of would answer, asked before it begins.

use std::time::Duration;

use plugins::call::shown;
use plugins::{CallContext, HealthState, RequestId, RootAuthority, RootSet};
use rotation::{Event, State};
use trust::RootId;

use crate::ca::Ca;
use crate::drift::{self, Whose};

/// How long it may take to answer an operator, whose own call ends after 10 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Why a rotation that begins now would not get on, one sentence each; empty if nothing is in its way.
pub async fn obstacles(ca: &Ca, state: &State, event: &Event) -> Vec<String> {
    let Event::RotationRequested { authority: name, stage_again, .. } = event else {
        return Vec::new();
    };
    let Some(authority) = ca.authorities.get(name.as_str()) else { return Vec::new() };
    let (authority, name) = (authority.as_ref(), name.as_str());
    let place = authority.describe().place;
    let Ok(context) = RequestId::parse("forecast").map(|id| CallContext::new(id, ANSWER_WITHIN))
    else {
        return Vec::new();
    };
    let mut obstacles: Vec<_> = ca.rehearsing.obstacle().into_iter().collect();
    let health = tokio::time::timeout(ANSWER_WITHIN, authority.check(&context)).await;
    match health {
        Err(_) => obstacles
            .push(format!("authority {name} gives no answer within {} s", ANSWER_WITHIN.as_secs())),
        Ok(health) if health.state == HealthState::Down => {
            obstacles.push(down(name, &health.detail));
        }
        Ok(_) => {}
    }
    let mints = authority.staging().is_some() && stage_again.is_none();
    if !obstacles.is_empty() || mints || authority.upstream().is_some() {
        return obstacles;
    }
    let whose = Whose { name, place: &place };
    obstacles.extend(unfit(state, &whose, authority, &context, *stage_again).await);
    obstacles
}

async fn unfit(
    state: &State,
    whose: &Whose<'_>,
    authority: &dyn RootAuthority,
    context: &CallContext,
    named: Option<RootId>,
) -> Option<String> {
    let set = match tokio::time::timeout(ANSWER_WITHIN, authority.roots(context)).await {
        Ok(Ok(set)) => set,
        Ok(Err(error)) => {
            return Some(format!(
                "authority {} does not tell its roots: {}",
                whose.name,
                shown(&error.to_string())
            ));
        }
        Err(_) => return Some(format!("authority {} does not tell its roots in time", whose.name)),
    };
    match candidate(&set, named) {
        Some(der) => drift::unfit(state, whose, der, named),
        None => match named {
            Some(root) => Some(drift::not_that_root(whose, root, set.signing)),
            None => Some(format!("authority {} names no root that signs", whose.name)),
        },
    }
}

fn candidate(set: &RootSet, named: Option<RootId>) -> Option<&Vec<u8>> {
    let wanted = named.or(set.signing)?;
    set.roots.iter().find(|der| RootId::of(der) == wanted)
}

/// A plugin may begin by saying that it is down itself.
fn down(name: &str, detail: &str) -> String {
    let detail = shown(detail);
    format!(
        "authority {name} is down: {}",
        detail.strip_prefix("the authority is down: ").unwrap_or(&detail)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_down_is_said_to_be_so_once() {
        let error = plugins::PluginError::AuthorityDown { detail: "cannot connect".to_owned() };
        assert_eq!(down("far", &error.to_string()), "authority far is down: cannot connect");
        assert_eq!(down("far", "cannot connect"), "authority far is down: cannot connect");
    }
}
