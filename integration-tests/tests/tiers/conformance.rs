//! The suite of root authorities, over a real upstream CA.

use std::sync::Arc;

use host::{OsRandomness, SystemClock};
use integration_tests::mesh::{TRUST_DOMAIN, write_private};
use plugin_banyan::BanyanPlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{AuthorityDeps, AuthorityPlugin as _, AuthorityState};
use plugins_conformance::authority::{Subject, run};
use trust::TrustDomain;

use crate::tier_ca::TierCa;

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_passes_the_suite_over_a_real_upstream_ca() -> anyhow::Result<()> {
    let top = TierCa::top().await?;
    let home = tempfile::tempdir()?;
    write_private(&home.path().join("token"), &top.add_downstream("suite").await?)?;
    std::fs::write(home.path().join("ca.pem"), top.bundle().pem().as_bytes())?;
    let settings: toml::Table =
        format!("address = '{}'\nca_file = 'ca.pem'\ntoken_file = 'token'", top.address())
            .parse()?;
    let domain = TrustDomain::parse(TRUST_DOMAIN)?;
    let state: Arc<dyn AuthorityState> = Arc::new(MemoryState::new());
    let (base, of) = (home.path().to_owned(), domain.clone());
    let open = move || {
        let (keys, state) = (Arc::new(MemoryKeys::new()) as _, Arc::clone(&state));
        let (clock, randomness) = (Arc::new(SystemClock) as _, Arc::new(OsRandomness::new()) as _);
        let deps = AuthorityDeps::new(of.clone(), keys, state, clock, randomness)
            .named("upper")
            .at(base.clone());
        BanyanPlugin.open(&settings, deps).unwrap()
    };
    let report = run(&Subject::new(open, domain, Arc::new(SystemClock))).await;
    report.assert_conforms();
    Ok(())
}
