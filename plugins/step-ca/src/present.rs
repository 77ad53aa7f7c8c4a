//! What a step-ca stands for at one moment: its roots, and the certificates between its signing key and one of them.

use plugins::PluginError;
use plugins::checks::is_signed_by;
use trust::{Certificate, Root, RootId, Timestamp};

/// Roots, and the way from the certificate that signs to one of them.
#[derive(Debug)]
pub(crate) struct Present {
    /// Without those that the settings leave out.
    roots: Vec<Root>,
    /// The signing certificate first; empty if the root itself signs.
    chain: Vec<Certificate>,
    signing: Root,
}

impl Present {
    /// Finds the way. `pinned` are the only roots that count, if there is such a list.
    ///
    /// # Errors
    /// `Misconfigured` if the way ends in a root that is not pinned, `Permanent` if it ends in none.
    pub(crate) fn of(
        roots: Vec<Certificate>,
        intermediates: &[Certificate],
        pinned: Option<&[RootId]>,
    ) -> Result<Self, PluginError> {
        let roots = roots.into_iter().map(Root::from_certificate).collect::<Result<Vec<_>, _>>();
        let roots = roots.map_err(|error| PluginError::Permanent {
            detail: format!(
                "a root of the step-ca cannot be used: {error}; look at `root` in its ca.json"
            ),
        })?;
        let (chain, signing) = way(intermediates, &roots).ok_or_else(|| PluginError::Permanent {
            detail: "the certificate that the step-ca signs with does not lead to one of its roots; look at `crt` and \
                     `root` in its ca.json"
                .to_owned(),
        })?;
        let counts = |root: &Root| pinned.is_none_or(|pinned| pinned.contains(&root.id()));
        if !counts(&signing) {
            return Err(PluginError::Misconfigured {
                field: "root_sha256".to_owned(),
                detail: format!(
                    "the step-ca signs under root {}, which is not in the list; add it if it is the right one",
                    signing.id()
                ),
            });
        }
        Ok(Self { roots: roots.into_iter().filter(counts).collect(), chain, signing })
    }

    /// The roots that count.
    pub(crate) fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The same in DER.
    pub(crate) fn root_ders(&self) -> Vec<Vec<u8>> {
        self.roots.iter().map(|root| root.der().to_vec()).collect()
    }

    /// What stands between an issuer and the root, in DER.
    pub(crate) fn chain_ders(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.der().to_vec()).collect()
    }

    /// The root that signs.
    pub(crate) fn signing(&self) -> RootId {
        self.signing.id()
    }

    /// When the first certificate of the way ends.
    pub(crate) fn valid_until(&self) -> Timestamp {
        let ends = self.way().map(|certificate| certificate.validity().not_after());
        ends.min().unwrap_or_default()
    }

    /// Whether an issuer of this path length may stand below.
    ///
    /// # Errors
    /// What to do about it.
    pub(crate) fn has_room(&self, path_len: u8) -> Result<(), String> {
        for (place, certificate) in (1_u32..).zip(self.way()) {
            let needed = u32::from(path_len).saturating_add(place);
            let constraints = certificate.extensions().basic_constraints;
            if let Some(found) =
                constraints.and_then(|basic| basic.path_len).filter(|found| *found < needed)
            {
                return Err(format!(
                    "\"{}\" in the chain of the step-ca has path length {found}, and {needed} is needed for an issuer \
                     below it; give the step-ca an intermediate of path length {needed}, or let its root sign",
                    certificate.subject_text()
                ));
            }
        }
        Ok(())
    }

    fn way(&self) -> impl Iterator<Item = &Certificate> {
        self.chain.iter().chain([self.signing.certificate()])
    }
}

/// From the certificate that signs, which comes first, to a root: what stands between, and the root.
fn way(intermediates: &[Certificate], roots: &[Root]) -> Option<(Vec<Certificate>, Root)> {
    let (first, others) = intermediates.split_first()?;
    if let Some(root) = roots.iter().find(|root| root.der() == first.der()) {
        return Some((Vec::new(), root.clone()));
    }
    let mut chain = vec![first.clone()];
    loop {
        let last = chain.last()?;
        // Of twins the one that lasts longest, in whatever order they come.
        let end = |certificate: &Certificate| certificate.validity().not_after();
        let signers = roots.iter().filter(|root| is_signed_by(last, root.certificate()));
        if let Some(root) = signers.max_by_key(|root| end(root.certificate())) {
            return Some((chain, root.clone()));
        }
        let unused =
            |candidate: &&Certificate| !chain.iter().any(|known| known.der() == candidate.der());
        let signers =
            others.iter().filter(unused).filter(|candidate| is_signed_by(last, candidate));
        let next = signers.max_by_key(|candidate| end(candidate))?;
        chain.push(next.clone());
    }
}
