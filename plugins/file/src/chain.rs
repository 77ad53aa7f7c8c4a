//! From the certificate that signs to its root, whatever order the certificates are in.

use plugins::checks::{check_ca_certificate, is_signed_by};
use trust::{Certificate, Root, Timestamp, TrustDomain};

use crate::blocks::Block;

/// The certificates that were read.
pub(crate) struct Read<'a> {
    /// The one that signs, first, and others beside it in its file.
    pub(crate) own: &'a [Block],
    /// What may stand between.
    pub(crate) above: &'a [Block],
    pub(crate) roots: &'a [Root],
    /// Names of the files of what stands between and of the roots.
    pub(crate) files: (&'static str, &'static str),
}

/// What stands between issuers and the root, from below, and the root.
pub(crate) struct Path {
    pub(crate) chain: Vec<Certificate>,
    pub(crate) root: Root,
    /// What was passed over, for operators.
    pub(crate) skipped: Vec<String>,
}

impl Read<'_> {
    /// Finds the way. Of certificates that stand in for each other, one that is valid at `now` goes before one that is not.
    pub(crate) fn path(&self, now: Option<Timestamp>) -> Result<Path, String> {
        let first = &self.own.first().ok_or("holds no certificate")?.certificate;
        let mut path =
            Path { chain: Vec::new(), root: self.any_root()?.clone(), skipped: Vec::new() };
        if let Some(root) = self.roots.iter().find(|root| root.der() == first.der()) {
            path.root = root.clone();
            return Ok(path);
        }
        let mut last = first.clone();
        loop {
            path.chain.push(last.clone());
            let signed = |above: &Certificate| is_signed_by(&last, above);
            let roots: Vec<_> =
                self.roots.iter().filter(|root| signed(root.certificate())).collect();
            if let Some(root) = best(&roots, |root| root.certificate(), now, &mut path.skipped) {
                path.root = (*root).clone();
                return Ok(path);
            }
            let others = self.own.iter().skip(1).chain(self.above).map(|block| &block.certificate);
            let fresh = |candidate: &&Certificate| {
                signed(candidate) && !path.chain.iter().any(|known| known.der() == candidate.der())
            };
            let candidates: Vec<_> = others.filter(fresh).collect();
            let next = best(&candidates, |certificate| certificate, now, &mut path.skipped);
            last = (*next.ok_or_else(|| self.nowhere(&last))?).clone();
        }
    }

    fn any_root(&self) -> Result<&Root, String> {
        let none = || format!("leads to no root: {} holds none", self.files.1);
        self.roots.first().ok_or_else(none)
    }

    /// Why nothing stands above a certificate: a signature that cannot be verified is told as that.
    fn nowhere(&self, last: &Certificate) -> String {
        let (subject, issuer) = (last.subject_text(), last.issuer_text());
        let (chain, roots_file) = self.files;
        let roots = self.roots.iter().map(Root::certificate);
        let all =
            self.own.iter().skip(1).chain(self.above).map(|block| &block.certificate).chain(roots);
        let mut named = all.filter(|above| above.subject_der() == last.issuer_der()).peekable();
        if named.peek().is_none() {
            return format!(
                "leads to no root: \"{subject}\" is signed by \"{issuer}\", which is neither in {chain} nor in {roots_file}; put it \
                 there"
            );
        }
        let unverifiable = named.find_map(|above| unverifiable(last, above));
        unverifiable.unwrap_or_else(|| {
            format!(
                "leads to no root: \"{subject}\" names \"{issuer}\" as its issuer, but the certificate of that name here did \
                 not sign it; put the one there that did"
            )
        })
    }
}

/// What of a signature is not supported here.
fn unverifiable(below: &Certificate, above: &Certificate) -> Option<String> {
    // Of the trust domain nothing is asked here.
    let any = TrustDomain::parse("example.org").ok()?;
    [below, above].into_iter().find_map(|one| {
        let fault = check_ca_certificate(one, &any, 0).err()?;
        matches!(fault.reason(), "SIGNATURE_ALGORITHM" | "KEY_WEAK")
            .then(|| format!("cannot be used: \"{}\" {fault}", one.subject_text()))
    })
}

/// Of those that are valid the one that lasts longest; of all if none is.
fn best<'c, C>(
    candidates: &'c [C],
    certificate: impl Fn(&C) -> &Certificate,
    now: Option<Timestamp>,
    skipped: &mut Vec<String>,
) -> Option<&'c C> {
    let certificate = &certificate;
    let is_valid = |one: &&C| now.is_none_or(|now| certificate(one).validity().contains(now));
    let end = |one: &&C| certificate(one).validity().not_after();
    let Some(valid) = candidates.iter().filter(is_valid).max_by_key(end) else {
        return candidates.iter().max_by_key(end);
    };
    let passed_over =
        candidates.iter().filter(|one| certificate(one).der() != certificate(valid).der());
    skipped.extend(passed_over.map(certificate).map(|one| {
        let (subject, ends) = (one.subject_text(), one.validity().not_after());
        format!("\"{subject}\" that ends at {ends} is passed over: another one of this name and key lasts longer; remove it")
    }));
    Some(valid)
}
