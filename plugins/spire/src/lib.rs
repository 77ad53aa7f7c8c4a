//! The root authority of a SPIRE server, as an upstream authority of this CA.
