//! Which cluster, and where in it.

use std::time::Duration;

use kube_access::Access;

/// Longest name of a namespace, and of an instance: both are values of labels.
const NAME_MAX: usize = 63;
/// Longest time for a call unless it is set otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time without a word on a watch unless it is set otherwise: a server says something about once a minute.
const WATCH_SILENCE: Duration = Duration::from_secs(90);

/// Everything that the engine must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(crate) access: Access,
    pub(crate) namespace: String,
    pub(crate) instance: String,
    pub(crate) call_timeout: Duration,
    pub(crate) watch_silence: Duration,
}

/// Why there can be no such settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// The namespace is none.
    #[error(
        "{0:?} is no namespace of Kubernetes: write 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
    )]
    Namespace(String),
    /// The instance is none.
    #[error(
        "{0:?} cannot be a part of names in Kubernetes: write 1 to 63 of a-z, 0-9, - and ., with a letter or digit at both ends of each part"
    )]
    Instance(String),
}

impl Settings {
    /// The state of one instance in a namespace of a cluster. Instances with different names do not see each other's.
    ///
    /// # Errors
    /// [`InvalidSettings`].
    pub fn new(access: Access, namespace: &str, instance: &str) -> Result<Self, InvalidSettings> {
        if namespace.len() > NAME_MAX || !is_label(namespace) {
            return Err(InvalidSettings::Namespace(namespace.to_owned()));
        }
        if instance.len() > NAME_MAX || !instance.split('.').all(is_label) {
            return Err(InvalidSettings::Instance(instance.to_owned()));
        }
        let (namespace, instance) = (namespace.to_owned(), instance.to_owned());
        let (call_timeout, watch_silence) = (CALL_TIMEOUT, WATCH_SILENCE);
        Ok(Self { access, namespace, instance, call_timeout, watch_silence })
    }

    /// The same, with another longest time for a call.
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { call_timeout, ..self }
    }

    /// The same, with another time after which a watch that says nothing is opened anew.
    #[must_use]
    pub fn with_watch_silence(self, watch_silence: Duration) -> Self {
        Self { watch_silence, ..self }
    }
}

/// `a-z`, `0-9` and `-`, with a letter or digit at both ends.
fn is_label(text: &str) -> bool {
    let ends = !text.is_empty() && !text.starts_with('-') && !text.ends_with('-');
    ends && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespace: &str, instance: &str) -> Result<(), InvalidSettings> {
        let access = Access::Kubeconfig { path: "config".into(), context: None };
        Settings::new(access, namespace, instance).map(drop)
    }

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for instance in ["a", "example.org", "a-1.b-2", &"i".repeat(63)] {
            assert_eq!(of("banyan", instance), Ok(()));
        }
        for instance in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a-.b", "A", "a_b", "a/b", &"i".repeat(64)]
        {
            let wrong = Err(InvalidSettings::Instance(instance.to_owned()));
            assert_eq!(of("banyan", instance), wrong, "{instance}");
        }
        for namespace in ["", "a.b", "-a", "a-", "A", &"n".repeat(64)] {
            let wrong = Err(InvalidSettings::Namespace(namespace.to_owned()));
            assert_eq!(of(namespace, "a"), wrong, "{namespace}");
        }
    }
}
