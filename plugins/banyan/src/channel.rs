//! Connections to the upstream CA: TLS by its roots, and the token of this CA.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use plugins::PluginError;
use plugins::call::cause;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use trust::digest::sha256;
use zeroize::Zeroizing;

use crate::config::Settings;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Pings on a quiet connection, so that a stream of a CA that vanished ends.
const PING_EVERY: Duration = Duration::from_secs(10);
const TOKEN_LEN_MAX: usize = 256;

/// The roots of the first contact.
pub(crate) struct FirstContact {
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// SHA-256 of the file.
    pub(crate) digest: String,
}

/// Reads the file of the first contact.
pub(crate) fn first_contact(path: &Path) -> Result<FirstContact, PluginError> {
    let wrong = |detail: String| PluginError::Misconfigured {
        field: "ca_file".to_owned(),
        detail: format!("{}: {detail}; write the roots of the upstream CA there", path.display()),
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match roots {
        Ok(roots) if !roots.is_empty() => {
            let digest = sha256(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(FirstContact { roots, digest })
        }
        Ok(_) => Err(wrong("holds no certificate".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Reads the token, which only its owner may be able to.
pub(crate) fn token(path: &Path) -> Result<MetadataValue<Ascii>, PluginError> {
    let wrong = |detail: String| PluginError::Misconfigured {
        field: "token_file".to_owned(),
        detail: format!("{}: {detail}", path.display()),
    };
    host::check_private(path).map_err(|error| wrong(error.to_string()))?;
    let text =
        Zeroizing::new(std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?);
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_LEN_MAX {
        return Err(wrong(
            "holds no token of a downstream CA; `banyan downstream add` at the upstream CA makes one"
                .to_owned(),
        ));
    }
    let header = Zeroizing::new(format!("Bearer {token}"));
    let value = MetadataValue::try_from(header.as_str());
    let mut value = value.map_err(|_| wrong("holds no token of a downstream CA".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Connects by these roots; the error says to what, and why not.
pub(crate) async fn connect(
    settings: &Settings,
    trusted: Vec<CertificateDer<'static>>,
) -> Result<Channel, PluginError> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        let added = roots.add(root);
        added.map_err(|error| PluginError::Misconfigured {
            field: "ca_file".to_owned(),
            detail: error.to_string(),
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| PluginError::Permanent { detail: error.to_string() })?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(config));
    let (address, name) = ((settings.host.clone(), settings.port), settings.server_name.clone());
    let connector = tower::service_fn(move |_| {
        let (tls, address, name) = (tls.clone(), address.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_static("https://upstream")
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .keep_alive_while_idle(true);
    let connected =
        tokio::time::timeout(CONNECT_WITHIN, endpoint.connect_with_connector(connector)).await;
    let down = |why: String| {
        let (host, port) = (&settings.host, settings.port);
        PluginError::AuthorityDown {
            detail: format!("cannot connect to the upstream CA at {host}:{port}: {why}"),
        }
    };
    match connected {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(down(cause(&error))),
        Err(_) => Err(down(format!("no answer within {} s", CONNECT_WITHIN.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_read_only_from_a_file_of_its_owner_and_shown_nowhere() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("token");
        std::fs::write(&path, "btt1.secret\n").expect("written");
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode")
        };
        set(0o640);
        let refused = token(&path).expect_err("others may read it").to_string();
        assert!(refused.contains("chmod 0600") && !refused.contains("secret"), "{refused}");
        set(0o600);
        let value = token(&path).expect("a token");
        assert_eq!(value.to_str().expect("text"), "Bearer btt1.secret");
        assert!(!format!("{value:?}").contains("secret"));
        std::fs::write(&path, " \n").expect("written");
        assert!(token(&path).expect_err("empty").to_string().contains("banyan downstream add"));
    }
}
