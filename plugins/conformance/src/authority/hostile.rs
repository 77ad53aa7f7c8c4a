//! What happens to calls in a bad hour: dropped in the middle, lost on the way back, many at once, nonsense.

use futures::future::join_all;
use plugins::IssuerRequest;

use super::subject::{Trial, denied, ready};
use crate::report::{Broken, Verdict, demand, works};

/// Requests for issuers that are made at once.
const AT_ONCE: usize = 8;
/// The longest thing that anything here may be, and no CSR.
const NONSENSE_LEN: usize = 1024 * 1024 - 1024;

/// A caller drops its call after the first poll. Repeated, it has one answer.
pub(super) async fn dropped_call_same_bytes(trial: &Trial<'_>) -> Verdict {
    let request = request(trial, "issuer-dropped").await?;
    drop_in_the_middle(trial, "issuer-dropped", &request).await?;
    let first = ready(works(
        "sign_issuer after a dropped call",
        trial.sign("issuer-dropped", &request).await?,
    )?)?;
    let second = ready(works("sign_issuer again", trial.sign("issuer-dropped", &request).await?)?)?;
    demand(first == second, "after a dropped call one request id made two issuers")
}

/// Each of several callers at once gets the issuer for its own key, and no two the same one.
pub(super) async fn issuers_at_once_are_apart(trial: &Trial<'_>) -> Verdict {
    let root = trial.root("root-a").await?;
    let mut asked = Vec::new();
    for number in 0..AT_ONCE {
        let name = format!("issuer-crowd-{number}");
        let key = trial.issuer_key(&name).await?;
        asked.push((trial.issuer_request(root, &key).await?, key, name));
    }
    let answers = join_all(asked.iter().map(|(request, _, name)| trial.sign(name, request))).await;
    let mut serials = Vec::new();
    for (answer, (_, key, _)) in answers.into_iter().zip(&asked) {
        let chain = ready(works("sign_issuer", answer?)?)?;
        let checked = trial.check_issuer(root, &key.public, &chain).await?;
        let first = checked
            .chain()
            .first()
            .ok_or_else(|| Broken::Failed("the chain is empty".to_owned()))?;
        let serial = first.serial_bytes().to_vec();
        demand(!serials.contains(&serial), "two issuers have one serial number")?;
        serials.push(serial);
    }
    Ok(())
}

/// Bytes that are no CSR are refused as such, and the next call is served.
pub(super) async fn no_csr_is_denied(trial: &Trial<'_>) -> Verdict {
    let mut nonsense = request(trial, "issuer-nonsense").await?;
    let contents = [Vec::new(), b"no CSR".to_vec(), vec![0x30; NONSENSE_LEN]];
    for (number, csr_der) in contents.into_iter().enumerate() {
        let (name, len) = (format!("issuer-nonsense-{number}"), csr_der.len());
        nonsense.csr_der = csr_der;
        denied(&format!("{len} bytes that are no CSR"), &trial.sign(&name, &nonsense).await?)?;
    }
    let request = request(trial, "issuer-after-nonsense").await?;
    works("sign_issuer after nonsense", trial.sign("issuer-after-nonsense", &request).await?)
        .map(|_| ())
}

/// A call is dropped in the middle, and the caller is another one afterwards, as after a crash between "signed" and
/// "recorded": all who come later get one issuer.
pub(super) async fn lost_answer_is_signed_once(trial: &Trial<'_>) -> Verdict {
    let request = request(trial, "issuer-lost").await?;
    drop_in_the_middle(trial, "issuer-lost", &request).await?;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let reopened = trial.reopened();
        let answer = trial.sign_at(reopened.as_ref(), "issuer-lost", &request).await?;
        answers.push(ready(works("sign_issuer after a lost answer", answer)?)?);
    }
    let same = answers.windows(2).all(|two| matches!(two, [one, other] if one == other));
    demand(same, "one request made two issuers over a restart")
}

async fn request(trial: &Trial<'_>, name: &str) -> Result<IssuerRequest, Broken> {
    let root = trial.root("root-a").await?;
    trial.issuer_request(root, &trial.issuer_key(name).await?).await
}

async fn drop_in_the_middle(trial: &Trial<'_>, name: &str, request: &IssuerRequest) -> Verdict {
    let context = trial.context(name)?;
    // Polled once, then dropped.
    tokio::select! {
        biased;
        _ = trial.authority().sign_issuer(&context, request) => {}
        () = std::future::ready(()) => {}
    }
    Ok(())
}
