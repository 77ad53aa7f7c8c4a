//! A key as it is known in memory.

use cryptoki::object::ObjectHandle;
use plugins::KeySpec;
use trust::PublicKey;

/// A key that was found on the token.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) private: ObjectHandle,
    pub(crate) spec: KeySpec,
    pub(crate) public: PublicKey,
}
