//! rotation/driver
