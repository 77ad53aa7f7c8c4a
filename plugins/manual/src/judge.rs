//! Whether what was brought is what was asked for. Nothing of it is used before it passed.

use std::collections::BTreeSet;

use plugins::checks::{
    IssuerExpectation, RootsExpectation, Unsafe, check_issuer_answer, check_roots,
};
use plugins::{IssuerChain, RootSet};
use thiserror::Error;
use trust::plain::counted;
use trust::{Certificate, Root, Timestamp};

use crate::ceremony::{Ceremony, IssuerWanted, Wanted};

/// How many CAs must be able to stand below a root.
const ROOT_PATH_LEN: u8 = 1;

/// What was brought, and passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    certificates: Vec<Certificate>,
}

/// Why an answer is not taken. It stays where it is, and the wait goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// A private key travelled with it.
    #[error(
        "it holds a private key, which must never leave the offline machine: nothing of it is used; delete it, and treat \
         that key as disclosed"
    )]
    PrivateKey,
    /// Longer than any answer.
    #[error("it is longer than 256 KiB")]
    TooLong,
    /// Not a plain file.
    #[error("it is no plain file; put a copy there, not a link")]
    NotAFile,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Not PEM, or not yet whole.
    #[error("it is not PEM, or not yet whole: {0}")]
    NotPem(String),
    /// Another block than certificates.
    #[error("it holds a block {0}; certificates alone belong here")]
    OtherBlock(String),
    /// More or less than one root.
    #[error("it holds {0} certificates; bring the root's certificate alone")]
    NotOneRoot(usize),
    /// The root of another ceremony.
    #[error("it is a root that was brought before; make another one")]
    BroughtBefore,
    /// The issuer may have another number of CAs below it.
    #[error("the issuer has another path length than {0}; sign it with pathlen:{0}")]
    PathLength(u8),
    /// The machine would not take it.
    #[error(
        "the issuer ends at {issuer}, after its root, which ends at {root}; sign it for fewer days"
    )]
    OutlivesRoot {
        /// When the issuer ends.
        issuer: Timestamp,
        /// When its root does.
        root: Timestamp,
    },
    /// The CSR of the ceremony is no good.
    #[error("the ceremony's own request cannot be read: {0}")]
    Request(String),
    /// It fails the checks of every answer.
    #[error("{0}")]
    Unsafe(#[from] Unsafe),
}

impl Answer {
    /// The certificates: a root alone, or an issuer and what stands between it and its root.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    pub(crate) fn ders(&self) -> Vec<Vec<u8>> {
        self.certificates.iter().map(|certificate| certificate.der().to_vec()).collect()
    }
}

/// Judges the bytes that were brought for a ceremony. `known` are the roots that were brought before, as far as they are
/// known where this runs.
///
/// # Errors
/// [`Refused`], and then nothing of it may be used.
pub fn judge(
    ceremony: &Ceremony,
    bytes: &[u8],
    known: &[Root],
    now: Timestamp,
) -> Result<Answer, Refused> {
    let certificates = certificates(bytes)?;
    match &ceremony.wanted {
        Wanted::Root { .. } => judge_root(ceremony, certificates, known, now),
        Wanted::Issuer(issuer) => judge_issuer(ceremony, issuer, certificates, now),
    }
}

fn judge_root(
    ceremony: &Ceremony,
    certificates: Vec<Certificate>,
    known: &[Root],
    now: Timestamp,
) -> Result<Answer, Refused> {
    let [root] = certificates.as_slice() else {
        return Err(Refused::NotOneRoot(certificates.len()));
    };
    if known.iter().any(|other| other.der() == root.der()) {
        return Err(Refused::BroughtBefore);
    }
    let expected = RootsExpectation {
        trust_domain: &ceremony.trust_domain,
        path_len: ROOT_PATH_LEN,
        now,
        covers_until: ceremony.lasts_until,
        before: None,
        known,
        retired: &BTreeSet::new(),
        on_purpose: &BTreeSet::new(),
    };
    check_roots(&RootSet::new(vec![root.der().to_vec()], None, 0), &expected)?;
    Ok(Answer { certificates })
}

fn judge_issuer(
    ceremony: &Ceremony,
    wanted: &IssuerWanted,
    mut certificates: Vec<Certificate>,
    now: Timestamp,
) -> Result<Answer, Refused> {
    // Many write the whole chain; a chain goes on without its root.
    if certificates.last().is_some_and(|last| last.der() == wanted.root.der()) {
        certificates.pop();
    }
    let csr = ceremony.csr().and_then(Result::ok);
    let csr = csr.ok_or_else(|| Refused::Request("its signature does not verify".to_owned()))?;
    let expected = IssuerExpectation {
        key: csr.public_key(),
        trust_domain: &ceremony.trust_domain,
        root: wanted.root.id(),
        path_len: wanted.path_len,
        now,
        covers_until: ceremony.lasts_until,
        announced: std::slice::from_ref(&wanted.root),
        retired: &BTreeSet::new(),
    };
    let answer = Answer { certificates };
    let checked = check_issuer_answer(&IssuerChain::new(answer.ders()), &expected)?;
    let constraints =
        checked.chain().first().and_then(|issuer| issuer.extensions().basic_constraints);
    if constraints.and_then(|constraints| constraints.path_len) != Some(u32::from(wanted.path_len))
    {
        return Err(Refused::PathLength(wanted.path_len));
    }
    let (issuer, root) = (checked.not_after(), wanted.root.certificate().validity().not_after());
    if issuer > root {
        return Err(Refused::OutlivesRoot { issuer, root });
    }
    Ok(answer)
}

/// Every block is a certificate.
fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>, Refused> {
    // Before anything is parsed, so that no damage around it hides it.
    if bytes.windows(KEY_MARK.len()).any(|window| window == KEY_MARK) {
        return Err(Refused::PrivateKey);
    }
    let blocks = pem::parse_many(bytes).map_err(|error| Refused::NotPem(error.to_string()))?;
    if let Some(other) = blocks.iter().find(|block| block.tag() != "CERTIFICATE") {
        return Err(Refused::OtherBlock(other.tag().chars().take(64).collect()));
    }
    let marks = bytes.windows(BLOCK_MARK.len()).filter(|window| *window == BLOCK_MARK).count();
    if blocks.is_empty() || blocks.len() != marks {
        return Err(Refused::NotPem(match marks {
            0 => "it holds no PEM block".to_owned(),
            _ => format!(
                "{} of {} are whole",
                blocks.len(),
                counted(marks, "PEM block", "PEM blocks")
            ),
        }));
    }
    let read = blocks.iter().map(|block| Certificate::parse(block.contents()));
    read.collect::<Result<_, _>>().map_err(|error| Refused::NotPem(error.to_string()))
}

const KEY_MARK: &[u8] = b"PRIVATE KEY";
const BLOCK_MARK: &[u8] = b"-----BEGIN ";
