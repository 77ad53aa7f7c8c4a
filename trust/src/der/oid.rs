//! Object identifiers, as the content octets of their DER.

/// id-ecPublicKey, 1.2.840.10045.2.1.
pub const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp256r1 (NIST P-256), 1.2.840.10045.3.1.7.
pub const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1 (NIST P-384), 1.3.132.0.34.
pub const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// id-Ed25519, 1.3.101.112: key and signature.
pub const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// rsaEncryption, 1.2.840.113549.1.1.1.
pub const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// ecdsa-with-SHA1, 1.2.840.10045.4.1.
pub const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2.
pub const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// ecdsa-with-SHA384, 1.2.840.10045.4.3.3.
pub const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// md5WithRSAEncryption, 1.2.840.113549.1.1.4.
pub const RSA_MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04];
/// sha1WithRSAEncryption, 1.2.840.113549.1.1.5.
pub const RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
/// sha256WithRSAEncryption, 1.2.840.113549.1.1.11.
pub const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// sha384WithRSAEncryption, 1.2.840.113549.1.1.12.
pub const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
/// sha512WithRSAEncryption, 1.2.840.113549.1.1.13.
pub const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];

/// Extension subjectKeyIdentifier, 2.5.29.14.
pub const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
/// Extension keyUsage, 2.5.29.15.
pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// Extension subjectAltName, 2.5.29.17.
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Extension basicConstraints, 2.5.29.19.
pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// Extension cRLNumber, 2.5.29.20.
pub const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// Extension reasonCode of an entry of a revocation list, 2.5.29.21.
pub const CRL_REASON: &[u8] = &[0x55, 0x1d, 0x15];
/// Extension authorityKeyIdentifier, 2.5.29.35.
pub const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
/// Extension extKeyUsage, 2.5.29.37.
pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// Extension noRevAvail (RFC 9608), 2.5.29.56.
pub const NO_REV_AVAIL: &[u8] = &[0x55, 0x1d, 0x38];

/// Key purpose serverAuth, 1.3.6.1.5.5.7.3.1.
pub const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// Key purpose clientAuth, 1.3.6.1.5.5.7.3.2.
pub const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// PKCS#9 challengePassword, 1.2.840.113549.1.9.7.
pub const CHALLENGE_PASSWORD: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07];
/// PKCS#9 extensionRequest, 1.2.840.113549.1.9.14.
pub const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
/// PKCS#9 emailAddress, 1.2.840.113549.1.9.1.
pub const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
/// Name attribute commonName, 2.5.4.3.
pub const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Longest text that [`dotted`] makes, in bytes.
const DOTTED_LEN_MAX: usize = 64;

/// The dotted form of an identifier, for people; what does not fit 64 bytes is cut and marked `...`.
pub fn dotted(content: &[u8]) -> String {
    let mut text = String::new();
    let mut arc = 0_u64;
    let mut is_first = true;
    for octet in content {
        if arc > u64::MAX >> 7 || text.len() > DOTTED_LEN_MAX - 24 {
            text.push_str("...");
            return text;
        }
        arc = arc << 7 | u64::from(octet & 0x7f);
        if octet & 0x80 != 0 {
            continue;
        }
        if is_first {
            // The first two arcs share one number; the first is at most 2 (X.690 §8.19.4).
            let top = (arc / 40).min(2);
            text = format!("{top}.{}", arc - top * 40);
            is_first = false;
        } else {
            text.push_str(&format!(".{arc}"));
        }
        arc = 0;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_written_in_dotted_form() {
        assert_eq!(dotted(RSA_SHA256), "1.2.840.113549.1.1.11");
        assert_eq!(dotted(KEY_USAGE), "2.5.29.15");
        assert_eq!(dotted(ED25519), "1.3.101.112");
        // The first arc is 2, the second above 39.
        assert_eq!(dotted(&[0x88, 0x37]), "2.999");
    }

    #[test]
    fn long_identifiers_are_cut() {
        for long in [[1; 1_000], [0xff; 1_000], [0x7f; 1_000]] {
            let text = dotted(&long);
            assert!(text.ends_with("...") && text.len() <= DOTTED_LEN_MAX, "{text}");
        }
    }
}
