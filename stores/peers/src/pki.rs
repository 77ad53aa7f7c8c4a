//! Certificates for engines and their clients.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// A CA, with a certificate for servers and one for a client below it, in files: `ca.pem`, `server.pem`, `server.key`,
/// `client.pem`, `client.key`.
#[derive(Debug)]
pub struct Pki {
    home: tempfile::TempDir,
}

impl Pki {
    /// Makes a new one, for servers of this machine.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        Self::with_address("127.0.0.1")
    }

    /// The same for a server at another address too.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_address(address: &str) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two CAs of one name would be taken for one whose signature is wrong.
        let name = format!("CA in {}", home.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = params.self_signed(&key)?;
        fs::write(home.path().join("ca.pem"), ca.pem())?;
        let issuer = Issuer::from_params(&params, &key);
        for name in ["server", "client"] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(
                ["localhost", "127.0.0.1", address].map(str::to_owned).to_vec(),
            )?;
            params.distinguished_name.push(DnType::CommonName, name);
            // Members of etcd are clients of each other too.
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(home.path().join(format!("{name}.pem")), certificate.pem())?;
            fs::write(home.path().join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(Self { home })
    }

    /// A path below its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}
