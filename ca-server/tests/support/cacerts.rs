//! CAs of others, and directories of them in Istio's layout.

use std::fs;
use std::path::Path;
use std::time::Duration;

use host::SystemClock;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use trust::{Clock as _, RootId};

/// A CA certificate with its key.
pub(crate) struct OtherCa {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
    pem: String,
}

impl OtherCa {
    /// A root of its own.
    pub(crate) fn root(name: &str, lasts: Duration) -> Self {
        Self::self_signed(
            params(name, lasts, BasicConstraints::Unconstrained),
            KeyPair::generate().unwrap(),
        )
    }

    /// A root of its own under which DNS names below one domain alone are good.
    pub(crate) fn named_only(name: &str, lasts: Duration, domain: &str) -> Self {
        let mut params = params(name, lasts, BasicConstraints::Unconstrained);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        Self::self_signed(params, KeyPair::generate().unwrap())
    }

    /// A CA below this one that names this one by its key and by a serial number that is not its own.
    pub(crate) fn below_serial(&self, name: &str, lasts: Duration, serial: u8) -> Self {
        let mut params = params(name, lasts, BasicConstraints::Constrained(1));
        let above = trust::Certificate::parse(&self.der).unwrap();
        let key_id = above.extensions().subject_key_id.clone().unwrap();
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        // AuthorityKeyIdentifier (RFC 5280 section 4.2.1.1): [0] key, [2] serial number.
        let inside = [&[0x80, length(&key_id)], key_id.as_slice(), &[0x82, 1, serial]].concat();
        let content = [&[0x30, length(&inside)], inside.as_slice()].concat();
        let names_above = CustomExtension::from_oid_content(&[2, 5, 29, 35], content);
        params.custom_extensions.push(names_above);
        let key = KeyPair::generate().unwrap();
        let certificate =
            params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }

    /// The same name and key under another certificate, as when the life of a root is extended.
    pub(crate) fn renewed(&self) -> Self {
        let mut params = self.params.clone();
        params.not_after += Duration::from_secs(86_400);
        Self::self_signed(params, KeyPair::from_pem(&self.key.serialize_pem()).unwrap())
    }

    /// A CA below this one, with room for so many below it.
    pub(crate) fn below(&self, name: &str, lasts: Duration, path_len: u8) -> Self {
        let mut params = params(name, lasts, BasicConstraints::Constrained(path_len));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate =
            params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }

    /// Its id, if it is a root.
    pub(crate) fn id(&self) -> RootId {
        RootId::of(&self.der)
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Puts this CA into a directory, over whatever is there.
    pub(crate) fn put(&self, root: &Self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        let chain =
            if self.der == root.der { String::new() } else { format!("{}{}", self.pem, root.pem) };
        for (file, text) in [
            ("ca-cert.pem", self.pem.clone()),
            ("ca-key.pem", self.key.serialize_pem()),
            ("cert-chain.pem", chain),
            ("root-cert.pem", root.pem.clone()),
        ] {
            // As a volume is swapped: one file after the other, each whole.
            let fresh = directory.join(format!("{file}.new"));
            fs::write(&fresh, text).unwrap();
            fs::rename(fresh, directory.join(file)).unwrap();
        }
    }

    fn self_signed(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }
}

fn params(name: &str, lasts: Duration, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let now = u64::try_from(SystemClock.now().as_secs()).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now) + lasts;
    params
}
