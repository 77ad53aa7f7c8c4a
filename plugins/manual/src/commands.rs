//! The commands of a ceremony, for openssl 3.0 and later in any shell.

use plugins::KeySpec;
use trust::PublicKey;

use crate::ceremony::{Ceremony, IssuerWanted, Wanted};

impl Ceremony {
    /// The commands that make the answer with openssl, as a shell takes them.
    pub fn commands(&self) -> String {
        match &self.wanted {
            Wanted::Root { key } => root(self, *key),
            Wanted::Issuer(wanted) => issuer(self, wanted),
        }
    }
}

fn root(ceremony: &Ceremony, key: KeySpec) -> String {
    let Ceremony { name, trust_domain, days, .. } = ceremony;
    let kind = match key {
        KeySpec::P384 => {
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384 -pkeyopt ec_param_enc:named_curve"
        }
        KeySpec::Ed25519 => "-algorithm ED25519",
        _ => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve",
    };
    let hash = hash(Some(key));
    [
        format!("openssl genpkey {kind} -aes-256-cbc -pass env:ROOT_PASS -out {name}.key"),
        format!(
            "openssl req -new -key {name}.key -passin env:ROOT_PASS -subj '/CN={trust_domain} {name}' -out {name}.csr"
        ),
        extensions(name, "basicConstraints=critical,CA:TRUE", &["subjectKeyIdentifier=hash"], trust_domain.as_str()),
        format!(
            "openssl x509 -req -in {name}.csr -signkey {name}.key -passin env:ROOT_PASS {hash} -days {days} {SERIAL} \
             -extfile {name}.ext -out {name}.pem"
        ),
        fingerprint(name),
    ]
    .join("\n")
}

fn issuer(ceremony: &Ceremony, issuer: &IssuerWanted) -> String {
    let Ceremony { name, trust_domain, days, .. } = ceremony;
    let IssuerWanted { root_ceremony, path_len, root, .. } = issuer;
    let key = PublicKey::parse(root.certificate().spki_der()).ok();
    let hash = hash(key.as_ref().and_then(KeySpec::of));
    let constraints = format!("basicConstraints=critical,CA:TRUE,pathlen:{path_len}");
    let identifiers = ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"];
    [
        extensions(name, &constraints, &identifiers, trust_domain.as_str()),
        format!(
            "openssl x509 -req -in {name}.txt -subj '/CN={trust_domain} {name}' -CA {root_ceremony}.pem -CAkey \
             {root_ceremony}.key -passin env:ROOT_PASS {hash} -days {days} {SERIAL} -extfile {name}.ext -out {name}.pem"
        ),
        fingerprint(name),
    ]
    .join("\n")
}

/// A serial number of 120 random bits, never negative.
const SERIAL: &str = "-set_serial 0x01$(openssl rand -hex 15)";

fn extensions(name: &str, constraints: &str, identifiers: &[&str], trust_domain: &str) -> String {
    let identifiers = identifiers.join(" ");
    format!(
        "printf '%s\\n' {constraints} keyUsage=critical,keyCertSign,cRLSign {identifiers} \
         subjectAltName=URI:spiffe://{trust_domain} > {name}.ext"
    )
}

fn fingerprint(name: &str) -> String {
    format!("openssl x509 -in {name}.pem -noout -subject -dates -fingerprint -sha256")
}

/// The digest that goes with a signing key. An Ed25519 key has its own, whatever is said.
const fn hash(key: Option<KeySpec>) -> &'static str {
    match key {
        Some(KeySpec::P384) => "-sha384",
        _ => "-sha256",
    }
}
