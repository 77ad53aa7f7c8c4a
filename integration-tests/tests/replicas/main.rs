//! Three servers of one CA, each a process over a real etcd, under faults; counted from outside.
//!
//! Each test starts its own etcd, servers, agents and members that shake hands without pause, breaks something, and is judged
//! by `Trio::judged`: no handshake failed, every certificate that a client was given is in a row, no root had a leaf after it
//! was withdrawn, the rotation ended within its bound, and the journal leads to the record at each server.

mod all;
mod clock;
mod crash;
mod disk;
mod emergency;
mod kill;
mod leaving;
mod names;
mod partitions;
mod pause;
mod restore;
mod second_net;
mod store;
mod upgrade;

use std::process::ExitCode;
use std::time::Duration;

use integration_tests::replicas::{Net, Plan};
use libtest_mimic::{Arguments, Trial};

/// Tests at a time: they wait more than they work, and each has four servers that must not miss their leases.
const AT_A_TIME: usize = 6;
/// Longest rotation: two gates, each of which may wait for the last leaf of a server that is gone (12 s, the horizon's step of
/// 10 s, twice the skew), settle, what its fault takes, and a machine that is busy.
const ROTATION_MAX: Duration = Duration::from_secs(110);

macro_rules! trials {
    ($($module:ident :: $test:ident),* $(,)?) => {
        vec![$(trial(stringify!($test), |name| Box::pin($module::$test(plan(name))))),*]
    };
}

fn main() -> ExitCode {
    cli::install_crypto_provider();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let trials = trials![
        kill::the_lead_is_killed_while_trust_is_distributed_and_is_started_again,
        kill::a_server_that_does_not_lead_is_killed_while_leaves_are_renewed_and_is_started_again,
        crash::whoever_takes_a_durable_step_of_a_rotation_dies_right_after_it_and_the_next_one_goes_on,
        pause::the_lead_is_paused_for_longer_than_its_lease_and_releases_nothing_that_it_held,
        partitions::a_server_that_is_cut_off_from_the_store_releases_nothing_after_its_lease,
        partitions::a_server_that_is_cut_off_from_the_others_alone_serves_on,
        partitions::agents_leave_a_server_that_they_are_cut_off_from_and_the_rotation_goes_on,
        disk::a_server_that_lost_its_disk_joins_anew_and_its_former_rows_hold_gates_until_their_bound,
        clock::a_clock_that_jumps_an_hour_ahead_and_back_stops_that_server_alone_for_so_long,
        clock::a_clock_that_jumps_an_hour_back_and_ahead_stops_that_server_alone_for_so_long,
        clock::a_server_that_starts_with_a_wrong_clock_is_outvoted_and_goes_on_once_it_is_right,
        names::a_second_server_under_a_taken_name_is_told_where_the_first_is_which_goes_on,
        all::all_servers_are_killed_at_once_while_leaves_are_renewed,
        all::all_servers_and_their_store_are_killed_at_once_and_go_on_from_what_is_on_disks,
        store::without_the_store_leaves_are_issued_for_as_long_as_the_lease_holds_and_again_once_it_is_back,
        store::a_store_that_answers_late_delays_a_rotation_and_nothing_else,
        store::a_store_that_is_full_stops_releases_and_they_go_on_by_themselves_once_it_has_room,
        store::a_server_whose_certificate_the_store_refuses_says_so_and_goes_on_with_a_right_one,
        store::servers_that_may_no_longer_write_say_so_and_go_on_once_they_may,
        upgrade::servers_are_replaced_one_after_another_in_a_rotation_and_back_and_nothing_waits_for_them,
        upgrade::servers_are_replaced_and_taken_back_and_the_former_release_reads_all_that_the_new_one_wrote,
        restore::a_restore_that_is_killed_anywhere_goes_on_when_it_is_run_again_and_no_server_starts_in_between,
        restore::servers_that_start_at_once_on_a_restored_state_count_what_was_lost_once_and_all_come_up,
        restore::a_start_on_a_restored_state_waits_for_a_store_that_is_away_slow_and_away_again_and_ends_by_itself,
        store::servers_that_start_without_rights_say_what_they_wait_for_and_go_on_once_they_have_them,
        leaving::a_server_that_drains_sends_its_agents_elsewhere_stops_in_order_and_holds_nothing,
        emergency::who_is_banned_and_what_is_revoked_at_one_server_is_so_at_each,
        emergency::a_stolen_root_goes_at_each_server_and_nobody_behind_an_agent_notices,
        second_net::each_server_sends_the_same_cross_certificate_also_one_that_was_killed,
        leaving::a_dead_server_that_is_removed_is_waited_for_no_more_and_a_live_one_is_removed_by_force_alone,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

type Running = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

fn trial(name: &'static str, test: fn(&'static str) -> Running) -> Trial {
    Trial::test(name, move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test(name)).map_err(|error| format!("{error:#}").into())
    })
}

fn plan(name: &'static str) -> Plan {
    Plan {
        name,
        server: env!("CARGO_BIN_EXE_replica_under_test").into(),
        banyan: env!("CARGO_BIN_EXE_banyan_under_test").into(),
        agents: 3,
        clients: 0,
        etcd: stores_peers::Setup::plain(),
        store: String::new(),
        store_files: Vec::new(),
        rotation: String::new(),
        net: None::<Net>,
    }
}
