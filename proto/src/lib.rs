//! Banyan's wire formats: messages, clients and servers of every gRPC service that it speaks.
//!
//! This is generated code and what it needs to be safe to use; nothing here decides anything. Conversions to Banyan's
//! own types live at the edges, in the crates that serve or call. The sources are `protos/**/*.proto`; after a change run
//! `cargo xtask codegen`, which writes `src/gen/`. A test compares the two, and nobody needs `protoc`.
//!
//! | module | what | who serves it |
//! |---|---|---|
//! | [`istio::v1::auth`] | certificate signing as Istio's data planes ask for it | CA |
//! | [`banyan::agent::v1`] | bundles down, evidence up; and how an agent is | CA; agent |
//! | [`banyan::admin::v1`] | what operators' verbs call | CA |
//! | [`banyan::plugin::v1`] | root authorities over the wire | plugins in any language |
//! | [`banyan::downstream::v1`] | a downstream CA, and what operators do about it | CA |
//! | [`banyan::replica::v1`] | whose leaf it is, and what agents said of it | CA, for its other servers |
//! | [`spire::api::server::svid::v1`] | an intermediate below a SPIRE server | a SPIRE server |
//! | [`workload`] | a process's own identity, from the agent of its machine | a SPIRE agent, or any other of SPIFFE |
//! | [`etcdserverpb`], [`mvccpb`] | keys, their changes and their watches | etcd |
//! | [`sds`] | Envoy's secret discovery service | agent |
//!
//! Envoy's, SPIRE's, SPIFFE's and etcd's files are subsets: same packages, names, numbers and types, only the fields that are used.
//! Messages that can hold a private key or a token print no secret with `Debug` (see `redacted.rs`).

// The only place with allowances for generated code.
#[expect(
    missing_docs,
    reason = "messages are documented in the .proto files, their machinery is not"
)]
mod packages {
    pub mod banyan {
        pub mod admin {
            pub mod v1 {
                include!("gen/banyan.admin.v1.rs");
            }
        }
        pub mod agent {
            pub mod v1 {
                include!("gen/banyan.agent.v1.rs");
            }
        }
        pub mod plugin {
            pub mod v1 {
                include!("gen/banyan.plugin.v1.rs");
            }
        }
        pub mod downstream {
            pub mod v1 {
                include!("gen/banyan.downstream.v1.rs");
            }
        }
        pub mod replica {
            pub mod v1 {
                include!("gen/banyan.replica.v1.rs");
            }
        }
    }
    pub mod envoy {
        pub mod config {
            pub mod core {
                pub mod v3 {
                    include!("gen/envoy.config.core.v3.rs");
                }
            }
        }
        pub mod extensions {
            pub mod transport_sockets {
                pub mod tls {
                    pub mod v3 {
                        include!("gen/envoy.extensions.transport_sockets.tls.v3.rs");
                    }
                }
            }
        }
        pub mod service {
            pub mod discovery {
                pub mod v3 {
                    include!("gen/envoy.service.discovery.v3.rs");
                }
            }
            pub mod secret {
                pub mod v3 {
                    include!("gen/envoy.service.secret.v3.rs");
                }
            }
        }
    }
    pub mod etcdserverpb {
        include!("gen/etcdserverpb.rs");
    }
    pub mod google {
        pub mod rpc {
            include!("gen/google.rpc.rs");
        }
    }
    pub mod istio {
        pub mod v1 {
            pub mod auth {
                include!("gen/istio.v1.auth.rs");
            }
        }
    }
    pub mod mvccpb {
        include!("gen/mvccpb.rs");
    }
    pub mod spire {
        pub mod api {
            pub mod server {
                pub mod svid {
                    pub mod v1 {
                        include!("gen/spire.api.server.svid.v1.rs");
                    }
                }
            }
        }
    }
    /// The standard's file names no package.
    pub mod workload {
        include!("gen/_.rs");
    }
}
mod redacted;

pub use packages::{banyan, envoy, etcdserverpb, google, istio, mvccpb, spire, workload};

/// Everything that an SDS server or client uses, without Envoy's long paths.
pub mod sds {
    pub use crate::envoy::config::core::v3::{
        ControlPlane, DataSource, Node, TypedExtensionConfig, data_source::Specifier,
    };
    pub use crate::envoy::extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
        spiffe_cert_validator_config::TrustDomain,
    };
    pub use crate::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        Resource,
    };
    pub use crate::envoy::service::secret::v3::{
        secret_discovery_service_client::SecretDiscoveryServiceClient,
        secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer},
    };
    pub use crate::google::rpc::Status;
}

/// Descriptors of every message and service here and of what they import, for gRPC server reflection: an encoded
/// `google.protobuf.FileDescriptorSet` without source positions.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.binpb");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn descriptors_name_every_service_and_hold_all_that_they_import() {
        let set =
            FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("an encoded descriptor set");
        let files: BTreeSet<&str> = set.file.iter().map(|file| file.name()).collect();
        let imports = set.file.iter().flat_map(|file| &file.dependency);
        assert!(imports.clone().count() > 0);
        for import in imports {
            assert!(files.contains(import.as_str()), "{import} is missing");
        }
        let services = set.file.iter().flat_map(|file| {
            file.service.iter().map(move |service| match file.package() {
                "" => service.name().to_owned(),
                package => format!("{package}.{}", service.name()),
            })
        });
        let served = [
            banyan::admin::v1::admin_service_server::SERVICE_NAME,
            banyan::admin::v1::agent_admin_service_server::SERVICE_NAME,
            banyan::admin::v1::authority_service_server::SERVICE_NAME,
            banyan::admin::v1::ban_service_server::SERVICE_NAME,
            banyan::admin::v1::crl_service_server::SERVICE_NAME,
            banyan::admin::v1::federation_service_server::SERVICE_NAME,
            banyan::admin::v1::leaf_service_server::SERVICE_NAME,
            banyan::admin::v1::replica_service_server::SERVICE_NAME,
            banyan::admin::v1::rotation_service_server::SERVICE_NAME,
            banyan::admin::v1::signer_service_server::SERVICE_NAME,
            banyan::admin::v1::state_service_server::SERVICE_NAME,
            banyan::admin::v1::token_service_server::SERVICE_NAME,
            banyan::admin::v1::waiver_service_server::SERVICE_NAME,
            banyan::agent::v1::agent_service_server::SERVICE_NAME,
            banyan::agent::v1::local_service_server::SERVICE_NAME,
            banyan::plugin::v1::root_authority_service_server::SERVICE_NAME,
            banyan::downstream::v1::downstream_admin_service_server::SERVICE_NAME,
            banyan::downstream::v1::downstream_service_server::SERVICE_NAME,
            banyan::replica::v1::peer_service_server::SERVICE_NAME,
            envoy::service::secret::v3::secret_discovery_service_server::SERVICE_NAME,
            etcdserverpb::auth_server::SERVICE_NAME,
            etcdserverpb::kv_server::SERVICE_NAME,
            etcdserverpb::watch_server::SERVICE_NAME,
            istio::v1::auth::istio_certificate_service_server::SERVICE_NAME,
            spire::api::server::svid::v1::svid_server::SERVICE_NAME,
            workload::spiffe_workload_api_server::SERVICE_NAME,
        ];
        assert_eq!(services.collect::<BTreeSet<_>>(), served.map(str::to_owned).into());
    }
}
