//! The suite that every root authority passes.

use std::sync::Arc;

use plugin_acme::AcmePlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{AuthorityDeps, AuthorityPlugin as _, RootAuthority};
use plugins_conformance::authority::{Subject, run};
use trust::{Clock, ManualClock, SeededRandomness, Timestamp, TrustDomain};

const NOW: Timestamp = Timestamp::from_secs(1_780_272_000);

#[tokio::test]
async fn acme_conforms() {
    // FILL IN: start the real Acme here, and write the settings that lead to it.
    let settings: toml::Table = "lifetime_days = 3650".parse().expect("toml");
    let domain = TrustDomain::parse("example.org").expect("a trust domain");
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    // What survives a restart is shared by all instances, and nothing else is.
    let (keys, state) = (Arc::new(MemoryKeys::new()), Arc::new(MemoryState::new()));
    let open = {
        let (domain, clock) = (domain.clone(), Arc::clone(&clock));
        move || -> Arc<dyn RootAuthority> {
            let (keys, state) = (keys.clone() as _, state.clone() as _);
            let (clock, randomness) = (Arc::clone(&clock), Arc::new(SeededRandomness::new(1)) as _);
            AcmePlugin.open(&settings, AuthorityDeps::new(domain.clone(), keys, state, clock, randomness)).expect("opens")
        }
    };
    // FILL IN: a rule that Acme cannot keep is declared here, `.gap("RULE", "reason")`, and in docs/plugins/acme.md.
    run(&Subject::new(open, domain, clock)).await.assert_conforms();
}
