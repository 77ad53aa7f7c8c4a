//! `banyan ban ...`: agents, identities and keys that get no certificate, by somebody's word.

use console::exit::{Failure, Told, from_status};
use console::output;
use proto::banyan::admin::v1::ban_subject::Subject;
use proto::banyan::admin::v1::{
    AddBanRequest, AddBanResponse, BanSubject, ListStandingBansRequest, RemoveBanRequest,
    StandingBan,
};
use serde_json::{Value, json};
use trust::SpkiHash;

use crate::admin_client;
use crate::args::{BanAction, BanOptions, Whom};

/// Leaves that an answer for people names.
const NAMED_MAX: usize = 20;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &BanOptions) -> Result<(), Failure> {
    let failed = |status: tonic::Status| from_status(&status);
    match &options.action {
        BanAction::List => {
            let mut client = admin_client::bans(&options.target).await?;
            let (mut bans, mut asked) = (Vec::new(), ListStandingBansRequest::default());
            loop {
                let page = client.list_standing_bans(asked).await.map_err(failed)?.into_inner();
                bans.extend(page.bans);
                if page.next.is_empty() {
                    return list(&bans, options.json);
                }
                asked = ListStandingBansRequest { after: page.next, limit: 0 };
            }
        }
        BanAction::Add { whom, lasts, word, confirm, dry_run } => {
            let seconds = lasts.map_or(0, |lasts| lasts.as_secs().max(1));
            let request = AddBanRequest {
                subject: Some(subject(whom)?),
                lasts_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
                by: word.by(),
                reason: word.reason.clone(),
                confirm: confirm.clone().unwrap_or_default(),
                dry_run: *dry_run,
            };
            let mut client = admin_client::bans(&options.target).await?;
            let answer = client.add_ban(request).await.map_err(failed)?.into_inner();
            match options.json {
                true => output::json(&said_json(&answer, *dry_run)),
                false => output::line(&said(&answer, *dry_run)),
            }
        }
        BanAction::Remove { whom, word } => {
            let request = RemoveBanRequest {
                subject: Some(subject(whom)?),
                by: word.by(),
                reason: word.reason.clone(),
            };
            let mut client = admin_client::bans(&options.target).await?;
            let answer = client.remove_ban(request).await.map_err(failed)?.into_inner();
            let lifted = answer.lifted.unwrap_or_default();
            match options.json {
                true => output::json(&json!({ "removed": as_json(&lifted) })),
                false => output::line(&format!(
                    "removed the ban of {}: it may ask again; who asked meanwhile asks again by itself, within minutes",
                    whom_in_words(&lifted)
                )),
            }
        }
    }
}

fn subject(whom: &Whom) -> Result<BanSubject, Failure> {
    let subject = match whom {
        Whom { agent: Some(name), .. } => Subject::Agent(name.clone()),
        Whom { identity: Some(id), .. } => Subject::Identity(id.clone()),
        Whom { key, .. } => Subject::Key(digest(key.as_deref().unwrap_or_default())?),
    };
    Ok(BanSubject { subject: Some(subject) })
}

/// A fingerprint in hexadecimal digits, as this program or `openssl` prints it.
fn digest(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    let key: Result<SpkiHash, _> = digits.to_ascii_lowercase().parse();
    key.map(|key| key.as_bytes().to_vec()).map_err(|_| {
        let told = Told::new(format!("\"{text}\" is no SHA-256 of a key: that has 64 digits"));
        Failure::Usage(told.advising(
            "openssl x509 -in CERTIFICATE -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
        ))
    })
}

fn list(bans: &[StandingBan], json: bool) -> Result<(), Failure> {
    if json {
        let bans: Vec<_> = bans.iter().map(as_json).collect();
        return output::json(&json!({ "bans": bans }));
    }
    let mut table = output::table(&["BANNED", "UNTIL", "STANDS", "BY", "REASON", "AT"]);
    for ban in bans {
        table.add_row([
            whom_in_words(ban),
            if ban.until == 0 { "removed".to_owned() } else { output::time(ban.until) },
            if ban.stands { "yes" } else { "over" }.to_owned(),
            ban.by.clone(),
            ban.reason.clone(),
            output::time(ban.at),
        ]);
    }
    output::line(&table.to_string())
}

fn said(answer: &AddBanResponse, dry_run: bool) -> String {
    let mut lines = Vec::new();
    for leaf in answer.leaves.iter().take(NAMED_MAX) {
        let agent = match (leaf.agent.as_str(), leaf.agent_connected) {
            ("", _) => String::new(),
            (agent, true) => format!(", behind agent {agent}, which is connected"),
            (agent, false) => format!(", behind agent {agent}, which is not connected"),
        };
        lines.push(format!(
            "{} of {} ({}{agent}) ends at {}",
            output::hex(&leaf.serial),
            leaf.identity,
            leaf.kind,
            output::time(leaf.not_after)
        ));
    }
    let named = answer.leaves.len().min(NAMED_MAX) as u64;
    let further = answer.leaves_total.saturating_sub(named);
    if further > 0 {
        lines.push(format!("and {further} more"));
    }
    lines.extend(answer.said.iter().cloned());
    if let Some(former) = &answer.former {
        let takes = if dry_run { "would take" } else { "takes" };
        let (by, reason) = (&former.by, &former.reason);
        lines.push(format!("it {takes} the place of the ban by {by} ({reason})"));
    }
    let ban = answer.ban.clone().unwrap_or_default();
    let verb = if dry_run { "would be banned" } else { "is banned" };
    lines.push(format!("{} {verb}", whom_in_words(&ban)));
    lines.join("\n")
}

fn said_json(answer: &AddBanResponse, dry_run: bool) -> Value {
    let leaf = |leaf: &proto::banyan::admin::v1::Leaf| {
        json!({
            "serial": output::hex(&leaf.serial),
            "identity": leaf.identity,
            "kind": leaf.kind,
            "agent": (!leaf.agent.is_empty()).then_some(&leaf.agent),
            "agent_connected": leaf.agent_connected,
            "not_after": output::time(leaf.not_after),
        })
    };
    json!({
        "dry_run": dry_run,
        "ban": answer.ban.as_ref().map(as_json),
        "former": answer.former.as_ref().map(as_json),
        "leaves": answer.leaves.iter().map(leaf).collect::<Vec<_>>(),
        "leaves_total": answer.leaves_total,
        "leaves_until": (answer.leaves_until > 0).then(|| output::time(answer.leaves_until)),
        "agents": answer.agents,
        "said": answer.said,
    })
}

fn whom_in_words(ban: &StandingBan) -> String {
    match ban.subject.as_ref().and_then(|subject| subject.subject.as_ref()) {
        Some(Subject::Agent(name)) => format!("agent {name}"),
        Some(Subject::Identity(id)) => format!("identity {id}"),
        Some(Subject::Key(key)) => format!("key {}", output::hex(key)),
        None => "whom only a newer release knows".to_owned(),
    }
}

fn as_json(ban: &StandingBan) -> Value {
    let (mut agent, mut identity, mut key) = (None, None, None);
    match ban.subject.as_ref().and_then(|subject| subject.subject.as_ref()) {
        Some(Subject::Agent(name)) => agent = Some(name.clone()),
        Some(Subject::Identity(id)) => identity = Some(id.clone()),
        Some(Subject::Key(bytes)) => key = Some(output::hex(bytes)),
        None => {}
    }
    json!({
        "agent": agent,
        "identity": identity,
        "key": key,
        "until": (ban.until > 0).then(|| output::time(ban.until)),
        "stands": ban.stands,
        "by": ban.by,
        "reason": ban.reason,
        "at": output::time(ban.at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_as_openssl_or_this_program_prints_it() {
        let digits = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(digest(&digits).ok(), digest(&colons).ok());
        for odd in ["", "ab", &"zz".repeat(32), &"ab".repeat(31)] {
            assert!(matches!(digest(odd), Err(Failure::Usage(_))), "{odd}");
        }
    }
}
