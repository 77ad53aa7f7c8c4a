//! `banyan rotate ...`: asks for a rotation, decides about it, and shows where it stands.

mod check;
pub mod watch;

use console::exit::{Failure, from_status};
use console::{output, rotation as words};
use proto::banyan::admin::v1::{
    DecideRotationRequest, GetRotationRequest, Rotation, StartRotationRequest,
    StartRotationResponse, Verb,
};

use crate::admin_client;
use crate::args::{
    AdminTarget, RotateAction, RotateDecideOptions, RotateLookOptions, RotateOptions,
    RotateStartOptions,
};
use crate::verbs::request::{lost_or_refused, request_id};
use crate::verbs::root::known;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses; [`Failure::Unknown`] if its answer was lost.
pub async fn run(options: &RotateOptions) -> Result<(), Failure> {
    match &options.action {
        RotateAction::Check(options) => check::run(options).await,
        RotateAction::Start(options) => start(options).await,
        RotateAction::Activate(options) => decide(options, Verb::Activate, "").await,
        RotateAction::Widen(options) => {
            decide(&options.decide, Verb::Widen, &options.cohort.join(",")).await
        }
        RotateAction::Hold(options) => decide(options, Verb::Hold, "").await,
        RotateAction::Resume(options) => decide(options, Verb::Resume, "").await,
        RotateAction::Abort(options) => decide(options, Verb::Abort, "").await,
        RotateAction::Rollback(options) => decide(options, Verb::Rollback, "").await,
        RotateAction::Status(options) => look(options, words::status).await,
        RotateAction::Explain(options) => look(options, words::explain).await,
        RotateAction::Watch(options) => watch::follow(&options.target, options.json, None).await,
    }
}

async fn start(options: &RotateStartOptions) -> Result<(), Failure> {
    let request_id = request_id(options.request_id.as_deref(), "rotate");
    let mode = match (options.auto, options.manual) {
        (true, _) => "auto",
        (_, true) => "manual",
        (false, false) => "",
    };
    let request = StartRotationRequest {
        request_id: request_id.clone(),
        authority: options.authority.clone().unwrap_or_default(),
        mode: mode.to_owned(),
        dry_run: options.dry_run,
        stage_again: match &options.stage_again {
            Some(root) => {
                known::announced(&options.target, options.authority.as_deref(), root).await?
            }
            None => Vec::new(),
        },
        by: options.word.by(),
        reason: options.word.reason(),
        canary: options.canary.join(","),
    };
    let asked = Asking { what: "rotation", json: options.json, wait: options.wait };
    ask(&options.target, request, asked).await
}

/// How a rotation is asked for.
pub(crate) struct Asking {
    /// What it is called.
    pub(crate) what: &'static str,
    /// Whether JSON is printed.
    pub(crate) json: bool,
    /// Whether it is followed.
    pub(crate) wait: bool,
}

/// Asks for a rotation, or only for what it would wait for.
pub(crate) async fn ask(
    target: &AdminTarget,
    request: StartRotationRequest,
    Asking { what, json, wait }: Asking,
) -> Result<(), Failure> {
    let (request_id, dry_run) = (request.request_id.clone(), request.dry_run);
    let mut client = admin_client::rotations(target).await?;
    let answer = client
        .start_rotation(request)
        .await
        .map_err(|status| lost_or_refused(&status, &request_id))?;
    let answer = answer.into_inner();
    if dry_run {
        return forecast(&answer, json);
    }
    let rotation = answer.rotation.unwrap_or_default();
    if !answer.meaning.is_empty() && !json {
        output::line(&answer.meaning)?;
    }
    match json {
        true => output::json(&words::json(&rotation))?,
        false => output::line(&format!("{what} requested, request id {request_id}"))?,
    }
    if wait {
        return watch::follow(target, json, Some(&request_id)).await;
    }
    if !json {
        output::line(
            "next: `banyan rotate watch` follows it, `banyan rotate explain` says what it is waiting for",
        )?;
    }
    Ok(())
}

/// Where it stands.
pub(crate) async fn fetch(target: &AdminTarget) -> Result<Rotation, Failure> {
    let mut client = admin_client::rotations(target).await?;
    let answer =
        client.get_rotation(GetRotationRequest {}).await.map_err(|status| from_status(&status))?;
    Ok(answer.into_inner())
}

/// What a rotation would wait for; a failure if it would make no progress at all.
fn forecast(answer: &StartRotationResponse, json: bool) -> Result<(), Failure> {
    let StartRotationResponse { forecast, obstacles, meaning, outlook, .. } = answer;
    if json {
        let all = serde_json::json!({
            "forecast": forecast,
            "obstacles": obstacles,
            "meaning": meaning,
            "outlook": outlook.as_ref().map(words::outlook_json),
        });
        output::json(&all)?;
    } else {
        let blocked = obstacles
            .iter()
            .map(|obstacle| format!("this rotation would not make progress: {obstacle}"));
        let meaning = Some(meaning.clone()).filter(|meaning| !meaning.is_empty());
        let lines: Vec<_> = blocked.chain(meaning).chain(forecast.iter().cloned()).collect();
        output::line(&lines.join("\n"))?;
    }
    match obstacles.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(anyhow::anyhow!("the rotation would not make progress"))),
    }
}

async fn decide(options: &RotateDecideOptions, verb: Verb, cohort: &str) -> Result<(), Failure> {
    let request_id = request_id(options.request_id.as_deref(), "rotate");
    let mut client = admin_client::rotations(&options.target).await?;
    let (by, reason) = (options.word.by(), options.word.reason());
    let (verb, cohort) = (verb.into(), cohort.to_owned());
    let request =
        DecideRotationRequest { request_id: request_id.clone(), verb, by, reason, cohort };
    let answer = client
        .decide_rotation(request)
        .await
        .map_err(|status| lost_or_refused(&status, &request_id))?;
    print(&answer.into_inner(), options.json, words::status)
}

async fn look(options: &RotateLookOptions, words: fn(&Rotation) -> String) -> Result<(), Failure> {
    print(&fetch(&options.target).await?, options.json, words)
}

fn print(rotation: &Rotation, json: bool, words: fn(&Rotation) -> String) -> Result<(), Failure> {
    if json { output::json(&words::json(rotation)) } else { output::line(&words(rotation)) }
}
