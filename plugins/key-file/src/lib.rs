//! plugins/key-file
