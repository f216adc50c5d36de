//! Garbage in what people and earlier runs hand over: plans, schedules, histories, logs.
//!
//! The rule: each is read, or refused with the place and what is allowed there.

use std::{collections::BTreeSet, fs, path::Path};

use chaos::{
    history::{self, HistoryError, LogOrder},
    plan::{self, PlanError, WorldKind},
    schedule,
    seed::Seed,
};
use fuzz::{Draws, Target};

const COMMAND: &str = "cargo test -p chaos --test garbage";

/// The plans that the program comes with, and those that between them have every field.
fn plans() -> Vec<Vec<u8>> {
    let folders = [Path::new("../scenarios/plans"), Path::new("tests/garbage")];
    folders.into_iter().flat_map(files).collect()
}

/// Those of a folder, in the order of their names.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).expect("a folder of plans");
    let mut paths: Vec<_> = files.map(|file| file.expect("a plan").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a plan")).collect()
}

/// Each kind of fault, and nearly each field of a plan.
const WHOLE: &str = include_str!("garbage/process.toml");

/// What readers of numbers and of tables stumble over.
const WORDS: [&[u8]; 22] = [
    b"18446744073709551616",
    b"18446744073709551615",
    b"9223372036854775807",
    b"-1",
    b"0",
    b"1e308",
    b"nan",
    b"inf",
    b"1.5",
    b"true",
    b"null",
    b"\"\"",
    b"\"\\u0000\"",
    b"[",
    b"{",
    b"}",
    b"\n",
    b"[[steps]]\n",
    b"[[[[[[[[[[[[[[[[",
    b"\xff\xfe",
    b"{\"a\":{\"a\":{\"a\":{\"a\":",
    b"86400000",
];

fn garbled(draws: &mut Draws, samples: &[Vec<u8>]) -> Vec<u8> {
    draws.garbled(samples, &WORDS)
}

fn named(error: &PlanError) {
    let told = error.to_string();
    assert!(!told.is_empty() && told.len() < 4_096, "{} bytes: {told}", told.len());
}

#[test]
fn every_field_of_a_plan_is_in_a_sample_and_every_sample_can_be_carried_out() {
    let mut given = BTreeSet::new();
    for sample in plans() {
        let text = str::from_utf8(&sample).expect("samples are text");
        let plan = plan::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let fits = |world| plan::fits(&plan, world).is_ok();
        // A rule is broken on purpose in a build for that alone.
        let valid = plan.planted.is_some()
            || plan::validate(&plan).map_err(|e| panic!("{e}\n{text}")).is_ok();
        assert!(valid && WorldKind::ALL.into_iter().any(fits), "{text}");
        keys(text.parse().expect("it is TOML"), &mut given);
    }
    for table in TABLES {
        let error = plan::parse(&format!("{table}\nunheard-of = 1\n")).expect_err("no such field");
        let told = error.to_string();
        let (_, fields) = told.split_once("unheard-of`, expected").expect("it names the others");
        for field in fields.split('`').skip(1).step_by(2) {
            assert!(given.contains(field), "no sample has {field} in {table}");
        }
    }
}

/// The names in a table and in those within it.
fn keys(table: toml::Table, given: &mut BTreeSet<String>) {
    for (name, value) in table {
        given.insert(name);
        let within = match value {
            toml::Value::Array(values) => values,
            value => vec![value],
        };
        for value in within {
            if let toml::Value::Table(table) = value {
                keys(table, given);
            }
        }
    }
}

/// All that a plan consists of, each as it begins.
const TABLES: [&str; 13] = [
    "",
    "[workload]",
    "[workload.mix]",
    "[lag]",
    "[lag.links]",
    "[[steps]]",
    "[[steps]]\n[steps.faults]",
    "[[steps]]\n[steps.clock]",
    "[[steps]]\n[steps.disk]",
    "[[steps]]\n[steps.flap]",
    "[random]",
    "[expect]",
    "[[variants]]",
];

#[test]
fn garbage_in_a_plan_is_refused_or_can_be_carried_out() {
    let samples = plans();
    let mut passed = 0;
    let target =
        Target { name: "plans", command: COMMAND, inputs: 5_000, heap_bytes_max: (8 << 20, 64) };
    let is_full = target.throw(
        [],
        |draws| garbled(draws, &samples),
        |bytes| {
            let Ok(text) = str::from_utf8(bytes) else { return };
            let read = match plan::parse(text) {
                Ok(read) => read,
                Err(error) => return named(&error),
            };
            if let Err(error) = plan::validate(&read) {
                return named(&error);
            }
            passed += 1;
            let mut chosen = read;
            plan::choose(&mut chosen, None).expect("the first of valid variants is a plan");
            // What is drawn for each of them has a limit of its own.
            chosen.trials = chosen.trials.min(3);
            for world in WorldKind::ALL {
                let drawn = plan::draw_faults(&chosen, world, Seed(7));
                let fitting = drawn.and_then(|drawn| plan::fits(&drawn, world).map(|()| drawn));
                match fitting {
                    Ok(plan) => {
                        let drawn = schedule::draw(&plan, Seed(7));
                        assert!(drawn.faults.len() <= 3 * plan.steps.len());
                    }
                    Err(error) => named(&error),
                }
            }
        },
    );
    assert!(!is_full || passed >= 50, "only {passed} were plans still");
}

#[test]
fn garbage_in_a_schedule_is_refused_in_words() {
    let plan = plan::parse(WHOLE).expect("a plan");
    let mut whole = schedule::draw(&plan, Seed(7));
    whole.faults[0].node = Some(chaos::fault::NodeNumber(3));
    whole.faults[0].nodes = [3, 4].map(chaos::fault::NodeNumber).into();
    whole.faults[0].struck_ns = Some(1_000_000_007);
    whole.faults[0].returned_ns = Some(2_000_000_011);
    let samples = [schedule::to_toml(&whole).expect("numbers of a run fit").into_bytes()];
    let target = Target {
        name: "schedules",
        command: COMMAND,
        inputs: 2_000,
        heap_bytes_max: (8 << 20, 64),
    };
    target.throw(
        [],
        |draws| garbled(draws, &samples),
        |bytes| {
            let Ok(text) = str::from_utf8(bytes) else { return };
            if let Err(told) = schedule::parse(text) {
                assert!(!told.is_empty());
            }
        },
    );
}

/// A few operations of each kind and outcome.
fn history() -> Vec<u8> {
    let rest = "\"intended_ns\":1,\"invoked_ns\":2,\"completed_ns\":3,\"node\":1";
    [
        format!(
            "{{\"client\":1,\"id\":7,\"f\":\"cas\",\"key\":2,\"value\":5,\"expected\":null,\
             \"result\":4,\"outcome\":\"ok\",{rest},\"term\":2,\"index\":9,\
             \"request\":{{\"session\":4,\"sequence\":6}}}}\n"
        ),
        format!(
            "{{\"client\":1,\"id\":8,\"f\":\"read\",\"key\":2,\"value\":null,\"expected\":null,\
             \"result\":5,\"outcome\":\"ok\",{rest},\"term\":null,\"index\":null,\
             \"request\":null}}\n"
        ),
        "{\"client\":2,\"id\":9,\"f\":\"write\",\"key\":2,\"value\":6,\"expected\":null,\
         \"result\":null,\"outcome\":\"unknown\",\"intended_ns\":4,\"invoked_ns\":5,\
         \"completed_ns\":null,\"node\":null,\"term\":null,\"index\":null,\"request\":null}\n"
            .to_owned(),
    ]
    .concat()
    .into_bytes()
}

const LOGS: &str = "{\"node\":1,\"term\":1,\"index\":1,\"request\":null,\"value\":null}\n\
    {\"node\":2,\"term\":1,\"index\":2,\"request\":{\"session\":1,\"sequence\":1},\"value\":5}\n";

#[test]
fn garbage_in_a_history_or_a_log_is_refused_with_its_line() {
    let samples = [history(), LOGS.as_bytes().to_vec()];
    let named = |error: HistoryError| {
        let told = error.to_string();
        assert!(told.contains("file") && told.len() < 16_384, "{told}");
    };
    let target = Target {
        name: "histories",
        command: COMMAND,
        inputs: 20_000,
        heap_bytes_max: (1 << 20, 64),
    };
    target.throw(
        [],
        |draws| garbled(draws, &samples),
        |bytes| {
            if let Err(error) = history::parse_history("file".as_ref(), &bytes[..]) {
                named(error);
            }
            let logs = history::parse_logs("file".as_ref(), LogOrder::Gapless, &bytes[..]);
            if let Err(error) = logs {
                named(error);
            }
        },
    );
}
