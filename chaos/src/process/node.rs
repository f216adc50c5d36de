//! A node in a process of its own: what the hidden command `node` runs.
//!
//! Does what the harness says on standard input and ends when that ends. Invariant: it never
//! outlives its harness: the kernel kills it when its parent dies, also while it stands still,
//! and the end of its input ends it as well.

mod clock;
mod listening;
mod member;
mod outbox;
mod store;
mod watcher;

use std::{
    io::{self, BufRead},
    process::ExitCode,
    thread,
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Pid, getppid},
};
use tokio::sync::mpsc;

use crate::process::control::{Ask, Init, Request, read_line};

use member::Member;
use outbox::Outbox;

/// Runs a node until it is told to end. `arguments` are those after the word `node`.
///
/// A program that offers [`super::ProcessWorld`] its own path calls this before anything else
/// when its first argument is `node`.
pub fn main(arguments: &[String]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("the node cannot go on: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    die_with(parent(arguments)?)?;
    let fallen = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A member whose task has died must not go on as half a member.
        fallen(panic);
        std::process::abort();
    }));
    let mut input = io::stdin().lock();
    let Some(request) = next(&mut input)? else { return Ok(()) };
    let Ask::Init(init) = request.ask else {
        return Err("the first request must be `init`".into());
    };
    drop(input);
    serve(request.id, *init)
}

/// One thread: a node has a single driver, and the harness has as many nodes as the host has
/// cores, or more.
fn serve(id: u64, init: Init) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let outbox = Outbox::start(init.node).map_err(|error| format!("no output: {error}"))?;
    watcher::start(outbox.clone()).map_err(|error| format!("no watcher: {error}"))?;
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    thread::Builder::new()
        .name("input".into())
        .spawn(move || listen(&requests))
        .map_err(|error| format!("no input: {error}"))?;
    runtime.block_on(async {
        let member = Member::bind(init, outbox.clone()).await;
        match member {
            Ok(member) => member.serve(id, asked).await,
            Err(reason) => outbox.reply(id, Err(reason.clone())).await.and(Err(reason)),
        }
    })?;
    outbox.finish();
    Ok(())
}

/// Ends the process when the harness says no more.
fn listen(requests: &mpsc::Sender<Request>) {
    let mut input = io::stdin().lock();
    loop {
        match next(&mut input) {
            Ok(Some(request)) => {
                if requests.blocking_send(request).is_err() {
                    return;
                }
            }
            // The end of its input means that the harness is gone, however it went.
            Ok(None) => std::process::exit(0),
            Err(reason) => {
                eprintln!("the harness: {reason}");
                std::process::exit(1);
            }
        }
    }
}

fn next(input: &mut impl BufRead) -> Result<Option<Request>, String> {
    let line = read_line(input).map_err(|error| error.to_string())?;
    line.map(|line| serde_json::from_slice(&line).map_err(|error| error.to_string())).transpose()
}

/// Asks the kernel for a signal that nothing can refuse, for the moment when the parent dies.
fn die_with(parent: Pid) -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("prctl: {error}"))?;
    // It may have died before the kernel was asked.
    if getppid() == parent {
        Ok(())
    } else {
        Err(format!("process {parent}, which started this node, is gone"))
    }
}

fn parent(arguments: &[String]) -> Result<Pid, String> {
    let [flag, number] = arguments else { return Err(USAGE.into()) };
    let number = number.parse().ok().filter(|number| *number > 0);
    match (flag.as_str(), number) {
        ("--parent", Some(number)) => Ok(Pid::from_raw(number)),
        _ => Err(USAGE.into()),
    }
}

const USAGE: &str = "expected `--parent` and a process number: nodes are started by the harness";
const REQUESTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_number_names_a_parent() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            parent(&words)
        };
        assert_eq!(read(&["--parent", "17"]), Ok(Pid::from_raw(17)));
        let bad: [&[&str]; 6] = [
            &[],
            &["--parent"],
            &["--parent", "x"],
            &["--parent", "-1"],
            &["17", "--parent"],
            &["--parent", "1", "2"],
        ];
        for words in bad {
            read(words).expect_err("no parent");
        }
    }

    #[test]
    fn a_parent_that_is_not_ours_is_refused() {
        // Asking twice for the signal is harmless: the parent of this test outlives it.
        let reason = die_with(Pid::from_raw(i32::MAX)).expect_err("not the parent");
        assert!(reason.contains("is gone"), "{reason}");
    }
}
