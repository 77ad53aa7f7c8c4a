//! The suite itself: an engine that keeps the contract passes, and one that breaks a rule fails at that rule.

mod fake;

use std::sync::Arc;

use fake::{Fault, Network, fake};
use stores_contract::{Report, Subject, run};

async fn tried(fault: Option<Fault>) -> Report {
    let network = Arc::new(Network::new(fault));
    let engine = Arc::clone(&network);
    let open = move || {
        let handle = fake(&engine);
        async move { Ok(handle) }
    };
    run(&Subject::new(open).with_trouble(network)).await
}

#[tokio::test(start_paused = true)]
async fn a_fake_that_keeps_the_contract_passes() {
    let report = tried(None).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{report}");
    assert_eq!(report.skipped(), Vec::<&str>::new(), "{report}");
    assert_eq!(report.passed().len(), 25);
}

#[tokio::test(start_paused = true)]
async fn each_rule_has_a_fake_that_breaks_it() {
    let mut broken = std::collections::BTreeSet::new();
    for (fault, rule) in Fault::ALL {
        let report = tried(Some(fault)).await;
        assert!(report.failed().contains(&rule), "{fault:?} must break {rule}\n{report}");
        broken.insert(rule);
    }
    let rules = tried(None).await.passed();
    let never: Vec<_> = rules.into_iter().filter(|rule| !broken.contains(rule)).collect();
    assert_eq!(never, Vec::<&str>::new(), "no fake breaks these");
}
