//! Plans: what they say, that they are the same each time, and that they move as the policy does.

use std::time::Duration;

use ledger::{EvidenceClass, RowKind};
use planner::{Forecast, Found, Mesh, Question, Share, Sketch, plan};
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
}

/// With leaves that live 10 minutes, so that a test is quick.
fn brief(sketch: Sketch) -> Question {
    let ttl = Duration::from_secs(600);
    let policy = Policy {
        leaf_lifetime_max: ttl,
        leaf_lifetime_min: Duration::from_secs(60),
        horizon_step_max: ttl / 4,
        withdrawal_max: Duration::from_secs(60),
        ..Policy::default()
    };
    Question { policy, leaf_ttl: ttl, ..question(sketch) }
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_one_another() {
    let of = |seed| format!("{:?}", plan(&Question { seed, ..brief(sketch(300)) }).unwrap());
    let first = of(7);
    assert_eq!(first, of(7));
    assert_ne!(first, of(8));
}

#[test]
fn a_policy_that_waits_longer_moves_each_phase_by_as_much() {
    let agents = Sketch { csr_only: Share::percent(0), offline: Share::percent(0), ..sketch(300) };
    let base = plan(&brief(agents)).unwrap();
    let mut settles = brief(agents);
    settles.policy.settle += Duration::from_secs(60);
    let settles = plan(&settles).unwrap();
    for phase in ["distributing", "draining"] {
        let moved = seconds(&settles, phase) - seconds(&base, phase);
        assert!((59.0..61.5).contains(&moved), "{phase} moved by {moved}");
    }

    // Only whoever is waited for to the end shows what skew and life are.
    let waits = plan(&brief(sketch(300))).unwrap();
    let mut skewed = brief(sketch(300));
    skewed.policy.skew += Duration::from_secs(30);
    let skewed = plan(&skewed).unwrap();
    for phase in ["distributing", "draining"] {
        let moved = seconds(&skewed, phase) - seconds(&waits, phase);
        assert!((58.0..62.5).contains(&moved), "{phase} moved by {moved}, twice 30 s of skew");
    }

    let mut longer = brief(sketch(300));
    longer.leaf_ttl *= 2;
    longer.policy.leaf_lifetime_max *= 2;
    let longer = plan(&longer).unwrap();
    for phase in ["distributing", "draining"] {
        let moved = seconds(&longer, phase) - seconds(&waits, phase);
        assert!(
            (540.0..660.0).contains(&moved),
            "{phase} moved by {moved}, 600 s of a leaf's life"
        );
    }

    let slower = plan(&Question { budget: 10, ..brief(agents) }).unwrap();
    let moved = seconds(&slower, "draining") - seconds(&base, "draining");
    assert!((40.0..70.0).contains(&moved), "600 leaves at 10 a second moved it by {moved}");
}

#[test]
fn what_holds_a_gate_is_named_by_kind_and_goes_when_its_holders_do() {
    let gate = |forecast: &Forecast, kind: &str| {
        let trust = forecast.gates.iter().find(|gate| gate.gate == "trust").unwrap();
        trust.holders.get(kind).map(|holders| (holders.most, holders.until))
    };
    let all = plan(&brief(sketch(300))).unwrap();
    let (most, until) = gate(&all, "csr-only").unwrap();
    assert!(most >= 30 && until > 540, "{most} until {until}");
    let reached = Sketch { offline: Share::percent(0), csr_only: Share::percent(0), ..sketch(300) };
    let reached = plan(&brief(reached)).unwrap();
    assert_eq!(gate(&reached, "csr-only"), None);
    // Those who come back soon are waited for until then, and no longer.
    let back_after = Some(Duration::from_secs(120));
    let back = Sketch {
        csr_only: Share::percent(0),
        offline: Share::percent(20),
        back_after,
        ..sketch(300)
    };
    let back = plan(&brief(back)).unwrap();
    let lasted = seconds(&back, "distributing");
    assert!((150.0..160.0).contains(&lasted), "{lasted}");
}

#[test]
fn a_root_that_ends_first_is_a_no_and_one_that_does_not_is_a_yes() {
    let with = |left: u64| {
        let root_left = Some(Duration::from_secs(left));
        plan(&Question { root_left, ..brief(sketch(300)) }).unwrap()
    };
    let early = with(86_400);
    assert_eq!(early.answer.before_root_ends, Some(true), "{:?}", early.answer);
    assert_eq!(early.csr.refused, 0);
    assert!(early.answer.margin_seconds.unwrap() > 80_000, "{:?}", early.answer);
    let late = with(700);
    assert_eq!(late.answer.before_root_ends, Some(false), "{:?}", late.answer);
    assert!(late.csr.refused > 0, "{:?}", late.csr);
}

#[test]
fn holders_with_trust_of_their_own_are_waited_for_without_end_and_the_plan_says_what_ends_it() {
    let leaf = Found {
        kind: RowKind::AgentHeld,
        agent: Some(0),
        connected: true,
        own_trust: false,
        left: Duration::from_secs(400),
    };
    let mesh = Mesh::Found(vec![leaf, Found { own_trust: true, ..leaf }]);
    let forecast = plan(&Question { mesh, ..brief(sketch(1)) }).unwrap();
    assert!(!forecast.answer.finishes, "{:?}", forecast.answer);
    let said = forecast.answer.waits_for.join("\n");
    assert!(said.contains("nobody has confirmed") && said.contains("relying-party add"), "{said}");
}

#[test]
fn leaves_that_were_found_are_waited_for_to_their_ends() {
    let found = |connected, left| Found {
        kind: RowKind::AgentHeld,
        agent: Some(u32::from(connected)),
        connected,
        own_trust: false,
        left: Duration::from_secs(left),
    };
    let of = |left| {
        let mesh = Mesh::Found(vec![found(true, 500), found(false, left)]);
        seconds(&plan(&Question { mesh, ..brief(sketch(1)) }).unwrap(), "distributing")
    };
    let (short, long) = (of(200), of(500));
    assert!((298.0..303.0).contains(&(long - short)), "{short} and {long}");
}
