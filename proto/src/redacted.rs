//! `Debug` for messages that can hold a private key or a token: shape and size, never the content.
//!
//! Messages travel through logs, panics and test failures. Code generation leaves `Debug` out for the types below
//! (`xtask/src/codegen.rs` names them), so a type that is added there and not here does not compile.

use std::fmt::{Debug, Formatter, Result};

use crate::banyan::admin::v1::CreateTokenResponse;
use crate::banyan::downstream::v1::AddDownstreamResponse;
use crate::envoy::config::core::v3::{DataSource, data_source::Specifier};
use crate::envoy::service::discovery::v3::{DiscoveryResponse, Resource};
use crate::etcdserverpb::{AuthenticateRequest, AuthenticateResponse, PutRequest};
use crate::mvccpb::KeyValue;
use crate::workload::X509svid;

impl Debug for CreateTokenResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateTokenResponse")
            .field("token", &Hidden(self.token.len()))
            .field("expires_at", &self.expires_at)
            .field("agent_id", &self.agent_id)
            .field("id", &self.id)
            .finish()
    }
}

impl Debug for AddDownstreamResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AddDownstreamResponse")
            .field("name", &self.name)
            .field("token", &Hidden(self.token.len()))
            .finish()
    }
}

impl Debug for X509svid {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("X509svid")
            .field("spiffe_id", &self.spiffe_id)
            .field("x509_svid", &Hidden(self.x509_svid.len()))
            .field("x509_svid_key", &Hidden(self.x509_svid_key.len()))
            .finish_non_exhaustive()
    }
}

impl Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AuthenticateRequest")
            .field("name", &self.name)
            .field("password", &Hidden(self.password.len()))
            .finish()
    }
}

impl Debug for AuthenticateResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AuthenticateResponse")
            .field("header", &self.header)
            .field("token", &Hidden(self.token.len()))
            .finish()
    }
}

impl Debug for PutRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("PutRequest")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("value", &Hidden(self.value.len()))
            .field("lease", &self.lease)
            .finish()
    }
}

impl Debug for KeyValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("KeyValue")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("mod_revision", &self.mod_revision)
            .field("value", &Hidden(self.value.len()))
            .finish_non_exhaustive()
    }
}

impl Debug for DataSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("DataSource").field("specifier", &self.specifier).finish()
    }
}

impl Debug for Specifier {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Filename(path) => f.debug_tuple("Filename").field(path).finish(),
            Self::InlineBytes(bytes) => {
                f.debug_tuple("InlineBytes").field(&Hidden(bytes.len())).finish()
            }
            Self::InlineString(text) => {
                f.debug_tuple("InlineString").field(&Hidden(text.len())).finish()
            }
        }
    }
}

impl Debug for DiscoveryResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let sizes: Vec<Hidden> = self.resources.iter().map(|any| Hidden(any.value.len())).collect();
        f.debug_struct("DiscoveryResponse")
            .field("version_info", &self.version_info)
            .field("resources", &sizes)
            .field("type_url", &self.type_url)
            .field("nonce", &self.nonce)
            .field("control_plane", &self.control_plane)
            .finish()
    }
}

impl Debug for Resource {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Resource")
            .field("version", &self.version)
            .field("resource", &self.resource.as_ref().map(|any| Hidden(any.value.len())))
            .field("name", &self.name)
            .field("aliases", &self.aliases)
            .field("ttl", &self.ttl)
            .finish()
    }
}

/// Content of this many bytes that must not be shown.
struct Hidden(usize);

impl Debug for Hidden {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "<{} bytes hidden>", self.0)
    }
}

#[cfg(test)]
mod tests {
    use prost::Name;
    use prost_types::Any;

    use super::*;
    use crate::sds::{Secret, TlsCertificate, secret};

    fn secret() -> Secret {
        let source = |specifier| Some(DataSource { specifier: Some(specifier) });
        Secret {
            name: "default".into(),
            r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: source(Specifier::InlineBytes(b"KEYKEY".to_vec())),
                private_key: source(Specifier::InlineString("KEYKEY".into())),
            })),
        }
    }

    /// Both as text and as the list of numbers that `Debug` makes of bytes.
    fn assert_shows_no_key(value: &impl Debug) {
        let shown = format!("{value:?}");
        assert!(shown.contains("bytes hidden"), "{shown}");
        assert!(!shown.contains("KEYKEY") && !shown.contains("75, 69, 89"), "{shown}");
    }

    #[test]
    fn debug_of_a_secret_hides_the_key() {
        assert_shows_no_key(&secret());
    }

    #[test]
    fn debug_of_a_discovery_response_hides_its_resources() {
        let any = Any::from_msg(&secret()).expect("a secret has a type name");
        assert!(format!("{any:?}").contains("75, 69, 89"), "the plain type would show it");
        let resource = Resource { resource: Some(any.clone()), ..Resource::default() };
        assert_shows_no_key(&DiscoveryResponse {
            resources: vec![any],
            ..DiscoveryResponse::default()
        });
        assert_shows_no_key(&resource);
    }

    #[test]
    fn debug_of_a_created_token_hides_it() {
        assert_shows_no_key(&CreateTokenResponse { token: "KEYKEY".into(), ..Default::default() });
    }

    #[test]
    fn a_secret_has_the_type_url_that_envoy_asks_for() {
        let wanted = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        assert_eq!(Secret::type_url(), wanted);
    }
}
