//! All files at one moment, checked whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plugins::checks::{FURTHER_MAX, Fault, check_ca_certificate};
use thiserror::Error;
use trust::described::TAKEN;
use trust::{Certificate, PublicKey, Root, RootId, Timestamp, TrustDomain};
use zeroize::Zeroizing;

use crate::blocks::{Block, certificates};
use crate::chain::{Path as Way, Read as Certificates};
use crate::config::{FurtherRoots, Layout, Settings};
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
    signing: Root,
    /// Roots of others that everybody shall trust.
    further: Vec<Root>,
    names: &'static Names,
    /// What was passed over, and is of no harm.
    skipped: Vec<String>,
    /// What nobody has decided, and should be looked at.
    undecided: Option<String>,
}

/// Why files do not pass.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    #[error("{} is missing; put it there, mount it, or write another path into `directory`", path.display())]
    Missing { path: PathBuf },
    #[error("{}: {source}; may this user read it?", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is longer than 1 MiB", path.display())]
    TooLong { path: PathBuf },
    #[error("{}: {problem}", path.display())]
    Content { path: PathBuf, problem: String },
    #[error("the files in {} change faster than they can be read", directory.display())]
    Unstable { directory: PathBuf },
}

/// Names of the files of a layout; the chain may be missing.
#[derive(Debug)]
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
const KUBERNETES: Names =
    Names { certificate: "tls.crt", key: "tls.key", chain: None, roots: "ca.crt" };

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
    pub(crate) fn read(settings: &Settings, standing: &Standing) -> Result<Self, Unfit> {
        let mut former: Option<(PathBuf, Contents)> = None;
        for _ in 0..ATTEMPTS {
            if !settings.directory.exists() {
                return Err(Unfit::Missing { path: settings.directory.clone() });
            }
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
                    return Judge { settings, standing, names }.judge(&contents);
                }
                _ => former = Some((directory, contents)),
            }
        }
        Err(Unfit::Unstable { directory: settings.directory.clone() })
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

    /// The roots of others that everybody shall trust.
    pub(crate) fn further_ders(&self) -> Vec<Vec<u8>> {
        self.further.iter().map(|root| root.der().to_vec()).collect()
    }

    pub(crate) const fn root(&self) -> &Root {
        &self.signing
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

    /// The certificate that ends first, and the file that it is in.
    pub(crate) fn ends_first(&self, directory: &Path) -> String {
        let first =
            |certificate: &&Certificate| certificate.validity().not_after() == self.valid_until();
        let (subject, name) = match self.chain.iter().position(|one| first(&one)) {
            Some(place) => {
                let name = if place == 0 { self.names.certificate } else { self.names.chain() };
                (self.chain.get(place).map(Certificate::subject_text).unwrap_or_default(), name)
            }
            None => (self.signing.certificate().subject_text(), self.names.roots),
        };
        format!("\"{subject}\" in {}", directory.join(name).display())
    }

    /// What was passed over without harm, in words for operators.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// What nobody has decided, in words for operators.
    pub(crate) fn undecided(&self) -> Option<&str> {
        self.undecided.as_deref()
    }
}

/// For whom files are read, and when; neither is known before anything is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) domain: Option<TrustDomain>,
    pub(crate) now: Option<Timestamp>,
}

/// The certificates of each file, with their places.
struct Blocks<'a> {
    own: &'a [Block],
    above: &'a [Block],
    roots: &'a [Block],
}

/// What files are judged by.
struct Judge<'a> {
    settings: &'a Settings,
    standing: &'a Standing,
    names: &'static Names,
}

impl Judge<'_> {
    fn unfit(&self, name: &str, problem: String) -> Unfit {
        Unfit::Content { path: self.settings.directory.join(name), problem }
    }

    fn judge(&self, contents: &Contents) -> Result<Snapshot, Unfit> {
        let Self { names, .. } = self;
        let own = certificates(&contents.certificate)
            .map_err(|problem| self.unfit(names.certificate, problem))?;
        let above =
            certificates(&contents.chain).map_err(|problem| self.unfit(names.chain(), problem))?;
        let root_blocks =
            certificates(&contents.roots).map_err(|problem| self.unfit(names.roots, problem))?;
        let roots = self.roots(&root_blocks)?;
        let problem = |problem: String| self.unfit(names.certificate, problem);
        let first = own.first().ok_or_else(|| problem("holds no certificate".to_owned()))?;
        // Before the key, whose reader knows no names of what it does not take.
        if let Err(error) = PublicKey::parse(first.certificate.spki_der()) {
            let (told, key) = (first.told(), first.certificate.key_text());
            return Err(problem(format!(
                "{told} has an {key}, which is not taken: {error}; use a CA with {TAKEN}"
            )));
        }
        let key =
            FileKey::parse(&contents.key).map_err(|problem| self.unfit(names.key, problem))?;
        if first.certificate.spki_der() != key.public().spki_der() {
            return Err(self.unfit(names.key, format!("is not the key of {}", names.certificate)));
        }
        let read = Certificates {
            own: &own,
            above: &above,
            roots: &roots,
            files: (names.chain(), names.roots),
        };
        let Way { chain, root: signing, mut skipped } =
            read.path(self.standing.now).map_err(problem)?;
        self.fit(&chain, &signing, &Blocks { own: &own, above: &above, roots: &root_blocks })?;
        let others = others(&roots, &signing);
        let further = match self.settings.further_roots {
            FurtherRoots::Trust | FurtherRoots::Undecided => {
                self.further(others.clone(), &mut skipped)?
            }
            FurtherRoots::Warn | FurtherRoots::LeaveOut | FurtherRoots::Refuse => Vec::new(),
        };
        let undecided = self.undecided(&others, &further)?;
        Ok(Snapshot { key, chain, signing, further, names, skipped, undecided })
    }

    fn roots(&self, blocks: &[Block]) -> Result<Vec<Root>, Unfit> {
        let mut roots: Vec<Root> = Vec::new();
        for block in blocks {
            let root = block.root().map_err(|problem| self.unfit(self.names.roots, problem))?;
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Ok(roots)
    }

    /// Each certificate on the way may carry what stands below it, the issuer of this CA first.
    fn fit(&self, chain: &[Certificate], signing: &Root, blocks: &Blocks<'_>) -> Result<(), Unfit> {
        let all = chain.iter().chain([signing.certificate()]);
        for (place, certificate) in all.enumerate() {
            let below = u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1);
            let (name, candidates) = match place {
                place if place == chain.len() => (self.names.roots, blocks.roots),
                0 => (self.names.certificate, blocks.own),
                _ => (self.names.chain(), blocks.above),
            };
            let block =
                candidates.iter().find(|block| block.certificate.der() == certificate.der());
            let told = block.map_or_else(
                || format!("\"{}\"", certificate.subject_text()),
                |block| block.told(),
            );
            self.can_carry(certificate, below)
                .map_err(|fault| self.unfit(name, format!("{told} {fault}")))?;
        }
        Ok(())
    }

    fn can_carry(&self, certificate: &Certificate, below: u32) -> Result<(), Fault> {
        let Ok(unknown) = TrustDomain::parse("unknown.invalid") else { return Ok(()) };
        let domain = self.standing.domain.as_ref();
        match check_ca_certificate(certificate, domain.unwrap_or(&unknown), below) {
            Err(Fault::OtherTrustDomain(_)) if domain.is_none() => Ok(()),
            checked => checked,
        }
    }

    /// Those that are valid: what ended is named and left out.
    fn further(&self, others: Vec<Root>, skipped: &mut Vec<String>) -> Result<Vec<Root>, Unfit> {
        let ended = |root: &Root| {
            self.standing.now.is_some_and(|now| root.certificate().validity().not_after() <= now)
        };
        let (gone, mut further): (Vec<_>, Vec<_>) = others.into_iter().partition(ended);
        // Their order in the file says nothing.
        further.sort_by_key(Root::id);
        for root in &gone {
            let (certificate, name) = (root.certificate(), self.names.roots);
            let (subject, end) = (certificate.subject_text(), certificate.validity().not_after());
            skipped.push(format!("\"{subject}\" in {name} ended at {end}, and is passed over"));
        }
        if further.len() > FURTHER_MAX {
            let text =
                format!("holds {} further roots; at most {FURTHER_MAX} are trusted", further.len());
            return Err(self.unfit(self.names.roots, text));
        }
        Ok(further)
    }

    /// Roots beside the one that signs are neither trusted nor passed over in silence unless somebody decided so.
    fn undecided(&self, others: &[Root], further: &[Root]) -> Result<Option<String>, Unfit> {
        let path = self.settings.directory.join(self.names.roots);
        let path = path.display();
        let text = match self.settings.further_roots {
            FurtherRoots::Trust | FurtherRoots::LeaveOut => return Ok(None),
            FurtherRoots::Undecided if further.is_empty() => return Ok(None),
            _ if others.is_empty() => return Ok(None),
            FurtherRoots::Undecided => format!(
                "{path} holds further roots, and every workload trusts them: {}; nobody has decided that. Write further_roots = \
                 \"trust\" in the section of this authority to keep it so; if they shall not be trusted, remove them from the \
                 file, or write further_roots = \"leave_out\"",
                subjects(further)
            ),
            FurtherRoots::Warn => format!(
                "{path} holds further roots, which are left out: {}; workloads do not trust them. To have \
                 them trusted write further_roots = \"trust\" in the section of this authority; if they shall not be trusted, \
                 remove them, or write further_roots = \"leave_out\"",
                subjects(others)
            ),
            FurtherRoots::Refuse => {
                let others = subjects(others);
                let text = format!(
                    "holds further roots, and further_roots = \"refuse\": {others}; remove them"
                );
                return Err(self.unfit(self.names.roots, text));
            }
        };
        Ok(Some(text))
    }
}

/// Their subjects, in words for operators.
fn subjects(roots: &[Root]) -> String {
    let all: Vec<_> =
        roots.iter().map(|root| format!("\"{}\"", root.certificate().subject_text())).collect();
    all.join(", ")
}

/// Roots beside the one that signs, and beside other certificates for its key and name.
fn others(roots: &[Root], signing: &Root) -> Vec<Root> {
    let key = |root: &Root| {
        (root.certificate().spki_der().to_vec(), root.certificate().subject_der().to_vec())
    };
    roots.iter().filter(|root| key(root) != key(signing)).cloned().collect()
}

impl Names {
    /// The file of what stands above the certificate that signs.
    const fn chain(&self) -> &'static str {
        match self.chain {
            Some(chain) => chain,
            None => self.certificate,
        }
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
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Unfit::Missing { path: path.to_owned() },
        _ => Unfit::Unreadable { path: path.to_owned(), source },
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Unfit::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}
