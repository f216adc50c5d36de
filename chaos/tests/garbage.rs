//! Garbage in what people and earlier runs hand over: plans, schedules, histories, logs.
//!
//! The rule: each is read, or refused with the place and what is allowed there.

use std::path::Path;

use chaos::{
    history::{self, HistoryError, LogOrder},
    plan::{self, PlanError, WorldKind},
    schedule,
    seed::Seed,
};
use fuzz::{Draws, Target};

const COMMAND: &str = "cargo test -p chaos --test garbage";

/// The plans that the program comes with, and one that has every field.
fn plans() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/plans");
    let files = std::fs::read_dir(folder).expect("the built-in plans");
    let mut paths: Vec<_> = files.map(|file| file.expect("a plan").path()).collect();
    paths.sort();
    let mut plans: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("a plan")).collect();
    plans.push(WHOLE.as_bytes().to_vec());
    plans.push(RANDOM.as_bytes().to_vec());
    plans
}

const WHOLE: &str = "scenario = \"x\"\nabout = \"y\"\nkind = \"failover\"\nnodes = 5\ntrials = 3\n\
    profile = \"loopback\"\nstorage = \"disk\"\nseed = \"0x9f3c\"\nbackground_load = 2\n\
    [workload]\nrate_per_s = 300\nclients = 4\nburst = 2\nkeys_live = 3\noperations_per_key = 50\n\
    inflight_max = 64\npinned = true\nmix = { read = 50, write = 40, cas = 10 }\n\
    duration_ms = 9000\n\
    [[steps]]\nat = 1000\nfault = \"partition\"\nside = [1, \"leader\"]\nway = \"in\"\n\
    flap = { on_ms = 250, off_ms = 250 }\nreturn_after_ms = 500\n\
    [[steps]]\nat = 2000\nfault = \"partition\"\ncut = [[1, 3], [2, 3]]\nreturn_after_ms = 500\n\
    [[steps]]\nat = 3000\nfault = \"link\"\ntarget = { node = 1 }\nto = 2\nreturn_after_ms = 500\n\
    faults = { loss = 0.05, delay_ms = 20, jitter_ms = 5, reorder = 0.01, reorder_ms = 10, \
    duplicate = 0.01, corrupt = 0.001, bandwidth_bytes_per_s = 125000, queue_bytes_max = 262144 }\n\
    [[steps]]\nat = 4000\nfault = \"clock\"\ntarget = \"follower\"\nreturn_after_ms = 500\n\
    clock = { wall_offset_ms = -5000, rate_ppm = 50000 }\n\
    [[steps]]\nat = \"random\"\nfault = \"kill\"\ntarget = \"random\"\nreturn_after_ms = 100\n\
    [expect]\noutage_ms_p50_max = 700.5\noutage_ms_max = { lan = 900, wan = 6000.5 }\n\
    majority_may_be_lost = true\n";

const RANDOM: &str = "scenario = \"r\"\nkind = \"failover\"\n[workload]\nduration_ms = 60000\n\
    [random]\nfaults = [\"kill\", \"pause\", \"link\", \"clock\"]\nsteps_max = 6\n";

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
    whole.faults[0].struck_ns = Some(1_000_000_007);
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
