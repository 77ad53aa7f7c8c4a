//! Who meets whom in a coming phase, and what is said when they could not talk.

use std::fmt;
use std::sync::Arc;

use trust::{Certificate, PeerRole};

/// A leaf of one profile with its key, for rehearsals alone.
pub struct Actor {
    /// What kind of leaf it is.
    pub profile: &'static str,
    /// Which root it is of, in words.
    pub root: String,
    /// Leaf first, then the intermediates; DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key; PKCS#8.
    pub key: Vec<u8>,
}

/// One handshake that peers will have.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The phase in which it happens.
    pub phase: &'static str,
    /// The roots that both trust; DER.
    pub bundle: Arc<Vec<Vec<u8>>>,
    /// The same, in words.
    pub roots: String,
    /// Who opens the connection.
    pub client: Arc<Actor>,
    /// Who accepts it.
    pub server: Arc<Actor>,
}

/// A handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{verifier} refuses the \"{profile}\" leaf of {root} as a {role}, while {phase} with {roots} trusted: {said} (its chain: {chain})"
)]
pub struct Failure {
    /// Who judged.
    pub verifier: String,
    /// The kind of the leaf.
    pub profile: &'static str,
    /// Which root it is of.
    pub root: String,
    /// What its owner did in the handshake.
    pub role: Role,
    /// The phase in which it happens.
    pub phase: &'static str,
    /// The roots that were trusted.
    pub roots: String,
    /// What the verifier said.
    pub said: String,
    /// The subjects of the intermediates, the issuer first.
    pub chain: String,
}

/// What the owner of a leaf did, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role(pub PeerRole);

/// Why there was no handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unshaken {
    /// A verifier refused.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// A verifier came to no judgement: nothing is known.
    #[error("{verifier} came to no judgement: {why}")]
    NotJudged {
        /// Which one.
        verifier: String,
        /// Why.
        why: String,
    },
}

impl Scene {
    /// A failure of one of the two.
    pub(crate) fn failure(&self, verifier: String, role: PeerRole, said: String) -> Unshaken {
        let actor = match role {
            PeerRole::Client => &self.client,
            PeerRole::Server => &self.server,
        };
        Unshaken::Failed(Box::new(Failure {
            verifier,
            profile: actor.profile,
            root: actor.root.clone(),
            role: Role(role),
            phase: self.phase,
            roots: self.roots.clone(),
            said,
            chain: actor.subjects(),
        }))
    }
}

impl Actor {
    fn subjects(&self) -> String {
        let subject = |der: &Vec<u8>| match Certificate::parse(der) {
            Ok(certificate) => format!("\"{}\"", certificate.subject_text()),
            Err(_) => "an unreadable certificate".to_owned(),
        };
        self.chain.iter().skip(1).map(subject).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            PeerRole::Client => "client",
            PeerRole::Server => "server",
        })
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor")
            .field("profile", &self.profile)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}
