//! `banyan root standby ...`, `distrust`, `trust-again` and `cut`: an operator's word about one root.

use console::exit::Failure;
use console::{output, rotation as words};
use proto::banyan::admin::v1::{
    Exposure, RootVerb, RuleRootRequest, RuleRootResponse, StartRotationRequest,
};
use serde_json::{Value, json};

use super::known::{as_json, fetch, is_further, named, table};
use crate::admin_client;
use crate::args::{
    AdminTarget, ReasonedOptions, RootCutOptions, RootDistrustOptions, RootStandbyOptions,
    RootTrustAgainOptions, StandbyAction, StandbyRuleOptions,
};
use crate::verbs::request::{lost_or_refused, request_id};
use crate::verbs::rotate::{self, watch};

pub(super) async fn standby(options: &RootStandbyOptions) -> Result<(), Failure> {
    let (target, json) = (&options.target, options.json);
    match &options.action {
        StandbyAction::Prepare { authority, word, wait, dry_run, request_id: given } => {
            let request = StartRotationRequest {
                request_id: request_id(given.as_deref(), "standby"),
                authority: authority.clone().unwrap_or_default(),
                mode: "standby".to_owned(),
                dry_run: *dry_run,
                by: word.by(),
                reason: word.reason(),
                ..StartRotationRequest::default()
            };
            let asked = rotate::Asking { what: "standby root", json, wait: *wait };
            rotate::ask(target, request, asked).await
        }
        StandbyAction::List => list(target, json).await,
        StandbyAction::Promote(options) => {
            rule_standby(target, options, RootVerb::Promote, json).await
        }
        StandbyAction::Drop(options) => rule_standby(target, options, RootVerb::Drop, json).await,
    }
}

async fn list(target: &AdminTarget, json: bool) -> Result<(), Failure> {
    let rotation = rotate::fetch(target).await?;
    let mut roots = fetch(target).await?;
    roots.retain(|root| {
        root.state == "published" && !is_further(root) && root.id != rotation.to_root
    });
    if json {
        return output::json(&json!({ "roots": roots.iter().map(as_json).collect::<Vec<_>>() }));
    }
    match roots.is_empty() {
        true => output::line("there is no standby root: `banyan root standby prepare` makes one"),
        false => output::line(&table(&roots)),
    }
}

async fn rule_standby(
    target: &AdminTarget,
    options: &StandbyRuleOptions,
    verb: RootVerb,
    json: bool,
) -> Result<(), Failure> {
    let request = RuleRootRequest {
        request_id: request_id(options.request_id.as_deref(), "standby"),
        verb: verb.into(),
        by: options.word.by(),
        reason: options.word.reason(),
        dry_run: options.dry_run,
        ..RuleRootRequest::default()
    };
    let answer = rule(target, &options.root, request).await?;
    print(&answer, options.dry_run, json)
}

pub(super) async fn distrust(options: &RootDistrustOptions) -> Result<(), Failure> {
    let request = RuleRootRequest {
        authority: options.authority.clone().unwrap_or_default(),
        dry_run: options.dry_run,
        ..said(&options.word, options.request_id.as_deref(), RootVerb::Distrust)
    };
    let answer = rule(&options.target, &options.root, request).await?;
    print(&answer, options.dry_run, options.json)?;
    let request_id = answer.rotation.map(|rotation| rotation.request_id).unwrap_or_default();
    match options.wait && !request_id.is_empty() {
        true => watch::follow(&options.target, options.json, Some(&request_id)).await,
        false => Ok(()),
    }
}

pub(super) async fn trust_again(options: &RootTrustAgainOptions) -> Result<(), Failure> {
    let request = said(&options.word, options.request_id.as_deref(), RootVerb::TrustAgain);
    let answer = rule(&options.target, &options.root, request).await?;
    print(&answer, false, options.json)
}

pub(super) async fn cut(options: &RootCutOptions) -> Result<(), Failure> {
    let request = RuleRootRequest {
        dry_run: options.dry_run,
        confirm: options.confirm.clone(),
        ..said(&options.word, options.request_id.as_deref(), RootVerb::Cut)
    };
    let answer = rule(&options.target, &options.root, request).await?;
    print(&answer, options.dry_run, options.json)
}

fn said(word: &ReasonedOptions, given: Option<&str>, verb: RootVerb) -> RuleRootRequest {
    RuleRootRequest {
        request_id: request_id(given, "root"),
        verb: verb.into(),
        by: word.by(),
        reason: word.reason.clone(),
        ..RuleRootRequest::default()
    }
}

async fn rule(
    target: &AdminTarget,
    digits: &str,
    request: RuleRootRequest,
) -> Result<RuleRootResponse, Failure> {
    let root = named(&fetch(target).await?, digits)?.id.clone();
    let request_id = request.request_id.clone();
    let mut client = admin_client::rotations(target).await?;
    let answer = client.rule_root(RuleRootRequest { root, ..request }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| lost_or_refused(&status, &request_id))
}

fn print(answer: &RuleRootResponse, dry_run: bool, json: bool) -> Result<(), Failure> {
    let RuleRootResponse { rotation, exposure, said } = answer;
    if json {
        return output::json(&json!({
            "dry_run": dry_run,
            "said": said,
            "exposure": exposure.as_ref().map(exposure_json),
            "rotation": rotation.as_ref().map(words::json),
        }));
    }
    said.iter().try_for_each(|line| output::line(line))?;
    match rotation.as_ref().filter(|_| !dry_run) {
        Some(rotation) => output::line(&words::status(rotation)),
        None => Ok(()),
    }
}

fn exposure_json(exposure: &Exposure) -> Value {
    let stranded = exposure.stranded.iter().map(|one| {
        json!({
            "identity": one.identity,
            "serial": one.serial,
            "kind": one.kind,
            "agent": (!one.agent.is_empty()).then_some(&one.agent),
            "not_after": output::time(one.not_after),
            "why": one.why,
        })
    });
    json!({
        "leaves": exposure.leaves,
        "workloads": exposure.workloads,
        "namespaces": exposure.namespaces,
        "reachable": exposure.reachable,
        "stranded": stranded.collect::<Vec<_>>(),
        "stranded_total": exposure.stranded_total,
    })
}
