//! `banyan token create|list|revoke`.

use std::path::Path;

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{
    CreateTokenRequest, JoinTokenInfo, ListTokensRequest, RevokeTokensRequest,
};
use serde_json::{Value, json};

use crate::admin_client;
use crate::args::{
    TokenAction, TokenCreateOptions, TokenListOptions, TokenOptions, TokenRevokeOptions,
};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses, or the file for the token exists.
pub async fn run(options: &TokenOptions) -> Result<(), Failure> {
    match &options.action {
        TokenAction::Create(options) => create(options).await,
        TokenAction::List(options) => list(options).await,
        TokenAction::Revoke(options) => revoke(options).await,
    }
}

async fn create(options: &TokenCreateOptions) -> Result<(), Failure> {
    let ttl_seconds = i64::try_from(options.ttl.as_secs()).unwrap_or(i64::MAX);
    if ttl_seconds == 0 {
        return Err(Failure::Usage("--ttl must be at least one second".into()));
    }
    let request = CreateTokenRequest {
        agent: options.agent.clone(),
        identities: options.identities.clone(),
        ttl_seconds,
        by: options.word.by(),
        reason: options.word.reason(),
    };
    let mut client = admin_client::connect(&options.target).await?;
    let answer =
        client.create_token(request).await.map_err(|status| from_status(&status))?.into_inner();
    if let Some(file) = &options.out {
        write_secret(file, &answer.token)?;
    }
    if options.json {
        let token = options.out.is_none().then_some(&answer.token);
        return output::json(&json!({
            "id": answer.id,
            "agent_id": answer.agent_id,
            "expires_at": output::time(answer.expires_at),
            "token": token,
            "file": options.out,
        }));
    }
    match &options.out {
        Some(file) => output::line(&format!(
            "join token for {} written to {}; use it before {}",
            answer.agent_id,
            file.display(),
            output::time(answer.expires_at)
        )),
        None => output::verbatim(&answer.token),
    }
}

async fn list(options: &TokenListOptions) -> Result<(), Failure> {
    let mut client = admin_client::tokens(&options.target).await?;
    let agent = options.agent.clone().unwrap_or_default();
    let mut asked = ListTokensRequest { agent, ..ListTokensRequest::default() };
    let mut tokens = Vec::new();
    loop {
        let page = client
            .list_tokens(asked.clone())
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        tokens.extend(page.tokens);
        if page.next.is_empty() {
            break;
        }
        asked.after = page.next;
    }
    tokens.retain(|token| !options.unused || token.uses_left > 0);
    show(&tokens, options.json)
}

async fn revoke(options: &TokenRevokeOptions) -> Result<(), Failure> {
    let mut client = admin_client::tokens(&options.target).await?;
    let (by, reason) = (options.word.by(), options.word.reason());
    let request = RevokeTokensRequest { ids: options.ids.clone(), by, reason };
    let answer =
        client.revoke_tokens(request).await.map_err(|status| from_status(&status))?.into_inner();
    if options.json {
        return show(&answer.tokens, true);
    }
    for token in &answer.tokens {
        let after = match token.used_at {
            0 => "nobody can join with it any more".to_owned(),
            at => format!(
                "it was used at {}, and who joined with it stays registered: `banyan agent remove {}` ends that",
                output::time(at),
                token.agent
            ),
        };
        output::line(&format!("revoked {} for agent {}: {after}", short(&token.id), token.agent))?;
    }
    Ok(())
}

fn show(tokens: &[JoinTokenInfo], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&json!({ "tokens": tokens.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let mut table =
        output::table(&["TOKEN", "AGENT", "STATE", "EXPIRES", "MADE BY", "MADE AT", "PINS", "FOR"]);
    for token in tokens {
        table.add_row([
            short(&token.id),
            token.agent.clone(),
            state(token),
            output::time(token.expires_at),
            if token.made_by.is_empty() { "-".to_owned() } else { token.made_by.clone() },
            output::time(token.made_at),
            pins(token),
            token.identities.join("\n"),
        ]);
    }
    output::line(&table.to_string())
}

fn short(id: &str) -> String {
    id.get(..16).unwrap_or(id).to_owned()
}

fn state(token: &JoinTokenInfo) -> String {
    match token.state.as_str() {
        "revoked" => format!("revoked by {}", token.revoked_by),
        "used" => format!("used {}", output::time(token.used_at)),
        other => other.to_owned(),
    }
}

fn pins(token: &JoinTokenInfo) -> String {
    match (token.bundle_digest.get(..4), token.bundle_in_force) {
        (None, _) => "-".to_owned(),
        (Some(digest), true) => output::hex(digest),
        (Some(digest), false) => format!("{} (a former bundle)", output::hex(digest)),
    }
}

fn as_json(token: &JoinTokenInfo) -> Value {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let time = |secs: i64| (secs != 0).then(|| output::time(secs));
    json!({
        "id": token.id,
        "agent": token.agent,
        "identities": token.identities,
        "state": token.state,
        "uses_left": token.uses_left,
        "expires_at": time(token.expires_at),
        "used_at": time(token.used_at),
        "made_by": some(&token.made_by),
        "made_at": time(token.made_at),
        "bundle_digest": some(&output::hex(&token.bundle_digest)),
        "bundle_in_force": token.bundle_in_force,
        "revoked_by": some(&token.revoked_by),
        "revoked_reason": some(&token.revoked_reason),
        "revoked_at": time(token.revoked_at),
    })
}

/// Writes a secret into a new file that only its owner may read.
pub(super) fn write_secret(file: &Path, secret: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| writeln!(open, "{secret}"));
    written.map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::AlreadyExists {
            "; name a new file"
        } else {
            ""
        };
        Failure::Failed(anyhow::anyhow!(
            "cannot write the token to {}: {error}{hint}",
            file.display()
        ))
    })
}
