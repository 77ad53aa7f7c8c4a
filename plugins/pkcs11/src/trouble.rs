//! What went wrong on a token, by what is done about it.

use cryptoki::error::{Error, RvError};
use plugins::KeyError;

/// What went wrong, by what this backend does next.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The session, the login or the token is gone: once more over a new session, then it is down.
    Lost(String),
    /// The object behind a remembered handle is gone: it is looked for once more.
    Stale,
    /// An answer for the caller.
    Answer(KeyError),
}

impl From<KeyError> for Trouble {
    fn from(error: KeyError) -> Self {
        Self::Answer(error)
    }
}

/// Sorts what the module answered.
impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let said = said(&error);
        let Error::Pkcs11(code, _) = error else {
            let detail = format!(
                "the PKCS#11 module's answer cannot be used ({said}); check the module's version"
            );
            return Self::Answer(KeyError::Permanent { detail });
        };
        match code {
            RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid => Self::Stale,
            RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::CurveNotSupported
            | RvError::DomainParamsInvalid
            | RvError::KeySizeRange
            | RvError::FunctionNotSupported => {
                let detail = format!(
                    "the token cannot do this ({said}); choose another key_type, or another token"
                );
                Self::Answer(KeyError::Unsupported { detail })
            }
            RvError::DeviceMemory => {
                let detail =
                    format!("the token is full ({said}); remove objects that nobody needs");
                Self::Answer(KeyError::Permanent { detail })
            }
            RvError::TokenWriteProtected
            | RvError::SessionReadOnly
            | RvError::ActionProhibited
            | RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateIncomplete
            | RvError::TemplateInconsistent => {
                let reason = format!(
                    "the token's policy does not allow it ({said}); look at the rights of this user"
                );
                Self::Answer(KeyError::Denied { reason })
            }
            // Among the rest are sessions and tokens that are gone, and codes that tell nothing, which modules use for
            // the same.
            _ => Self::Lost(said),
        }
    }
}

/// Function and code, without the standard's long text.
pub(crate) fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function:?} answered {code:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn lost_sessions_and_removed_tokens_are_opened_again() {
        for code in [
            RvError::SessionHandleInvalid,
            RvError::SessionClosed,
            RvError::UserNotLoggedIn,
            RvError::DeviceRemoved,
            RvError::TokenNotPresent,
            RvError::CryptokiNotInitialized,
            RvError::DeviceError,
            RvError::GeneralError,
            RvError::OperationActive,
        ] {
            let trouble = Trouble::from(Error::Pkcs11(code, Function::Sign));
            assert!(
                matches!(&trouble, Trouble::Lost(said) if said.starts_with("Sign answered ")),
                "{trouble:?}"
            );
        }
    }

    #[test]
    fn a_token_that_cannot_is_not_asked_twice() {
        let trouble =
            Trouble::from(Error::Pkcs11(RvError::CurveNotSupported, Function::GenerateKeyPair));
        assert!(matches!(trouble, Trouble::Answer(KeyError::Unsupported { .. })), "{trouble:?}");
    }
}
