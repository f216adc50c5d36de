//! The words on the command line, as a request.
//!
//! Knows what was asked for, and carries out nothing. Invariant: whatever it refuses, it refuses
//! with what is allowed.

mod command;

use std::path::{Path, PathBuf};

use chaos::plan::WorldKind;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches as _};

use crate::catalogue::Builtin;
use crate::overrides::Overrides;
use crate::past::ListOptions;
use crate::sweep::{self, SeedOrder, SweepOptions};

use command::{FORCE, PROGRAM, command};

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// Carry out a plan.
    Run { origin: Origin, overrides: Box<Overrides>, world: WorldKind, output: Output },
    /// Carry a plan out with many seeds, or go on with that.
    Sweep {
        origin: Option<Origin>,
        overrides: Box<Overrides>,
        world: WorldKind,
        options: SweepOptions,
    },
    /// Run one seed of a sweep, in a process of its own.
    SweepSeed(SeedOrder),
    /// Do a run again, as its record says it was.
    Replay { run: PathBuf, output: Output },
    /// Find where two traces part.
    Diff { one: PathBuf, other: PathBuf, json: bool },
    /// Name the built-in scenarios.
    Scenarios { json: bool },
    /// Say what a plan file would do, or what is wrong with it.
    Validate { file: PathBuf, json: bool },
    /// Judge a run's folder again.
    Check { run: PathBuf, json: bool },
    /// Let a store's member go on alone, if that is confirmed.
    Force {
        /// The store's directory.
        store: PathBuf,
        /// What may be lost is accepted.
        confirmed: bool,
        json: bool,
    },
    /// Name past runs.
    Past(ListOptions),
    /// Say where the page of a run is, and show it.
    Open { run: PathBuf, json: bool },
}

/// Where a plan comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// The built-in scenario of that name.
    Builtin(String),
    /// A file.
    File(PathBuf),
}

/// Where a plan is carried out.
#[derive(Args, Debug, Clone, PartialEq)]
pub(crate) struct Where {
    /// process: real processes and wall time; sim: the whole runtime in virtual time; swarm:
    /// cores only
    #[arg(long, value_name = "WORLD", default_value_t)]
    pub(crate) world: WorldKind,
}

/// Where the outcome goes.
#[derive(Args, Debug, Clone, PartialEq)]
pub(crate) struct Output {
    /// The directory in which `runs` is created
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Print run.json to standard output, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write trace.log, a line for each packet and event, in world sim
    #[arg(long)]
    pub(crate) trace: bool,
    /// Also write harness.json, a Chrome trace of what the harness itself did when
    #[arg(long)]
    pub(crate) trace_harness: bool,
}

/// Reads the words after the program's name.
///
/// # Errors
/// The text to print; `--help` and `--version` come this way, too.
pub(crate) fn parse(words: &[String], builtins: &[Builtin]) -> Result<Request, clap::Error> {
    let mut command = command(builtins);
    let program = std::iter::once(PROGRAM.to_owned());
    let matches = command.try_get_matches_from_mut(program.chain(joined(words)));
    match matches {
        Ok(matches) => request(&matches, &mut command, builtins),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSubcommand => with(&error, &scenarios(builtins)),
            ErrorKind::UnknownArgument => with(&error, &options(&command, words)),
            _ => error,
        }),
    }
}

/// `--duration -5s` is a bad duration, and `-5s` no unknown option: it goes with the option before
/// it, as in `--duration=-5s`.
fn joined(words: &[String]) -> Vec<String> {
    let is_negative = |word: &str| {
        word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_open = |word: &str| word.len() > 2 && word.starts_with("--") && !word.contains('=');
    let mut joined: Vec<String> = Vec::new();
    for word in words {
        match joined.last_mut().filter(|before| is_negative(word) && is_open(before)) {
            Some(option) => {
                option.push('=');
                option.push_str(word);
            }
            None => joined.push(word.clone()),
        }
    }
    joined
}

fn request(
    matches: &ArgMatches,
    command: &mut Command,
    builtins: &[Builtin],
) -> Result<Request, clap::Error> {
    if matches.get_flag("list") {
        return Ok(Request::Scenarios { json: matches.get_flag("json") });
    }
    let Some((name, of)) = matches.subcommand() else {
        let text = "name a scenario, or run, sweep, replay, diff, validate, check, list, open or \
                    force-new-lineage; --list names the scenarios";
        return Err(command.error(ErrorKind::MissingSubcommand, text));
    };
    let path = |id: &str| of.get_one::<PathBuf>(id).cloned().expect("clap demands it");
    let json = || of.get_flag("json");
    let origin = match name {
        "validate" => return Ok(Request::Validate { file: path("FILE"), json: json() }),
        "check" => return Ok(Request::Check { run: path("RUN"), json: json() }),
        "open" => return Ok(Request::Open { run: path("RUN"), json: json() }),
        "list" => return Ok(Request::Past(ListOptions::from_arg_matches(of)?)),
        "diff" => {
            return Ok(Request::Diff { one: path("A"), other: path("B"), json: json() });
        }
        FORCE => {
            let confirmed = of.get_flag("yes");
            return Ok(Request::Force { store: path("STORE"), confirmed, json: json() });
        }
        "replay" => {
            let output = Output::from_arg_matches(of)?;
            return Ok(Request::Replay { run: path("RUN"), output });
        }
        "sweep" => return swept(of, command, builtins),
        sweep::COMMAND => {
            let number = of.get_one::<u64>("NUMBER").copied().expect("clap demands it");
            let is_again = of.get_flag("again");
            return Ok(Request::SweepSeed(SeedOrder { sweep: path("SWEEP"), number, is_again }));
        }
        "run" => Origin::File(path("FILE")),
        scenario => Origin::Builtin(scenario.to_owned()),
    };
    let overrides = Box::new(Overrides::from_arg_matches(of)?);
    let Where { world } = Where::from_arg_matches(of)?;
    Ok(Request::Run { origin, overrides, world, output: Output::from_arg_matches(of)? })
}

fn swept(
    of: &ArgMatches,
    command: &mut Command,
    builtins: &[Builtin],
) -> Result<Request, clap::Error> {
    let overrides = Box::new(Overrides::from_arg_matches(of)?);
    let options = SweepOptions::from_arg_matches(of)?;
    let Where { world } = Where::from_arg_matches(of)?;
    let origin = of.get_one::<PathBuf>("PLAN").map(|path| {
        let is_meant = |builtin: &&Builtin| Path::new(&builtin.plan.scenario) == path;
        match builtins.iter().find(is_meant) {
            Some(builtin) => Origin::Builtin(builtin.plan.scenario.clone()),
            None => Origin::File(path.clone()),
        }
    });
    let is_given = |id| of.value_source(id) == Some(ValueSource::CommandLine);
    if options.resume.is_some()
        && (*overrides != Overrides::default() || is_given("world") || is_given("out"))
    {
        let text = "a sweep that is resumed keeps its plan, world and place; it takes --seeds, \
                    --minutes, --jobs, --check-twice, --bound, --keep and --json";
        return Err(command.error(ErrorKind::ArgumentConflict, text));
    }
    Ok(Request::Sweep { origin, overrides, world, options })
}

/// Whoever mistypes a word learns which there are.
fn with(error: &clap::Error, allowed: &str) -> clap::Error {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    clap::Error::raw(error.kind(), format!("{text}\n{allowed}\n"))
}

fn scenarios(builtins: &[Builtin]) -> String {
    let known: Vec<&str> = builtins.iter().map(|known| known.plan.scenario.as_str()).collect();
    let known = known.join(", ");
    format!("The scenarios are {known}; `run FILE` takes a plan, `check RUN` an earlier run.")
}

/// The options where the unknown word stands: those of the first word that is a command.
fn options(command: &Command, words: &[String]) -> String {
    let of = words.iter().find_map(|word| command.find_subcommand(word)).unwrap_or(command);
    let shown = of.get_arguments().filter(|argument| !argument.is_hide_set());
    let known: Vec<String> =
        shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect();
    format!("The options of `{}` are {}.", of.get_name(), known.join(", "))
}

#[cfg(test)]
mod tests {
    use chaos::plan;
    use chaos::seed::Seed;

    use super::*;
    use crate::{catalogue, overrides};

    fn parsed(line: &str) -> Result<Request, clap::Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words, &catalogue::all().unwrap())
    }

    fn refused(line: &str) -> String {
        parsed(line).unwrap_err().render().to_string()
    }

    #[test]
    fn every_word_is_understood() {
        let line = "leader-failover --nodes 3 --groups 2 --trials 2 --rate 700 --clients 4 --profile wan \
                    --storage memory --lease-reads --fault pause --duration 9s --background-load 1 \
                    --seed 0xabc --world sim --out /tmp/x --json --trace --trace-harness";
        let expected = Request::Run {
            origin: Origin::Builtin("leader-failover".to_owned()),
            overrides: Box::new(overrides::tests::all_given()),
            world: WorldKind::Sim,
            output: Output { out: "/tmp/x".into(), json: true, trace: true, trace_harness: true },
        };
        assert_eq!(parsed(line).unwrap(), expected);
    }

    #[test]
    fn nothing_but_the_name_is_needed() {
        let expected = Request::Run {
            origin: Origin::Builtin("steady".to_owned()),
            overrides: Box::default(),
            world: WorldKind::Process,
            output: Output { out: ".".into(), json: false, trace: false, trace_harness: false },
        };
        assert_eq!(parsed("steady").unwrap(), expected);
        assert_eq!(parsed("--list").unwrap(), Request::Scenarios { json: false });
        let validate = Request::Validate { file: "x.toml".into(), json: false };
        assert_eq!(parsed("validate x.toml").unwrap(), validate);
        let diff = Request::Diff { one: "a".into(), other: "b".into(), json: false };
        assert_eq!(parsed("diff a b").unwrap(), diff);
        for (line, confirmed) in
            [("force-new-lineage s", false), ("force-new-lineage s --yes", true)]
        {
            let force = Request::Force { store: "s".into(), confirmed, json: false };
            assert_eq!(parsed(line).unwrap(), force);
        }
        let output = Output { out: ".".into(), json: false, trace: true, trace_harness: false };
        let replay = Request::Replay { run: "runs/latest".into(), output };
        assert_eq!(parsed("replay runs/latest --trace").unwrap(), replay);
        let check = Request::Check { run: "runs/latest".into(), json: false };
        assert_eq!(parsed("check runs/latest").unwrap(), check);
        let past = ListOptions { out: ".".into(), limit: 20, json: false };
        assert_eq!(parsed("list").unwrap(), Request::Past(past));
        let Request::Run { origin, overrides, .. } = parsed("run x.toml --seed 7").unwrap() else {
            panic!("a run was asked for");
        };
        assert_eq!((origin, overrides.seed), (Origin::File("x.toml".into()), Some(Seed(7))));
    }

    #[test]
    fn every_command_with_a_result_tells_it_as_json() {
        let run = || "x".into();
        for (line, expected) in [
            ("--list --json", Request::Scenarios { json: true }),
            ("validate x --json", Request::Validate { file: run(), json: true }),
            ("diff x x --json", Request::Diff { one: run(), other: run(), json: true }),
            ("check x --json", Request::Check { run: run(), json: true }),
            ("open x --json", Request::Open { run: run(), json: true }),
            ("list --json", Request::Past(ListOptions { out: ".".into(), limit: 20, json: true })),
            (
                "force-new-lineage x --json",
                Request::Force { store: run(), confirmed: false, json: true },
            ),
        ] {
            assert_eq!(parsed(line).unwrap(), expected, "{line}");
        }
        for line in ["steady --json", "replay x --json", "sweep steady --seeds 1 --json"] {
            assert!(parsed(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_sweep_is_of_a_scenario_or_a_file_or_an_earlier_one() {
        let sweep = |line: &str| match parsed(line).unwrap() {
            Request::Sweep { origin, overrides, world, options } => {
                (origin, overrides.nodes, world, options)
            }
            other => panic!("{other:?}"),
        };
        let (origin, nodes, world, options) =
            sweep("sweep steady --seeds 9 --nodes 3 --world swarm --jobs 2 --minutes 1");
        assert_eq!(origin, Some(Origin::Builtin("steady".to_owned())));
        assert_eq!((nodes, world, options.seeds), (Some(3), WorldKind::Swarm, Some(9)));
        assert_eq!((options.jobs, options.minutes), (Some(2), Some(1)));
        let (origin, ..) = sweep("sweep my.toml --seeds 1");
        assert_eq!(origin, Some(Origin::File("my.toml".into())));
        let (origin, _, _, options) = sweep("sweep --resume sweeps/x --seeds 9");
        assert_eq!((origin, options.resume), (None, Some("sweeps/x".into())));
        let order = SeedOrder { sweep: "x".into(), number: 7, is_again: true };
        assert_eq!(parsed("sweep-seed x 7 --again").unwrap(), Request::SweepSeed(order));
        assert!(!refused("--help").contains("sweep-seed"), "the hidden command stays hidden");
    }

    #[test]
    fn an_unknown_scenario_is_told_the_known_ones_and_the_nearest() {
        let text = refused("leader-failove");
        assert!(text.contains("'leader-failover'"), "{text}");
        assert!(
            text.contains(
                "leader-failover, partition, rolling-restart, cold-restart, membership-churn, \
                 lagging-follower, formation, steady"
            ),
            "{text}"
        );
        assert!(text.starts_with("error: ") && !text.contains("error: error"), "{text}");
    }

    #[test]
    fn bad_words_are_refused_with_what_is_allowed() {
        for (line, expected) in [
            ("", "--list"),
            ("steady --profile lam", "lan, wan or loopback"),
            ("steady --storage tape", "memory or disk"),
            ("steady --world moon", "process, sim or swarm"),
            (
                "leader-failover --fault unplug",
                "disk, isolate, kill, leave, pause, restart, transfer or wipe, or random",
            ),
            (
                "lagging-follower --fault unplug",
                "is unplug, but must be isolate, kill, pause or wipe",
            ),
            ("cold-restart --fault unplug", "must be kill, pause or restart, or random"),
            ("leader-failover --disk rust", "expected sync-error, write-error, no-space"),
            ("leader-failover --duration 5", "1500ms, 5s, 10m, 1h"),
            ("leader-failover --duration -5s", "'-5s' for '--duration <DURATION>': expected a"),
            ("lagging-follower --batch-size -3,5", "expected a number of entries from 1"),
            ("sweep steady --bound -3s", "'-3s' for '--bound <DURATION>': expected a whole"),
            ("list --limit -1", "'-1' for '--limit <N>': expected a whole number"),
            ("steady --json -5", "'-5' for '--json' found; no more were expected"),
            ("leader-failover --nodes many", "a whole number"),
            ("leader-failover --kind", "<VARIANT>"),
            ("leader-failover --nodes -1", "'-1' for '--nodes <N>': expected a whole number"),
            ("leader-failover --seed 0xg", "decimal or with 0x"),
            (
                "leader-failover --speed 3",
                "`leader-failover` are --nodes, --groups, --trials, --rate",
            ),
            ("sweep steady --resume x", "cannot be used with"),
            ("sweep --resume x --nodes 3", "keeps its plan, world and place"),
            ("sweep --resume x --world process", "keeps its plan, world and place"),
            ("sweep steady --speed 3", "--seeds, --minutes, --jobs"),
            ("sweep", "<PLAN>"),
            ("check x --deep", "`check` are --json, --help"),
            ("--json", "--list"),
            ("--speed", "`scenarios` are --list, --json, --help, --version"),
            ("list --limit many", "a whole number"),
            (
                "lists",
                "leader-failover, partition, rolling-restart, cold-restart, membership-churn, \
                 lagging-follower, formation, steady; `run FILE`",
            ),
            ("run", "<FILE>"),
            ("check", "<RUN>"),
            ("open", "<RUN>"),
        ] {
            let text = refused(line);
            assert!(text.contains(expected), "{line}: {text}");
        }
    }

    #[test]
    fn a_number_too_large_to_be_read_is_told_the_range_that_others_are_held_to() {
        let (most, given) = (Some(u64::MAX), Overrides::default);
        for (option, overrides) in [
            ("nodes", Overrides { nodes: most, ..given() }),
            ("groups", Overrides { groups: most, ..given() }),
            ("trials", Overrides { trials: most, ..given() }),
            ("rate", Overrides { rate: most, ..given() }),
            ("clients", Overrides { clients: most, ..given() }),
            ("background-load", Overrides { background_load: most, ..given() }),
        ] {
            let mut plan = catalogue::all().unwrap().remove(0).plan;
            overrides.apply(&mut plan, WorldKind::Process).unwrap();
            let error = plan::validate(&plan).unwrap_err().to_string();
            let (_, range) = error.split_once(", but ").unwrap();
            let text = refused(&format!("leader-failover --{option} 99999999999999999999"));
            assert!(text.contains(&format!("it is too large, and {range}")), "{text}: {error}");
        }
        let text = refused("sweep steady --jobs 99999999999999999999");
        assert!(text.contains("it is too large, and must lie between 1 and 256"), "{text}");
        let text = refused("list --limit 99999999999999999999");
        assert!(text.contains("it is too large, and must lie between 1 and 10000"), "{text}");
    }

    #[test]
    fn help_says_what_each_command_is_for() {
        let help = refused("--help");
        for words in ["kills the leader under load", "load without faults", "Carries out a plan"] {
            assert!(help.contains(words), "{words:?} in {help}");
        }
        assert!(refused("steady --help").starts_with("load without faults"));
    }

    #[test]
    fn help_shows_what_a_scenario_has_a_place_for() {
        let help = refused("formation --help");
        assert!(help.contains("--trials") && !help.contains("--rate"), "{help}");
        let help = refused("leader-failover --help");
        assert!(help.contains("--rate") && help.contains("Exit codes"), "{help}");
        assert!(help.contains("--disk"), "{help}");
        let help = refused("cold-restart --help");
        assert!(help.contains("--fault") && !help.contains("--disk"), "{help}");
        assert!(!help.contains("--overlap"), "{help}");
    }

    #[test]
    fn help_names_the_faults_that_a_scenario_takes() {
        // Lines end where the terminal does.
        let help = |line| refused(line).split_whitespace().collect::<Vec<_>>().join(" ");
        for (line, words) in [
            ("leader-failover --help", "leave, pause, restart, transfer or wipe; or random"),
            ("cold-restart --help", "kill, pause or restart; or random, one of these"),
            ("lagging-follower --help", "isolate, kill, pause or wipe"),
        ] {
            let told = help(line);
            assert!(told.contains(words), "{line}: {told}");
            let is_whole = line.starts_with("leader-failover");
            assert_eq!(told.contains("transfer"), is_whole, "{line}: {told}");
        }
    }
}
