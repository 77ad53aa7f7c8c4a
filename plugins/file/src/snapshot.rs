//! All files at one moment, checked whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plugins::checks::is_signed_by;
use thiserror::Error;
use trust::{Certificate, Root, RootId, Timestamp};
use zeroize::Zeroizing;

use crate::config::{Layout, Settings};
use crate::key::FileKey;

/// Longest file that is read.
const FILE_MAX: u64 = 1024 * 1024;
/// How often the files are read again when they changed while they were read.
const ATTEMPTS: u32 = 5;

/// What the files say, as far as it passed.
#[derive(Debug)]
pub(crate) struct Snapshot {
    key: FileKey,
    /// The signing certificate, and what stands between it and its root; empty if the root itself signs.
    chain: Vec<Certificate>,
    roots: Vec<Root>,
    signing: Root,
}

/// Why files do not pass.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    #[error("{}: {source}; is the directory mounted, and may this user read it?", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is longer than 1 MiB", path.display())]
    TooLong { path: PathBuf },
    #[error("{} {problem}", path.display())]
    Content { path: PathBuf, problem: String },
    #[error("the files in {} change faster than they can be read", directory.display())]
    Unstable { directory: PathBuf },
}

/// Names of the files of a layout; the chain may be missing.
struct Names {
    certificate: &'static str,
    key: &'static str,
    chain: Option<&'static str>,
    roots: &'static str,
}

const ISTIO: Names = Names {
    certificate: "ca-cert.pem",
    key: "ca-key.pem",
    chain: Some("cert-chain.pem"),
    roots: "root-cert.pem",
};
const KUBERNETES: Names = Names { certificate: "tls.crt", key: "tls.key", chain: None, roots: "ca.crt" };

/// The bytes of all files.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    chain: Vec<u8>,
    roots: Vec<u8>,
}

impl Snapshot {
    /// Reads and checks the files. Blocks.
    pub(crate) fn read(settings: &Settings) -> Result<Self, Unfit> {
        let mut former: Option<(PathBuf, Contents)> = None;
        for _ in 0..ATTEMPTS {
            // Kubelet swaps all files of a volume by one symbolic link: what it points to never changes.
            let directory = fs::canonicalize(settings.directory.join("..data"))
                .unwrap_or_else(|_| settings.directory.clone());
            let names = names(&directory, settings.layout);
            let contents = match Contents::read(&directory, names) {
                Ok(contents) => contents,
                // The target of the link went away between two files: it was swapped.
                Err(_) if !directory.exists() => continue,
                Err(error) => return Err(error),
            };
            match former {
                Some((at, same)) if at == directory && same == contents => {
                    return Self::judge(&settings.directory, names, &contents);
                }
                _ => former = Some((directory, contents)),
            }
        }
        Err(Unfit::Unstable { directory: settings.directory.clone() })
    }

    fn judge(directory: &Path, names: &Names, contents: &Contents) -> Result<Self, Unfit> {
        let unfit = |name: &str, problem: String| Unfit::Content { path: directory.join(name), problem };
        let key = FileKey::parse(&contents.key).map_err(|problem| unfit(names.key, problem))?;
        let own = certificates(&contents.certificate).map_err(|problem| unfit(names.certificate, problem))?;
        let above = certificates(&contents.chain)
            .map_err(|problem| unfit(names.chain.unwrap_or_default(), problem))?;
        let roots = certificates(&contents.roots).map_err(|problem| unfit(names.roots, problem))?;
        let roots = roots.into_iter().map(Root::from_certificate).collect::<Result<Vec<_>, _>>();
        let roots = roots.map_err(|error| unfit(names.roots, format!("holds no root: {error}")))?;
        let problem = |problem: &str| unfit(names.certificate, problem.to_owned());
        let first = own.first().ok_or_else(|| problem("holds no certificate"))?;
        if first.spki_der() != key.public().spki_der() {
            return Err(unfit(names.key, format!("is not the key of {}", names.certificate)));
        }
        let (chain, signing) = path(&own, &above, &roots).ok_or_else(|| {
            problem(&format!("does not lead to a root in {} by way of the chain", names.roots))
        })?;
        Ok(Self { key, chain, roots, signing })
    }

    pub(crate) const fn key(&self) -> &FileKey {
        &self.key
    }

    /// The certificate that signs.
    pub(crate) fn certificate(&self) -> &Certificate {
        self.chain.first().unwrap_or_else(|| self.signing.certificate())
    }

    /// What stands between an issuer and its root.
    pub(crate) fn chain_ders(&self) -> impl Iterator<Item = Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.der().to_vec())
    }

    pub(crate) fn root_ders(&self) -> Vec<Vec<u8>> {
        self.roots.iter().map(|root| root.der().to_vec()).collect()
    }

    pub(crate) fn signing(&self) -> RootId {
        self.signing.id()
    }

    pub(crate) fn valid_from(&self) -> Timestamp {
        let all = self.chain.iter().chain([self.signing.certificate()]);
        all.map(|certificate| certificate.validity().not_before()).max().unwrap_or_default()
    }

    pub(crate) fn valid_until(&self) -> Timestamp {
        let all = self.chain.iter().chain([self.signing.certificate()]);
        all.map(|certificate| certificate.validity().not_after()).min().unwrap_or_default()
    }
}

impl Contents {
    fn read(directory: &Path, names: &Names) -> Result<Self, Unfit> {
        let chain = names.chain.map(|name| directory.join(name)).filter(|path| path.exists());
        Ok(Self {
            certificate: bounded(&directory.join(names.certificate))?,
            key: Zeroizing::new(bounded(&directory.join(names.key))?),
            chain: chain.map_or(Ok(Vec::new()), |path| bounded(&path))?,
            roots: bounded(&directory.join(names.roots))?,
        })
    }
}

const fn names_of(layout: Layout) -> &'static Names {
    match layout {
        Layout::Kubernetes => &KUBERNETES,
        Layout::Istio | Layout::Auto => &ISTIO,
    }
}

fn names(directory: &Path, wanted: Layout) -> &'static Names {
    let has = |names: &Names| directory.join(names.certificate).exists();
    match wanted {
        Layout::Auto if !has(&ISTIO) && has(&KUBERNETES) => &KUBERNETES,
        wanted => names_of(wanted),
    }
}

fn bounded(path: &Path) -> Result<Vec<u8>, Unfit> {
    let unreadable = |source| Unfit::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Unfit::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn certificates(bytes: &[u8]) -> Result<Vec<Certificate>, String> {
    let blocks = pem::parse_many(bytes).map_err(|error| format!("is not PEM ({error})"))?;
    if let Some(key) = blocks.iter().find(|block| block.tag().contains("PRIVATE")) {
        return Err(format!("holds a {}; certificates alone belong here", key.tag()));
    }
    let wanted = blocks.iter().filter(|block| block.tag() == "CERTIFICATE");
    let read = wanted.map(|block| Certificate::parse(block.contents()).map_err(|error| error.to_string()));
    read.collect::<Result<_, _>>().map_err(|error| format!("holds a bad certificate: {error}"))
}

/// From the signing certificate to a root: what stands between, and the root.
fn path(own: &[Certificate], above: &[Certificate], roots: &[Root]) -> Option<(Vec<Certificate>, Root)> {
    let first = own.first()?;
    if let Some(root) = roots.iter().find(|root| root.der() == first.der()) {
        return Some((Vec::new(), root.clone()));
    }
    let mut chain = vec![first.clone()];
    loop {
        let last = chain.last()?;
        let verifies = |above: &Certificate| is_signed_by(last, above);
        if let Some(root) = roots.iter().find(|root| verifies(root.certificate())) {
            return Some((chain, root.clone()));
        }
        let next = own.iter().skip(1).chain(above).find(|candidate| {
            verifies(candidate) && !chain.iter().any(|known| known.der() == candidate.der())
        })?;
        chain.push(next.clone());
    }
}
