//! What clients say of this server's certificate when they end a handshake.

use std::io;

use rustls::AlertDescription;

/// Whether a handshake ended because the client does not trust this server's certificate.
pub(crate) fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_client_says_of_the_certificate_is_distrust() {
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        assert!(is_distrust(&alert(AlertDescription::UnknownCA)));
        assert!(!is_distrust(&alert(AlertDescription::HandshakeFailure)));
        assert!(
            !is_distrust(&io::Error::other("gone"))
                && !is_distrust(&io::ErrorKind::TimedOut.into())
        );
    }
}
