//! What the README shows is true: the example of embedding the runtime is this file's, the plan
//! can be carried out, the profiles have those numbers, and the files of a run are as their page
//! says.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use chaos::history::{self, Outcome};
use chaos::plan::{PROFILES, WorldKind};
use runtime::{
    ApplyContext, Bootstrap, ConsensusConfig, Consistency, GroupKey, Network, StateMachine, storage,
};

/// The machine that the README speaks of.
#[derive(Default)]
struct Counter {
    value: u64,
}

impl StateMachine for Counter {
    type Command = u64;
    type Output = u64;
    type Query = ();
    type Answer = u64;

    const SIGNATURE: &'static str = "readme counter 1";

    fn apply(&mut self, command: u64, _: &ApplyContext) -> u64 {
        self.value = self.value.wrapping_add(command);
        self.value
    }

    fn query(&self, (): ()) -> u64 {
        self.value
    }

    fn snapshot(&self, writer: &mut dyn Write) -> io::Result<()> {
        writer.write_all(&self.value.to_le_bytes())
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        reader.read_exact(&mut bytes)?;
        self.value = u64::from_le_bytes(bytes);
        Ok(())
    }
}

#[tokio::test]
async fn the_example_runs() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    // From here on it is the README's text.
    let network = Network::builder("my-app").build().await?;
    let group = network
        .group(GroupKey::from_secret("known to all members"))
        .machine(Counter::default())
        .storage(storage::Disk::at(&path))
        .bootstrap(Bootstrap::Solo)
        .join()
        .await?;
    group.when().leader_elected().await?;

    let executed = group.execute(2).await?;
    println!("{} stands at {} in the log", executed.output, executed.position);
    let queried = group.query((), Consistency::Strong).await?;
    assert_eq!(queried.answer, executed.output);
    network.shutdown().await;
    // To here.
    Ok(())
}

#[test]
fn the_readme_shows_what_is_tested() {
    let this = include_str!("readme.rs");
    let (_, example) = this.split_once("README's text.\n").unwrap();
    let (example, _) = example.split_once("    // To here.").unwrap();
    let shown: Vec<&str> =
        example.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let shown = format!("```rust\n{}\n```", shown.join("\n"));
    assert!(include_str!("../../README.md").contains(&shown), "README.md lacks:\n{shown}");
}

/// The text of the first fenced block of that language.
fn fenced<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, block) = page.split_once(&format!("```{language}\n")).expect("the page has one");
    block.split_once("```").expect("it is closed").0
}

#[test]
fn the_plans_that_the_readme_shows_can_be_carried_out() {
    let mut page = include_str!("../../README.md");
    let mut names = Vec::new();
    while let Some((_, rest)) = page.split_once("```toml\n") {
        let (text, rest) = rest.split_once("```").expect("it is closed");
        let plan = chaos::plan::parse(text).unwrap();
        assert_eq!(chaos::plan::validate(&plan), Ok(()), "{}", plan.scenario);
        assert_eq!(chaos::plan::fits(&plan, WorldKind::Process), Ok(()), "{}", plan.scenario);
        names.push(plan.scenario);
        page = rest;
    }
    assert_eq!(names, ["slow-follower", "two-at-once"]);
}

#[test]
fn every_field_that_a_plan_is_offered_is_in_the_readme() {
    let page = include_str!("../../README.md");
    let wrong = chaos::plan::parse("scenario = \"x\"\nkind = \"steady\"\nx = 1\n");
    let told = wrong.unwrap_err().to_string();
    let (_, fields) = told.split_once("expected one of ").expect("they are named");
    for field in fields.split(", ") {
        let name = field.trim_matches('`');
        let shown = ["`", ".", " = "].map(|end| format!("`{name}{end}"));
        let is_told = shown.iter().any(|shown| page.contains(shown));
        assert!(is_told || page.contains(&format!("`[[{name}]]`")), "{field}");
    }
}

/// A row of the table of profiles.
fn row(what: &str, number: &dyn Fn(&ConsensusConfig) -> String) -> String {
    let numbers = PROFILES.map(|profile| number(&profile.config()));
    format!("| {what} | {} |", numbers.join(" | "))
}

#[test]
fn the_profiles_are_told_in_the_numbers_that_they_have() {
    let page = include_str!("../../README.md");
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    let elections = |of: &ConsensusConfig| {
        let longest = of.election_timeout + of.election_timeout_jitter;
        format!("{} to {}", of.election_timeout.as_millis(), ms(longest))
    };
    let bond = |of: &ConsensusConfig| {
        ms((of.heartbeat_interval + of.heartbeat_jitter) * of.max_missed_heartbeats)
    };
    assert!(page.contains("| | `lan` | `wan` | `loopback` |"), "the order of the columns");
    for row in [
        row("an idle leader speaks every", &|of| ms(of.heartbeat_interval)),
        row("who hears no leader stands for election after", &elections),
        row("a member that is new waits longer for its first election by", &|of| {
            ms(of.bootstrap_delay)
        }),
        row("a client that waits for an answer leaves a node that was silent for", &|of| {
            ms(of.client_silence_max)
        }),
        row("members close a bond after a silence of", &bond),
        row("a command or a query may take", &|of| ms(of.forward_timeout.max(of.query_timeout))),
        row("a leader evicts a member that was silent for", &|of| {
            format!("{} s", of.evict_after.as_secs())
        }),
    ] {
        assert!(page.contains(&row), "README.md lacks {row:?}");
    }
}

#[test]
fn every_bound_on_a_figure_is_in_the_readme() {
    let page = include_str!("../../README.md");
    let wrong = chaos::plan::parse("scenario = \"x\"\nkind = \"steady\"\n[expect]\nx = 1\n");
    let told = wrong.unwrap_err().to_string();
    let (_, bounds) = told.split_once("expected one of ").expect("they are named");
    assert!(bounds.split(", ").all(|bound| page.contains(bound)), "{bounds}");
}

#[test]
fn the_history_that_the_page_shows_is_one_and_each_of_its_fields_is_explained() {
    let page = include_str!("../../reports/README.md");
    let shown = fenced(page, "json");
    let read = history::parse_history(Path::new("reports/README.md"), shown.as_bytes()).unwrap();
    let outcomes: Vec<Outcome> = read.operations().iter().map(|one| one.outcome).collect();
    assert!(outcomes.contains(&Outcome::Ok) && outcomes.contains(&Outcome::Unknown));
    for line in shown.lines() {
        let fields: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
        let explained: BTreeSet<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
            .collect();
        for field in fields.keys() {
            assert!(explained.contains(field.as_str()), "{field} is not explained");
        }
    }
}

#[test]
fn every_field_of_a_record_is_explained() {
    let page = include_str!("../../reports/README.md");
    let record = serde_json::json!({
        "schema_version": reports::SCHEMA_VERSION, "scenario": "x", "world": "process",
        "transport": "QUIC", "seed": "0x1", "verdict": "valid", "plan": {},
        "environment": {"commit": "c", "build_profile": "release", "rustc": "r", "machine": "m"},
        "trials": [{"fault": "kill", "node": 1, "fault_at_ms": 1.0}],
        "marks": [{"at_ms": 1.0, "kind": "kill"}],
        "checks": [{"name": "n", "verdict": "valid", "detail": "d"}],
    });
    let record: reports::RunRecord = serde_json::from_value(record).unwrap();
    let written = serde_json::to_value(&record).unwrap();
    let parts = [&written, &written["environment"], &written["trials"][0], &written["marks"][0]];
    for part in parts.into_iter().chain([&written["checks"][0]]) {
        for field in part.as_object().unwrap().keys() {
            let is_told = ["`", "[]`"].iter().any(|end| page.contains(&format!("`{field}{end}")));
            assert!(is_told, "{field} is not explained");
        }
    }
}
