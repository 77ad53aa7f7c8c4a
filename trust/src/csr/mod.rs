//! Certificate signing requests (PKCS#10, RFC 2986): bytes, then [`ParsedCsr`], then [`VerifiedCsr`].
//!
//! Of a CSR the CA uses the public key; what else it asks for is checked here and compared by authorization, and never
//! copied into a certificate. Parsing does no cryptography, so that the CSR of an untrusted client costs little until the caller is
//! known; [`ParsedCsr::verify`] then demands the proof of possession, and is the only way to a [`VerifiedCsr`].
//!
//! Start at [`ParsedCsr::from_pem`]. `request` reads the structure, `extension` and `name` what stands in it, `wanted` is
//! what may be asked for and how much of it, `error` the closed set of refusals.

mod armor;
mod error;
mod extension;
mod name;
mod request;
mod wanted;

pub use error::{AttributeFault, CsrError, EncodingFault, ExtensionFault, NameFault};
pub use request::{ParsedCsr, VerifiedCsr};
pub use wanted::{ATTRIBUTES_MAX, CSR_LEN_MAX, EXTENSIONS_MAX, NAMES_MAX, RequestedNames};
