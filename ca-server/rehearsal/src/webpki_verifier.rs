//! The path validation of rustls.

use std::time::Duration;

use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, UnixTime};
use trust::PeerRole;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::verifier::{Presented, Verdict, Verifier};

/// rustls-webpki as rustls calls it. Of an anchor it takes name, key and name constraints, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct RustlsWebpki;

impl Verifier for RustlsWebpki {
    fn name(&self) -> String {
        "rustls-webpki".to_owned()
    }

    fn verify(&self, presented: &Presented<'_>) -> Result<(), Verdict> {
        let refused = |error: webpki::Error| Verdict::Refused(error.to_string());
        let ders = |all: &[Vec<u8>]| -> Vec<_> {
            all.iter().map(|der| CertificateDer::from(der.clone())).collect()
        };
        let (anchors, chain) = (ders(presented.anchors), ders(presented.chain));
        let anchors = anchors.iter().map(anchor_from_trusted_cert);
        let anchors = anchors.collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Verdict::Refused("no certificate is presented".to_owned()));
        };
        let secs = u64::try_from(presented.now.as_secs()).unwrap_or_default();
        let usage = match presented.role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        let algorithms = ring::default_provider().signature_verification_algorithms;
        EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(
                algorithms.all,
                &anchors,
                intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(secs)),
                usage,
                None,
                None,
            )
            .map(drop)
            .map_err(refused)
    }
}
