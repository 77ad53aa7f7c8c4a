//! Client certificates with any part wrong, signed by the CA's own issuer or by a foreign CA.

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use trust::der::{DerTime, Writer, oid};
use trust::{Certificate, SignatureAlgorithm, SpkiHash, Timestamp};

use crate::untrusted::CART;
use crate::untrusted::ca::TestCa;
use crate::untrusted::client::Credential;
use crate::untrusted::csr::{alternative_names, der, extension, sequence, uri};

/// A client certificate to be forged. Default: what the CA itself would have issued for [`CART`], but for the row that
/// only the CA can write.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// URI names.
    pub uris: Vec<String>,
    /// Whether it is a CA's.
    pub is_ca: bool,
    /// Seconds from now to the start and to the end of its life.
    pub life: [i64; 2],
    /// The serial number.
    pub serial: [u8; 16],
    /// How many small certificates of no meaning stand behind the signer's.
    pub fillers: usize,
}

impl Default for Forgery {
    fn default() -> Self {
        Self {
            uris: vec![CART.to_owned()],
            is_ca: false,
            life: [-60, 300],
            serial: [0x41; 16],
            fillers: 0,
        }
    }
}

/// Whoever signs certificates: the CA's issuer with the CA's own key, or a foreign CA.
#[derive(Debug)]
pub struct Signer<'c> {
    ca: &'c TestCa,
    /// The certificate of the signing key.
    pub certificate: Certificate,
    /// The foreign key; none stands for the CA's.
    untrusted: Option<KeyPair>,
}

impl<'c> Signer<'c> {
    /// The CA's issuer, whose certificate stands in any chain that the CA handed out.
    ///
    /// # Panics
    /// When there is none in the chain.
    pub fn issuer(ca: &'c TestCa, chain: &[Vec<u8>]) -> Self {
        Self { ca, certificate: Certificate::parse(&chain[1]).unwrap(), untrusted: None }
    }

    /// A root of nobody's bundle, as one that was retired is.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn foreign(ca: &'c TestCa) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a root of before");
        let root = params.self_signed(&key).unwrap();
        Self { ca, certificate: Certificate::parse(root.der()).unwrap(), untrusted: Some(key) }
    }

    /// Signs a forgery for a new key.
    ///
    /// # Panics
    /// When the CA's key is not in memory.
    pub async fn forge(&self, forgery: &Forgery) -> Credential {
        self.forge_for(&KeyPair::generate().unwrap(), forgery).await
    }

    /// Signs a forgery for this key.
    ///
    /// # Panics
    /// As [`forge`](Self::forge).
    pub async fn forge_for(&self, key: &KeyPair, forgery: &Forgery) -> Credential {
        let leaf = self.certify(forgery, &key.subject_public_key_info()).await;
        let mut chain = vec![leaf, self.certificate.der().to_vec()];
        chain.extend(std::iter::repeat_n(filler(key), forgery.fillers));
        Credential::new(chain, key)
    }

    async fn certify(&self, forgery: &Forgery, spki: &[u8]) -> Vec<u8> {
        let algorithm = SignatureAlgorithm::EcdsaP256Sha256.der().to_vec();
        let now = trust::Clock::now(self.ca.clock().as_ref()).as_secs();
        let [start, end] = forgery.life.map(|after| time(Timestamp::from_secs(now + after)));
        let tbs = sequence(&[
            der(|w| w.context(0, |w| w.unsigned(&[2]))),
            der(|w| w.unsigned(&forgery.serial)),
            algorithm.clone(),
            self.certificate.subject_der().to_vec(),
            sequence(&[start, end]),
            sequence(&[]),
            spki.to_vec(),
            der(|w| w.context(3, |w| w.raw(&sequence(&extensions(forgery))))),
        ]);
        let signature = match &self.untrusted {
            Some(key) => key.sign(&tbs).unwrap(),
            None => self.ca.sign_with(self.spki(), &tbs).await,
        };
        sequence(&[tbs, algorithm, der(|w| w.bit_string(&signature))])
    }

    fn spki(&self) -> SpkiHash {
        self.certificate.spki_hash()
    }
}

/// A certificate without a name: small, since a server sends the whole chain back inside its session tickets, and
/// rustls clients take no more than 64 KiB of those.
fn filler(key: &KeyPair) -> Vec<u8> {
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256.der().to_vec();
    let nobody = sequence(&[]);
    let life = sequence(&[0, 1].map(|secs| time(Timestamp::from_secs(secs))));
    let spki = key.subject_public_key_info();
    let tbs = sequence(&[
        der(|w| w.unsigned(&[1])),
        algorithm.clone(),
        nobody.clone(),
        life,
        nobody,
        spki,
    ]);
    let signature = key.sign(&tbs).unwrap();
    sequence(&[tbs, algorithm, der(|w| w.bit_string(&signature))])
}

fn extensions(forgery: &Forgery) -> Vec<Vec<u8>> {
    let uris: Vec<_> = forgery.uris.iter().map(|text| uri(text)).collect();
    let purposes =
        sequence(&[oid::SERVER_AUTH, oid::CLIENT_AUTH].map(|purpose| der(|w| w.oid(purpose))));
    // digitalSignature, and keyCertSign for a CA.
    let usage = if forgery.is_ca { 1 | 1 << 5 } else { 1 };
    let constraints = if forgery.is_ca { vec![der(|w| w.boolean(true))] } else { Vec::new() };
    let mut all = vec![
        extension(oid::BASIC_CONSTRAINTS, true, &sequence(&constraints)),
        extension(oid::KEY_USAGE, true, &der(|w| w.named_bits(usage))),
        extension(oid::EXTENDED_KEY_USAGE, false, &purposes),
    ];
    if !uris.is_empty() {
        all.push(alternative_names(&uris));
    }
    all
}

fn time(at: Timestamp) -> Vec<u8> {
    let at = DerTime::new(at).unwrap();
    der(|w: &mut Writer| w.time(&at))
}
