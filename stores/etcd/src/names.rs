//! Keys of etcd for ours, and back.

use stores::{Key, ReadError, Space};

/// A range of keys: from the first on, up to the second and without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

pub(crate) fn of(prefix: &str, key: &Key) -> Vec<u8> {
    format!("{prefix}/{key}").into_bytes()
}

/// All of a space from an id on.
pub(crate) fn range(prefix: &str, space: Space, from: &str) -> Range {
    let name = space.name();
    // The byte behind '/' is '0': the end of everything that begins with the space.
    Range {
        first: format!("{prefix}/{name}/{from}").into_bytes(),
        end: format!("{prefix}/{name}0").into_bytes(),
    }
}

/// The id of a key that lies in a space.
pub(crate) fn id(prefix: &str, space: Space, key: &[u8]) -> Result<String, ReadError> {
    let unreadable = || {
        ReadError::Unreadable {
        key: String::from_utf8_lossy(key).into_owned(),
        reason:
            "no key of this program has such a name; delete it in etcd, or give the CA a prefix of its own"
                .to_owned(),
    }
    };
    let text = std::str::from_utf8(key).map_err(|_| unreadable())?;
    let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    let id = rest.and_then(|rest| rest.strip_prefix(space.name())?.strip_prefix('/'));
    let key = space.key(id.ok_or_else(unreadable)?).map_err(|_| unreadable())?;
    Ok(key.id().to_owned())
}

#[cfg(test)]
mod tests {
    use stores::Sensitivity;

    use super::*;

    const AGENTS: Space = Space::new("agents", Sensitivity::Plain);

    #[test]
    fn a_range_has_its_space_and_no_other() {
        let within = |space: Space, id: &str, from: &str| {
            let (range, key) = (range("/p", AGENTS, from), of("/p", &space.key(id).unwrap()));
            range.first <= key && key < range.end
        };
        assert!(
            within(AGENTS, "a", "") && within(AGENTS, "\u{10ffff}", "") && within(AGENTS, "b", "b")
        );
        assert!(!within(AGENTS, "a", "b"));
        for other in ["agent", "agents-2", "agents0", "zz"] {
            let other = Space::new(other, Sensitivity::Plain);
            assert!(!within(other, "a", "") && !within(other, "/", ""), "{other:?}");
        }
    }

    #[test]
    fn a_key_that_nobody_here_wrote_is_named() {
        assert_eq!(id("/p", AGENTS, b"/p/agents/a/b"), Ok("a/b".to_owned()));
        for key in [b"/p/agents/".as_slice(), b"/p/agents/\xff", b"/p/agents/a\n", b"/q/agents/a"] {
            let found = id("/p", AGENTS, key);
            assert!(matches!(found, Err(ReadError::Unreadable { .. })), "{found:?}");
        }
    }
}
