//! The root authority of a PKI secrets engine: OpenBao and Vault.
