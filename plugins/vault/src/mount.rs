//! The PKI engine: its issuers, and what it is asked to do with them.

use std::time::Duration;

use plugins::checks::{check_ca_certificate, is_signed_by};
use plugins::{KeySpec, PluginError};
use serde_json::{Value, json};
use trust::{Certificate, PublicKey, Root, Timestamp, TrustDomain};

use crate::reply::{Ask, misconfigured};
use crate::session::Session;

/// Longest chain that is followed.
const CHAIN_MAX: usize = 16;

/// An issuer as the list of the mount shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    /// Empty if it has none.
    pub(crate) name: String,
    pub(crate) is_default: bool,
}

/// An issuer that can sign, and what is above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    pub(crate) id: String,
    /// The id of its private key in the mount.
    pub(crate) key: String,
    /// Its certificate first, each signed by the next, without the root; empty if it is the root itself.
    pub(crate) chain: Vec<Certificate>,
    pub(crate) root: Root,
}

/// What an issuer's certificate is asked to be.
pub(crate) struct Wanted<'a> {
    pub(crate) csr_der: &'a [u8],
    pub(crate) path_len: u8,
    pub(crate) subject: &'a Subject<'a>,
}

/// What a certificate is made for.
pub(crate) struct Subject<'a> {
    pub(crate) common_name: String,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) not_after: Timestamp,
}

/// The PKI engine of one mount.
#[derive(Debug)]
pub(crate) struct Mount {
    session: Session,
    path: String,
}

impl Issuer {
    /// The earliest end of what it depends on.
    pub(crate) fn not_after(&self) -> Timestamp {
        let all = self.chain.iter().chain([self.root.certificate()]);
        all.map(|certificate| certificate.validity().not_after()).min().unwrap_or_default()
    }
}

impl Mount {
    pub(crate) fn new(session: Session, path: &str) -> Self {
        Self { session, path: path.to_owned() }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Every issuer of the mount.
    pub(crate) async fn list(&self, within: Duration) -> Result<Vec<Listed>, PluginError> {
        let data = self.session.call(&Ask::list(self.at("issuers")), within).await?;
        let info = data.get("key_info").and_then(Value::as_object);
        let listed = |(id, info): (&String, &Value)| Listed {
            id: id.clone(),
            name: text(info, "issuer_name"),
            is_default: info.get("is_default").and_then(Value::as_bool).unwrap_or(false),
        };
        Ok(info.into_iter().flatten().map(listed).collect())
    }

    /// An issuer by its id or name.
    pub(crate) async fn issuer(
        &self,
        reference: &str,
        within: Duration,
    ) -> Result<Issuer, PluginError> {
        let data =
            self.session.call(&Ask::read(self.at(&format!("issuer/{reference}"))), within).await?;
        let (id, key) = (text(&data, "issuer_id"), text(&data, "key_id"));
        let own = certificate(&text(&data, "certificate"))
            .map_err(|problem| self.unfit(reference, &format!("its certificate {problem}")))?;
        if key.is_empty() {
            return Err(
                self.unfit(reference, "it has no private key in the mount, so it signs nothing")
            );
        }
        let above =
            data.get("ca_chain").and_then(Value::as_array).into_iter().flatten().take(CHAIN_MAX);
        let above: Vec<Certificate> =
            above.filter_map(Value::as_str).filter_map(|pem| certificate(pem).ok()).collect();
        if let Some(fault) = not_taken(&own, &above) {
            return Err(self.unfit(reference, &fault));
        }
        let (chain, root) = way_up(own, &above).ok_or_else(|| {
            let what = "its chain leads to no root in the mount; import the certificates above it, the root's too \
                        (`bao write MOUNT/issuers/import/cert pem_bundle=@chain.pem`)";
            self.unfit(reference, what)
        })?;
        Ok(Issuer { id, key, chain, root })
    }

    /// Signs an issuer's certificate for the key of a CSR. Of the CSR nothing else is used.
    pub(crate) async fn sign(
        &self,
        issuer: &Issuer,
        wanted: &Wanted<'_>,
        within: Duration,
    ) -> Result<Vec<u8>, PluginError> {
        let Wanted { csr_der, path_len, subject } = *wanted;
        let mut body = subject.fields();
        let csr = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", csr_der));
        for (field, value) in [
            ("csr", json!(csr)),
            ("use_csr_values", json!(false)),
            // The path length of a CSR does not count there in any case: it is said here.
            ("max_path_length", json!(path_len)),
        ] {
            body.insert(field.to_owned(), value);
        }
        let path = self.at(&format!("issuer/{}/sign-intermediate", issuer.id));
        let data = self.session.call(&Ask::write(path, Value::Object(body)), within).await?;
        let signed = certificate(&text(&data, "certificate")).map_err(|problem| {
            PluginError::Permanent { detail: format!("the certificate it signed {problem}") }
        })?;
        Ok(signed.der().to_vec())
    }

    /// Makes a root and its key inside the mount, under a name. The default issuer stays, unless there was none.
    ///
    /// A name that is taken is no error: whoever asks reads afterwards what has it.
    pub(crate) async fn generate(
        &self,
        name: &str,
        spec: KeySpec,
        subject: &Subject<'_>,
        within: Duration,
    ) -> Result<(), PluginError> {
        let (kind, bits) = match spec {
            KeySpec::P256 => ("ec", 256),
            KeySpec::P384 => ("ec", 384),
            KeySpec::Ed25519 => ("ed25519", 0),
        };
        let mut body = subject.fields();
        for (field, value) in [
            ("issuer_name", json!(name)),
            ("key_name", json!(name)),
            ("key_type", json!(kind)),
            ("key_bits", json!(bits)),
        ] {
            body.insert(field.to_owned(), value);
        }
        let ask = Ask::write(self.at("root/rotate/internal"), Value::Object(body));
        match self.session.call(&ask, within).await {
            Err(PluginError::Denied { reason }) if reason.contains("name already in use") => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Whether there is a default issuer, and whether a new issuer takes its place by itself.
    pub(crate) async fn defaults(&self, within: Duration) -> Result<(bool, bool), PluginError> {
        let data = self.session.call(&Ask::read(self.at("config/issuers")), within).await?;
        let follows =
            data.get("default_follows_latest_issuer").and_then(Value::as_bool).unwrap_or(false);
        Ok((!text(&data, "default").is_empty(), follows))
    }

    pub(crate) async fn make_default(&self, id: &str, within: Duration) -> Result<(), PluginError> {
        let ask = Ask::write(self.at("root/replace"), json!({ "default": id }));
        self.session.call(&ask, within).await.map(drop)
    }

    /// Deletes an issuer and its key. Of those that are gone: success.
    pub(crate) async fn delete(
        &self,
        id: &str,
        key: &str,
        within: Duration,
    ) -> Result<(), PluginError> {
        self.session.call(&Ask::delete(self.at(&format!("issuer/{id}"))), within).await?;
        self.session.call(&Ask::delete(self.at(&format!("key/{key}"))), within).await.map(drop)
    }

    fn at(&self, what: &str) -> String {
        format!("{}/{what}", self.path)
    }

    fn unfit(&self, reference: &str, what: &str) -> PluginError {
        misconfigured("issuer", &format!("issuer {reference} of {}: {what}", self.path))
    }
}

impl Subject<'_> {
    fn fields(&self) -> serde_json::Map<String, Value> {
        let fields = [
            ("common_name", json!(self.common_name)),
            ("exclude_cn_from_sans", json!(true)),
            ("uri_sans", json!(format!("spiffe://{}", self.trust_domain))),
            // An end, not a length: lengths are cut to the longest lease of the mount, with a warning only.
            ("not_after", json!(self.not_after.to_string())),
        ];
        fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
    }
}

/// Whether a root has a key of this kind.
pub(crate) fn has_key(root: &Root, spec: KeySpec) -> Result<(), PluginError> {
    let found =
        PublicKey::parse(root.certificate().spki_der()).ok().and_then(|key| KeySpec::of(&key));
    if found == Some(spec) {
        return Ok(());
    }
    Err(PluginError::denied(format!(
        "the root {} in the mount has no {spec} key; use a new request id",
        root.id().short()
    )))
}

fn text(of: &Value, field: &str) -> String {
    of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn certificate(text: &str) -> Result<Certificate, String> {
    let block = pem::parse(text).map_err(|error| format!("is not PEM ({error})"))?;
    Certificate::parse(block.contents()).map_err(|error| format!("is malformed: {error}"))
}

/// A key or signature that is not taken, which would be told as a missing signer.
fn not_taken(own: &Certificate, above: &[Certificate]) -> Option<String> {
    let any = TrustDomain::parse("example.org").ok()?;
    [own].into_iter().chain(above).find_map(|one| {
        let fault = check_ca_certificate(one, &any, 0).err()?;
        let is_algorithm = matches!(fault.reason(), "SIGNATURE_ALGORITHM" | "KEY_WEAK");
        is_algorithm.then(|| {
            format!("\"{}\" {fault}; make a root of a kind that is taken", one.subject_text())
        })
    })
}

/// From an issuer to its root: what stands between, and the root.
fn way_up(own: Certificate, above: &[Certificate]) -> Option<(Vec<Certificate>, Root)> {
    if let Ok(root) = Root::from_certificate(own.clone()) {
        return Some((Vec::new(), root));
    }
    let mut chain = vec![own];
    while chain.len() < CHAIN_MAX {
        let last = chain.last()?;
        let mut signers: Vec<&Certificate> =
            above.iter().filter(|above| is_signed_by(last, above)).collect();
        // Of twins the one that lasts longest, in whatever order they come.
        signers.sort_by_key(|signer| std::cmp::Reverse(signer.validity().not_after()));
        if let Some(root) =
            signers.iter().find_map(|signer| Root::from_certificate((*signer).clone()).ok())
        {
            return Some((chain, root));
        }
        let next = signers
            .into_iter()
            .find(|signer| !chain.iter().any(|known| known.der() == signer.der()))?;
        let next = next.clone();
        chain.push(next);
    }
    None
}
