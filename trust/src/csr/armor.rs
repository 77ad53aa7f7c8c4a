//! The PEM form (RFC 7468), taken strictly.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{CsrError, EncodingFault};
use super::wanted::CSR_LEN_MAX;

/// Label of a CSR, and the older one that some tools still write (RFC 7468 §7).
const LABELS: [&[u8]; 2] = [b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"];

/// What may stand between the base64 digits: line ends of either kind, and spaces from pasting.
const LINE_SPACE: &[u8] = b"\r\n ";

/// Returns the content of the one block in `pem`.
pub(super) fn decode(pem: &[u8]) -> Result<Vec<u8>, CsrError> {
    if pem.len() > CSR_LEN_MAX {
        return Err(CsrError::TooLarge);
    }
    decode_block(pem).map_err(|fault| {
        // A private key never passes as a CSR; that one was sent must be known, so that it can be replaced.
        if holds_private_key(pem) { CsrError::PrivateKeyInside } else { CsrError::Encoding(fault) }
    })
}

fn decode_block(pem: &[u8]) -> Result<Vec<u8>, EncodingFault> {
    let pem = pem.trim_ascii();
    let body =
        LABELS.iter().find_map(|label| body(pem, label)).ok_or(EncodingFault::NotOneBlock)?;
    if body.contains(&b'-') {
        return Err(EncodingFault::NotOneBlock);
    }
    let mut base64 = Vec::with_capacity(body.len());
    base64.extend(body.iter().filter(|byte| !LINE_SPACE.contains(byte)));
    STANDARD.decode(base64).map_err(|_| EncodingFault::Base64)
}

/// What stands between the boundaries of a block with this label, if `pem` is one.
fn body<'a>(pem: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    let rest = pem.strip_prefix(b"-----BEGIN ")?.strip_prefix(label)?.strip_prefix(b"-----")?;
    rest.strip_suffix(b"-----")?.strip_suffix(label)?.strip_suffix(b"-----END ")
}

fn holds_private_key(pem: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    pem.windows(MARK.len()).any(|window| window == MARK)
}
