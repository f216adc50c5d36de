//! Stories of the simulator: whole plans in virtual time, each in two processes that must agree
//! on every packet.
//!
//! Without the standard harness, since this very program also is each of the two processes: told
//! `simulate` it carries out one story and prints what came of it. Told `--seed`, all stories run
//! from that seed; words that begin with no dash choose stories by a part of their name.

use std::{
    io,
    path::PathBuf,
    process::{Command, ExitCode},
};

use chaos::{
    history::Operation,
    outage::Trial,
    plan,
    run::{Listener, Mark, Outcome, Phase, Stop},
    schedule::Schedule,
    seed::Seed,
    sim,
};

/// A plan, and what must be true of its outcome.
struct Story {
    name: &'static str,
    plan: &'static str,
    holds: fn(&Outcome) -> Result<(), String>,
}

const STORIES: &[Story] = &[
    Story {
        name: "killed_leaders_cost_no_acknowledged_write",
        plan: "scenario = \"kill\"\nkind = \"failover\"\ntrials = 3\n[workload]\n\
               rate_per_s = 100\nduration_ms = 4000\n[[steps]]\nat = \"random\"\n\
               fault = \"kill\"\nreturn_after_ms = 1000\n",
        holds: |outcome| all_struck(outcome, 3),
    },
    Story {
        name: "kills_and_crashes_of_disks_stay_valid_while_logs_are_compacted",
        plan: "scenario = \"compaction\"\nkind = \"failover\"\ntrials = 4\n\
               snapshot_log_entries = 40\n[workload]\n\
               rate_per_s = 200\nduration_ms = 5000\n[[steps]]\nat = \"random\"\n\
               fault = \"kill\"\nreturn_after_ms = 1500\n",
        holds: |outcome| {
            let begins = |log: &chaos::history::NodeLog| log.lines.first().map(|line| line.index);
            let begun: Vec<_> = outcome.frozen.logs.iter().filter_map(begins).collect();
            let all = begun.len() == 5 && begun.iter().all(|index| *index > 100);
            expect(all, &format!("logs begin at {begun:?}"))?;
            // What went into snapshots is looked for in the registers, and found alike in all.
            looked_at(outcome, "final reads", "was read once more")?;
            looked_at(outcome, "machines", "of all 5 nodes hold the same")?;
            looked_at(outcome, "acknowledged", "and their registers were read afterwards")?;
            looked_at(outcome, "availability", "without its leader the group went on")?;
            all_struck(outcome, 4)
        },
    },
    Story {
        name: "all_nodes_die_at_once_and_nothing_acknowledged_is_missing",
        plan: "scenario = \"blackout\"\nkind = \"failover\"\ntrials = 3\n[workload]\n\
               rate_per_s = 200\nduration_ms = 5000\n[[steps]]\nat = \"random\"\n\
               fault = \"kill\"\ntarget = \"all\"\nreturn_after_ms = 1000\n\
               [expect]\nmajority_may_be_lost = true\n",
        holds: |outcome| {
            all_struck(outcome, 3)?;
            expect(outcome.trials.len() == 3, "of all nodes one fault and one outage")?;
            let is_whole = |trial: &Trial| {
                let elected = trial.term_after > Some(trial.term_before);
                trial.nodes.len() == 5 && trial.outage_ms > Some(1_000.0) && elected
            };
            expect(outcome.trials.iter().all(is_whole), "all five were gone, and led again")
        },
    },
    Story {
        name: "a_paused_leader_is_replaced_and_returns",
        plan: "scenario = \"pause\"\nkind = \"failover\"\ntrials = 2\nnodes = 3\n[workload]\n\
               rate_per_s = 100\nduration_ms = 4000\n[[steps]]\nat = \"random\"\n\
               fault = \"pause\"\nreturn_after_ms = 1000\n",
        holds: |outcome| all_struck(outcome, 2),
    },
    Story {
        name: "nodes_that_are_restarted_hand_over_and_are_not_missed",
        plan: "scenario = \"restart\"\nkind = \"failover\"\nnodes = 3\n[workload]\n\
               rate_per_s = 100\nduration_ms = 6000\n[[steps]]\nat = 500\n\
               fault = \"restart\"\nhand_over = true\nreturn_after_ms = 500\n\
               [[steps]]\nat = 2500\nfault = \"restart\"\nreturn_after_ms = 500\n\
               [[steps]]\nat = 4500\nfault = \"transfer\"\nreturn_after_ms = 500\n",
        holds: |outcome| all_struck(outcome, 3),
    },
    Story {
        // Two of five hear all and are heard by nobody. Who is told to stand is one of them: the
        // leader leads on, and hands over to another.
        name: "where_who_is_told_to_stand_cannot_win_another_is_told",
        plan: "scenario = \"unheard\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
               rate_per_s = 20\nduration_ms = 20000\n[[steps]]\nat = 500\n\
               fault = \"partition\"\nway = \"out\"\nreturn_after_ms = 12000\n\
               cut = [[2, 1], [2, 3], [2, 4], [2, 5], [4, 1], [4, 3], [4, 5]]\n\
               [[steps]]\nat = 510\nfault = \"transfer\"\nreturn_after_ms = 500\n",
        holds: |outcome| {
            all_struck(outcome, 2)?;
            let is_late = outcome.schedule.faults[1].struck_ns > Some(5_000_000_000);
            expect(is_late, "the first transfer came to nothing")
        },
    },
    Story {
        name: "each_trial_draws_its_own_fault",
        plan: "scenario = \"drawn\"\nkind = \"failover\"\ntrials = 6\n[workload]\n\
               rate_per_s = 100\nduration_ms = 4000\n[[steps]]\nat = \"random\"\n\
               fault = \"kill\"\nreturn_after_ms = 1000\n\
               among = [\"kill\", \"pause\", \"isolate\", \"transfer\", \"restart\"]\n",
        holds: |outcome| {
            all_struck(outcome, 6)?;
            let of_kind = |name: &&String| name.starts_with("outage_") && *name != "outage_ms";
            let kinds = outcome.samples.keys().filter(of_kind).count();
            let drawn = outcome.trials.iter().map(|trial| trial.fault);
            let drawn = drawn.collect::<std::collections::BTreeSet<_>>().len();
            expect(drawn > 1 && kinds > 1, &format!("{drawn} kinds drawn, {kinds} measured"))
        },
    },
    Story {
        name: "nodes_that_lost_their_memory_return_as_new_servers_and_vote_again",
        plan: "scenario = \"memory\"\nkind = \"failover\"\nnodes = 3\ntrials = 3\n\
               storage = \"memory\"\n[workload]\nrate_per_s = 100\nduration_ms = 4000\n\
               [[steps]]\nat = \"random\"\nfault = \"kill\"\nreturn_after_ms = 800\n\
               among = [\"kill\", \"restart\"]\n",
        holds: |outcome| {
            all_struck(outcome, 3)?;
            // Three times another server has come in the place of one of three: had one not been
            // promoted, the next loss would have been the end of the group.
            let back = outcome.trials.iter().filter(|trial| trial.rejoin_ms.is_some()).count();
            expect(back == 3, &format!("{back} of 3 vote again"))
        },
    },
    Story {
        name: "a_wiped_follower_fetches_all_of_the_log_and_counts_the_same",
        plan: "scenario = \"lag\"\nkind = \"lagging\"\nnodes = 3\n[workload]\n\
               rate_per_s = 50\nclients = 3\nduration_ms = 1000\n\
               [lag]\nfault = \"wipe\"\nentries = 24000\ncommand_bytes = 8\n\
               batch_sizes = [500]\n",
        holds: |outcome| {
            let [caught] = &outcome.catch_ups[..] else {
                return Err(format!("{} followers came back", outcome.catch_ups.len()));
            };
            let all = caught.entries >= 24_000 && caught.fetched > 0 && caught.peers > 0;
            expect(all, &format!("{caught:?}"))
        },
    },
    Story {
        // What was sent ahead is on its way for longer than a heartbeat. Sent again each time, it
        // made the line longer than what was missed, and nobody came near the end.
        name: "a_follower_behind_a_slow_line_catches_up_while_it_is_sent_nothing_again",
        plan: "scenario = \"slow\"\nkind = \"lagging\"\nnodes = 4\n[workload]\n\
               rate_per_s = 50\nclients = 3\nduration_ms = 1000\n\
               [lag]\nfault = \"isolate\"\nentries = 30000\n\
               links = { bandwidth_bytes_per_s = 300000 }\n",
        holds: |outcome| caught_up_within(outcome, 10_000),
    },
    Story {
        name: "a_follower_behind_a_long_line_that_loses_catches_up",
        plan: "scenario = \"lossy\"\nkind = \"lagging\"\nnodes = 4\n[workload]\n\
               rate_per_s = 50\nclients = 3\nduration_ms = 1000\n\
               [lag]\nfault = \"isolate\"\nentries = 30000\n\
               links = { delay_ms = 20, loss = 0.01 }\n",
        holds: |outcome| caught_up_within(outcome, 10_000),
    },
    Story {
        name: "a_killed_follower_goes_on_from_a_snapshot_where_the_log_is_compacted",
        plan: "scenario = \"lag\"\nkind = \"lagging\"\nnodes = 3\n[workload]\n\
               rate_per_s = 50\nclients = 3\nduration_ms = 1000\n\
               [lag]\nfault = \"kill\"\nentries = 1200\ncommand_bytes = 8\n\
               from = \"snapshot\"\n",
        holds: |outcome| {
            let caught = outcome.catch_ups.first();
            let snapshot = caught.is_some_and(|caught| caught.snapshot);
            expect(snapshot, &format!("{caught:?}"))?;
            looked_at(outcome, "final reads", "was read once more")?;
            looked_at(outcome, "machines", "of all 3 nodes hold the same")
        },
    },
    Story {
        name: "bad_links_and_an_isolated_leader_cost_no_acknowledged_write",
        plan: "scenario = \"links\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
               rate_per_s = 100\nduration_ms = 6000\n[[steps]]\nat = 500\nfault = \"link\"\n\
               target = \"random\"\nreturn_after_ms = 3000\n\
               faults = { loss = 0.1, duplicate = 0.1, reorder = 0.2, delay_ms = 10, \
               jitter_ms = 20, corrupt = 0.05 }\n\
               [[steps]]\nat = 1500\nfault = \"isolate\"\nreturn_after_ms = 1500\n",
        holds: |outcome| all_struck(outcome, 2),
    },
    Story {
        // Its clients waited for the leader that it had named, as long as a handshake may take.
        name: "clients_of_a_node_that_dies_with_its_leader_are_served_by_a_third",
        plan: "scenario = \"both\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
               rate_per_s = 100\nduration_ms = 6000\n[[steps]]\nat = 500\nfault = \"kill\"\n\
               target = \"follower\"\nreturn_after_ms = 3000\n\
               [[steps]]\nat = 510\nfault = \"kill\"\nreturn_after_ms = 3000\n",
        holds: |outcome| {
            all_struck(outcome, 2)?;
            let waited_ms = waited_ms(outcome);
            let is_soon = waited_ms.is_some_and(|waited_ms| waited_ms < 600.0);
            expect(is_soon, &format!("{waited_ms:?} ms, and a handshake may take 1000"))
        },
    },
    Story {
        name: "clocks_that_differ_a_minority_and_held_links_cost_no_acknowledged_write",
        plan: "scenario = \"clocks\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
               rate_per_s = 100\nclients = 5\npinned = true\nduration_ms = 9000\n\
               [[steps]]\nat = 500\nfault = \"clock\"\nclock = { rate_ppm = 50000 }\n\
               return_after_ms = 5000\n\
               [[steps]]\nat = 600\nfault = \"clock\"\ntarget = \"follower\"\n\
               clock = { rate_ppm = -50000, wall_offset_ms = -5000 }\nreturn_after_ms = 5000\n\
               [[steps]]\nat = 1000\nfault = \"partition\"\nside = [\"leader\", \"follower\"]\n\
               return_after_ms = 3000\n\
               [[steps]]\nat = 6000\nfault = \"link\"\ntarget = \"random\"\n\
               faults = { hold = true }\nreturn_after_ms = 1500\n",
        holds: |outcome| {
            all_struck(outcome, 4)?;
            expect(outcome.counts.get("packets_held") > Some(&0), "datagrams were held")
        },
    },
    Story {
        name: "nodes_that_die_between_a_promise_and_its_telling_keep_it",
        plan: "scenario = \"points\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
               rate_per_s = 200\nduration_ms = 12000\n\
               [[steps]]\nat = 500\nfault = \"kill\"\npoint = \"after-append\"\n\
               target = \"follower\"\nreturn_after_ms = 700\n\
               [[steps]]\nat = 2000\nfault = \"kill\"\npoint = \"before-append\"\n\
               return_after_ms = 700\n\
               [[steps]]\nat = 4000\nfault = \"pause\"\nreturn_after_ms = 1500\n\
               [[steps]]\nat = 4001\nfault = \"kill\"\npoint = \"after-vote\"\n\
               target = \"random\"\nreturn_after_ms = 700\n\
               [[steps]]\nat = 7000\nfault = \"isolate\"\nreturn_after_ms = 1500\n\
               [[steps]]\nat = 7001\nfault = \"kill\"\npoint = \"before-vote\"\n\
               target = \"random\"\nreturn_after_ms = 700\n\
               [[steps]]\nat = 10000\nfault = \"kill\"\npoint = \"sync\"\n\
               return_after_ms = 700\n",
        holds: |outcome| all_struck(outcome, 7),
    },
    Story {
        name: "leases_over_clocks_that_differ_cost_no_stale_read",
        plan: "scenario = \"leases\"\nkind = \"failover\"\nnodes = 5\nlease_reads = true\n\
               [workload]\nrate_per_s = 200\nclients = 10\npinned = true\nduration_ms = 9000\n\
               [[steps]]\nat = 300\nfault = \"clock\"\nclock = { rate_ppm = -90000 }\n\
               return_after_ms = 7000\n\
               [[steps]]\nat = 400\nfault = \"clock\"\ntarget = \"follower\"\n\
               clock = { rate_ppm = 90000 }\nreturn_after_ms = 7000\n\
               [[steps]]\nat = 1000\nfault = \"isolate\"\nreturn_after_ms = 2000\n\
               [[steps]]\nat = 4500\nfault = \"pause\"\nreturn_after_ms = 1500\n",
        holds: |outcome| all_struck(outcome, 4),
    },
    Story {
        name: "who_leaves_is_wiped_or_evicted_votes_again_and_nothing_is_lost",
        plan: "scenario = \"churn\"\nkind = \"failover\"\nnodes = 5\nevict_after_ms = 2000\n\
               [workload]\nrate_per_s = 100\nduration_ms = 14000\n\
               [[steps]]\nat = 500\nfault = \"leave\"\nreturn_after_ms = 1000\n\
               [[steps]]\nat = 4000\nfault = \"wipe\"\nreturn_after_ms = 700\n\
               [[steps]]\nat = 7500\nfault = \"kill\"\ntarget = \"follower\"\n\
               return_after_ms = 3500\n",
        holds: |outcome| {
            all_struck(outcome, 3)?;
            let counted = |name: &str| outcome.samples.get(name).map_or(0, Vec::len);
            let counts = ["leave_ms", "evict_ms", "join_ms", "promote_ms"].map(counted);
            expect(counts == [1, 1, 3, 3], &format!("left, evicted, joined, promoted {counts:?}"))?;
            let evicted_ms = outcome.samples["evict_ms"][0];
            expect((2_000.0..3_500.0).contains(&evicted_ms), &format!("{evicted_ms} ms of silence"))
        },
    },
    // Of the four who are left two are not there. Node 1 is, and a majority of five runs, but it
    // is a voter again only once they can take it in: nobody owes anything before.
    Story {
        name: "who_came_back_counts_only_once_it_votes",
        plan: "scenario = \"back\"\nkind = \"failover\"\nnodes = 5\n\
               [workload]\nrate_per_s = 100\nduration_ms = 11000\n\
               [[steps]]\nat = 1000\nfault = \"leave\"\ntarget = { node = 1 }\n\
               return_after_ms = 1000\n\
               [[steps]]\nat = 1500\nfault = \"pause\"\ntarget = { node = 5 }\n\
               return_after_ms = 5000\n\
               [[steps]]\nat = 1510\nfault = \"isolate\"\ntarget = { node = 4 }\n\
               return_after_ms = 5500\n\
               [expect]\nmajority_may_be_lost = true\n",
        holds: |outcome| {
            all_struck(outcome, 3)?;
            let returned_ns = outcome.schedule.faults[0].returned_ns;
            let voted_ns = outcome.marks.iter().find(|mark| mark.kind == "leave");
            let waited_ns = voted_ns.and_then(|mark| mark.until_ns).zip(returned_ns);
            let waited_ms = waited_ns.map(|(until, from)| (until - from) / 1_000_000);
            expect(waited_ms > Some(3_000), &format!("{waited_ms:?} ms until it voted"))
        },
    },
    Story {
        name: "disks_that_fail_stop_their_nodes_and_cost_no_acknowledged_write",
        plan: "scenario = \"disks\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
               rate_per_s = 100\nduration_ms = 13000\n\
               [[steps]]\nat = 500\nfault = \"disk\"\ndisk = { kind = \"sync-error\" }\n\
               return_after_ms = 900\n\
               [[steps]]\nat = 2500\nfault = \"disk\"\ndisk = { kind = \"torn-write\" }\n\
               target = \"follower\"\nreturn_after_ms = 900\n\
               [[steps]]\nat = 2600\nfault = \"disk\"\nreturn_after_ms = 1500\n\
               disk = { kind = \"stall\", sync_ms = 100 }\n\
               [[steps]]\nat = 4500\nfault = \"disk\"\ndisk = { kind = \"no-space\" }\n\
               return_after_ms = 900\n\
               [[steps]]\nat = 6500\nfault = \"disk\"\ndisk = { kind = \"write-error\" }\n\
               target = \"follower\"\nreturn_after_ms = 900\n\
               [[steps]]\nat = 8500\nfault = \"disk\"\ndisk = { kind = \"flip\" }\n\
               return_after_ms = 900\n",
        holds: |outcome| {
            all_struck(outcome, 6)?;
            let count = |name: &str| outcome.counts.get(name).copied().unwrap_or(0);
            let counts = ["disk_errors", "disk_refusals"].map(count);
            let stalls = count("disk_stalls");
            expect(counts == [4, 1] && stalls > 0, &format!("{counts:?}, {stalls} stalls"))
        },
    },
    Story {
        // What the disk had done was forgotten when the stall ended, and its node accused of having
        // stopped for nothing (seed 0xd92f5f18bdf3b60b).
        name: "of_two_faults_of_one_disk_the_end_of_one_leaves_the_other_be",
        plan: "scenario = \"disk-twice\"\nkind = \"failover\"\nnodes = 3\n[workload]\n\
               rate_per_s = 100\nduration_ms = 5000\n\
               [[steps]]\nat = 500\nfault = \"disk\"\nreturn_after_ms = 2000\n\
               disk = { kind = \"stall\", sync_ms = 60 }\n\
               [[steps]]\nat = 1200\nfault = \"disk\"\ndisk = { kind = \"sync-error\" }\n\
               return_after_ms = 2500\n",
        holds: |outcome| {
            all_struck(outcome, 2)?;
            let hit: Vec<_> = outcome.schedule.faults.iter().map(|fault| fault.node).collect();
            let errors = outcome.counts.get("disk_errors");
            expect(hit[0] == hit[1] && errors == Some(&1), &format!("{hit:?}, {errors:?} errors"))
        },
    },
    Story {
        name: "groups_form_again_and_again",
        plan: "scenario = \"formation\"\nkind = \"formation\"\nnodes = 3\ntrials = 4\n",
        holds: |outcome| expect(outcome.counts.get("formed") == Some(&4), "four groups formed"),
    },
    Story {
        name: "nothing_happens_to_a_group_in_memory_that_is_left_alone",
        plan: "scenario = \"steady\"\nkind = \"steady\"\nnodes = 3\nstorage = \"memory\"\n\
               profile = \"wan\"\n[workload]\nrate_per_s = 50\nduration_ms = 5000\n\
               [expect]\nterm_changes_max = { lan = 0, wan = 0, loopback = 0 }\n",
        holds: |_| Ok(()),
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, seed, trace @ ..] = &words[..]
        && first == "simulate"
    {
        return simulate(name, seed, trace.first().map(PathBuf::from));
    }
    let seed = words.iter().skip_while(|word| *word != "--seed").nth(1);
    let seed = seed.map_or("0x7e55e7a", String::as_str);
    let filters: Vec<&String> =
        words.iter().filter(|word| !word.starts_with('-') && *word != seed).collect();
    let mut failed = 0;
    for Story { name, .. } in STORIES {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        if words.iter().any(|word| word == "--list") {
            println!("{name}: test");
            continue;
        }
        match told_twice(name, seed) {
            Ok(()) => println!("story {name} ... ok"),
            Err(reason) => {
                println!("story {name} ... FAILED\n{reason}");
                failed += 1;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two processes at once, so that neither has the machine to itself.
fn told_twice(name: &str, seed: &str) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let begin = || {
        let mut command = Command::new(&program);
        command.args(["simulate", name, seed]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().map_err(|error| error.to_string())
    };
    let (first, second) = (begin()?, begin()?);
    let mut told = Vec::new();
    for child in [first, second] {
        let ended = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        if !ended.status.success() {
            let log = String::from_utf8_lossy(&ended.stderr);
            return Err(format!("{said}\n{log}\nagain: -- simulate {name} {seed}"));
        }
        told.push(said);
    }
    expect(told[0] == told[1], &format!("two runs of one seed differ:\n{}\n{}", told[0], told[1]))
}

/// One of the two processes.
fn simulate(name: &str, seed: &str, trace: Option<PathBuf>) -> ExitCode {
    let story = STORIES.iter().find(|story| story.name == name).expect("a story of this name");
    let plan = plan::parse(story.plan).expect("a plan");
    let seed: Seed = seed.parse().expect("a seed");
    let (_stopper, stop) = Stop::new();
    let outcome = match sim::run(&plan, seed, Box::new(Deaf), &stop, &sim::Places { trace }) {
        Ok(outcome) => outcome,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "hash {:x?}, {} operations",
        outcome.trace_hash,
        outcome.frozen.history.operations().len()
    );
    println!("{:?} {:?}", outcome.counts, outcome.trials);
    for check in &outcome.checks {
        println!("{:?} {}: {}", check.verdict, check.name, check.detail);
    }
    if outcome.exit_code() != 0 {
        println!("failure: {:?}", outcome.failure);
        return ExitCode::FAILURE;
    }
    match (story.holds)(&outcome) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// In virtual time; most of what it missed came in bulk.
fn caught_up_within(outcome: &Outcome, bound_ms: u64) -> Result<(), String> {
    let [caught] = &outcome.catch_ups[..] else {
        return Err(format!("{} followers came back", outcome.catch_ups.len()));
    };
    let took_ns = caught.caught_up_ns.map(|at| at.saturating_sub(caught.from_ns));
    let is_soon = took_ns.is_some_and(|took_ns| took_ns <= bound_ms * 1_000_000);
    expect(is_soon && caught.fetched > caught.entries / 2, &format!("{caught:?}"))
}

fn all_struck(outcome: &Outcome, strikes: usize) -> Result<(), String> {
    let measured = outcome.trials.iter().filter(|trial| trial.outage_ms.is_some()).count();
    let struck = outcome.schedule.faults.iter().filter(|fault| fault.struck_ns.is_some()).count();
    expect(struck == strikes && measured > 0, &format!("{struck} strikes, {measured} measured"))
}

/// How long whoever waited longest was not answered, since it asked and since there was a leader
/// again.
fn waited_ms(outcome: &Outcome) -> Option<f64> {
    let ms = |ns: u64| ns as f64 / 1e6;
    let led_ms = outcome.trials.iter().find_map(|trial| {
        let parts = [trial.detect_ms?, trial.elect_ms?, trial.commit_ms?];
        Some(ms(trial.fault_at_ns) + parts.iter().sum::<f64>())
    })?;
    let waits = outcome.frozen.history.operations().iter().filter_map(|operation| {
        Some(ms(operation.completed_ns?) - led_ms.max(ms(operation.invoked_ns)))
    });
    waits.reduce(f64::max)
}

/// Whether a check was made, and says so.
fn looked_at(outcome: &Outcome, name: &str, words: &str) -> Result<(), String> {
    let check = outcome.checks.iter().find(|check| check.name == name);
    let says = check.is_some_and(|check| check.detail.contains(words));
    expect(says, &format!("{name}: {check:?}"))
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Listens to nothing.
struct Deaf;

impl Listener for Deaf {
    fn phase(&mut self, _: Phase) -> io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn operation(&mut self, _: &Operation) -> io::Result<()> {
        Ok(())
    }

    fn marks(&mut self, _: &[Mark]) -> io::Result<()> {
        Ok(())
    }

    fn trials(&mut self, _: &[Trial]) -> io::Result<()> {
        Ok(())
    }

    fn schedule(&mut self, _: &Schedule) -> io::Result<()> {
        Ok(())
    }
}
