//! The times of a simulated CA: short, so that a rotation fits into some minutes, and in proportion.

use std::time::Duration;

use control::evidence::EvidenceSettings;
use control::probing::ProbePolicy;
use control::work::Shapes;
use issuance::{LeafProfile, ProfileSettings};
use ledger::EvidenceClass;
use plugins::KeySpec;
use rotation::Policy;

pub(crate) const SKEW: Duration = Duration::from_secs(2);
pub(crate) const LEASE: Duration = Duration::from_secs(6);
pub(crate) const LEAF_MAX: Duration = Duration::from_secs(60);
pub(crate) const LEAF_MIN: Duration = Duration::from_secs(10);
/// Longest handshake in flight: less than what gates settle for.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
pub(crate) const TRUST_DOMAIN: &str = "example.org";
pub(crate) const AUTHORITY: &str = "main";

pub(crate) const POLICY: Policy = Policy {
    skew: SKEW,
    leaf_lifetime_max: LEAF_MAX,
    horizon_step_max: Duration::from_secs(20),
    settle: Duration::from_secs(3),
    leaf_lifetime_min: LEAF_MIN,
    withdrawal_max: Duration::from_secs(30),
    canary_observe: Duration::from_secs(30),
    canary_limit_percent: 1,
};

pub(crate) const SHAPES: Shapes = Shapes {
    root_lifetime: Duration::from_secs(30 * 86_400),
    root_key: KeySpec::Ed25519,
    issuer_lifetime: Duration::from_secs(900),
    issuer_lifetime_min: Duration::from_secs(300),
    issuer_key: KeySpec::Ed25519,
    leaf_lifetime_max: LEAF_MAX,
};

pub(crate) const EVIDENCE: EvidenceSettings = EvidenceSettings {
    agent: EvidenceClass::Applied,
    alarm_after: Duration::from_secs(3_600),
    return_within: Duration::from_secs(86_400),
    own_trust_after: None,
    probe: ProbePolicy::Never,
};

pub(crate) fn profile() -> Option<LeafProfile> {
    let settings = ProfileSettings {
        ttl_default: LEAF_MAX,
        ttl_max: LEAF_MAX,
        ttl_min: LEAF_MIN,
        backdate: Duration::from_secs(4),
        ..ProfileSettings::default()
    };
    LeafProfile::new(settings).ok()
}
