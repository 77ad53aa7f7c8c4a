//! One token: how it is found, logged in to, and what is known of how it does.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use plugins::{KeyError, KeyId};
use trust::Clock;

use crate::module::{Calls, Module};
use crate::pool::lock;
use crate::trouble::{Trouble, said};

/// How long a token that is away is left alone before it is looked for again. Calls in between are answered at once.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How the configuration names a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenName {
    /// By its label.
    Label(String),
    /// By its serial number.
    Serial(String),
    /// By the number of the slot that it is in. Some modules number slots anew at each start.
    Slot(u64),
}

/// A token that keys are on.
pub(crate) struct Token {
    pub(crate) module: Arc<Module>,
    pub(crate) name: TokenName,
    pub(crate) pin: AuthPin,
    /// The setting that named the PIN's place.
    pub(crate) pin_field: &'static str,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) standing: Mutex<Standing>,
    /// Grows with every key that is destroyed: handles that were found before are looked for again.
    pub(crate) destroyed: AtomicU64,
    /// Keys that were found on it. One that is not found any more, and was not destroyed, says that the token is gone:
    /// modules answer a search on such a token with nothing.
    pub(crate) known: Mutex<BTreeSet<KeyId>>,
}

/// What is known of a token.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whether it is counted among the module's tokens that are well.
    well: bool,
    /// Why the PIN was not taken. Never tried again in this process, so that the token does not lock itself.
    pin_refused: Option<String>,
    /// Since when it is away, by the clock's uptime, and why.
    away: Option<(Duration, String)>,
}

impl Token {
    /// Whether it may be called now.
    ///
    /// # Errors
    /// At once, while it is known to be away, and always after the PIN was refused.
    pub(crate) fn may_be_called(&self) -> Result<(), KeyError> {
        let mut standing = lock(&self.standing);
        if let Some(reason) = &standing.pin_refused {
            return Err(KeyError::Denied { reason: reason.clone() });
        }
        let now = self.clock.uptime();
        match &mut standing.away {
            Some((looked, detail)) if now < *looked + LOOK_AGAIN_AFTER => {
                Err(KeyError::BackendDown { detail: detail.clone() })
            }
            // This call looks for all.
            Some((looked, _)) => {
                *looked = now;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes that it answered.
    pub(crate) fn is_well(&self) {
        let mut standing = lock(&self.standing);
        if standing.away.take().is_some() {
            tracing::info!(token = %self.name, "the token is back");
        }
        if !std::mem::replace(&mut standing.well, true) {
            self.module.token_is_well();
        }
    }

    /// Notes that a call over it failed; it is not known yet whether it is away.
    pub(crate) fn is_in_doubt(&self) {
        if std::mem::replace(&mut lock(&self.standing).well, false) {
            self.module.token_is_away();
        }
    }

    /// Notes that it is away, and says so.
    pub(crate) fn is_away(&self, said: &str) -> KeyError {
        self.is_in_doubt();
        let not_started =
            self.module.not_started().map(|why| format!("its module does not start: {why}"));
        let said = not_started.as_deref().unwrap_or(said);
        let detail = format!(
            "{} cannot be used ({said}); look at the device, its connection and its service: it is looked for again \
             every second",
            self.name
        );
        let mut standing = lock(&self.standing);
        if standing.away.is_none() {
            tracing::warn!(token = %self.name, said, "the token is away");
        }
        standing.away = Some((self.clock.uptime(), detail.clone()));
        KeyError::BackendDown { detail }
    }

    /// Opens a session that may use and make keys.
    pub(crate) fn open(&self, calls: &Calls<'_>) -> Result<Session, Trouble> {
        let context = calls.context();
        let (slot, info) = self.find(context)?;
        // Sessions end with the module, and a number may come again: none is closed on drop.
        let session =
            context.open_rw_session_no_drop(slot).map_err(|error| Trouble::Lost(said(&error)))?;
        match self.log_in(&session, &info) {
            Ok(()) => Ok(session),
            Err(trouble) => {
                let _ = session.close();
                Err(trouble)
            }
        }
    }

    /// The token's slot.
    pub(crate) fn find(&self, context: &Pkcs11) -> Result<(Slot, TokenInfo), Trouble> {
        let lost = |error: Error| Trouble::Lost(said(&error));
        let mut found = Vec::new();
        for slot in context.get_slots_with_token().map_err(lost)? {
            // A token that cannot be read is not the one, or is away.
            let Ok(info) = context.get_token_info(slot) else { continue };
            if self.name.is(slot, &info) {
                found.push((slot, info));
            }
        }
        match (found.pop(), found.len()) {
            (Some(one), 0) => Ok(one),
            (None, _) => Err(Trouble::Lost("no slot has such a token".to_owned())),
            (Some(_), more) => {
                let detail =
                    format!("{} tokens are {}; name one by its serial", more + 1, self.name);
                Err(KeyError::Permanent { detail }.into())
            }
        }
    }

    /// Whether it makes Ed25519 keys.
    pub(crate) fn has_ed25519(context: &Pkcs11, slot: Slot) -> bool {
        context.get_mechanism_list(slot).is_ok_and(|mechanisms| {
            [MechanismType::EDDSA, MechanismType::ECC_EDWARDS_KEY_PAIR_GEN]
                .iter()
                .all(|wanted| mechanisms.contains(wanted))
        })
    }

    /// A login holds for every session of the process with this token. One thread tries, so that a wrong PIN costs one
    /// of the token's few attempts.
    fn log_in(&self, session: &Session, info: &TokenInfo) -> Result<(), Trouble> {
        let mut standing = lock(&self.standing);
        if let Some(reason) = &standing.pin_refused {
            return Err(KeyError::Denied { reason: reason.clone() }.into());
        }
        let refusal = match pin_trial(info.user_pin_locked(), info.user_pin_final_try()) {
            Err(reason) => reason,
            Ok(()) => match session.login(UserType::User, Some(&self.pin)) {
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => return Ok(()),
                Err(error) if is_of_the_pin(&error) => said(&error),
                Err(error) => return Err(error.into()),
            },
        };
        let reason = format!(
            "{} does not take the PIN that {} names ({refusal}); put the right one there and start again: it is not \
             tried a second time, so that the token does not lock itself",
            self.name, self.pin_field
        );
        standing.pin_refused = Some(reason.clone());
        Err(KeyError::Denied { reason }.into())
    }

    /// A number that grows with every key that is destroyed.
    pub(crate) fn destroyed(&self) -> u64 {
        self.destroyed.load(Ordering::Acquire)
    }

    /// Notes that a key is on it.
    pub(crate) fn learn(&self, id: &KeyId) {
        lock(&self.known).insert(id.clone());
    }

    /// Notes that a key was destroyed.
    pub(crate) fn forget(&self, id: &KeyId) {
        lock(&self.known).remove(id);
    }

    /// Whether a key that is not found may be taken for one that is not there.
    pub(crate) fn may_lack(&self, id: &KeyId) -> Result<(), Trouble> {
        match lock(&self.known).contains(id) {
            false => Ok(()),
            true => Err(Trouble::Lost(format!("key {id} was there and is not found"))),
        }
    }

    /// Makes every thread forget its handles.
    pub(crate) fn forget_handles(&self) {
        self.destroyed.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.is_in_doubt();
    }
}

impl TokenName {
    fn is(&self, slot: Slot, info: &TokenInfo) -> bool {
        match self {
            Self::Label(label) => info.label() == label,
            Self::Serial(serial) => info.serial_number() == serial,
            Self::Slot(number) => slot.id() == *number,
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "the token labelled {label:?}"),
            Self::Serial(serial) => write!(f, "the token with serial number {serial:?}"),
            Self::Slot(number) => write!(f, "the token in slot {number}"),
        }
    }
}

/// Whether the PIN may be tried. After earlier wrong ones, the last attempt is left to a human.
fn pin_trial(locked: bool, final_try: bool) -> Result<(), String> {
    match (locked, final_try) {
        (true, _) => Err("the PIN is locked: the security officer sets a new one".to_owned()),
        (_, true) => Err("one more wrong PIN would lock the token: log in once by hand".to_owned()),
        _ => Ok(()),
    }
}

fn is_of_the_pin(error: &Error) -> bool {
    let Error::Pkcs11(code, _) = error else { return false };
    matches!(
        code,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::UserPinNotInitialized
            | RvError::UserAnotherAlreadyLoggedIn
            | RvError::UserTypeInvalid
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_at_a_pin_is_left_to_a_human() {
        assert!(pin_trial(false, false).is_ok());
        assert!(pin_trial(true, false).is_err_and(|reason| reason.contains("security officer")));
        assert!(pin_trial(false, true).is_err_and(|reason| reason.contains("by hand")));
    }
}
