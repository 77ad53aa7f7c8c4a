//! `banyan replica list|drain|undrain|remove`.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{
    DrainReplicaRequest, ListReplicasRequest, Replica, RuleReplicaRequest, RuleReplicaResponse,
};
use serde_json::{Value, json};
use tonic::{Response, Status};

use crate::admin_client;
use crate::args::{
    AdminTarget, ReplicaAction, ReplicaDrainOptions, ReplicaListOptions, ReplicaOptions,
    ReplicaRemoveOptions, ReplicaRuleOptions,
};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &ReplicaOptions) -> Result<(), Failure> {
    match &options.action {
        ReplicaAction::List(options) => list(options).await,
        ReplicaAction::Drain(options) => drain(options).await,
        ReplicaAction::Undrain(options) => undrain(options).await,
        ReplicaAction::Remove(options) => remove(options).await,
    }
}

async fn list(options: &ReplicaListOptions) -> Result<(), Failure> {
    let mut client = admin_client::replicas(&options.target).await?;
    let answer = client.list_replicas(ListReplicasRequest {}).await;
    let replicas = answer.map_err(|status| from_status(&status))?.into_inner().replicas;
    if options.json {
        let replicas: Vec<_> = replicas.iter().map(as_json).collect();
        return output::json(&json!({ "replicas": replicas }));
    }
    let mut table =
        output::table(&["REPLICA", "STANDING", "SEEN", "LEAVES UNTIL", "VERSION", "ADDRESS"]);
    for replica in &replicas {
        let standing = match replica.leads {
            true => format!("{}, leads", replica.standing),
            false => replica.standing.clone(),
        };
        let seen = match replica.answers {
            true => "answers".to_owned(),
            false => format!("{} s ago", replica.seen_seconds_ago),
        };
        let until = match replica.leaves_until {
            0 => "-".to_owned(),
            until => output::time(until),
        };
        let address = some(&replica.address).unwrap_or_else(|| "-".to_owned());
        let (name, version) = (replica.name.clone(), replica.version.clone());
        table.add_row([name, standing, seen, until, version, address]);
    }
    output::line(&table.to_string())
}

/// Whose word about agents this is, where the CA has several servers: each counts what comes to itself. Empty where it has one,
/// and where nobody says.
pub(crate) async fn whose_word(target: &AdminTarget) -> String {
    let Ok(mut client) = admin_client::replicas(target).await else { return String::new() };
    let answer = client.list_replicas(ListReplicasRequest {}).await;
    answer.map(|answer| whose(&answer.into_inner().replicas)).unwrap_or_default()
}

fn whose(replicas: &[Replica]) -> String {
    match (replicas.iter().find(|replica| replica.answers), replicas.len()) {
        (Some(asked), 2..) => format!(
            "\nConnections, sequences, leaves and NACKs are those at replica {}, which was asked: every server of `banyan replica \
             list` has its own.",
            asked.name
        ),
        _ => String::new(),
    }
}

async fn drain(options: &ReplicaDrainOptions) -> Result<(), Failure> {
    let ReplicaDrainOptions { spread, rule } = options;
    let mut client = admin_client::replicas(&rule.target).await?;
    let request = DrainReplicaRequest {
        name: rule.name.clone(),
        by: rule.word.by(),
        reason: rule.word.reason.clone(),
        spread_seconds: spread.map(|spread| spread.as_secs()).unwrap_or_default(),
    };
    let replica = ruled(client.drain_replica(request).await)?;
    told(
        rule,
        &replica,
        "drains: it issues nothing more, and its agents go elsewhere; stop it once `banyan status` of it shows none connected",
    )
}

async fn undrain(options: &ReplicaRuleOptions) -> Result<(), Failure> {
    let mut client = admin_client::replicas(&options.target).await?;
    let replica = ruled(client.undrain_replica(asked(options, false)).await)?;
    told(options, &replica, "drains no more")
}

async fn remove(options: &ReplicaRemoveOptions) -> Result<(), Failure> {
    let ReplicaRemoveOptions { force, rule } = options;
    let mut client = admin_client::replicas(&rule.target).await?;
    let replica = ruled(client.remove_replica(asked(rule, *force)).await)?;
    let waits = match (replica.standing.as_str(), replica.leaves_until) {
        ("stopped", _) | (_, 0) => "is removed".to_owned(),
        (_, until) => format!(
            "is removed; it did not stop in order, so gates of a rotation count its leaves until {}",
            output::time(until)
        ),
    };
    told(rule, &replica, &waits)
}

fn asked(options: &ReplicaRuleOptions, force: bool) -> RuleReplicaRequest {
    let (by, reason) = (options.word.by(), options.word.reason.clone());
    RuleReplicaRequest { name: options.name.clone(), by, reason, force }
}

fn ruled(answer: Result<Response<RuleReplicaResponse>, Status>) -> Result<Replica, Failure> {
    let answer = answer.map_err(|status| from_status(&status))?.into_inner();
    Ok(answer.replica.unwrap_or_default())
}

fn told(options: &ReplicaRuleOptions, replica: &Replica, what: &str) -> Result<(), Failure> {
    if options.json {
        return output::json(&json!({ "replica": as_json(replica) }));
    }
    output::line(&format!("replica {} {what}", replica.name))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn as_json(replica: &Replica) -> Value {
    json!({
        "name": replica.name,
        "standing": replica.standing,
        "answers": replica.answers,
        "leads": replica.leads,
        "address": some(&replica.address),
        "version": replica.version,
        "seen_seconds_ago": replica.seen_seconds_ago,
        "segment": some(&replica.segment),
        "leaves_until": (replica.leaves_until != 0).then(|| output::time(replica.leaves_until)),
        "clock_ahead_ms": replica.clock_ahead_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_ca_has_several_servers_it_is_said_whose_agents_are_shown() {
        let named =
            |name: &str, answers| Replica { name: name.to_owned(), answers, ..Replica::default() };
        let said = whose(&[named("ca-1", false), named("ca-2", true)]);
        assert!(said.contains("those at replica ca-2") && said.contains("replica list"), "{said}");
        assert_eq!(whose(&[named("ca-1", true)]), "", "there is nobody else");
        assert_eq!(whose(&[]), "");
    }
}
