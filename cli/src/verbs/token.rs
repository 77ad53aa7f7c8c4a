//! `banyan token create`.

use std::path::Path;

use proto::banyan::admin::v1::CreateTokenRequest;
use serde_json::json;

use crate::args::{TokenAction, TokenCreateOptions, TokenOptions};
use crate::exit::{Failure, from_status};
use crate::{admin_client, output};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses, or the file for the token exists.
pub async fn run(options: &TokenOptions) -> Result<(), Failure> {
    match &options.action {
        TokenAction::Create(options) => create(options).await,
    }
}

async fn create(options: &TokenCreateOptions) -> Result<(), Failure> {
    let ttl_seconds = i64::try_from(options.ttl.as_secs()).unwrap_or(i64::MAX);
    if ttl_seconds == 0 {
        return Err(Failure::Usage("--ttl must be at least one second".to_owned()));
    }
    let request = CreateTokenRequest {
        agent: options.agent.clone(),
        identities: options.identities.clone(),
        ttl_seconds,
    };
    let mut client = admin_client::connect(&options.target).await?;
    let answer = client.create_token(request).await.map_err(|status| from_status(&status))?.into_inner();
    if let Some(file) = &options.out {
        write_secret(file, &answer.token)?;
    }
    if options.json {
        let token = options.out.is_none().then_some(&answer.token);
        return output::json(&json!({
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
        None => output::line(&answer.token),
    }
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
        let hint = if error.kind() == std::io::ErrorKind::AlreadyExists { "; name a new file" } else { "" };
        Failure::Failed(anyhow::anyhow!("cannot write the token to {}: {error}{hint}", file.display()))
    })
}
