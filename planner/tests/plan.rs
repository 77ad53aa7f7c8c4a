//! Plans: what they say, that they are the same each time, and that they move as the policy does.

use std::time::Duration;

use ledger::EvidenceClass;
use planner::{Forecast, Mesh, Question, Share, Sketch, plan};
use rotation::Policy;

const HOUR: Duration = Duration::from_secs(3_600);

fn sketch(agents: u64) -> Sketch {
    Sketch {
        agents,
        proxies: 1,
        csr_only: Share::percent(10),
        offline: Share::percent(2),
        back_after: None,
    }
}

fn question(sketch: Sketch) -> Question {
    Question {
        mesh: Mesh::Sketched(sketch),
        policy: Policy {
            leaf_lifetime_max: HOUR,
            leaf_lifetime_min: Duration::from_secs(300),
            ..Policy::default()
        },
        leaf_ttl: HOUR,
        budget: 500,
        agent_evidence: EvidenceClass::Applied,
        root_left: None,
        root_bytes: 450,
        csr_renews_at: Share::percent(50),
        seed: 1,
    }
}

fn seconds(forecast: &Forecast, phase: &str) -> f64 {
    forecast.phase_seconds(phase).unwrap_or_else(|| panic!("{phase} in {:?}", forecast.phases))
}

#[test]
fn everybody_behind_an_agent_is_through_in_the_time_that_the_budget_gives() {
    let alone = Sketch { csr_only: Share::percent(0), offline: Share::percent(0), ..sketch(1_000) };
    let forecast = plan(&question(alone)).unwrap();
    assert!(forecast.answer.finishes, "{:?}", forecast.answer);
    // Acknowledged within a second, and then `settle`.
    let trust = seconds(&forecast, "distributing");
    assert!((30.0..35.0).contains(&trust), "{trust}");
    // 2,001 leaves at 500 a second, and then `settle`.
    let leaves = seconds(&forecast, "draining");
    assert!((33.0..40.0).contains(&leaves), "{leaves}");
    assert!(forecast.csr.peak_per_second >= 400, "{:?}", forecast.csr);
    println!("{forecast:#?}");
}

#[test]
fn whoever_cannot_be_reached_or_asks_for_itself_is_waited_for_until_the_leaf_ends() {
    let forecast = plan(&question(sketch(2_000))).unwrap();
    let (trust, leaves) = (seconds(&forecast, "distributing"), seconds(&forecast, "draining"));
    // A whole leaf, twice the skew, and `settle`.
    for (phase, lasted) in [("distributing", trust), ("draining", leaves)] {
        assert!((3_300.0..3_800.0).contains(&lasted), "{phase} {lasted}");
    }
    let gate = forecast.gates.iter().find(|gate| gate.gate == "trust").unwrap();
    assert!(gate.holders["csr-only"].most >= 200, "{gate:?}");
    println!(
        "{:#?}",
        (
            &forecast.gates,
            &forecast.phases,
            &forecast.csr,
            &forecast.answer,
            &forecast.bundles,
            &forecast.old_root
        )
    );
}
