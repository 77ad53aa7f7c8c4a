//! The admin API from afar: mTLS with an admin identity.

use std::path::Path;

use console::exit::{Failure, Told, in_full};
use console::tls_channel;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::Channel;

use crate::args::AdminTarget;

/// Connects to HOST:PORT with the certificate, key and trust bundle that the user named.
pub(super) async fn channel(server: &str, target: &AdminTarget) -> Result<Channel, Failure> {
    let (Some(cert), Some(key), Some(bundle)) = (&target.cert, &target.key, &target.trust_bundle)
    else {
        return Err(Failure::Usage("--server needs --cert, --key and --trust-bundle".into()));
    };
    let usage = |what: &str, error: String| Failure::Usage(format!("{what}: {error}").into());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<_, _>>()
        .map_err(|error| usage("--cert", error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| usage("--key", error.to_string()))?;
    let roots = tls_channel::roots_from_pem(&read(bundle)?)
        .map_err(|error| usage("--trust-bundle", in_full(&error)))?;
    let config = tls_channel::client_config(roots, Some((chain, key)))
        .map_err(|error| usage("--cert and --key", in_full(&error)))?;
    tls_channel::connect(server, config).await.map_err(|error| {
        let told = Told::new(format!("cannot reach {server}: {}", in_full(&error)));
        Failure::Unreachable(told.advising("check the address and the trust bundle"))
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display()).into()))
}
