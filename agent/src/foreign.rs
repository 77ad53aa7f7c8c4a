//! The bundles of other trust domains that the CA is federated with: durable before a holder has them, and each about its own
//! domain alone. Nothing that the CA counts on rests on them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host::Disk;
use proto::banyan::agent::v1 as wire;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use serde::{Deserialize, Serialize};
use trust::{Bundle, RootId, Sequence, TrustDomain};

/// Trust domains that are kept.
const DOMAINS_MAX: usize = 256;

/// Bundles by trust domain. Their sequences say nothing.
pub(crate) type Bundles = BTreeMap<TrustDomain, Bundle>;

/// The one writer of the file.
#[derive(Debug)]
pub(crate) struct ForeignStore {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bundles: Bundles,
    /// A root that nobody has the key of.
    nobody: String,
}

/// A holder's validation secret of another trust domain, by fingerprints of what it holds. No leaf and no bundle of ours waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForeignSubscription {
    pub(crate) applied: Option<RootId>,
    pub(crate) in_flight: Option<RootId>,
    pub(crate) refused: Option<RootId>,
    /// Whether the holder may have had roots of that domain: then it must hear when there are none any more.
    pub(crate) had: bool,
    pub(crate) ready: bool,
}

impl ForeignSubscription {
    /// Whether roots with this fingerprint are to be pushed now. While there are none, only whoever may have had some hears of it.
    pub(crate) fn wants(&self, fingerprint: RootId, known: bool) -> bool {
        let is_news = self.applied != Some(fingerprint) && self.refused != Some(fingerprint);
        self.ready && self.in_flight.is_none() && is_news && (known || self.had)
    }

    pub(crate) fn answer(&mut self, refused: bool) {
        let pushed = self.in_flight.take();
        match refused {
            true => self.refused = pushed,
            false => self.applied = pushed.or(self.applied),
        }
        self.ready = true;
    }

    /// The stream is gone: what was in flight may or may not have been applied.
    pub(crate) fn detach(&mut self) {
        *self = Self { had: self.had, ..Self::default() };
    }
}

/// Bundles that are not taken; those that are there stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForeignRefused {
    #[error("the CA names {0} other trust domains, and at most {DOMAINS_MAX} are taken")]
    TooMany(usize),
    #[error("the CA names a trust domain that is none")]
    NoDomain,
    #[error("the CA names its own trust domain among others")]
    Own,
    #[error("the CA names the trust domain `{0}` twice")]
    Twice(TrustDomain),
    #[error("the bundle of `{0}` is refused: {1}")]
    Bundle(TrustDomain, trust::BundleError),
}

/// State on the disk that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignStoreError {
    /// The file cannot be read.
    #[error("the bundles of other trust domains in {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is there and is not what was written.
    #[error(
        "the bundles of other trust domains in {} are damaged ({what}); remove the file: the CA sends them again, and members of those \
         domains are believed again then",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No root could be made.
    #[error("a certificate could not be made: {0}")]
    Nobody(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    /// Roots in base64, by trust domain.
    domains: BTreeMap<String, Vec<String>>,
}

impl ForeignStore {
    /// Reads what a former run left.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        state_dir: &Path,
        ours: &TrustDomain,
    ) -> Result<Self, ForeignStoreError> {
        let path = state_dir.join("foreign.json");
        let nobody = nobody().map_err(|error| ForeignStoreError::Nobody(error.to_string()))?;
        let bundles = match disk.read(&path) {
            Ok(bytes) => decode(&bytes, ours)
                .map_err(|what| ForeignStoreError::Damaged { path: path.clone(), what })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bundles::new(),
            Err(source) => return Err(ForeignStoreError::Io { path, source }),
        };
        Ok(Self { disk, path, bundles, nobody })
    }

    /// Those that are durable.
    pub(crate) fn bundles(&self) -> &Bundles {
        &self.bundles
    }

    /// Takes over what is durable.
    pub(crate) fn adopt(&mut self, bundles: Bundles) {
        self.bundles = bundles;
    }

    /// Where they are made durable, and the bytes for that.
    pub(crate) fn staged(&self, bundles: &Bundles) -> (Arc<dyn Disk>, PathBuf, Vec<u8>) {
        (Arc::clone(&self.disk), self.path.clone(), encode(bundles))
    }

    /// What a holder of one domain's validation secret gets: its roots, or while there are none a root that nobody has the key of. A
    /// secret without any root would make some holders believe everybody.
    pub(crate) fn pem(&self, domain: &TrustDomain) -> String {
        self.bundles.get(domain).map_or_else(|| self.nobody.clone(), |one| one.pem().to_string())
    }

    /// Tells what one domain's secret holds from what it held before.
    pub(crate) fn fingerprint(&self, domain: &TrustDomain) -> RootId {
        RootId::of(self.pem(domain).as_bytes())
    }

    /// The same of all of them together; `None` while there are none.
    pub(crate) fn fingerprint_of_all(&self) -> Option<RootId> {
        let all = self.bundles.values().flat_map(|bundle| *bundle.digest().as_bytes());
        let all: Vec<u8> = all.collect();
        (!all.is_empty()).then(|| RootId::of(&all))
    }
}

/// Reads what the CA said. One bundle that is not to be believed refuses all: it comes from one server that is to be believed.
pub(crate) fn from_wire(
    ours: &TrustDomain,
    said: &wire::ForeignBundles,
) -> Result<Bundles, ForeignRefused> {
    if said.bundles.len() > DOMAINS_MAX {
        return Err(ForeignRefused::TooMany(said.bundles.len()));
    }
    let mut bundles = Bundles::new();
    for one in &said.bundles {
        let domain = TrustDomain::parse(&one.trust_domain).map_err(|_| ForeignRefused::NoDomain)?;
        if domain == *ours {
            return Err(ForeignRefused::Own);
        }
        let bundle = Bundle::from_ders(domain.clone(), Sequence(0), &one.roots)
            .map_err(|error| ForeignRefused::Bundle(domain.clone(), error))?;
        if bundles.insert(domain.clone(), bundle).is_some() {
            return Err(ForeignRefused::Twice(domain));
        }
    }
    Ok(bundles)
}

fn encode(bundles: &Bundles) -> Vec<u8> {
    let roots = |bundle: &Bundle| {
        bundle.roots().iter().map(|root| STANDARD.encode(root.der())).collect::<Vec<_>>()
    };
    let domains = bundles.iter().map(|(domain, one)| (domain.to_string(), roots(one))).collect();
    // Maps with text keys always have a JSON form.
    serde_json::to_vec_pretty(&Stored { format: 1, domains }).unwrap_or_default()
}

fn decode(bytes: &[u8], ours: &TrustDomain) -> Result<Bundles, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.format != 1 {
        return Err(format!("format {} is unknown", stored.format));
    }
    let one = |(trust_domain, roots): (String, Vec<String>)| {
        let roots = roots.iter().map(|text| STANDARD.decode(text).map_err(|e| e.to_string()));
        Ok(wire::ForeignBundle { trust_domain, roots: roots.collect::<Result<_, String>>()? })
    };
    let bundles = stored.domains.into_iter().map(one).collect::<Result<_, String>>()?;
    from_wire(ours, &wire::ForeignBundles { bundles }).map_err(|error| error.to_string())
}

/// A root whose key is forgotten as soon as it has signed itself.
fn nobody() -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "no federation with this trust domain");
    params.distinguished_name = name;
    Ok(params.self_signed(&KeyPair::generate()?)?.pem())
}

#[cfg(test)]
mod tests {
    use host::RealDisk;

    use super::*;
    use crate::fakes::Pki;

    fn domain(text: &str) -> TrustDomain {
        TrustDomain::parse(text).unwrap()
    }

    fn said(domains: &[(&str, &Pki)]) -> wire::ForeignBundles {
        let one = |(domain, pki): &(&str, &Pki)| wire::ForeignBundle {
            trust_domain: (*domain).to_owned(),
            roots: pki.wire_bundle(1).roots,
        };
        wire::ForeignBundles { bundles: domains.iter().map(one).collect() }
    }

    #[test]
    fn what_is_stored_survives_and_a_domain_that_is_gone_leaves_nobody_to_believe() {
        let (dir, ours) = (tempfile::tempdir().unwrap(), domain("example.org"));
        let open = || ForeignStore::open(Arc::new(RealDisk), dir.path(), &ours).unwrap();
        let (mut store, pki) = (open(), Pki::new("theirs"));
        assert_eq!((store.bundles().len(), store.fingerprint_of_all()), (0, None));
        let bundles = from_wire(&ours, &said(&[("other.org", &pki)])).unwrap();
        let (disk, path, bytes) = store.staged(&bundles);
        disk.replace(&path, &bytes, 0o600).unwrap();
        store.adopt(bundles.clone());
        let again = open();
        assert_eq!(again.bundles(), &bundles);
        let other = domain("other.org");
        assert_eq!(again.fingerprint(&other), store.fingerprint(&other));
        assert_eq!(again.pem(&other), bundles[&other].pem().to_string());
        store.adopt(Bundles::new());
        let gone = store.pem(&other);
        assert!(gone.starts_with("-----BEGIN CERTIFICATE") && !again.pem(&other).contains(&gone));
        std::fs::write(&path, "{").unwrap();
        let damaged = ForeignStore::open(Arc::new(RealDisk), dir.path(), &ours);
        assert!(matches!(damaged, Err(ForeignStoreError::Damaged { .. })));
    }

    #[test]
    fn what_cannot_be_is_refused_as_a_whole() {
        let (ours, pki) = (domain("example.org"), Pki::new("theirs"));
        let judged = |domains: &[(&str, &Pki)]| from_wire(&ours, &said(domains)).err();
        assert_eq!(judged(&[("other.org", &pki)]), None);
        assert_eq!(judged(&[("Other.org", &pki)]), Some(ForeignRefused::NoDomain));
        assert_eq!(judged(&[("example.org", &pki)]), Some(ForeignRefused::Own));
        let twice = judged(&[("other.org", &pki), ("other.org", &pki)]);
        assert_eq!(twice, Some(ForeignRefused::Twice(domain("other.org"))));
        let mut empty = said(&[("other.org", &pki)]);
        empty.bundles[0].roots.clear();
        assert!(matches!(from_wire(&ours, &empty), Err(ForeignRefused::Bundle(..))));
    }
}
