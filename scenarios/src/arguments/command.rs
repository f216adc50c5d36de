//! The words that the command line knows, and what its help says of them.
//!
//! Describes and reads nothing. Invariant: an option that a scenario has no place for is hidden in
//! its help, and still understood.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Args, Command};

use super::{Output, Where};
use crate::catalogue::Builtin;
use crate::overrides::{FaultsIn, Overrides, Struck, count, faults_in, out_of_place_in};
use crate::past::ListOptions;
use crate::sweep::{self, SweepOptions};

/// The whole of it: every built-in plan is a subcommand of its name.
pub(super) fn command(builtins: &[Builtin]) -> Command {
    let list = Arg::new("list")
        .long("list")
        .action(ArgAction::SetTrue)
        .help("Name the built-in scenarios");
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Starts real nodes, hurts them under load, and judges what clients were told")
        .after_help(JSON_HELP)
        .disable_help_subcommand(true)
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .arg(list)
        .arg(json().requires("list"))
        .subcommands(builtins.iter().map(scenario))
        .subcommand(run_options(
            Command::new("run").about("Carries out a plan file").arg(path("FILE", "A plan, TOML")),
        ))
        .subcommand(sweep_command())
        .subcommand(sweep_seed_command())
        .subcommand(replay_command())
        .subcommand(diff_command())
        .subcommand(
            Command::new("validate")
                .about("Says what a plan file would do, or what is wrong with it")
                .arg(path("FILE", "A plan, TOML"))
                .arg(json())
                .after_help(VALIDATE_HELP),
        )
        .subcommand(
            Command::new("check")
                .about("Judges an earlier run again, and draws its page anew")
                .arg(path("RUN", "The run's folder; runs/latest is the newest"))
                .arg(json())
                .after_help(CHECK_EXIT_CODES),
        )
        .subcommand(
            ListOptions::augment_args(Command::new("list"))
                .about("Names past runs with verdict and figure, the newest first")
                .after_help(LIST_HELP),
        )
        .subcommand(
            Command::new("open")
                .about("Shows the page of a run, or says where it is")
                .arg(path("RUN", "The run's folder; runs/latest is the newest"))
                .arg(json())
                .after_help(OPEN_HELP),
        )
        .subcommand(force_command())
}

fn force_command() -> Command {
    let yes = Arg::new("yes")
        .long("yes")
        .action(ArgAction::SetTrue)
        .help("Do it: a majority is gone for good, and what may be lost is accepted");
    Command::new(FORCE)
        .about("Lets a member's closed store go on alone after its group lost a majority")
        .arg(path("STORE", "The store's directory"))
        .arg(yes)
        .arg(json())
        .after_help(FORCE_HELP)
}

fn json() -> Arg {
    let help = "Print JSON to standard output, and nothing else: {\"error\": ...} if it is refused";
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
}

fn scenario(builtin: &Builtin) -> Command {
    let about = builtin.plan.about.clone();
    let command = run_options(Command::new(builtin.plan.scenario.clone()).about(about));
    let out_of_place = out_of_place_in(&builtin.plan);
    // They are still understood, so that the refusal can say why.
    let hide = |command: Command, name: &str| command.mut_arg(name, |arg| arg.hide(true));
    let command = out_of_place.into_iter().fold(command, hide);
    match faults_in(&builtin.plan) {
        Some(FaultsIn { help, allowed }) => command.mut_arg("fault", |arg| {
            arg.help(help).value_parser(move |word: &str| Struck::read(word, allowed))
        }),
        None => command,
    }
}

fn sweep_command() -> Command {
    let about = "Carries a plan out with many seeds, each in a process of its own";
    let plan = path("PLAN", "A built-in scenario, or a plan file");
    let plan = plan.required(false).required_unless_present("resume").conflicts_with("resume");
    let command = Where::augment_args(Overrides::augment_args(Command::new("sweep").arg(plan)));
    SweepOptions::augment_args(command).about(about).after_help(EXIT_CODES)
}

fn replay_command() -> Command {
    let about = "Does an earlier run again, and says whether it was the same";
    let run = path("RUN", "The run's folder; runs/latest is the newest");
    let command = Output::augment_args(Command::new("replay").arg(run));
    command.about(about).after_help(EXIT_CODES)
}

fn diff_command() -> Command {
    Command::new("diff")
        .about("Finds where two traces of one seed part")
        .arg(path("A", "The folder of a run with --trace, or its trace.log"))
        .arg(path("B", "Another"))
        .arg(json())
        .after_help(DIFF_HELP)
}

fn sweep_seed_command() -> Command {
    let number = Arg::new("NUMBER").required(true).value_parser(count);
    let again = Arg::new("again").long("again").action(ArgAction::SetTrue);
    let sweep = path("SWEEP", "The sweep's folder");
    Command::new(sweep::COMMAND).hide(true).arg(sweep).arg(number).arg(again)
}

fn run_options(command: Command) -> Command {
    // What is derived brings words of its own on what it is about.
    let about = command.get_about().cloned().unwrap_or_default();
    let command = Where::augment_args(Overrides::augment_args(command));
    Output::augment_args(command).about(about).after_help(EXIT_CODES)
}

fn path(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).help(help).value_parser(ValueParser::path_buf())
}

pub(super) const FORCE: &str = "force-new-lineage";
pub(super) const PROGRAM: &str = "scenarios";
const DIFF_HELP: &str = "\
Exit codes: 0 identical, 1 they differ, 3 usage error

What --json prints:
  identical   whether not a byte differs
  lines_same  lines from the first on that are the same
  line        the number of the first that differs, from 1; null where none does
  a, b        each trace there; null where none differs:
    file      the trace
    text      the line as it stands there; null where the trace has ended
    what      packet or event
    at_ns     its virtual time
    node      whose it is, of a packet who sent it; null where nobody knows
  told        all this in words";
const FORCE_HELP: &str = "\
Exit codes: 0 done, 3 not confirmed with --yes, a usage error, or a store that cannot be forced

What --json prints:
  store        the store's directory
  node         whose store it is, and which: peer/store
  group        the group
  lineage      which founding of the group it belonged to
  last         the last entry of its log: term and index
  voters       who votes by its log, itself included, like node
  forced       whether it was done
  new_lineage  the lineage that it belongs to now; null where nothing was done";
const VALIDATE_HELP: &str = "\
Exit codes: 0 it can be carried out, 3 it cannot, or a usage error

What --json prints:
  plan          the plan, with what it leaves out filled in: as it stands in run.json
  not_in_world  of each world why it cannot be carried out there; null where it can";
const LIST_HELP: &str = "\
Exit codes: 0 done, 3 usage error, or a directory that cannot be read

What --json prints:
  runs        the newest first:
    folder    the run's folder
    started   when, as told in its name; null where that says nothing
    scenario  what ran
    world     where: process, sim or swarm
    verdict   valid, invalid or unknown
    headline  its figure, in words; null where it has none
    seed      its seed, as text
    build     debug or release
    error     why its record cannot be read, and then all of it but folder and started is null
  more        how many older ones there are";
const OPEN_HELP: &str = "\
Exit codes: 0 done, 3 usage error, or a folder without a page

What --json prints:
  page    the path of the page
  url     the same as an address
  opened  whether it was shown, which it is not with --json";
const CHECK_EXIT_CODES: &str = "\
Exit codes: 0 valid, 1 a guarantee broke, 2 unknown, also where files or operations are missing, \
3 usage error, a folder that cannot be read or is damaged, or a run in which the laboratory itself \
failed";
const EXIT_CODES: &str = "Exit codes: 0 valid, 1 a guarantee broke, 2 unknown or interrupted, \
                          3 usage error or the laboratory itself failed";
const JSON_HELP: &str = "\
Exit codes: 0 valid, 1 a guarantee broke, 2 unknown or interrupted, 3 usage error or the laboratory \
itself failed

What --list --json prints:
  scenarios  the plans, as they stand in run.json

What any command with --json prints where it has no result, with the same exit code:
  error      why, as standard error says it";
