//! What programs read: the JSON of each command, every field of which its help explains, and what
//! stands there where the command is refused.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use reports::RunFolder;
use serde_json::Value;

fn scenarios(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scenarios")).args(words).output().expect("the program starts")
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("it speaks UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The fields that the help names: each begins a line of it.
fn explained(words: &[&str]) -> BTreeSet<String> {
    let output = scenarios(&[words, &["--help"]].concat());
    let (_, lines) = stdout(&output).split_once("--json prints:\n").expect("it says so");
    let heads = lines.lines().filter_map(|line| line.trim_start().split("  ").next());
    heads.map(str::to_owned).collect()
}

fn fields(told: &Value) -> Vec<String> {
    told.as_object().expect("an object").keys().cloned().collect()
}

/// A run that was recorded, one that is damaged, and their directory.
fn runs() -> tempfile::TempDir {
    let out = tempfile::tempdir().expect("a temporary folder");
    let record = "{\"schema_version\":1,\"scenario\":\"x\",\"world\":\"sim\",\"transport\":\"\",\
                  \"seed\":\"0x1\",\"verdict\":\"valid\",\"plan\":{},\"environment\":{\"commit\":\
                  \"\",\"build_profile\":\"debug\",\"rustc\":\"\",\"machine\":\"\"}}";
    for (utc_unix_s, text) in [(1_000, "{"), (2_000, record)] {
        let folder = RunFolder::create(out.path(), "x", utc_unix_s, 1, 1).expect("a folder");
        fs::write(folder.path().join("run.json"), text).expect("it can be written");
        fs::write(folder.path().join("index.html"), "").expect("it can be written");
    }
    out
}

#[test]
fn each_field_of_what_is_printed_is_in_the_help() {
    let out = runs();
    let path = |name: &str| out.path().join(name).to_str().expect("UTF-8").to_owned();
    let plan = path("plan.toml");
    fs::write(&plan, "scenario = \"mine\"\nkind = \"formation\"\n").expect("it can be written");
    let told = |command: &[&str], words: &[&str]| {
        let output = scenarios(&[command, words, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let (told, explained) = (json(&output), explained(command));
        for field in fields(&told) {
            assert!(explained.contains(&field), "{command:?}: {field} is not in {explained:?}");
        }
        (told, explained)
    };
    let (list, _) = told(&[], &["--list"]);
    assert!(list["scenarios"].as_array().is_some_and(|plans| plans.len() > 3), "{list}");

    let (validated, _) = told(&["validate"], &[&plan]);
    assert_eq!(validated["plan"]["nodes"], 5, "what is left out is filled in: {validated}");
    assert!(validated["not_in_world"]["process"].is_null(), "{validated}");
    let reason = validated["not_in_world"]["swarm"].as_str().expect("it has no processes");
    assert!(reason.starts_with("kind is formation"), "{reason}");

    let (page, _) = told(&["open"], &[&path("runs/latest")]);
    assert_eq!(page["opened"], false, "{page}");
    let (page, url) = (page["page"].as_str().expect("a path"), page["url"].as_str());
    assert!(page.ends_with("/index.html"), "{page}");
    assert_eq!(url, Some(format!("file://{page}").as_str()));

    let (past, explained) = told(&["list"], &["--out", out.path().to_str().expect("UTF-8")]);
    assert_eq!(past["more"], 0, "{past}");
    let [sound, damaged] = [&past["runs"][0], &past["runs"][1]];
    assert_eq!((&sound["verdict"], &sound["error"]), (&"valid".into(), &Value::Null), "{past}");
    assert!(damaged["verdict"].is_null() && damaged["error"].is_string(), "{past}");
    assert_eq!(fields(sound), fields(damaged), "a program finds the same fields");
    assert!(fields(sound).iter().all(|field| explained.contains(field)), "{past}");
}

#[test]
fn what_is_refused_says_why_as_json_with_the_same_exit_code() {
    for words in [
        &["--json"][..],
        &["steady", "--speed", "3", "--json"],
        &["leader-failover", "--json", "--nodes", "10"],
        &["run", "/nowhere/plan.toml", "--json"],
        &["validate", "/", "--json"],
        &["check", "/nowhere", "--json"],
        &["open", "/nowhere", "--json"],
        &["list", "--limit", "0", "--json"],
        &["diff", "/nowhere", "/nowhere", "--json"],
        &["sweep", "--resume", "/nowhere", "--json"],
    ] {
        let output = scenarios(words);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {output:?}");
        let told = json(&output);
        assert_eq!(fields(&told), ["error"], "{words:?}");
        let error = told["error"].as_str().expect("in words");
        let first = error.lines().next().expect("it says something");
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(complained.contains(&format!("error: {first}")), "{words:?}: {complained}");
    }
    assert!(explained(&[]).contains("error"), "the help says so");
}
