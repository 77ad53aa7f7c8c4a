//! A key backend: keys in a PKCS#11 token, such as an HSM. They never leave it.
