//! `banyan state ...`: a data directory that was restored from an older backup, and the way on.

use std::fmt::Write as _;
use std::path::Path;

use ca_server::{Config, HostDeps, Server};
use console::exit::Failure;
use console::output;
use proto::banyan::admin::v1::{
    ContinueStateRequest, DismissAgentWordRequest, HeedAgentWordRequest, RecordState,
    RecoverStateRequest, ShowStateRequest, Sighting,
};
use serde_json::{Value, json};

use super::backup;
use super::request::{lost_or_refused, request_id};
use crate::admin_client;
use crate::args::{StateAction, StateOptions};
use crate::config_file;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses; [`Failure::Unknown`] if its answer was lost.
pub async fn run(options: &StateOptions) -> Result<(), Failure> {
    match &options.action {
        StateAction::Move { to } => return moved(options, to).await,
        StateAction::Backup { .. } | StateAction::Verify { .. } | StateAction::Restore { .. } => {
            return Box::pin(backup::run(options)).await;
        }
        _ => {}
    }
    let mut client = admin_client::states(&options.target).await?;
    let id = request_id(options.request_id.as_deref(), "state");
    let failed = |status: tonic::Status| lost_or_refused(&status, &id);
    let (state, done) = match &options.action {
        StateAction::Show
        | StateAction::Move { .. }
        | StateAction::Backup { .. }
        | StateAction::Verify { .. }
        | StateAction::Restore { .. } => {
            let shown = client.show_state(ShowStateRequest {}).await.map_err(failed)?;
            (shown.into_inner(), None)
        }
        StateAction::Continue { above, now, word } => {
            let (request_id, by, reason) = (id.clone(), word.by(), word.reason.clone());
            let request = ContinueStateRequest { request_id, above: *above, by, reason, now: *now };
            let state = client.continue_state(request).await.map_err(failed)?.into_inner();
            let done = went_on(&state);
            (state, Some(done))
        }
        StateAction::Recover { word } => {
            let (request_id, by, reason) = (id.clone(), word.by(), word.reason.clone());
            let request = RecoverStateRequest { request_id, by, reason };
            let state = client.recover_state(request).await.map_err(failed)?.into_inner();
            let done = recovered(&state);
            (state, Some(done))
        }
        StateAction::Dismiss { agent, word } => {
            let (request_id, by, reason) = (id.clone(), word.by(), word.reason.clone());
            let request = DismissAgentWordRequest { request_id, agent: agent.clone(), by, reason };
            let done = format!(
                "what agent {agent} reports about bundles is ignored; `banyan state heed` undoes this"
            );
            (client.dismiss_agent_word(request).await.map_err(failed)?.into_inner(), Some(done))
        }
        StateAction::Heed { agent, word } => {
            let (request_id, agent_name) = (id.clone(), agent.clone());
            let (by, reason) = (word.by(), word.reason());
            let request = HeedAgentWordRequest { request_id, agent: agent_name, by, reason };
            let done = format!(
                "what agent {agent} reports about bundles counts again, from its next connection on"
            );
            (client.heed_agent_word(request).await.map_err(failed)?.into_inner(), Some(done))
        }
    };
    match (options.json, done) {
        (true, _) => output::json(&as_json(&state)),
        (false, Some(done)) => output::line(&done),
        (false, None) => output::line(&shown(&state)),
    }
}

/// Moves the state from the store of one file to that of another.
async fn moved(options: &StateOptions, to: &Path) -> Result<(), Failure> {
    let file = config_file::find(options.target.config.as_deref(), config_file::SERVER)?;
    let load = |file: &Path| {
        Config::load(file)
            .map_err(|error| Failure::Configuration(format!("{}: {error}", file.display())))
    };
    let (config, target) = (load(&file)?, load(to)?);
    let moved = Server::move_state(&config, &target, &HostDeps::system())
        .await
        .map_err(|error| Failure::Failed(error.into()))?;
    if options.json {
        return output::json(&json!({ "ca": moved.owner.ca, "keys": moved.keys }));
    }
    let rows: usize = moved.keys.values().sum();
    output::line(&format!(
        "moved {rows} entries, and compared them; start the servers with the section [store] of {}. A server that is started on the \
         former place says where its state went, and does not start",
        to.display()
    ))
}

fn shown(state: &RecordState) -> String {
    let mut text = format!(
        "latest bundle: {} (digest {})\n",
        state.sequence,
        output::hex(&state.bundle_digest)
    );
    if state.explained > 0 {
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(text, "it continued above bundle {} after a restore", state.explained);
    }
    if state.unknown_until > 0 {
        let _ = writeln!(
            text,
            "it was restored from a backup: leaves that were released after that may live until {}, and gates of a rotation wait \
             for them",
            output::time(state.unknown_until)
        );
    }
    if !state.dismissed.is_empty() {
        let _ = writeln!(
            text,
            "agents whose reports about bundles are ignored: {}",
            state.dismissed.join(", ")
        );
    }
    let Some(highest) = state.sightings.iter().map(|seen| seen.sequence).max() else {
        text.push_str("no agent has a bundle that this server never published");
        return text;
    };
    let mut table = output::table(&["AGENT", "HAS", "DIGEST", "REPORTED", "CONNECTED"]);
    for seen in &state.sightings {
        let connected = if seen.connected { "yes" } else { "no" };
        let digest = output::hex(seen.digest.get(..8).unwrap_or(&seen.digest));
        table.add_row([
            seen.agent.clone(),
            format!("bundle {}", seen.sequence),
            digest,
            output::time(seen.since),
            connected.to_owned(),
        ]);
    }
    let _ = writeln!(text, "these agents have bundles that this server never published:\n{table}");
    let roots: Vec<_> = state.roots.iter().map(|root| output::hex(root)).collect();
    let _ = write!(
        text,
        "The state of this CA was restored from an older backup, and neither bundle nor signer changes until you decide. What to do:\n\
         1. If you have a newer backup, stop its servers and restore that one instead.\n\
         2. banyan state continue --above {highest} --by NAME --reason TEXT\n\
         \x20  publishes the roots {} as bundle {}.\n\
         \x20  Leaves under any other root are refused from then on, so the server refuses this until {}, when the last leaf \
         that was issued after the backup has ended. If you know that no other root had begun to sign after the backup was made, \
         add --now.\n\
         3. An agent that cannot connect afterwards (its log says so) trusts none of these roots: `banyan token create \
         --agent NAME --identity ID`, and move its bundle.json away.\n\
         If what an agent reports cannot be true: banyan state dismiss AGENT --by NAME --reason TEXT",
        roots.join(", "),
        highest + 1,
        output::time(state.lost_until),
    );
    text
}

fn recovered(state: &RecordState) -> String {
    format!(
        "leaves that were released after the backup are counted as if all of them lived: gates of a rotation wait until {}. Once \
         agents have connected, `banyan state show` says whether they hold a bundle that this server never published",
        output::time(state.unknown_until)
    )
}

fn went_on(state: &RecordState) -> String {
    format!(
        "bundle {} is published with the present roots. Leaves that were issued after the backup have no row in the ledger: the \
         gates of a rotation wait until {}, when the last of them has ended. `banyan status` says whether agents take the bundle; one \
         that cannot connect any more needs a new join token",
        state.sequence,
        output::time(state.lost_until)
    )
}

fn as_json(state: &RecordState) -> Value {
    let sighting = |seen: &Sighting| {
        json!({
            "agent": seen.agent,
            "sequence": seen.sequence,
            "digest": output::hex(&seen.digest),
            "since": output::time(seen.since),
            "connected": seen.connected,
        })
    };
    json!({
        "sequence": state.sequence,
        "bundle_digest": output::hex(&state.bundle_digest),
        "sightings": state.sightings.iter().map(sighting).collect::<Vec<_>>(),
        "dismissed": state.dismissed,
        "went_on_above": output::json_count(state.explained),
        "roots": state.roots.iter().map(|root| output::hex(root)).collect::<Vec<_>>(),
        "lost_leaves_until": output::time(state.lost_until),
        "unknown_leaves_until": (state.unknown_until > 0).then(|| output::time(state.unknown_until)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_shown_with_a_way_out_that_fits_it() {
        let seen = |agent: &str, sequence| Sighting {
            agent: agent.to_owned(),
            sequence,
            ..Sighting::default()
        };
        let state = RecordState {
            sequence: 3,
            sightings: vec![seen("a", 4), seen("b", 6)],
            roots: vec![vec![0xab; 32]],
            ..RecordState::default()
        };
        let text = shown(&state);
        assert!(text.contains("continue --above 6 ") && text.contains("as bundle 7."), "{text}");
        assert!(
            text.contains("the server refuses this until") && text.contains("add --now"),
            "{text}"
        );
        let text = shown(&RecordState { sequence: 3, ..RecordState::default() });
        assert!(text.contains("no agent has") && !text.contains("continue"), "{text}");
    }
}
