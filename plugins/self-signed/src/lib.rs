//! plugins/self-signed
