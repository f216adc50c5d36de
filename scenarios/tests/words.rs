//! The program from outside: words in, exit codes and text out. It starts no node here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{fs, io};

use runtime::storage::Disk;
use runtime::{ApplyContext, Bootstrap, GroupKey, Network, StateMachine};

fn scenarios(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scenarios")).args(words).output().expect("the program starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it speaks UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it speaks UTF-8")
}

/// Writes a plan and validates it.
fn validated(text: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("plan.toml");
    fs::write(&file, text).expect("it can be written");
    let output = scenarios(&["validate", file.to_str().expect("UTF-8")]);
    (code(&output), stdout(&output), stderr(&output))
}

const GOOD: &str = "scenario = \"mine\"\nkind = \"failover\"\n\n[workload]\nclients = 2\n\n\
                    [[steps]]\nat = \"random\"\nfault = \"pause\"\nreturn_after_ms = 900\n";

#[test]
fn the_list_and_the_help_go_to_standard_output() {
    let list = scenarios(&["--list"]);
    assert_eq!(code(&list), 0);
    for name in ["leader-failover", "partition", "lagging-follower", "formation", "steady"] {
        assert!(stdout(&list).contains(name), "{list:?}");
    }
    for words in [
        &["--help"][..],
        &["leader-failover", "--help"],
        &["run", "--help"],
        &["check", "--help"],
        &["diff", "--help"],
    ] {
        let help = scenarios(words);
        assert_eq!(code(&help), 0);
        assert!(stdout(&help).contains("Exit codes"), "{help:?}");
        assert!(!stdout(&help).contains("node --parent"), "the hidden command stays hidden");
    }
    assert_eq!(code(&scenarios(&["--version"])), 0);
}

#[test]
fn usage_errors_are_three() {
    for words in [
        &[][..],
        &["leader-failove"],
        &["leader-failover", "--nodes"],
        &["leader-failover", "--nodes", "ten"],
        &["leader-failover", "--nodes", "10"],
        &["leader-failover", "--nodes", "99999999999999999999"],
        &["leader-failover", "--duration", "-5s"],
        &["leader-failover", "--duration", "500ms"],
        &["leader-failover", "--random-faults", "--overlap"],
        &["leader-failover", "--random-faults", "--fault", "kill"],
        &["rolling-restart", "--disk", "flip"],
        &["rolling-restart", "--nodes", "10"],
        &["partition", "--fault", "kill"],
        &["partition", "--kind", "bridge", "--nodes", "3"],
        &["leader-failover", "--storage", "memory", "--nodes", "2"],
        &["cold-restart", "--storage", "memory"],
        &["cold-restart", "--fault", "isolate"],
        &["cold-restart", "--disk", "flip"],
        &["leader-failover", "--fault", "disk"],
        &["leader-failover", "--fault", "kill", "--disk", "flip"],
        &["leader-failover", "--disk", "rust"],
        &["leader-failover", "--disk", "flip", "--storage", "memory"],
        &["leader-failover", "--disk", "flip", "--world", "swarm"],
        &["formation", "--rate", "5"],
        &["steady", "--trials", "2"],
        &["steady", "--batch-size", "500"],
        &["lagging-follower", "--batch-size", "0"],
        &["lagging-follower", "--batch-size", "100,,500"],
        &["lagging-follower", "--entries", "0"],
        &["lagging-follower", "--fault", "kill", "--fault", "pause"],
        &["lagging-follower", "--fault", "kill,pause"],
        &["lagging-follower", "--fault", "kill", "--disk", "flip"],
        &["lagging-follower", "--fault", "kill", "--overlap"],
        &["lagging-follower", "--peers", "1"],
        &["lagging-follower", "--loss", "2"],
        &["lagging-follower", "--world", "swarm"],
        &["steady", "--world", "moon"],
        &["steady", "--trace"],
        &["replay"],
        &["replay", "/nowhere"],
        &["diff", "/nowhere"],
        &["diff", "/nowhere", "/nowhere"],
        &["diff", "/etc/passwd", "/etc/passwd"],
        &["diff", "/", "/"],
        &["sweep"],
        &["sweep", "steady"],
        &["sweep", "steady", "--seeds", "0"],
        &["sweep", "steady", "--seeds", "1", "--check-twice", "1"],
        &["sweep", "/nowhere/plan.toml", "--seeds", "1"],
        &["sweep", "--resume", "/nowhere"],
        &["sweep", "--resume", "/nowhere", "--world", "process"],
        &["sweep", "steady", "--resume", "/nowhere"],
        &["run", "/nowhere/plan.toml"],
        &["validate", "/"],
        &["check", "/nowhere"],
        &["open", "/nowhere"],
        &["open", "/"],
        &["list", "--limit", "0"],
        &["list", "--limit", "-1"],
        &["node"],
    ] {
        let output = scenarios(words);
        let expected = if words == ["node"] { 1 } else { 3 };
        assert_eq!(code(&output), expected, "{words:?}: {output:?}");
        assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{words:?}");
    }
}

#[test]
fn an_unknown_scenario_is_told_the_nearest_and_all_others() {
    let text = stderr(&scenarios(&["leader-failove"]));
    assert!(text.contains("similar") && text.contains("'leader-failover'"), "{text}");
    assert!(
        text.contains(
            "leader-failover, partition, rolling-restart, cold-restart, membership-churn, \
             lagging-follower, formation, steady"
        ),
        "{text}"
    );
}

#[test]
fn what_cannot_befall_all_nodes_is_told_with_the_reason() {
    for (words, reason) in [
        (
            ["--storage", "memory"],
            "all that was acknowledged would be gone with what they remember",
        ),
        (["--fault", "wipe"], "all that was acknowledged would be gone with their stores"),
        (["--fault", "leave"], "a group that all have left is none"),
        (["--fault", "isolate"], "with all pairs as its cut"),
        (["--fault", "transfer"], "only a leader can hand over"),
    ] {
        let output = scenarios(&["cold-restart", words[0], words[1]]);
        assert_eq!(code(&output), 3, "{words:?}");
        assert!(stderr(&output).contains(reason), "{reason:?}: {output:?}");
    }
}

#[test]
fn an_unknown_option_is_told_those_there_are() {
    let text = stderr(&scenarios(&["steady", "--speed", "3"]));
    assert!(text.contains("The options of `steady` are --nodes, --groups, --rate"), "{text}");
    let text = stderr(&scenarios(&["check", "runs/latest", "--deep"]));
    assert!(text.contains("The options of `check` are --json, --help"), "{text}");
}

#[test]
fn options_of_a_follower_that_lags_are_told_where_they_belong() {
    let of = |scenario: &str| stdout(&scenarios(&[scenario, "--help"]));
    assert!(of("lagging-follower").contains("--batch-size") && !of("steady").contains("--batch"));
    let text = stderr(&scenarios(&["lagging-follower", "--batch-size", "0"]));
    assert!(text.contains("--batch-size is 0, but must lie between 1 and 1048576"), "{text}");
    let text = stderr(&scenarios(&["lagging-follower", "--batch-size", "many"]));
    assert!(text.contains("100,500,2000"), "{text}");
}

#[test]
fn what_cannot_be_given_is_refused_by_its_own_name_with_what_is_allowed() {
    for (line, expected) in [
        ("partition --fault kill", "--fault is kill, but the variants of partition say what is"),
        ("rolling-restart --disk flip", "--disk is flip, but the variants of rolling-restart say"),
        ("leader-failover --random-faults --overlap", "--overlap is given, but --random-faults"),
        ("lagging-follower --disk flip", "--disk is flip, but the one fault of lagging-follower"),
        ("cold-restart --overlap", "--overlap is given, but cold-restart hits all nodes at one"),
        ("partition --nodes 2", "--nodes is 2, but --kind isolate-leader leaves no majority"),
        ("partition --kind bridge --nodes 3", "--nodes is 3, but --kind bridge cuts links among 5"),
        ("leader-failover --nodes 99999999999999999999", "must lie between 1 and 9"),
        ("leader-failover --nodes 10", "--nodes is 10, but must lie between 1 and 9"),
        (
            "leader-failover --fault transfer --nodes 1",
            "--fault is transfer, but of one node there",
        ),
        ("leader-failover --fault disk", "--fault is disk, but fault = \"disk\" must say how"),
        (
            "leader-failover --disk flip --world swarm",
            "--disk is flip, but world swarm has no disk",
        ),
        ("leader-failover --duration 500ms", "--duration is 500ms, but must lie between 1000 and"),
        ("leader-failover --groups 3 --world sim", "--groups is 3, but world sim has one group"),
        ("steady --trials 2", "--trials is 2, but steady has one: its length is"),
        ("lagging-follower --entries 0", "--entries is 0, but must lie between 1 and 5000000"),
        ("leader-failover --duration -5s", "'-5s' for '--duration <DURATION>': expected a whole"),
        ("list --limit -1", "'-1' for '--limit <N>': expected a whole number"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let text = stderr(&scenarios(&words));
        assert!(text.contains(expected), "{line}: {text}");
        for internal in ["steps[", "unexpected argument"] {
            assert!(!text.contains(internal), "{line}: {text}");
        }
    }
}

#[test]
fn a_built_in_scenario_that_is_taken_for_a_file_is_told_so() {
    for command in ["run", "validate"] {
        let output = scenarios(&[command, "steady"]);
        assert_eq!(code(&output), 3);
        assert!(stderr(&output).contains("steady") && stderr(&output).contains("its name alone"));
    }
}

#[test]
fn what_the_system_says_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = scenarios(&["steady", "--out", file.to_str().unwrap()]);
    assert_eq!(code(&output), 3);
    let text = stderr(&output);
    assert!(text.contains("cannot create") && text.contains("file/runs/steady"), "{text}");
    assert_eq!(text.matches("os error").count(), 1, "{text}");
}

#[test]
fn the_help_says_what_each_scenario_is_for() {
    let help = stdout(&scenarios(&["--help"]));
    for words in ["kills the leader under load", "load without faults", "Carries out a plan file"] {
        assert!(help.contains(words), "{words:?} in {help}");
    }
}

#[test]
fn a_good_plan_is_told_in_words() {
    let (code, told, _) = validated(GOOD);
    assert_eq!(code, 0);
    assert!(told.starts_with("mine\n") && told.contains("pause the leader"), "{told}");
}

#[test]
fn what_befalls_a_disk_is_told_in_words() {
    for (disk, told) in [
        (
            "kind = \"stall\", sync_ms = 90",
            "disk of the leader: stall, 90 ms for each sync; over 900",
        ),
        ("kind = \"no-space\"", "disk of the leader: no-space; it must stop"),
        ("kind = \"flip\"", "the leader is killed and a bit of its store flipped"),
    ] {
        let plan = GOOD.replace("\"pause\"", "\"disk\"");
        let (code, words, error) = validated(&format!("{plan}disk = {{ {disk} }}\n"));
        assert_eq!(code, 0, "{error}");
        assert!(words.contains(told), "{words}");
        let refused = "world swarm has no disk that could fail";
        assert!(words.contains(refused), "{words}");
    }
}

#[test]
fn a_bad_plan_is_told_by_line_and_field() {
    for (text, expected) in [
        (GOOD.replace("clients", "client"), &["line 5", "`client`", "`clients`"][..]),
        (GOOD.replace("\"pause\"", "\"unplug\""), &["line 9", "unplug", "`kill`"]),
        (GOOD.replace("= 2", "= 0"), &["line 5", "workload.clients is 0", "between 1 and"]),
        (GOOD.replace("900", "90000"), &["line 10", "steps[0].return_after_ms"]),
        (GOOD.replace("\"mine\"", "\"../mine\""), &["line 1", "scenario is", "letters"]),
        (GOOD.replace("clients = 2", "clients = "), &["line 5"]),
        (format!("nodes = 2\n{GOOD}"), &["at least 3 nodes"]),
        (GOOD.replace("= 2", "= \"two\""), &["line 5", "a whole number that is not negative"]),
        (GOOD.replace("= 2", "= 2.5"), &["line 5", "2.5", "a whole number"]),
        (format!("seed = 7\n{GOOD}"), &["line 1", "`7`", "text such as"]),
        (format!("workload = 3\n{}", GOOD.replace("[workload]", "[x]")), &["line 1", "[workload]"]),
        (format!("{GOOD}target = 3\n"), &["line 11", "\"leader\"", "{ node = 2 }"]),
        (format!("{GOOD}target = \"node\"\n"), &["line 11", "{ node = 2 }"]),
        (GOOD.replace("\"pause\"", "3"), &["line 9", "\"kill\", \"pause\""]),
        (format!("{GOOD}target = \"boss\"\n"), &["boss", "`leader`", "`all`, { node = 2 }"]),
        (format!("{GOOD}target = \"all\"\n"), &["line 11", "all nodes", "majority_may_be_lost"]),
        (GOOD.replace("failover", "steady"), &["line 7", "steady has no faults"]),
        (GOOD.replace("\"pause\"", "\"disk\""), &["line 7", "steps[0].disk is absent", "stall"]),
        (format!("{GOOD}disk = {{ kind = \"rust\" }}\n"), &["line 11", "rust", "`torn-write`"]),
        (format!("{GOOD}[expect]\noutage_max = 1\n"), &["line 12", "`outage_ms_max`"]),
        (format!("{GOOD}[expect]\nterm_changes_max = 1\n"), &["line 12", "only steady"]),
        (format!("{GOOD}[expect]\nterm_changes_max = {{ moon = 1 }}\n"), &["moon", "`loopback`"]),
    ] {
        let (code, told, error) = validated(&text);
        assert_eq!((code, told.as_str()), (3, ""), "{text}");
        for words in expected {
            assert!(error.contains(words), "{words:?} in {error}");
        }
        assert!(error.contains("plan.toml"), "the file is named: {error}");
    }
}

#[test]
fn a_plan_file_that_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.toml");
    fs::write(&file, b"scenario = \"\xff\"").unwrap();
    let output = scenarios(&["run", file.to_str().unwrap()]);
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("byte 12 is not UTF-8"), "{output:?}");
}

#[test]
fn traces_are_compared_by_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (one, same) = (file("one", "1 event node 1 x\n"), file("same", "1 event node 1 x\n"));
    let other = file("other", "1 event node 2 x\n");
    let output = scenarios(&["diff", &one, &same]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "identical: 1 lines\n"));
    let output = scenarios(&["diff", &one, &other]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stdout(&output).starts_with("line 1 differs"), "{output:?}");
    let output = scenarios(&["diff", &one, &other, "--json"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let told: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((&told["a"]["node"], &told["b"]["node"]), (&1.into(), &2.into()), "{told}");
    // Each field begins a line of the help, alone or beside another.
    let help = stdout(&scenarios(&["diff", "--help"]));
    let (_, lines) = help.split_once("What --json prints:\n").expect("it says so");
    let heads = lines.lines().filter_map(|line| line.trim_start().split("  ").next());
    let named: BTreeSet<&str> = heads.flat_map(|head| head.split(", ")).collect();
    let fields = [&told, &told["a"]].into_iter().flat_map(|part| part.as_object().unwrap().keys());
    for field in fields {
        assert!(named.contains(field.as_str()), "{field} is not in {help}");
    }
}

/// A run folder as an earlier run of six operations may have left it.
fn run_folder(at: &Path, history: &str) {
    run_folder_of(at, history, 6);
}

/// The same of a run of so many operations.
fn run_folder_of(at: &Path, history: &str, offered: u64) {
    let plan = "{\"scenario\":\"x\",\"kind\":\"steady\",\"nodes\":1,\"workload\":{}}";
    let record = format!(
        "{{\"schema_version\":1,\"scenario\":\"x\",\"world\":\"process\",\"transport\":\"QUIC\",\
         \"seed\":\"0x1\",\"verdict\":\"valid\",\"plan\":{plan},\"environment\":{{\"commit\":\"c\",\
         \"build_profile\":\"release\",\"rustc\":\"r\",\"machine\":\"m\"}},\
         \"counts\":{{\"operations_offered\":{offered}}}}}"
    );
    fs::write(at.join("run.json"), record).expect("it can be written");
    fs::write(at.join("history.jsonl"), history).expect("it can be written");
}

/// One operation on register 1, of client 1.
fn line(id: u64, f: &str, value: &str, result: &str, from: u64, to: u64) -> String {
    let position = if f == "read" { "null,\"index\":null" } else { "1,\"index\":1" };
    let request = if f == "read" { "null" } else { "{\"session\":1,\"sequence\":1}" };
    format!(
        "{{\"client\":1,\"id\":{id},\"f\":\"{f}\",\"key\":1,\"value\":{value},\"expected\":null,\
         \"result\":{result},\"outcome\":\"ok\",\"intended_ns\":{from},\"invoked_ns\":{from},\
         \"completed_ns\":{to},\"node\":1,\"term\":{position},\"request\":{request}}}\n"
    )
}

#[test]
fn a_stale_read_in_a_recorded_history_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = line(1, "write", "7", "null", 10, 20);
    run_folder(folder.path(), &(write.clone() + &line(2, "read", "null", "null", 30, 40)));
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stdout(&output).contains("verdict: invalid"), "{output:?}");

    // The same with fresh reads at once, but without the nodes' logs: nothing broke, not all is
    // known.
    let reads = |count| (0..count).map(|n| line(2 + n, "read", "null", "7", 30, 40));
    run_folder(folder.path(), &(write.clone() + &reads(5).collect::<String>()));
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stdout(&output).contains("log of node 1 is missing"), "{output:?}");

    // And with an operation missing.
    run_folder(folder.path(), &(write.clone() + &reads(4).collect::<String>()));
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stdout(&output).contains("holds 5 operations, run.json counts 6"), "{output:?}");

    // And with the last line cut off, as a kill leaves it, and saved before that.
    let all = write.clone() + &reads(5).collect::<String>();
    run_folder_of(folder.path(), &all[..all.len() - 5], 5);
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{output:?}");
    let told = "run.json counts 5; line 6, the last, is cut off and was left out; events.jsonl is \
                missing: it is unknown what nodes noted";
    assert!(stdout(&output).contains(told), "{output:?}");
    assert!(stderr(&output).contains("events.jsonl is missing"), "{output:?}");

    // And with the write missing: it may have been what the reads found.
    run_folder(folder.path(), &reads(5).collect::<String>());
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{output:?}");
    let told = "operations are missing, which may be why: key 1: read that found 7";
    assert!(stdout(&output).contains(told), "{output:?}");

    // And with all of them missing: what shows nothing breaks nothing, and was no poor test.
    run_folder(folder.path(), "");
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{output:?}");

    // And with nothing at the same time: whatever such a run shows, it is no test.
    run_folder_of(folder.path(), &(write + &reads(1).collect::<String>()), 2);
    let output = scenarios(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 3, "{output:?}");
    assert!(stdout(&output).contains("raise workload.burst"), "{output:?}");
}

#[test]
fn damaged_runs_are_refused_by_file_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let refused = |expected: &[&str]| {
        let output = scenarios(&["check", path]);
        assert_eq!(code(&output), 3, "{output:?}");
        for words in expected {
            assert!(stderr(&output).contains(words), "{words:?} in {output:?}");
        }
    };
    refused(&["run.json"]);
    let good = line(1, "read", "null", "null", 10, 20);
    run_folder(folder.path(), &(good.clone() + &good.replace("\"ok\"", "\"fine\"")));
    refused(&["history.jsonl:2", "`outcome`", "ok, fail, unknown"]);
    run_folder(folder.path(), &format!("{}\n{good}", &good[..good.len() - 5]));
    refused(&["history.jsonl:1", "not a JSON object"]);
    run_folder(folder.path(), &(good.clone() + "nonsense"));
    refused(&["history.jsonl:2", "cut off, and no JSON object"]);
    run_folder(folder.path(), &good);
    let logs = folder.path().join("logs.jsonl");
    fs::write(&logs, "{\"node\":1}\n").unwrap();
    refused(&["logs.jsonl:1", "`term`"]);
    let entry = |term, index| {
        format!("{{\"node\":1,\"term\":{term},\"index\":{index},")
            + "\"request\":null,\"value\":null}\n"
    };
    fs::write(&logs, entry(1, 1) + &entry(1, 3)).unwrap();
    refused(&["logs.jsonl:2", "`index`", "damaged", "1 are missing"]);
    fs::write(&logs, entry(2, 1) + &entry(1, 2)).unwrap();
    refused(&["logs.jsonl:2", "`term`", "damaged"]);
    fs::remove_file(&logs).unwrap();
    let events = folder.path().join("events.jsonl");
    fs::write(&events, "nonsense\n").unwrap();
    refused(&["events.jsonl", "line 1"]);
    fs::remove_file(&events).unwrap();
    fs::remove_file(folder.path().join("history.jsonl")).unwrap();
    refused(&["history.jsonl"]);
    let record = fs::read_to_string(folder.path().join("run.json")).unwrap();
    let file = folder.path().join("run.json");
    fs::write(&file, record.replace("\"nodes\"", "\"nodez\"")).unwrap();
    refused(&["run.json", "field `plan`", "nodez"]);
    fs::write(&file, &record[..record.len() / 2]).unwrap();
    refused(&["run.json", "line 1"]);
}

#[test]
fn a_record_of_bench_has_no_page_and_is_not_judged_again() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), "");
    let (path, file) = (folder.path().to_str().unwrap(), folder.path().join("run.json"));
    let record = fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["scenario"] = "bench-commit".into();
    // A plan may have such a name, and its run is judged and drawn.
    record["plan"]["scenario"] = "bench-commit".into();
    fs::write(&file, record.to_string()).unwrap();
    assert_eq!(code(&scenarios(&["check", path])), 2);
    drop(fs::remove_file(folder.path().join("index.html")));

    record["plan"] = serde_json::json!({ "rounds": 9, "bytes": 64, "storage": "memory" });
    fs::write(&file, record.to_string()).unwrap();
    for command in ["open", "check", "replay"] {
        let output = scenarios(&[command, path]);
        assert_eq!((code(&output), stdout(&output).as_str()), (3, ""), "{command}: {output:?}");
        let told = format!("{path} is of bench-commit, a record of bench: it has no page");
        let use_this = format!("is in {}", file.display());
        for words in [told, use_this] {
            assert!(stderr(&output).contains(&words), "{command}: {words:?} in {output:?}");
        }
        for wrong in ["killed", "field", "events.jsonl"] {
            assert!(!stderr(&output).contains(wrong), "{command}: {output:?}");
        }
    }
}

/// Two members found a group on disk and are gone; yields the store of the first.
fn founded_by_two(folder: &Path) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut networks = Vec::new();
        for _ in 0..2 {
            let builder = Network::builder("words").bind(([127, 0, 0, 1], 0).into());
            networks.push(builder.build().await.expect("a free port"));
        }
        let peers: Vec<_> = networks.iter().map(Network::peer).collect();
        let founders: BTreeSet<_> = peers.iter().map(|peer| peer.id).collect();
        let mut groups = Vec::new();
        for (place, network) in networks.iter().enumerate() {
            let builder = network.group(GroupKey::from_secret("words")).machine(Register);
            let store = Disk::at(folder.join(place.to_string()));
            let builder = builder.storage(store).peers(peers.clone());
            let founders = Bootstrap::Voters(founders.clone());
            groups.push(builder.bootstrap(founders).join().await.expect("nothing is in the way"));
        }
        for group in &groups {
            group.when().leader_elected().await.expect("two of two");
        }
        for (network, group) in networks.iter().zip(groups) {
            network.shutdown().await;
            group.when().stopped().await;
        }
    });
    folder.join("0")
}

#[test]
fn a_new_lineage_is_forced_only_when_what_it_costs_was_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = founded_by_two(folder.path());
    let store = store.to_str().expect("UTF-8");
    for _ in 0..2 {
        let asked = scenarios(&["force-new-lineage", store]);
        assert_eq!(code(&asked), 3, "{asked:?}");
        let told = stderr(&asked);
        for words in ["The other voters are:", "- Lost, acknowledged or not:", "refuse each other"]
        {
            assert!(told.contains(words), "{words:?} in {told}");
        }
        let last = told.trim_end().lines().last().expect("it says something");
        let build = if cfg!(debug_assertions) { "" } else { "--release " };
        let again = format!("cargo run {build}-p scenarios -- force-new-lineage {store} --yes");
        assert_eq!(last.trim(), again);
    }
    let done = scenarios(&["force-new-lineage", store, "--yes"]);
    assert_eq!(code(&done), 0, "{done:?}");
    assert!(stdout(&done).contains("is now the only member of lineage"), "{done:?}");
    let again = scenarios(&["force-new-lineage", store, "--yes"]);
    assert_eq!(code(&again), 3);
    assert!(stderr(&again).contains("its group's only member already"), "{again:?}");
    let nowhere = scenarios(&["force-new-lineage", "nowhere", "--yes"]);
    assert_eq!(code(&nowhere), 3);
    assert!(stderr(&nowhere).contains("nowhere is missing"), "{nowhere:?}");
}

#[test]
fn what_forcing_costs_and_has_done_is_told_as_json() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = founded_by_two(folder.path());
    let store = store.to_str().expect("UTF-8");
    let asked = scenarios(&["force-new-lineage", store, "--json"]);
    assert_eq!(code(&asked), 3, "{asked:?}");
    assert!(stderr(&asked).contains("- Lost, acknowledged or not:"), "{asked:?}");
    let done = scenarios(&["force-new-lineage", store, "--yes", "--json"]);
    assert_eq!(code(&done), 0, "{done:?}");
    let told = |output: &Output| -> serde_json::Value {
        serde_json::from_str(&stdout(output)).expect("JSON")
    };
    let (asked, done) = (told(&asked), told(&done));
    assert!(asked["forced"] == false && asked["new_lineage"].is_null(), "{asked}");
    assert_eq!(done["forced"], true, "{done}");
    assert!(done["new_lineage"].is_string() && done["new_lineage"] != done["lineage"], "{done}");
    for told in [&asked, &done] {
        assert_eq!(told["store"], store, "{told}");
        let voters = told["voters"].as_array().expect("a list");
        assert!(voters.len() == 2 && voters.contains(&told["node"]), "{told}");
        assert!(told["last"]["term"].is_u64() && told["last"]["index"].is_u64(), "{told}");
    }
    for same in ["group", "lineage", "node", "voters", "last"] {
        assert_eq!(asked[same], done[same], "{same}: what there was before");
    }
    let help = stdout(&scenarios(&["force-new-lineage", "--help"]));
    for field in done.as_object().expect("an object").keys() {
        assert!(help.contains(&format!("\n  {field} ")), "{field} is not in {help}");
    }
    let nowhere = scenarios(&["force-new-lineage", "nowhere", "--json"]);
    assert_eq!(code(&nowhere), 3, "{nowhere:?}");
    let why = told(&nowhere)["error"].as_str().map(str::to_owned).expect("in words");
    assert!(why.contains("nowhere is missing"), "{why}");
}

/// A machine without a state.
struct Register;

impl StateMachine for Register {
    type Command = ();
    type Output = ();
    type Query = ();
    type Answer = ();

    const SIGNATURE: &'static str = "words 1";

    fn apply(&mut self, (): (), _: &ApplyContext) {}

    fn query(&self, (): ()) {}

    fn snapshot(&self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}
