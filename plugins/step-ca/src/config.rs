//! The settings of the plugin.

use std::path::{Path, PathBuf};

use plugin_http::Address;
use plugins::{ConfigProblem, ConfigTable};
use trust::RootId;

/// Where the step-ca is, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `address`: `https://HOST:PORT`. Required. The host must be one of the `dnsNames` of the step-ca.
    pub(crate) address: Address,
    /// `ca_file`: roots in PEM that its TLS certificate must chain to. Required.
    pub(crate) ca_file: PathBuf,
    /// `provisioner`: name of its JWK provisioner. Required.
    pub(crate) provisioner: String,
    /// `key_file`: the provisioner's private key. Required.
    pub(crate) key_file: PathBuf,
    /// `key_id`: the provisioner's `kid`. Default: what a JWK file says, else the key's RFC 7638 thumbprint.
    pub(crate) key_id: Option<String>,
    /// `root_sha256`: fingerprints of the only roots that count. Default: every root that the step-ca answers with.
    pub(crate) pinned: Option<Vec<RootId>>,
    /// `exclusive`: whether nobody else issues under these roots. Default false.
    pub(crate) exclusive: bool,
}

impl Settings {
    pub(crate) fn read(table: &toml::Table, base: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(table);
        let address: Option<String> = fields.required("address");
        let ca_file: Option<PathBuf> = fields.required("ca_file");
        let provisioner: Option<String> = fields.required("provisioner");
        let key_file: Option<PathBuf> = fields.required("key_file");
        let key_id: Option<String> = fields.optional("key_id");
        let pinned: Option<Vec<String>> = fields.optional("root_sha256");
        let exclusive = fields.optional("exclusive").unwrap_or(false);

        let address = address.and_then(|text| match Address::parse(&text) {
            Ok(address) => Some(address),
            Err(problem) => {
                fields.problem("address", problem);
                None
            }
        });
        for (field, text) in [("provisioner", &provisioner), ("key_id", &key_id)] {
            if text.as_ref().is_some_and(String::is_empty) {
                fields.problem(field, "is empty");
            }
        }
        let pinned = pinned.map(|texts| fingerprints(&mut fields, &texts));
        let required = (address, ca_file, provisioner, key_file);
        let value = match required {
            (Some(address), Some(ca_file), Some(provisioner), Some(key_file)) => Some(Self {
                address,
                ca_file: base.join(ca_file),
                provisioner,
                key_file: base.join(key_file),
                key_id,
                pinned,
                exclusive,
            }),
            _ => None,
        };
        fields.finish(value)
    }
}

/// Fingerprints as `step certificate fingerprint` prints them, with or without colons as openssl does.
fn fingerprints(fields: &mut ConfigTable<'_>, texts: &[String]) -> Vec<RootId> {
    let mut found = Vec::new();
    for text in texts {
        match text.replace(':', "").to_ascii_lowercase().parse() {
            Ok(id) => found.push(id),
            Err(_) => fields
                .problem("root_sha256", format!("\"{text}\" is no SHA-256 in hexadecimal digits")),
        }
    }
    if texts.is_empty() {
        fields.problem("root_sha256", "is empty; leave it out to take every root of the step-ca");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "address = 'https://ca.internal:9000'\nca_file = 'step-root.pem'\n\
                        provisioner = 'banyan'\nkey_file = 'banyan.key'\n";

    fn read(text: &str) -> Result<Settings, Vec<ConfigProblem>> {
        Settings::read(&text.parse().expect("toml"), Path::new("/etc/banyan"))
    }

    #[test]
    fn four_fields_are_enough_and_files_are_beside_the_configuration() {
        let settings = read(GOOD).expect("reads");
        assert_eq!(settings.ca_file, Path::new("/etc/banyan/step-root.pem"));
        assert_eq!(settings.key_file, Path::new("/etc/banyan/banyan.key"));
        assert_eq!((settings.key_id, settings.pinned, settings.exclusive), (None, None, false));
    }

    #[test]
    fn a_fingerprint_is_taken_in_every_common_spelling() {
        let id = RootId::of(b"root");
        let plain = id.to_string();
        let pairs: Vec<_> =
            plain.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        for text in [plain.clone(), pairs.join(":").to_uppercase()] {
            let settings = read(&format!("{GOOD}root_sha256 = ['{text}']")).expect("reads");
            assert_eq!(settings.pinned, Some(vec![id]));
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = "address = 'http://10.0.0.1:9000'\nprovisioner = ''\nroot_sha256 = ['abc']\nexclusive = 3\nttl = 1";
        let problems = read(text).expect_err("seven problems");
        let mut fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            ["address", "ca_file", "exclusive", "key_file", "provisioner", "root_sha256", "ttl"]
        );
        assert!(read(&format!("{GOOD}root_sha256 = []")).is_err(), "no root would count");
    }
}
