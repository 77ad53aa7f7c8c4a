//! An issued leaf, with everything that goes into a reply.

use trust::{Bundle, Certificate, Sequence, Serial};

use crate::profile::Lifetime;
use crate::snapshot::CountedSnapshot;

/// A signed, verified and recorded leaf. Chain and bundle come from the snapshot it was issued under, which counts as in
/// use until this is dropped.
#[derive(Debug)]
pub struct IssuedLeaf {
    der: Vec<u8>,
    serial: Serial,
    lifetime: Lifetime,
    snapshot: CountedSnapshot,
}

impl IssuedLeaf {
    pub(crate) const fn new(
        der: Vec<u8>,
        serial: Serial,
        lifetime: Lifetime,
        snapshot: CountedSnapshot,
    ) -> Self {
        Self { der, serial, lifetime, snapshot }
    }

    /// The leaf in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its serial number.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Its life, and what made it shorter than asked for.
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The issuer's certificate and those above it, without the root; and the cross certificate, while one is sent.
    pub fn intermediates(&self) -> impl Iterator<Item = &Certificate> {
        self.snapshot.intermediates()
    }

    /// The chain in DER, leaf first, without the root.
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        std::iter::once(self.der.clone())
            .chain(self.intermediates().map(|certificate| certificate.der().to_vec()))
            .collect()
    }

    /// The bundle that the leaf was born under.
    pub fn bundle(&self) -> &Bundle {
        self.snapshot.bundle()
    }

    /// The sequence of that bundle, which is also in the leaf's row.
    pub fn sequence(&self) -> Sequence {
        self.bundle().sequence()
    }

    /// The reply that Istio's clients understand: leaf, each intermediate in a string of its own, and all roots together
    /// in one last string. Clients take the last string, and only that, as their trust.
    pub fn istio_chain(&self) -> Vec<String> {
        let mut strings = vec![trust::certificate::pem_block(&self.der)];
        strings.extend(self.snapshot.intermediates_pem().map(str::to_owned));
        strings.push(self.bundle().pem().to_string());
        strings
    }
}
