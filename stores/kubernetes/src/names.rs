//! Names, labels and annotations of objects.

use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use ring::digest::{SHA256, digest};
use stores::{Key, Sensitivity, Space};

pub(crate) const INSTANCE: &str = "banyan-ca.github.io/instance";
pub(crate) const SPACE: &str = "banyan-ca.github.io/space";
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const ID: &str = "banyan-ca.github.io/id";
/// The resource version that a writing came after. It makes each writing another one, also of the same bytes: the API writes
/// nothing where nothing differs.
pub(crate) const FOLLOWS: &str = "banyan-ca.github.io/follows";
/// The one entry of an object's data.
pub(crate) const VALUE: &str = "value";

/// Bytes of the hash in a name: two ids that share it do not come about by chance.
const HASH_BYTES: usize = 20;

/// What a key is in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    pub(crate) const fn of(space: Space) -> Self {
        match space.sensitivity() {
            Sensitivity::Plain => Self::ConfigMap,
            Sensitivity::Secret => Self::Secret,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => ConfigMap::KIND,
            Self::Secret => Secret::KIND,
        }
    }

    /// What rights are called by.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => ConfigMap::URL_PATH_SEGMENT,
            Self::Secret => Secret::URL_PATH_SEGMENT,
        }
    }
}

/// The object of a key. An instance may have dots; a space and a hash have none, so no two of them share a name.
pub(crate) fn object(instance: &str, key: &Key) -> String {
    format!("{instance}.{}.{}", key.space().name(), hash(key.id()))
}

/// Whether a name is one that an object of this space has.
pub(crate) fn belongs(instance: &str, space: Space, name: &str) -> bool {
    let rest = name.strip_prefix(instance).and_then(|rest| rest.strip_prefix('.'));
    let rest = rest.and_then(|rest| rest.strip_prefix(space.name())?.strip_prefix('.'));
    rest.is_some_and(|hash| {
        hash.len() == 2 * HASH_BYTES && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn hash(id: &str) -> String {
    let digest = digest(&SHA256, id.as_bytes());
    digest.as_ref().iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// What the objects of a space have in common.
pub(crate) fn selector(instance: &str, space: Space) -> String {
    format!("{INSTANCE}={instance},{SPACE}={}", space.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENTS: Space = Space::new("agents", Sensitivity::Plain);

    #[test]
    fn a_name_is_one_that_kubernetes_takes_whatever_the_id_is() {
        let longest = "\u{10ffff}".repeat(stores::ID_BYTES_MAX / 4);
        let instance = "i".repeat(63);
        for id in ["a", "A", "..", "a/b", "\u{e9}", &longest] {
            let name = object(&instance, &AGENTS.key(id).unwrap());
            assert!(name.len() <= 253, "{name}");
            let taken = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
            assert!(name.bytes().all(taken), "{name}");
            assert!(belongs(&instance, AGENTS, &name));
        }
    }

    #[test]
    fn spaces_and_instances_that_look_alike_have_objects_of_their_own() {
        let of = |instance: &str, space: &'static str| {
            object(instance, &Space::new(space, Sensitivity::Plain).key("x").unwrap())
        };
        let name = of("example.org", "agents");
        assert!(belongs("example.org", AGENTS, &name));
        for other in [of("org", "agents"), of("example.org", "agents-2"), of("example", "agents")] {
            assert_ne!(other, name);
            assert!(!belongs("example.org", AGENTS, &other), "{other}");
        }
        assert!(!belongs("example", AGENTS, &name) && !belongs("org", AGENTS, &name));
        assert!(!belongs("example.org", AGENTS, "example.org.agents.abc"));
    }
}
