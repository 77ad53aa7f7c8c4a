//! The rules of root authorities.

mod crossing;
mod further;
mod hostile;
mod issuing;
mod restart;
mod retiring;
mod staging;
mod subject;

pub use subject::Subject;

use crate::report::{Report, Verdict, demand};
use plugins::{HealthState, RootAuthority};
use subject::Trial;

/// Tries every rule. Rules of a capability that the authority does not show are skipped.
pub async fn run(subject: &Subject) -> Report {
    let trial = Trial::new(subject);
    let mut report = trial.report();
    report.rule("describe-is-constant", describe_is_constant(trial.authority()));
    report.rule("check-is-well", check_is_well(&trial).await);
    report.rule("stage-same-request-same-root", staging::same_request_same_root(&trial).await);
    report.rule("stage-at-once-same-root", staging::at_once_same_root(&trial).await);
    report.rule("stage-other-contents-is-denied", staging::other_contents_is_denied(&trial).await);
    report.rule(
        "staged-root-is-announced-and-safe",
        staging::root_is_announced_and_safe(&trial).await,
    );
    report.rule("staging-activates-nothing", staging::activates_nothing(&trial).await);
    report.rule("activated-root-signs", staging::activated_root_signs(&trial).await);
    report.rule("activate-unknown-is-denied", staging::activate_unknown_is_denied(&trial).await);
    report.rule("issuer-is-safe", issuing::issuer_is_safe(&trial).await);
    report.rule("issuer-same-request-same-bytes", issuing::same_request_same_bytes(&trial).await);
    report.rule("issuer-at-once-same-bytes", issuing::at_once_same_bytes(&trial).await);
    report.rule("issuer-dropped-call-same-bytes", hostile::dropped_call_same_bytes(&trial).await);
    report.rule("issuers-at-once-are-apart", hostile::issuers_at_once_are_apart(&trial).await);
    report.rule("issuer-other-contents-is-denied", issuing::other_contents_is_denied(&trial).await);
    report
        .rule("issuer-under-unknown-root-is-denied", issuing::unknown_root_is_denied(&trial).await);
    report.rule(
        "issuer-outliving-its-root-is-denied",
        issuing::outliving_root_is_denied(&trial).await,
    );
    report.rule("issuer-for-no-csr-is-denied", hostile::no_csr_is_denied(&trial).await);
    report.rule(
        "csr-without-possession-is-denied",
        issuing::without_possession_is_denied(&trial).await,
    );
    report.rule(
        "csr-gives-nothing-but-its-key",
        issuing::csr_gives_nothing_but_its_key(&trial).await,
    );
    report.rule("refusals-are-not-remembered", issuing::refusals_are_not_remembered(&trial).await);
    report
        .rule("other-trust-domain-is-denied", issuing::other_trust_domain_is_denied(&trial).await);
    report.rule("unknown-ticket-is-denied", issuing::unknown_ticket_is_denied(&trial).await);
    report.rule("answers-survive-a-restart", restart::answers_survive(&trial).await);
    report.rule(
        "signed-but-not-recorded-is-signed-once",
        hostile::lost_answer_is_signed_once(&trial).await,
    );
    report.rule("pending-survives-a-restart", restart::pending_survives(&trial).await);
    report.rule(
        "retire-of-signing-root-is-denied",
        retiring::of_signing_root_is_denied(&trial).await,
    );
    report.rule("retired-root-is-gone", retiring::root_is_gone(&trial).await);
    report.rule(
        "retired-request-makes-no-second-root",
        retiring::request_makes_no_second_root(&trial).await,
    );
    report.rule("further-roots-are-real-and-apart", further::are_real_and_apart(&trial).await);
    report.rule("further-roots-sign-nothing", further::sign_nothing(&trial).await);
    report.rule("cross-certificate-is-safe", crossing::certificate_is_safe(&trial).await);
    report.rule("cross-sign-same-request-same-bytes", crossing::same_request(&trial).await);
    report.rule("cross-sign-other-contents-is-denied", crossing::other_contents(&trial).await);
    report.rule("cross-sign-under-unknown-root-is-denied", crossing::unknown_root(&trial).await);
    report.rule("cross-sign-outliving-its-root-is-denied", crossing::outliving(&trial).await);
    report.rule("roots-never-empty-again", roots_never_empty_again(&trial).await);
    report.ended()
}

fn describe_is_constant(authority: &dyn RootAuthority) -> Verdict {
    let description = authority.describe();
    demand(description == authority.describe(), "describe gave two answers")?;
    demand(!description.plugin.is_empty() && !description.name.is_empty(), "a name is empty")?;
    let capabilities = |authority: &dyn RootAuthority| {
        (
            authority.staging().is_some(),
            authority.retiring().is_some(),
            authority.watching().is_some(),
            authority.cross_signing().is_some(),
        )
    };
    demand(
        capabilities(authority) == capabilities(authority),
        "the capabilities changed between two looks",
    )
}

async fn check_is_well(trial: &Trial<'_>) -> Verdict {
    let health = trial.authority().check(&trial.context("check")?).await;
    demand(health.state != HealthState::Down, format!("check says down: {}", health.detail))
}

async fn roots_never_empty_again(trial: &Trial<'_>) -> Verdict {
    let set = trial.roots().await?;
    demand(!set.roots.is_empty(), "no root is announced at the end")?;
    demand(set.signing.is_some(), "no root signs at the end")
}
