//! Nothing fails with every protection in place; something does without any one of them.

use crate::mesh::{Canaries, Distrusts, Further, Refuses, Restored, Setting, Without};
use crate::walk::walk;

/// Worlds that a walk may see, so that one that has grown is noticed.
const MOST: usize = 1_000_000;

/// Two proxies, no client, nothing breaks, handshakes take no time.
pub(crate) const PLAIN: Setting = Setting {
    without: Without::Nothing,
    ticks: 2,
    handshake: 0,
    skew: 0,
    bound: 90,
    client_leaf: 0,
    client_requests: 0,
    proxy_leaf: 0,
    secrets: 1,
    lapses: false,
    covered: false,
    refuses: Refuses::Nothing,
    joiner: false,
    losses: 0,
    forgets: false,
    refusals: 0,
    agent_crashes: 0,
    agent_stops: 0,
    replica_crashes: 0,
    disk_is_lost: false,
    step: 0,
    operator: false,
    further: Further::No,
    holds: false,
    restored: Restored::No,
    distrusts: Distrusts::No,
    takes_back: false,
    standby: false,
    unable: false,
    canary: Canaries::No,
};

fn checked(name: &str, setting: Setting, without: &[Without]) {
    let [phases @ .., canary] = safe(name, &setting);
    assert!(phases.iter().all(|worlds| *worlds > 0), "{name} does not go through every phase");
    assert_eq!(canary > 0, setting.canary.is_some(), "{name}");
    broken(name, &setting, without);
}

fn safe(name: &str, setting: &Setting) -> [usize; 5] {
    let safe = walk(setting, MOST);
    println!("{name}: {} worlds, by phase {:?}", safe.worlds, safe.phases);
    if let Some((path, failing)) = safe.failure {
        panic!("{name}: {failing}\n{}", path.join("\n"));
    }
    safe.phases
}

fn broken(name: &str, setting: &Setting, without: &[Without]) {
    for without in without {
        let broken = walk(&Setting { without: *without, ..*setting }, MOST);
        let (path, failing) =
            broken.failure.unwrap_or_else(|| panic!("{name} without {without:?} fails nowhere"));
        println!(
            "{name} without {without:?}: {} worlds, {} moves: {failing}",
            broken.worlds,
            path.len()
        );
        println!("    {}", path.join("; "));
    }
}

#[test]
fn gates_keep_every_handshake() {
    checked("plain", PLAIN, &[Without::TrustGate, Without::AckOnApply, Without::LeafGate]);
}

#[test]
fn a_further_root_is_trusted_as_long_as_it_is_named() {
    let trusted = Setting { further: Further::Trusted, operator: true, ticks: 0, ..PLAIN };
    checked("further root", trusted, &[Without::FurtherOutlives]);
    let leaves = Setting { further: Further::Leaves, ticks: 0, ..PLAIN };
    checked("further root leaves", leaves, &[]);
    let comes = Setting { further: Further::Comes, ticks: 0, ..PLAIN };
    checked("further root comes", comes, &[Without::FurtherAlone]);
}

#[test]
fn settle_keeps_handshakes_in_flight() {
    let setting = Setting { handshake: 2, ticks: 5, ..PLAIN };
    checked("handshakes", setting, &[Without::SettleAtT, Without::SettleAtL]);
}

#[test]
fn an_operator_may_abort_roll_back_and_go_forward_again() {
    let setting = Setting { operator: true, ticks: 0, ..PLAIN };
    checked("operator", setting, &[Without::TrustGate, Without::AckOnApply, Without::LeafGate]);
}

#[test]
fn a_distrusted_root_goes_by_its_gates_whatever_is_under_way() {
    let words = [Without::TrustGate, Without::LeafGate, Without::GoesByItsGate];
    let setting = Setting { distrusts: Distrusts::InRotation, ticks: 0, ..PLAIN };
    checked("distrust", setting, &words);
    let standby = Setting { distrusts: Distrusts::WithStandby, ..setting };
    checked("distrust with a standby root", standby, &words);
}

/// The new root signs for the second proxy first.
#[test]
fn a_canary_begins_at_the_trust_gate_and_ends_at_a_leaf_gate() {
    let setting = Setting { canary: Canaries::ByItself, ticks: 0, ..PLAIN };
    checked("canary", setting, &[Without::TrustGate, Without::AckOnApply, Without::LeafGate]);
    let back = Setting { canary: Canaries::TakenBack, ..setting };
    checked("canary taken back", back, &[Without::LeafGate]);
}

/// With a client whose request is under way while the canary begins, grows and ends.
#[test]
fn what_was_signed_in_a_canary_is_known_before_a_root_goes() {
    let client = Setting { client_leaf: 1, client_requests: 1, ticks: 2, ..PLAIN };
    let without = [Without::RowBeforeSignature, Without::SealAtTheEnd];
    let setting = Setting { canary: Canaries::ByItself, ..client };
    checked("canary with a client", setting, &without);
}

#[test]
fn a_joiner_has_the_bundle_before_its_leaf() {
    checked("joiner", Setting { joiner: true, ..PLAIN }, &[Without::BundleBeforeLeaf]);
}

#[test]
fn bundles_and_holders_are_durable_before_they_are_used() {
    let setting = Setting { agent_crashes: 1, ..PLAIN };
    let without = [Without::DurableBeforePush, Without::HolderBeforeLeaf];
    checked("agents restart", setting, &without);
}

#[test]
fn a_request_has_its_row_before_the_gate_opens() {
    let client = Setting { client_leaf: 1, client_requests: 1, ticks: 4, ..PLAIN };
    checked("client", client, &[Without::RowBeforeSignature]);
}

#[test]
fn a_lost_segment_counts_as_full_until_a_bound_that_holds() {
    let lost = Setting {
        client_leaf: 3,
        client_requests: 1,
        bound: 1,
        ticks: 2,
        replica_crashes: 1,
        disk_is_lost: true,
        ..PLAIN
    };
    checked("lost segment", lost, &[Without::SegmentBound, Without::Horizon]);
}

#[test]
fn clocks_may_differ() {
    let setting = Setting { client_leaf: 1, client_requests: 1, skew: 1, ticks: 6, ..PLAIN };
    checked("skew", setting, &[Without::TwiceTheSkew]);
}

#[test]
fn an_agent_that_is_back_ends_the_rows_that_nobody_holds_and_no_other() {
    let setting = Setting { agent_crashes: 1, ticks: 1, ..PLAIN };
    checked(
        "agents say hello",
        setting,
        &[Without::HelloNamesHolders, Without::HelloSparesReplies],
    );
}

#[test]
fn an_agent_that_stops_releases_only_what_nobody_holds() {
    checked("stops", Setting { agent_stops: 1, ticks: 0, ..PLAIN }, &[Without::StopSparesHolders]);
}

#[test]
fn every_validation_secret_has_its_own_word() {
    let setting = Setting { secrets: 2, losses: 1, refusals: 1, ..PLAIN };
    let without = [Without::EverySecret, Without::LostIsUnknown, Without::RefusedIsNotApplied];
    checked("two secrets", setting, &without);
}

#[test]
fn a_validation_secret_that_stays_away_proves_nothing() {
    let setting = Setting { secrets: 2, losses: 1, forgets: true, ..PLAIN };
    checked("secret away", setting, &[Without::ForgottenIsUnknown]);
}

/// The same for its only one, while the leaf's stream is up: from then on it is a holder with trust of its own, until that
/// secret is back.
#[test]
fn the_only_validation_secret_that_stays_away_proves_nothing() {
    let setting = Setting { losses: 1, forgets: true, ticks: 0, ..PLAIN };
    checked("only secret away", setting, &[Without::TrustOfItsOwn, Without::BornIsNoWord]);
}

#[test]
fn who_skipped_a_bundle_gets_the_union_first() {
    let setting = Setting { proxy_leaf: 1, ticks: 2, ..PLAIN };
    checked("skipped", setting, &[Without::Union]);
}

#[test]
fn a_holder_with_trust_of_its_own_keeps_the_trust_gate_closed_over_its_renewals() {
    let setting = Setting { secrets: 0, proxy_leaf: 1, ticks: 3, ..PLAIN };
    let phases = safe("trust of its own", &setting);
    assert!(phases[0] > 0 && phases[1..] == [0; 4], "the gate opened: {phases:?}");
    let without = [Without::BornIsNoWord, Without::TrustOfItsOwn, Without::Promise];
    broken("trust of its own", &setting, &without);
}

/// What no evidence can prevent, kept here so that the documents that say so stay true: whoever has had no leaf for a while
/// is no member, the gate opens, and it comes back with the trust of former days.
#[test]
fn a_holder_with_trust_of_its_own_that_was_no_member_comes_back_with_what_it_has() {
    let setting = Setting { secrets: 0, lapses: true, proxy_leaf: 1, ticks: 2, ..PLAIN };
    let seen = walk(&setting, MOST);
    let (path, failing) =
        seen.failure.expect("a limit that is none any more: say so in docs/rotation-model.md");
    println!("limit, trust of its own and no leaf for a while: {} moves: {failing}", path.len());
    println!("    {}", path.join("; "));
}

#[test]
fn a_relying_party_that_covers_such_a_holder_opens_the_gate_once_it_has_confirmed() {
    let setting = Setting { secrets: 0, covered: true, proxy_leaf: 1, ticks: 2, ..PLAIN };
    checked("covered", setting, &[Without::Confirmation]);
}

#[test]
fn an_agent_that_refuses_the_bundle_gets_no_leaf_with_it() {
    let refuses = Setting { proxy_leaf: 1, ticks: 3, ..PLAIN };
    let newer = Setting { refuses: Refuses::Newer, ..refuses };
    checked("bundle refused", newer, &[Without::StoredBeforeLeaf]);
    let other = Setting { refuses: Refuses::OtherOfThatNumber, ..refuses };
    checked("another bundle of that number", other, &[Without::Digest]);
}

/// Bundle 2 was {A, B}, and of that the restored record knows nothing; then its authority names a further root.
#[test]
fn a_restored_record_gives_no_number_again_that_agents_have_told_of() {
    let setting =
        Setting { restored: Restored::Former, further: Further::Comes, ticks: 0, ..PLAIN };
    checked("restored", setting, &[Without::Fence, Without::GoesOnAbove]);
}

/// Bundle 2 is in force and in the backup; what was released after the backup has no row.
#[test]
fn a_restored_record_counts_what_was_released_after_the_backup() {
    let rows = Setting { restored: Restored::SameBundle, client_leaf: 1, ..PLAIN };
    checked("restored with a client", rows, &[Without::Recovery]);
}

#[test]
fn a_wall_clock_that_steps_ends_no_row_and_opens_no_gate() {
    let setting = Setting { client_leaf: 1, ticks: 2, step: 3, replica_crashes: 1, ..PLAIN };
    safe("clock steps back", &Setting { step: -3, ..setting });
    checked(
        "clock steps",
        setting,
        &[Without::BothClocks, Without::ClockFence, Without::ClockMark],
    );
}

#[test]
fn a_proxy_that_cannot_verify_the_new_root_keeps_the_trust_gate_closed_whatever_it_acknowledged() {
    let setting = Setting { unable: true, ticks: 0, ..PLAIN };
    checked("unable", setting, &[Without::Probe]);
}

#[test]
fn a_third_own_root_is_led_like_any_other() {
    let setting = Setting { standby: true, distrusts: Distrusts::Standby, ticks: 0, ..PLAIN };
    checked("three roots", setting, &[Without::TrustGate, Without::LeafGate]);
}
