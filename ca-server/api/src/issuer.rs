//! An operator's word about one issuer: distrusted, or trusted again.

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::{DistrustIssuerRequest, DistrustIssuerResponse};
use registry::{Ban, BanRow, BanSubject, RegistryError};
use rotation::{Event, RequestId};
use rotation_driver::Word;
use trust::CertificateId;

use crate::ruling;
use crate::words::{self, invalid};
use control::ca::Ca;
use control::exposure;
use control::issuers::{self, Known};

/// Says it, or only says what it would mean.
pub(crate) async fn distrust(
    ca: &Ca,
    message: DistrustIssuerRequest,
    caller: &str,
) -> Result<DistrustIssuerResponse, Refusal> {
    let word = words::full_word(&message.by, &message.reason, caller)?;
    let issuer = CertificateId::from_bytes(&message.issuer).ok_or_else(|| {
        invalid("an issuer is named by the 32 bytes of its SHA-256 fingerprint".to_owned())
    })?;
    let request_id = RequestId::parse(&message.request_id)
        .map_err(|error| invalid(format!("the request id: {error}")))?;
    let state = ca.driver.state();
    let known = issuers::known(&state, &issuer).ok_or_else(|| {
        let text = format!("the record knows no issuer {}", issuer.short());
        let advice = "`banyan root show ROOT` shows those under a root";
        Refusal::advised(Reason::RequestInvalid, text, advice)
    })?;
    let subject = BanSubject::Issuer(issuer);
    if message.trust_again {
        return trust_again(ca, &known, subject, &word, message.dry_run).await;
    }
    let now = ca.believed_now()?;
    let exposure = exposure::of_issuer(ca, known.root, issuer);
    let is_ours = known.replica.as_ref().is_none_or(|replica| *replica == ca.replica);
    let mut said = exposure.said_of("issuer", false);
    said.push(match (known.signs, is_ours) {
        (true, true) => format!(
            "a new issuer is asked of authority {}; until it has come this one signs on, then agents are asked to renew",
            known.authority
        ),
        (true, false) => format!(
            "it is the issuer of server {}: say it there, too, so that it gets another one",
            known.replica.as_ref().map(ToString::to_string).unwrap_or_default()
        ),
        (false, _) => "it signs no more: agents are asked to renew what is left of it".to_owned(),
    });
    said.push(format!(
        "peers do not ask this CA: whoever has its key can make leaves that they believe until {}, and only another root ends that \
         (`banyan root distrust {}`)",
        known.not_after,
        known.root.short()
    ));
    if !message.dry_run {
        if known.signs && is_ours {
            let (root, replica) = (known.root, Some(ca.replica.clone()));
            let event = Event::IssuerRenewalRequested { request_id, root, replica, replaces: true };
            let asked = ca.driver.submit_as(event, word.clone()).await;
            asked.map_err(|error| words::not_submitted(&error))?;
        }
        words::journal(ca, &word, "issuer distrust", issuer.to_string(), known.root.to_string())
            .await?;
        tracing::warn!(
            issuer = %issuer.short(),
            root = %known.root.short(),
            by = word.by,
            reason = word.reason,
            leaves = exposure.leaves,
            "an issuer is distrusted by an operator's word"
        );
        let until = Some(ca.policy.over_at(known.not_after));
        ca.registry.add_ban(subject, Ban { word: row(&word, now), until, agent: None }).await?;
    }
    Ok(answer(&known, Some(exposure), said))
}

/// Takes the word back. The new issuer stays, and what was asked for anew too.
async fn trust_again(
    ca: &Ca,
    known: &Known,
    subject: BanSubject,
    word: &Word,
    dry_run: bool,
) -> Result<DistrustIssuerResponse, Refusal> {
    if ca.registry.ban(&subject).is_none() {
        return Err(RegistryError::BanUnknown(subject.to_string()).into());
    }
    if !dry_run {
        words::journal(ca, word, "issuer trust-again", subject.to_string(), "").await?;
        ca.registry.lift_ban(subject, row(word, ca.clock.now())).await?;
    }
    let said = "nobody is asked to renew for its sake any more; the issuer that took its place goes on signing";
    Ok(answer(known, None, vec![said.to_owned()]))
}

fn answer(
    known: &Known,
    exposure: Option<exposure::Exposure>,
    said: Vec<String>,
) -> DistrustIssuerResponse {
    DistrustIssuerResponse {
        root: known.root.as_bytes().to_vec(),
        authority: known.authority.clone(),
        exposure: exposure.map(ruling::shown),
        said,
    }
}

fn row(word: &Word, at: trust::Timestamp) -> BanRow {
    BanRow { by: word.by.clone(), reason: word.reason.clone(), at }
}
