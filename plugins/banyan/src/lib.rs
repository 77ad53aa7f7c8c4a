//! The root authority of another Banyan: this CA is one tier below it.
