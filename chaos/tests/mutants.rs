//! Planted faults in whole runtimes: nodes that break a rule on purpose, in virtual time and as
//! real processes. Each must be caught in every world that it names, and the same seeds must be
//! valid when nothing is planted.
//!
//! Without the standard harness: told `node` this program is a node, told `carry-out` it carries
//! one plan out in a process of its own. Words that begin with no dash choose by a part of the
//! rule's or the world's name. `cargo ci mutants` runs it in release.

#[path = "mutants/carry_out.rs"]
mod carry_out;
#[path = "mutants/table.rs"]
mod table;

use std::process::ExitCode;

use runtime::Planted;

/// A plan, a rule that its nodes break, and in which worlds that must be seen.
pub(crate) struct Mutant {
    pub(crate) rule: Planted,
    pub(crate) plan: &'static str,
    /// World, and within how many seeds.
    pub(crate) caught_in: &'static [(&'static str, u64)],
}

/// Clients stay with a leader that is cut off: what it tells them is all they have.
const CUT_OFF: &str = "scenario = \"cut-off\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
    pinned = true\nclients = 10\nrate_per_s = 250\nduration_ms = 8000\n[[steps]]\nat = \"random\"\n\
    fault = \"isolate\"\nreturn_after_ms = 4000\n";

/// Two others lead one after the other while a leader is cut off that goes on writing: where the
/// second looks for what both know, it has entries of its own.
const LED_TWICE_MEANWHILE: &str = "scenario = \"led-twice\"\nkind = \"failover\"\nnodes = 5\n\
    trials = 4\n[workload]\npinned = true\nclients = 10\nrate_per_s = 600\n\
    mix = { read = 10, write = 80, cas = 10 }\nduration_ms = 5000\n[[steps]]\nat = 500\n\
    fault = \"isolate\"\nreturn_after_ms = 1900\n[[steps]]\nat = 660\nfault = \"kill\"\n\
    return_after_ms = 2000\n";

/// Leaders die again and again, with something on its way to every disk.
const KILLED: &str = "scenario = \"killed\"\nkind = \"failover\"\nnodes = 5\ntrials = 4\n\
    [workload]\nrate_per_s = 300\nduration_ms = 4000\n[[steps]]\nat = \"random\"\n\
    fault = \"kill\"\nreturn_after_ms = 1000\n[[steps]]\nat = 1000\nfault = \"kill\"\n\
    target = \"follower\"\nreturn_after_ms = 700\n";

/// Anything at all.
const ANY: &str = "scenario = \"any\"\nkind = \"failover\"\nnodes = 5\n[workload]\n\
    rate_per_s = 120\nduration_ms = 30000\n[random]\nsteps_max = 10\n";

const MUTANTS: &[Mutant] = &[
    Mutant { rule: Planted::LiveQuorum, plan: CUT_OFF, caught_in: &[("sim", 10), ("process", 3)] },
    Mutant {
        rule: Planted::ReadWithoutRound,
        plan: CUT_OFF,
        caught_in: &[("sim", 10), ("process", 3)],
    },
    Mutant { rule: Planted::NoBackOff, plan: LED_TWICE_MEANWHILE, caught_in: &[("sim", 20)] },
    Mutant { rule: Planted::AcknowledgeBeforeSync, plan: KILLED, caught_in: &[("sim", 40)] },
    Mutant { rule: Planted::DedupUnknown, plan: KILLED, caught_in: &[("sim", 40)] },
    Mutant { rule: Planted::VoteNotWritten, plan: KILLED, caught_in: &[("sim", 20)] },
    Mutant { rule: Planted::SecondVote, plan: ANY, caught_in: &[("sim", 60)] },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("node") => return chaos::process::node::main(&words[1..]),
        Some("carry-out") => return carry_out::main(&words[1..]),
        _ => {}
    }
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    if words.iter().any(|word| word == "--list") {
        MUTANTS.iter().for_each(|mutant| println!("{}: test", mutant.rule));
        return ExitCode::SUCCESS;
    }
    match table::print(MUTANTS, &filters) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}
