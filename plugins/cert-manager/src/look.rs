//! Under which root the issuer signs now: by a short certificate that is asked for every so often, and is of no use to anybody.

use plugins::PluginError;
use plugins::checks::is_signed_by;
use trust::{Certificate, Root, RootId, Timestamp};

/// What stands above what the issuer signs.
#[derive(Debug)]
pub(crate) struct Present {
    /// What signs first; empty if the root itself signs.
    chain: Vec<Certificate>,
    root: Root,
}

impl Present {
    /// Finds the way from a certificate that was signed to one of the roots.
    ///
    /// # Errors
    /// `Misconfigured` if there is none, `Permanent` if the root cannot be used.
    pub(crate) fn of(signed: &[Certificate], roots: &[Certificate]) -> Result<Self, PluginError> {
        let no_way = |detail: &str| PluginError::Misconfigured {
            field: "roots_file".to_owned(),
            detail: detail.to_owned(),
        };
        let (mut last, mut chain) =
            (signed.first().ok_or_else(|| no_way("nothing was signed"))?, Vec::new());
        let others = signed.get(1..).unwrap_or_default();
        loop {
            if let Some(root) = roots.iter().find(|root| is_signed_by(last, root)) {
                let subject = root.subject_text();
                let root = Root::from_certificate(root.clone());
                let root = root.map_err(|error| PluginError::Permanent {
                    detail: format!(
                        "the root \"{subject}\" cannot be used: {error}; take another issuer of cert-manager"
                    ),
                })?;
                return Ok(Self { chain, root });
            }
            let unused = |one: &&Certificate| {
                chain.iter().all(|known: &Certificate| known.der() != one.der())
            };
            let next = others.iter().filter(unused).find(|one| is_signed_by(last, one));
            last = next.ok_or_else(|| match roots.is_empty() {
                true => no_way(
                    "the issuer tells no root (status.ca of its CertificateRequests): write it into a file, and that into `roots_file`",
                ),
                false => no_way(
                    "what the issuer signs does not lead to a root that counts: see `roots_file`",
                ),
            })?;
            chain.push(last.clone());
        }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn signing(&self) -> RootId {
        self.root.id()
    }

    /// What stands between, in DER.
    pub(crate) fn chain_ders(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.der().to_vec()).collect()
    }

    /// When the first of them ends.
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
            let found = constraints.and_then(|basic| basic.path_len);
            if let Some(found) = found.filter(|found| *found < needed) {
                return Err(format!(
                    "\"{}\" above the issuer has path length {found}, and {needed} is needed: take an issuer of cert-manager whose \
                     certificate has that, or none",
                    certificate.subject_text()
                ));
            }
        }
        Ok(())
    }

    fn way(&self) -> impl Iterator<Item = &Certificate> {
        self.chain.iter().chain([self.root.certificate()])
    }
}

/// Those that signed themselves.
pub(crate) fn self_signed(certificates: Vec<Certificate>) -> Vec<Certificate> {
    certificates.into_iter().filter(|one| is_signed_by(one, one)).collect()
}
