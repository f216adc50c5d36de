//! The front door: words become a plan, a plan becomes a run, a run becomes an exit code.
//!
//! 0 valid, 1 a guarantee broke, 2 unknown or interrupted, 3 usage error or the laboratory itself
//! failed. Invariants: when a run was not valid, the last line printed is the command that
//! repeats it; whatever comes of a command with `--json`, standard output is one value of JSON, but
//! for help and version, which are text.

mod arguments;
mod catalogue;
mod check;
mod conduct;
mod convert;
mod describe;
mod diff;
mod forcing;
mod journal;
mod logging;
mod overrides;
mod past;
mod progress;
mod replay;
mod rerun;
mod source;
mod sparse;
mod sweep;
mod terminal;
mod timeouts;
mod worlds;

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use chaos::plan::{self, Plan, PlanError, WorldKind};
use chaos::seed::Seed;
use reports::{Environment, RunRecord};

use crate::arguments::{Origin, Output, Request};
use crate::catalogue::Builtin;
use crate::check::Judged;
use crate::conduct::{Conducted, Manner};
use crate::forcing::Forced;
use crate::overrides::Overrides;
use crate::replay::{Earlier, Repeated};
use crate::source::PlanFile;
use crate::sweep::Swept;
use crate::worlds::Setting;

fn main() -> ExitCode {
    let has_json = env::args_os().skip(1).any(|word| word == JSON);
    let words: Result<Vec<String>, _> = env::args_os().skip(1).map(|w| w.into_string()).collect();
    let done = match &words {
        // The harness starts its nodes from this very program.
        Ok(words) if words.first().is_some_and(|word| word == "node") => {
            logging::to_stderr(NODE_LOG);
            return chaos::process::node::main(&words[1..]);
        }
        Ok(words) => serve(words),
        Err(word) => Err(anyhow!("{} is not UTF-8", word.display())),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        let told = told(&error);
        complain(&format!("error: {told}"));
        if has_json {
            refuse_json(&told);
        }
        FAILED
    }))
}

/// The same for programs, in place of what the command has not got to print.
fn refuse_json(told: &str) {
    // There is nowhere left to tell that nobody reads it.
    let _ = say(&format!("{:#}\n", serde_json::json!({ "error": told })));
}

fn serve(words: &[String]) -> anyhow::Result<u8> {
    let builtins = catalogue::all().context("a built-in plan")?;
    let request = match arguments::parse(words, &builtins) {
        Ok(request) => request,
        // Help and version, too, come this way; clap knows where each is printed.
        Err(error) => {
            let _ = error.print();
            if !error.use_stderr() {
                return Ok(VALID);
            }
            if words.iter().any(|word| word == JSON) {
                let text = error.to_string();
                refuse_json(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
            }
            return Ok(FAILED);
        }
    };
    match request {
        Request::Scenarios { json } => {
            let list = if json { describe::list_json } else { describe::list };
            say(&list(&builtins)).map(|()| VALID)
        }
        Request::Validate { file, json } => validate(&file, &builtins, json),
        Request::Check { run, json } => check_again(&run, json),
        Request::Past(options) => say(&past::list(&options)?).map(|()| VALID),
        Request::Open { run, json } => say(&past::open(&run, json)?).map(|()| VALID),
        Request::Force { store, confirmed, json } => {
            tell_forced(&forcing::force(&store, confirmed)?, json)
        }
        Request::Run { origin, overrides, world, output } => {
            worlds::admit(world, output.trace)?;
            let plan = planned(&origin, &overrides, world, builtins)?;
            let seed = plan.seed.unwrap_or_else(drawn_seed);
            let setting = Setting { world, plan: &plan, seed, is_traced: output.trace };
            let again = rerun::command(words, seed);
            let ran = carry_out(setting, &output, &again)?;
            tell(&ran, &plan, "", &again, output.json)
        }
        Request::Replay { run, output } => replay_again(&run, &output),
        Request::Diff { one, other, json } => {
            let compared = diff::compare(&one, &other)?;
            let code = if compared.is_identical() { VALID } else { BROKEN };
            say(&if json { compared.json() } else { compared.told })?;
            Ok(code)
        }
        Request::Sweep { origin, overrides, world, options } => {
            logging::to_stderr(HARNESS_LOG);
            let swept = match (&origin, &options.resume) {
                (Some(origin), _) => {
                    worlds::admit(world, false)?;
                    let plan = planned(origin, &overrides, world, builtins)?;
                    let start = plan.seed.unwrap_or_else(drawn_seed);
                    let command = sweep::seed_words(words, origin);
                    sweep::begin(&options.out, options.record(plan, world, start, command)?)?
                }
                (None, resumed) => {
                    sweep::resume(resumed.as_ref().context("clap demands one")?, &options)?
                }
            };
            tell_sweep(&swept, options.json)
        }
        Request::SweepSeed(order) => {
            logging::to_stderr(HARNESS_LOG);
            let run = sweep::serve_seed(&order)?;
            say(&format!("{}\n", serde_json::to_string(&run).context("what came of the seed")?))?;
            Ok(VALID)
        }
    }
}

fn tell_forced(forced: &Forced, has_json: bool) -> anyhow::Result<u8> {
    let Forced { is_done, told, json } = forced;
    if has_json {
        say(json)?;
        complain(told.trim_end());
    } else if *is_done {
        say(told)?;
    } else {
        complain(told);
    }
    Ok(if *is_done { VALID } else { FAILED })
}

fn tell_sweep(swept: &Swept, has_json: bool) -> anyhow::Result<u8> {
    if has_json {
        say(&swept.json)?;
        complain(swept.text.trim_end());
    } else {
        say(&swept.text)?;
    }
    Ok(swept.exit_code)
}

/// An error and its causes, each once: some name their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        match told.is_empty() {
            true => cause,
            false if told.ends_with(&cause) => told,
            false => format!("{told}: {cause}"),
        }
    })
}

fn validate(file: &Path, builtins: &[Builtin], has_json: bool) -> anyhow::Result<u8> {
    let file = plan_file(file, builtins)?;
    plan::validate(&file.plan).map_err(|error| file.refusal(&error))?;
    say(&match has_json {
        true => describe::plan_json(&file.plan),
        false => describe::plan(&file.plan) + &describe::worlds(&file.plan),
    })?;
    Ok(VALID)
}

fn check_again(run: &Path, has_json: bool) -> anyhow::Result<u8> {
    check::notice(run).iter().for_each(|line| complain(line));
    let judged = check::judge(run)?;
    // A folder that nobody may write to is judged all the same.
    if let Err(error) = judged.draw() {
        complain(&format!("the page is as it was: {}", told(&error)));
    }
    let Judged { record, as_recorded, plan, .. } = &judged;
    let kept = match as_recorded.is_empty() {
        true => String::new(),
        false => {
            let why = match record.has_present_outages() {
                true => "for want of files",
                false => "for want of files, or since outages were measured by an older rule",
            };
            format!("not judged again, {why}: {}\n", as_recorded.join(", "))
        }
    };
    if has_json {
        say(&format!("{}\n", json(record)?))?;
        complain(kept.trim_end());
    } else {
        say(&(table(record, plan) + &kept))?;
    }
    Ok(convert::exit_code(record))
}

/// The plan with its overrides, fit to be carried out in that world; if it is not, what is said of
/// it names the option that is the cause, where one is.
fn planned(
    origin: &Origin,
    overrides: &Overrides,
    world: WorldKind,
    builtins: Vec<Builtin>,
) -> anyhow::Result<Plan> {
    let settled = |own: &Plan, given: &Overrides| {
        let mut plan = own.clone();
        given.apply(&mut plan, world)?;
        plan::settle(&mut plan, world);
        plan::keep_times(&mut plan);
        plan::validate(&plan).and_then(|()| plan::fits(&plan, world))?;
        Ok::<Plan, PlanError>(plan)
    };
    let fit = |own: &Plan| {
        let is_fit = |given: &Overrides| settled(own, given).is_ok();
        settled(own, overrides).map_err(|error| overrides.blamed(error, is_fit))
    };
    let mut plan = match origin {
        Origin::Builtin(name) => {
            let found = builtins.into_iter().find(|builtin| builtin.plan.scenario == *name);
            fit(&found.context("clap lets only known scenarios pass")?.plan)?
        }
        Origin::File(path) => {
            let file = plan_file(path, &builtins)?;
            fit(&file.plan).map_err(|error| file.refusal(&error))?
        }
    };
    plan::drop_unmeasured(&mut plan, world).iter().for_each(|line| complain(line));
    sparse::warning(&plan).iter().for_each(|line| complain(line));
    Ok(plan)
}

fn plan_file(path: &Path, builtins: &[Builtin]) -> anyhow::Result<PlanFile> {
    let is_meant = |builtin: &Builtin| Path::new(&builtin.plan.scenario) == path;
    PlanFile::read(path).map_err(|error| match builtins.iter().any(is_meant) {
        true => anyhow!("{}; a built-in scenario runs by its name alone", told(&error)),
        false => error,
    })
}

fn replay_again(run: &Path, output: &Output) -> anyhow::Result<u8> {
    let Earlier { record, plan, world, seed } = replay::read(run)?;
    worlds::admit(world, output.trace)?;
    sparse::warning(&plan).iter().for_each(|line| complain(line));
    let setting = Setting { world, plan: &plan, seed, is_traced: output.trace };
    // `runs/latest` is about to move on.
    let earlier = run.canonicalize().with_context(|| run.display().to_string())?;
    let again = rerun::of(&["replay".to_owned(), earlier.display().to_string()]);
    let ran = carry_out(setting, output, record.command.as_ref().unwrap_or(&again))?;
    let (repeated, told) = replay::compare(&record, &ran.record);
    // `runs/latest` has moved on.
    let again = ["replay".to_owned(), ran.path.display().to_string()];
    let told = format!("{told}\n");
    let exit_code = tell(&ran, &plan, &told, &rerun::of(&again), output.json)?;
    // A guarantee that broke is the graver finding.
    Ok(if repeated == Repeated::No && exit_code != BROKEN { FAILED } else { exit_code })
}

fn carry_out(setting: Setting<'_>, output: &Output, again: &str) -> anyhow::Result<Conducted> {
    let Setting { world, plan, seed, .. } = setting;
    complain(&format!("{}, world {world}, seed {seed}", plan.scenario));
    let folder = conduct::folder(&output.out, plan, seed)?;
    let tracing = match output.trace_harness {
        true => Some(logging::to_stderr_and(folder.path(), HARNESS_LOG)),
        false => {
            logging::to_stderr(HARNESS_LOG);
            None
        }
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the harness' threads")?;
    let (environment, command) = (Environment::here(), again.to_owned());
    let manner = Manner { environment, command, is_watched: true, is_kept: true };
    let conducted = runtime.block_on(conduct::conduct(setting, folder, manner));
    drop(tracing);
    conducted
}

/// Tells what came of a run, and last of all how to repeat one that was not valid.
fn tell(
    ran: &Conducted,
    plan: &Plan,
    more: &str,
    again: &str,
    has_json: bool,
) -> anyhow::Result<u8> {
    let Conducted { record, path, exit_code, .. } = ran;
    let mut folder = format!("{more}run folder: {}", path.display());
    if *exit_code != VALID {
        folder = format!("{folder}\n{again}");
    }
    if has_json {
        say(&format!("{}\n", json(record)?))?;
        complain(&folder);
    } else {
        say(&format!("\n{}\n{folder}\n", table(record, plan)))?;
    }
    Ok(*exit_code)
}

/// What came of a run as a table, beside its outages the timeouts that explain them.
fn table(record: &RunRecord, plan: &Plan) -> String {
    reports::render(record, timeouts::told(plan).as_deref(), is_colored())
}

fn json(record: &RunRecord) -> anyhow::Result<String> {
    serde_json::to_string_pretty(record).context("the record cannot be written as JSON")
}

/// A seed that nobody chose. The standard library keys its hashers with the system's entropy.
fn drawn_seed() -> Seed {
    Seed(RandomState::new().build_hasher().finish())
}

fn is_colored() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn say(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads may have read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// To standard error; there is nowhere left to tell that it is closed.
fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whoever gives it wants a value of JSON on standard output.
const JSON: &str = "--json";
const NODE_LOG: &str = "info,iroh=warn";
/// That a node which is killed within this process does not close its endpoint is no error.
const HARNESS_LOG: &str = "error,iroh::socket=off";
const VALID: u8 = 0;
const BROKEN: u8 = 1;
const FAILED: u8 = 3;
