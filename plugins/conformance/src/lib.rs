//! plugins/conformance
