//! What is asked of the people who hold the offline root: one text that a person can review and this program can read.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plugins::{KeySpec, RequestId};
use thiserror::Error;
use trust::csr::{ParsedCsr, VerifiedCsr};
use trust::digest::sha256;
use trust::{Root, Timestamp, TrustDomain};

/// The first line of a ceremony's file.
const TITLE: &str = "Banyan ceremony, format 1";
/// Longest file of a ceremony that is read.
pub(crate) const FILE_MAX: u64 = 256 * 1024;
const DAY: u64 = 86_400;

/// A request to the people who hold the offline root.
#[derive(Clone, Debug)]
pub struct Ceremony {
    pub(crate) name: String,
    pub(crate) authority: String,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) request_id: RequestId,
    pub(crate) asked_at: Timestamp,
    /// How many days a certificate is to be signed for.
    pub(crate) days: u64,
    /// The earliest end that is taken.
    pub(crate) lasts_until: Timestamp,
    pub(crate) wanted: Wanted,
}

/// What is to be brought.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The certificate of a root.
    Root { key: KeySpec },
    /// An issuer for the key in the CSR, under a root that was brought before.
    Issuer(Box<IssuerWanted>),
}

/// An issuer to be signed.
#[derive(Clone, Debug)]
pub(crate) struct IssuerWanted {
    pub(crate) root: Root,
    /// The ceremony that brought the root: its files are named after that.
    pub(crate) root_ceremony: String,
    pub(crate) path_len: u8,
    pub(crate) csr_der: Vec<u8>,
}

/// Why a text is no ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this is no ceremony of format 1: {0}")]
pub struct NotACeremony(String);

/// Who asks, for which request, and when.
pub(crate) struct Asking<'a> {
    /// The authority's name.
    pub(crate) authority: &'a str,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) request_id: &'a RequestId,
    pub(crate) at: Timestamp,
}

impl Ceremony {
    /// Asks for a root that is good for `lifetime` from when it is asked for.
    pub(crate) fn for_root(asking: &Asking<'_>, lifetime: Duration, key: KeySpec) -> Self {
        let Asking { authority, trust_domain, request_id, at: asked_at } = *asking;
        Self {
            name: name("root", request_id),
            authority: authority.to_owned(),
            trust_domain: trust_domain.clone(),
            request_id: request_id.clone(),
            asked_at,
            days: whole_days(lifetime),
            lasts_until: asked_at.plus(lifetime),
            wanted: Wanted::Root { key },
        }
    }

    /// Asks for an issuer that is good for `ttl` from when it is asked for, or by up to three days less where its root
    /// ends then: days are whole, it must still end before its root when the ceremony takes a day, and the clock of the
    /// offline machine may be behind.
    pub(crate) fn for_issuer(asking: &Asking<'_>, ttl: Duration, wanted: IssuerWanted) -> Self {
        let Asking { authority, trust_domain, request_id, at: asked_at } = *asking;
        let left = wanted.root.certificate().validity().not_after().since(asked_at).as_secs() / DAY;
        let (wished, fit) = (whole_days(ttl), left.saturating_sub(1).max(1));
        let days = wished.min(fit);
        let sure = if wished > fit { days.saturating_sub(1) } else { days };
        Self {
            name: name("issuer", request_id),
            authority: authority.to_owned(),
            trust_domain: trust_domain.clone(),
            request_id: request_id.clone(),
            asked_at,
            days,
            lasts_until: asked_at.plus(ttl.min(Duration::from_secs(sure * DAY))),
            wanted: Wanted::Issuer(Box::new(wanted)),
        }
    }

    /// Its name, after which its files are called: `root-` or `issuer-` and twelve hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was asked for.
    pub fn asked_at(&self) -> Timestamp {
        self.asked_at
    }

    /// The trust domain it is for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What is to be brought, in a few words.
    pub fn wanted(&self) -> String {
        match &self.wanted {
            Wanted::Root { .. } => "the certificate of a new root".to_owned(),
            Wanted::Issuer(issuer) => format!("an issuer under root {}", issuer.root.id().short()),
        }
    }

    /// The key to be certified, if a CSR goes out.
    pub(crate) fn csr(&self) -> Option<Result<VerifiedCsr, trust::csr::CsrError>> {
        match &self.wanted {
            Wanted::Root { .. } => None,
            Wanted::Issuer(issuer) => {
                Some(ParsedCsr::from_der(&issuer.csr_der).and_then(ParsedCsr::verify))
            }
        }
    }

    /// The text that goes out.
    pub fn text(&self) -> String {
        let mut text = format!("{TITLE}\n\n");
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:16}{value}", format!("{name}:"));
        };
        field("ceremony", &self.name);
        field("authority", &self.authority);
        field("trust-domain", &self.trust_domain);
        field("request", &self.request_id);
        field("asked-at", &dated(self.asked_at));
        field("days", &self.days);
        field("lasts-until", &dated(self.lasts_until));
        match &self.wanted {
            Wanted::Root { key } => field("key", key),
            Wanted::Issuer(issuer) => {
                field("path-length", &issuer.path_len);
                field("root", &issuer.root.id());
                field("root-ceremony", &issuer.root_ceremony);
                field("csr-sha256", &hex(&sha256(&issuer.csr_der)));
            }
        }
        text.push('\n');
        text.push_str(&self.prose());
        text.push_str("\nCommands:\n\n");
        for line in self.commands().lines() {
            let _ = writeln!(text, "    {line}");
        }
        if let Wanted::Issuer(issuer) = &self.wanted {
            let _ = write!(text, "\nThe request:\n\n{}", csr_pem(&issuer.csr_der));
            let _ = write!(
                text,
                "\nThe root that it is to be signed under:\n\n{}",
                issuer.root.certificate().pem()
            );
        }
        text
    }

    fn prose(&self) -> String {
        let Self { name, trust_domain, authority, .. } = self;
        let what = match &self.wanted {
            Wanted::Root { .. } => format!(
                "The certificate authority of the trust domain {trust_domain} asks for a root. Make one with the\n\
                 commands below on the machine that is never online, or bring the certificate of one that you have.\n\
                 Its key stays there: only the certificate travels.\n"
            ),
            Wanted::Issuer(issuer) => format!(
                "The certificate authority of the trust domain {trust_domain} asks for an issuer: a CA certificate for\n\
                 the key in the request below, under the root that ceremony {} brought. Compare the fingerprints\n\
                 above with what `banyan ceremony show {name}` tells at the server before you sign. The issuer must end\n\
                 before its root does.\n",
                issuer.root_ceremony
            ),
        };
        format!(
            "{what}\nThe commands keep the root's key encrypted under the passphrase in ROOT_PASS. Set it in that shell\n\
             first: read -r ROOT_PASS && export ROOT_PASS\n\nBring back {name}.pem: at the server\n\n    \
             banyan ceremony import {name}.pem --directory DIRECTORY\n\nwith the directory of [authority.{authority}] judges it \
             and puts it into the inbox. The server waits.\n"
        )
    }

    /// Reads the text of a ceremony.
    ///
    /// # Errors
    /// [`NotACeremony`]: another format, or damaged on the way.
    pub fn read(text: &str) -> Result<Self, NotACeremony> {
        let fields =
            Fields(text.strip_prefix(TITLE).ok_or_else(|| wrong("it does not begin as one"))?);
        let (found, request) =
            (fields.text("ceremony")?, fields.parsed("request", RequestId::parse)?);
        let ceremony = Self {
            name: found.to_owned(),
            authority: fields.text("authority")?.to_owned(),
            trust_domain: fields.parsed("trust-domain", TrustDomain::parse)?,
            asked_at: fields.time("asked-at")?,
            days: fields.parsed("days", str::parse)?,
            lasts_until: fields.time("lasts-until")?,
            wanted: match found.split('-').next() {
                Some("root") => Wanted::Root { key: fields.key("key")? },
                Some("issuer") => Wanted::Issuer(Box::new(fields.issuer(text)?)),
                _ => return Err(wrong("it is for neither a root nor an issuer")),
            },
            request_id: request,
        };
        let kind = if matches!(ceremony.wanted, Wanted::Root { .. }) { "root" } else { "issuer" };
        if ceremony.name != name(kind, &ceremony.request_id) {
            return Err(wrong("its name is not that of its request"));
        }
        Ok(ceremony)
    }
}

struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// The first field of this name: what follows the fields is prose.
    fn text(&self, name: &str) -> Result<&'a str, NotACeremony> {
        let found = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).ok_or_else(|| wrong(&format!("`{name}` is missing")))
    }

    fn parsed<T, E>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, NotACeremony> {
        parse(self.text(name)?).map_err(|_| wrong(&format!("`{name}` cannot be read")))
    }

    fn time(&self, name: &str) -> Result<Timestamp, NotACeremony> {
        let first = self.text(name)?.split(' ').next().unwrap_or_default();
        let secs = first.parse().map_err(|_| wrong(&format!("`{name}` cannot be read")))?;
        Ok(Timestamp::from_secs(secs))
    }

    fn key(&self, name: &str) -> Result<KeySpec, NotACeremony> {
        KeySpec::from_name(self.text(name)?)
            .ok_or_else(|| wrong(&format!("`{name}` cannot be read")))
    }

    fn issuer(&self, text: &str) -> Result<IssuerWanted, NotACeremony> {
        let blocks = pem::parse_many(text).map_err(|error| wrong(&error.to_string()))?;
        let block = |tag: &str| {
            let found = blocks.iter().find(|block| block.tag() == tag);
            found
                .map(|block| block.contents().to_vec())
                .ok_or_else(|| wrong(&format!("no block {tag}")))
        };
        let root =
            Root::parse(&block("CERTIFICATE")?).map_err(|error| wrong(&error.to_string()))?;
        let csr_der = block("CERTIFICATE REQUEST")?;
        if self.text("root")? != root.id().to_string()
            || self.text("csr-sha256")? != hex(&sha256(&csr_der))
        {
            return Err(wrong("a fingerprint does not fit what it names"));
        }
        Ok(IssuerWanted {
            root,
            root_ceremony: self.text("root-ceremony")?.to_owned(),
            path_len: self.parsed("path-length", str::parse)?,
            csr_der,
        })
    }
}

/// The name of a request's ceremony: short enough to be read aloud, and safe as a file name.
fn name(kind: &str, request_id: &RequestId) -> String {
    let digest = hex(&sha256(request_id.as_str().as_bytes()));
    format!("{kind}-{}", digest.get(..12).unwrap_or_default())
}

/// Days that last longer than this: openssl counts whole ones, and some time passes before the answer is looked at.
fn whole_days(duration: Duration) -> u64 {
    duration.as_secs() / DAY + 1
}

fn dated(time: Timestamp) -> String {
    format!("{} ({time})", time.as_secs())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn csr_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE REQUEST", der), config)
}

fn wrong(why: &str) -> NotACeremony {
    NotACeremony(why.to_owned())
}

/// Certificates and CSRs as the book keeps them.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| error.to_string())
}
