//! Custom resources `banyan.dev/v1alpha1`: an operator's words to the CA, and what it shows.
//!
//! `root_rotation` takes words: create one, and a rotation starts. `waivers` and `federated` do: create one, and it stands. `view` shows the CA and its authorities and takes none.
//! `issuers` shows whether the issuers that cert-manager's certificates name can sign; [`issuer`] is what they allow.
//! The types with their schema are in [`types`]; [`crds`] is what a cluster must know of them before.
//!
//! Everything works without them: they give words to the admin API and show what it says.

mod crds;
mod federated;
mod federated_types;
pub mod issuer;
mod issuers;
mod notes;
mod progress;
mod root_rotation;
pub mod types;
mod view;
mod waivers;

pub use crds::{crds, manifests};
pub use federated_types::{
    EndpointProfile, FederatedTrustDomain, FederatedTrustDomainSpec, FederatedTrustDomainStatus,
};
pub use issuer::{
    BanyanClusterIssuer, BanyanClusterIssuerSpec, BanyanIssuer, BanyanIssuerSpec, IssuerStatus,
};
pub use types::{
    Condition, GateStatus, Mode, RootAuthority, RootAuthoritySpec, RootAuthorityStatus,
    RootRotation, RootRotationSpec, RootRotationStatus, RotationAction, ShownRoot, TrustDomain,
    TrustDomainSpec, TrustDomainStatus, Waiver, WaiverSpec, WaiverStatus,
};

pub(crate) use federated::FederatedTrustDomains;
pub(crate) use issuers::Issuers;
pub(crate) use root_rotation::Rotations;
pub(crate) use view::Views;
pub(crate) use waivers::Waivers;
