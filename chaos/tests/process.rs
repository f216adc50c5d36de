//! Stories of real processes: they form, are hit, return, and never outlive their harness.
//!
//! Without the standard harness, since this very program is also what becomes a node: told
//! `node` it is one. Each story waits for conditions with a bound and leaves no process behind.

#[path = "process/blackout.rs"]
mod blackout;
#[path = "process/blame.rs"]
mod blame;
#[path = "process/clocks.rs"]
mod clocks;
#[path = "process/disks.rs"]
mod disks;
#[path = "process/lab.rs"]
mod lab;
#[path = "process/lagging.rs"]
mod lagging;
#[path = "process/links.rs"]
mod links;
#[path = "process/orphans.rs"]
mod orphans;
#[path = "process/runs.rs"]
mod runs;
#[path = "process/starts.rs"]
mod starts;
#[path = "process/stores.rs"]
mod stores;

use std::process::ExitCode;

type Story = fn();

const STORIES: &[(&str, Story)] = &[
    ("a_node_without_its_harness_is_refused", starts::a_node_without_its_harness_is_refused),
    ("a_node_that_hears_garbage_ends_and_says_why", starts::a_node_that_hears_garbage_ends),
    ("a_store_that_is_no_store_stops_the_start", starts::a_store_that_is_no_store),
    ("a_program_that_is_no_node_stops_the_start", starts::a_program_that_is_no_node),
    ("nodes_keep_address_and_log_through_a_kill", starts::nodes_keep_address_and_log),
    ("a_taken_address_is_waited_for", starts::a_taken_address_is_waited_for),
    ("a_paused_node_stands_still_and_goes_on", starts::a_paused_node_stands_still),
    ("a_node_that_falls_breaks_a_guarantee_whatever_fails_of_it", blame::a_node_that_falls),
    ("what_the_host_has_not_got_is_no_fault_of_a_node", blame::what_the_host_has_not_got),
    ("a_node_without_its_program_is_the_laboratorys_failure", blame::a_node_without_its_program),
    ("groups_that_formed_count_where_the_next_cannot_start", blame::groups_that_formed),
    ("no_node_outlives_a_killed_harness", orphans::no_node_outlives_a_killed_harness),
    ("a_vanished_store_is_missed_by_name", stores::a_vanished_store),
    ("a_cut_or_foreign_store_is_refused_by_name", stores::a_cut_or_foreign_store),
    ("a_flipped_byte_of_a_store_costs_no_acknowledged_write", stores::a_flipped_byte),
    ("a_node_whose_disk_fails_stops_and_names_the_file_and_the_error", disks::a_failing_disk),
    ("a_node_whose_disk_stalls_goes_on", disks::a_stalling_disk),
    ("a_flipped_cold_bit_is_refused_and_the_node_returns_with_another_store", disks::a_cold_bit),
    ("disks_that_fail_cost_no_acknowledged_write", disks::disks_of_a_plan),
    ("killed_leaders_cost_no_acknowledged_write", runs::killed_leaders),
    ("a_node_killed_again_as_it_returns_is_no_lost_node", runs::a_node_killed_again_as_it_returns),
    ("paused_leaders_cost_no_acknowledged_write", runs::paused_leaders),
    ("all_nodes_die_at_once_and_nothing_acknowledged_is_missing", blackout::all_nodes_die),
    ("stores_that_all_went_back_in_time_are_found", blackout::stores_that_went_back_in_time),
    ("a_cut_off_node_misses_what_is_committed_and_catches_up", links::a_cut_off_node_catches_up),
    ("a_cut_outlives_the_restart_of_a_node", links::a_cut_outlives_a_restart),
    ("links_on_the_hosts_transport_are_not_hurt", links::a_cluster_on_the_hosts_transport),
    ("an_isolated_leader_costs_no_acknowledged_write", links::an_isolated_leader),
    ("a_minority_acknowledges_nothing_and_returns_in_peace", links::a_leader_in_a_minority),
    ("a_ring_and_a_flapping_follower_change_no_leader", links::a_ring_and_flapping_links),
    ("a_partition_and_bad_links_cost_no_acknowledged_write", links::a_partition_and_bad_links),
    ("a_clock_is_seen_to_differ_and_stays_so_through_a_kill", clocks::a_clock_is_seen_to_differ),
    ("clocks_five_percent_off_cost_no_acknowledged_write", clocks::a_leader_in_a_hurry),
    ("members_that_leave_are_wiped_or_evicted_vote_again", runs::members_that_come_and_go),
    ("what_hits_one_group_of_several_costs_none_an_acknowledged_write", runs::several_groups),
    ("groups_form_again_and_again", runs::groups_form),
    ("a_killed_follower_fetches_what_it_missed_from_all_others", lagging::a_killed_follower),
    ("a_follower_that_was_cut_off_catches_up_over_bad_links", lagging::a_follower_that_was_cut_off),
    ("a_stopped_run_is_judged_as_far_as_it_went", runs::a_stopped_run),
    ("two_harnesses_run_side_by_side", runs::two_side_by_side),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("node") => return chaos::process::node::main(&words[1..]),
        // A harness of one story, to be killed by it.
        Some("harness") => return orphans::harness(&words[1..]),
        _ => {}
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = 0;
    for (name, story) in STORIES {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        if words.iter().any(|word| word == "--list") {
            println!("{name}: test");
            continue;
        }
        match std::panic::catch_unwind(story) {
            Ok(()) => println!("story {name} ... ok"),
            Err(_) => {
                println!("story {name} ... FAILED");
                failed += 1;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
