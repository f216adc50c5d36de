//! Runs in which coverage chooses the choices: libFuzzer changes those that led somewhere new.
//!
//! Only a build with coverage counters can (`cargo ci nightly --only guided` makes one). A leading
//! process starts itself again for each target, since libFuzzer ends with its process, and keeps
//! what is worth it. Invariant: the inputs are the target's own, drawn, weighed and watched as in
//! any other run; a failure is repeated by its choices in an ordinary build.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    corpus::{self, CHOICES_BYTES_MAX, KEPT_MAX},
    cover, options,
};

/// What this process does about a target.
pub(crate) enum Part {
    /// It throws what is kept and what is drawn.
    Throws,
    /// It has another process guided for so many seconds.
    Leads(u64),
    /// It is the one that is guided.
    Follows,
    /// It is there for another target.
    StandsBy,
}

impl Part {
    /// From `FUZZ_SECONDS`, and from what a leading process said.
    pub(crate) fn of(target: &str) -> Self {
        match (env::var(TARGET), options::number("FUZZ_SECONDS")) {
            (Ok(chosen), _) if chosen == target => Self::Follows,
            (Ok(_), _) => Self::StandsBy,
            (Err(_), Some(seconds)) => Self::Leads(seconds),
            (Err(_), None) => Self::Throws,
        }
    }
}

/// Has a process guided for so long, starting from what is kept and what earlier runs on this
/// machine found; keeps the best of it if `FUZZ_KEEP` is set.
///
/// # Panics
/// If that process does not end well: it has told why.
pub(crate) fn lead(target: &str, seconds: u64) {
    let place = place(target);
    let (found, control) = (place.join("found"), place.join("control"));
    fs::create_dir_all(&found).expect("a folder beside the program");
    for (number, choices) in corpus::kept(target).iter().enumerate() {
        fs::write(found.join(format!("kept-{number}")), choices).expect("room for a small file");
    }
    let (found_at, place_at) = (found.display(), place.display());
    let limits = format!("-max_len={CHOICES_BYTES_MAX} -rss_limit_mb=4096 -timeout=100000");
    let time =
        format!("-max_total_time={seconds} -print_final_stats=1 -verbosity=0 -print_funcs=0");
    follow(target, &format!("{found_at} -artifact_prefix={place_at}/ {limits} {time}"));

    let files = files(&found);
    let names: String = files.iter().map(|path| format!("{}\n", path.display())).collect();
    fs::write(&control, format!("{}\n0\n{names}", files.len())).expect("room for a list");
    follow(target, &format!("-merge_inner=2 -merge_control_file={} {limits}", control.display()));
    let reached = cover::reached(&fs::read_to_string(&control).expect("it was just written"));
    let (best, share) = cover::widest(&reached, KEPT_MAX);
    println!("{target}: {} of {} inputs reach {share:.1} % of all", best.len(), files.len());
    if env::var_os("FUZZ_KEEP").is_some() {
        let read = |place: &usize| fs::read(&files[*place]).expect("it is still there");
        let best: Vec<_> = best.iter().map(read).collect();
        corpus::keep(target, &best).expect("room for what is kept");
    }
}

/// Starts this program as it was started, but for one target and with these words for libFuzzer.
fn follow(target: &str, words: &str) {
    let mut again = Command::new(env::current_exe().expect("this program has a path"));
    again.args(env::args_os().skip(1)).env(TARGET, target).env("BOLERO_LIBFUZZER_ARGS", words);
    let status = again.status().expect("this program can be started again");
    assert!(status.success(), "the guided run of {target} ended with {status}");
}

/// Where a guided run works: beside the program, so that the next one goes on from there.
fn place(target: &str) -> PathBuf {
    let program = env::current_exe().expect("this program has a path");
    let folder = program.parent().and_then(Path::parent).expect("it is in a target folder");
    folder.join("guided").join(target.replace(' ', "-"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("a folder of inputs");
    let mut files: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
    // Where two are worth the same, the shorter one is taken.
    files.sort_by_key(|path| (path.metadata().map_or(0, |file| file.len()), path.clone()));
    files
}

/// Has libFuzzer call it with choices, again and again; ends the process.
#[cfg(fuzzing_libfuzzer)]
pub(crate) fn run(bear: impl FnMut(&[u8])) {
    use std::panic::{self, AssertUnwindSafe};

    use bolero_engine::{Engine as _, driver::Options};

    let mut bear = AssertUnwindSafe(bear);
    let each = move |choices: &[u8]| {
        // The engine's own hook would keep a panic to itself.
        drop(panic::take_hook());
        let bear = &mut bear;
        if panic::catch_unwind(AssertUnwindSafe(|| bear(choices))).is_err() {
            // Told already. libFuzzer sees it, and leaves the choices in a file.
            std::process::abort();
        }
    };
    bolero_libfuzzer::LibFuzzerEngine::default().run(each, Options::default());
}

/// Says how to get what this build lacks.
#[cfg(not(fuzzing_libfuzzer))]
pub(crate) fn run(_: impl FnMut(&[u8])) {
    panic!("this build counts no coverage: `cargo ci nightly --only guided` makes one that does");
}

/// Says to which target a process was started for.
const TARGET: &str = "FUZZ_GUIDED";
