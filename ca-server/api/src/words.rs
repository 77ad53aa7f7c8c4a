//! What operators say by name, on its way into the journal: who, why, and what about.

use auth::refusal::{Reason, Refusal, echoed};
use rotation::{Event, Verb};
use rotation_driver::{SubmitError, Word};

use control::ca::Ca;

/// Longest name or reason that is kept, in bytes.
const TEXT_LEN_MAX: usize = 256;

/// Who says it, and why, as far as they said so: without a name it is the caller alone.
pub(crate) fn word(by: &str, reason: &str, caller: &str) -> Result<Word, Refusal> {
    let (by, reason) = (bounded("by", by)?, bounded("reason", reason)?);
    let by = if by.is_empty() { caller.to_owned() } else { format!("{by} ({caller})") };
    Ok(Word { by, reason })
}

/// As [`word`], where the reason may not be missing: what is overridden needs one for whoever asks later.
pub(crate) fn full_word(by: &str, reason: &str, caller: &str) -> Result<Word, Refusal> {
    match reason.trim().is_empty() {
        true => Err(unfit("reason")),
        false => word(by, reason, caller),
    }
}

/// Writes down what an operator is about to do outside of the record: there is no word without a trace. `verb` is the
/// command by the name that it had first.
pub(crate) async fn journal(
    ca: &Ca,
    word: &Word,
    verb: &str,
    about: impl Into<String>,
    detail: impl Into<String>,
) -> Result<(), Refusal> {
    let (about, detail) = (about.into(), detail.into());
    let event = Event::OperatorActed { verb: verb.to_owned(), about, detail };
    let journaled = ca.driver.submit_as(event, word.clone()).await;
    journaled.map(drop).map_err(|error| {
        let text = format!("nothing was done, because the journal could not be written: {error}");
        Refusal::new(Reason::RecordUnavailable, text)
    })
}

/// What the machine refused, and apart from that what is legal instead.
pub(crate) fn refused(refusal: &rotation::Refusal) -> Refusal {
    refused_by(refusal, "")
}

/// The same, with more about what stands in the way.
pub(crate) fn refused_by(refusal: &rotation::Refusal, more: &str) -> Refusal {
    let commands: Vec<_> = refusal.advice.verbs.iter().map(Verb::command).collect();
    let told = Refusal::new(Reason::RotationRefused, format!("{}{more}", refusal.what()));
    told.advising(refusal.legal(), &commands)
}

/// Why an event did not lead to a stored state: whether nothing changed, or whether that is unknown.
pub(crate) fn not_submitted(error: &SubmitError) -> Refusal {
    let text = error.to_string();
    match error {
        SubmitError::Refused(refusal) => refused(refusal),
        SubmitError::Violation(_) => Refusal::new(Reason::InternalDefect, text),
        SubmitError::Unknown(_) | SubmitError::Stopped => Refusal::new(Reason::RecordUnknown, text),
        SubmitError::NotStored(_) => Refusal::advised(
            Reason::RecordUnavailable,
            text,
            "`banyan status` says when the store answers again: repeat the command then",
        ),
        SubmitError::Unreadable(_) | SubmitError::Contended | SubmitError::TooNew { .. } => {
            Refusal::new(Reason::RecordUnavailable, text)
        }
    }
}

/// A request that makes no sense, with what to write instead.
pub(crate) fn invalid(text: String) -> Refusal {
    Refusal::new(Reason::RequestInvalid, text)
}

fn bounded(name: &str, text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.len() > TEXT_LEN_MAX { Err(unfit(name)) } else { Ok(echoed(text)) }
}

fn unfit(name: &str) -> Refusal {
    let text = format!("`{name}` must be 1 to {TEXT_LEN_MAX} bytes of text");
    let advice = format!("give --{name}: the journal keeps it for whoever asks later");
    Refusal::advised(Reason::RequestInvalid, text, &advice)
}

#[cfg(test)]
mod tests {
    use rotation_driver::StoreError;

    use super::*;

    #[test]
    fn what_was_not_stored_changed_nothing_and_what_is_unknown_is_said_to_be() {
        let reason = || "the store did not answer".to_owned();
        let nothing =
            not_submitted(&SubmitError::NotStored(StoreError::Failed { reason: reason() }));
        assert_eq!(nothing.reason(), Reason::RecordUnavailable);
        assert!(nothing.message().starts_with("nothing changed"), "{nothing:?}");
        let unknown =
            not_submitted(&SubmitError::Unknown(StoreError::Unknown { reason: reason() }));
        assert_eq!(unknown.reason(), Reason::RecordUnknown);
        assert!(!unknown.message().contains("nothing changed"), "{unknown:?}");
    }

    #[test]
    fn a_word_always_has_the_caller_and_nobody_can_pass_for_another_line() {
        assert_eq!(word("", "", "uid 0").unwrap().by, "uid 0");
        let said = word(" ann ", "a\nb", "uid 0").unwrap();
        assert_eq!((said.by.as_str(), said.reason.as_str()), ("ann (uid 0)", "a\\nb"));
        assert!(full_word("ann", " ", "uid 0").is_err());
        assert_eq!(
            full_word("", "why", "uid 0").unwrap().by,
            "uid 0",
            "who it is is known without a name"
        );
        assert!(word(&"x".repeat(257), "", "uid 0").is_err());
    }
}
