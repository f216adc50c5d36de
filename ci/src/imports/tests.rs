//! One good tree, and for each rule one change that breaks it.

use std::{fs, path::Path};

use super::{check, within};

/// A tree that keeps every rule, in as few words as possible.
const GOOD: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\nmembers = [\"runtime\", \"runtime/raft\", \"runtime/fuzz\", \"chaos\", \"scenarios\", \
         \"reports\", \"bench\", \"ci\"]\n",
    ),
    ("Cargo.lock", ""),
    ("README.md", ""),
    ("ARCHITECTURE.md", ""),
    ("CONTRIBUTING.md", ""),
    ("LICENSE-MIT", ""),
    ("LICENSE-APACHE", ""),
    (".gitignore", ""),
    (".cargo/config.toml", ""),
    (".ci/run", ""),
    ("clippy.toml", ""),
    ("deny.toml", ""),
    ("rustfmt.toml", ""),
    ("runs/latest", ""),
    ("sweeps/steady/seeds.jsonl", ""),
    ("runtime/raft/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
    (
        "runtime/raft/src/lib.rs",
        "//! X.\nmod leader;\nmod log;\nmod raft;\npub use leader::Leader;\npub use raft::Raft;\n",
    ),
    ("runtime/raft/src/raft.rs", "//! X.\nuse crate::{follower, leader::Leader};\n"),
    ("runtime/raft/src/log.rs", "//! X.\nuse crate::Index;\n"),
    ("runtime/raft/src/quorum.rs", "//! X.\n"),
    ("runtime/raft/src/leader.rs", "//! X.\nuse crate::log;\n"),
    ("runtime/raft/src/follower.rs", "//! X.\n"),
    ("runtime/raft/tests/paper.rs", "//! X.\nfn f() { raft.step(now, input, &mut effects); }\n"),
    ("runtime/Cargo.toml", "[dependencies]\nraft.workspace = true\n"),
    ("runtime/src/lib.rs", "//! X.\npub use raft::{Position, Raft as Core};\n"),
    ("runtime/src/clock.rs", "//! X.\nfn now() { std::time::Instant::now(); }\n"),
    (
        "runtime/src/network.rs",
        "//! X.\nuse raft::PeerId;\n#[cfg(test)]\nmod tests { use raft::Raft; }\n",
    ),
    ("runtime/src/group.rs", "//! X.\nmod driver;\n"),
    ("runtime/src/group/driver.rs", "//! X.\nfn f() { core.step(now, input, &mut effects); }\n"),
    (
        "chaos/Cargo.toml",
        "[dependencies]\nruntime.workspace = true\n[dev-dependencies.core]\n\
         package = \"tessera-raft\"\npath = \"../runtime/raft\"\n",
    ),
    ("chaos/src/lib.rs", "//! X.\npub use history::History;\n"),
    ("chaos/src/history.rs", "//! X.\nuse runtime::Position;\n"),
    ("chaos/src/checker.rs", "//! X.\nuse crate::{History, checker::linearizable};\n"),
    ("chaos/src/checker/linearizable.rs", "//! X.\nuse std::collections::BTreeMap;\n"),
    ("chaos/src/invariant.rs", "//! X.\nuse raft::Term;\n"),
    ("chaos/src/swarm.rs", "//! X.\nuse raft::Raft;\n"),
    ("chaos/src/process.rs", "//! X.\nuse crate::cluster::Cluster;\n"),
    ("chaos/tests/swarm.rs", "//! X.\nuse raft::Raft;\n"),
    ("scenarios/Cargo.toml", "[dependencies]\nchaos.workspace = true\nreports.workspace = true\n"),
    ("scenarios/src/main.rs", "//! X.\n"),
    ("reports/Cargo.toml", ""),
    ("reports/src/lib.rs", "//! X.\n"),
    ("bench/Cargo.toml", "[dependencies]\nreports.workspace = true\n"),
    ("bench/src/main.rs", "//! X.\n"),
    ("runtime/fuzz/Cargo.toml", ""),
    ("runtime/fuzz/src/lib.rs", "//! X.\n"),
    ("ci/Cargo.toml", ""),
    ("ci/src/main.rs", "//! X.\n"),
];

/// A file to write over the good tree, and the violations that must follow.
const BAD: &[(&str, &str, &[&str])] = &[
    // Packages.
    (
        "runtime/raft/Cargo.toml",
        "[dev-dependencies]\nchaos.workspace = true\n",
        &["runtime/raft/Cargo.toml: `raft` may not depend on `chaos`"],
    ),
    (
        "reports/Cargo.toml",
        "[target.'cfg(unix)'.dependencies]\nruntime.workspace = true\n",
        &["reports/Cargo.toml: `reports` may not depend on `runtime`"],
    ),
    (
        "runtime/Cargo.toml",
        "[dependencies]\nx = { package = \"reports\", path = \"../reports\" }\n",
        &["runtime/Cargo.toml: `runtime` may not depend on `reports`"],
    ),
    (
        "chaos/Cargo.toml",
        "[dependencies.reports]\nworkspace = true\n",
        &["chaos/Cargo.toml: `chaos` may not depend on `reports`"],
    ),
    (
        "ci/Cargo.toml",
        "[build-dependencies]\nreports.workspace = true\n",
        &["ci/Cargo.toml: `ci` may not depend on `reports`"],
    ),
    (
        "scenarios/Cargo.toml",
        "[dependencies]\ntessera-raft = \"0.1\"\n",
        &["scenarios/Cargo.toml: `scenarios` may not depend on `raft`"],
    ),
    (
        "Cargo.toml",
        "[workspace]\nmembers = [\"runtime\", \"runtime/raft\", \"runtime/fuzz\", \"chaos\", \"scenarios\", \
         \"reports\", \"bench\", \"extra\"]\n",
        &["`ci` is no member", "`extra` has no rules"],
    ),
    // The core.
    (
        "runtime/raft/src/log.rs",
        "//! X.\n\nuse crate::{Index, leader::Leader};\n",
        &["runtime/raft/src/log.rs:3: `crate::leader::Leader`: quorum, position"],
    ),
    (
        "runtime/raft/src/quorum.rs",
        "//! X.\nuse crate::Leader;\n",
        &["quorum.rs:2: `crate::Leader`: quorum, position"],
    ),
    (
        "runtime/raft/src/follower.rs",
        "//! X.\nfn f() {\n    super::leader::lead();\n}\n",
        &["follower.rs:3: `super::leader::lead`: roles never"],
    ),
    (
        "runtime/raft/src/leader.rs",
        "//! X.\nuse crate::follower as f;\n",
        &["leader.rs:2: `crate::follower`: roles never"],
    ),
    (
        "runtime/raft/src/leader.rs",
        "//! X.\nfn f() { std::thread::spawn(g); }\n",
        &["leader.rs:2: `std::thread::spawn`: the core is pure"],
    ),
    ("runtime/raft/src/raft.rs", "//! X.\nuse super::*;\n", &["raft.rs:2: `super::*`: a glob"]),
    // The body.
    (
        "runtime/src/network.rs",
        "//! X.\nuse raft::{PeerId,\n    Raft};\n",
        &["network.rs:3: `raft::Raft`: network, transport"],
    ),
    (
        "runtime/src/storage.rs",
        "//! X.\nuse crate::Core;\n",
        &["storage.rs:2: `crate::Core`: network, transport"],
    ),
    (
        "runtime/src/group.rs",
        "//! X.\nfn f() { core.step(now, input, &mut effects); }\n",
        &["group.rs:2: `step`: only the driver"],
    ),
    (
        "scenarios/src/main.rs",
        "//! X.\nfn f() { Raft::step(core); }\n",
        &["main.rs:2: `step`: only the driver"],
    ),
    (
        "runtime/src/lib.rs",
        "//! X.\nfn f() { chaos::run(); }\n",
        &["lib.rs:2: `chaos::run`: `runtime` knows nothing"],
    ),
    (
        "runtime/src/group.rs",
        "//! X.\nfn f() { Instant::now(); }\n",
        &["group.rs:2: `Instant::now`"],
    ),
    (
        "chaos/src/run.rs",
        "//! X.\nfn f() { std::time::SystemTime::now(); }\n",
        &["run.rs:2: `SystemTime::now`"],
    ),
    (
        "bench/src/main.rs",
        "//! X.\n#[expect(clippy::disallowed_methods)]\nfn f() {}\n",
        &["main.rs:2: `disallowed_methods`"],
    ),
    ("runtime/src/network.rs", "//! X.\nfn f() { unsafe { g() } }\n", &["network.rs:2: `unsafe`"]),
    (
        "runtime/raft/src/log.rs",
        "//! X.\nuse std::time::{Duration, Instant};\n",
        &["log.rs:2: `std::time::Instant`: the core is pure"],
    ),
    (
        "chaos/src/run.rs",
        "//! X.\nfn f() { rustix::time::clock_gettime(id); }\n",
        &["run.rs:2: `clock_gettime`"],
    ),
    // The laboratory.
    (
        "chaos/src/history.rs",
        "//! X.\nuse raft::Position;\n",
        &["history.rs:2: `raft::Position`: chaos uses `raft` directly"],
    ),
    (
        "chaos/src/run.rs",
        "//! X.\nuse reports::RunRecord;\n",
        &["run.rs:2: `reports::RunRecord`: `chaos` streams"],
    ),
    (
        "chaos/src/checker.rs",
        "//! X.\nuse crate::workload::Workload;\n",
        &["checker.rs:2: `crate::workload::Workload`: checkers see only"],
    ),
    (
        "chaos/src/checker/linearizable.rs",
        "//! X.\nuse runtime::Position;\n",
        &["linearizable.rs:2: `runtime::Position`: checkers see only"],
    ),
    (
        "chaos/src/checker.rs",
        "//! X.\nuse std::fs;\n",
        &["checker.rs:2: `std::fs`: checkers see only a history and cannot"],
    ),
    (
        "chaos/src/invariant.rs",
        "//! X.\nuse crate::cluster::Cluster;\n",
        &["invariant.rs:2: `crate::cluster::Cluster`: invariants see only"],
    ),
    (
        "chaos/src/invariant.rs",
        "//! X.\nuse raft::Raft;\n",
        &["invariant.rs:2: `raft::Raft`: invariants see only"],
    ),
    (
        "chaos/src/process.rs",
        "//! X.\nmod inner { use super::super::swarm; }\n",
        &["process.rs:2: `super::super::swarm`: the three worlds"],
    ),
    (
        "chaos/src/sim.rs",
        "//! X.\nuse crate::process::Cluster;\n",
        &["sim.rs:2: `crate::process::Cluster`: the three worlds"],
    ),
    (
        "chaos/src/swarm.rs",
        "//! X.\nuse crate::sim;\n",
        &["swarm.rs:2: `crate::sim`: the three worlds"],
    ),
    // Where things stand.
    ("chaos/src/plan/step.rs", "//! X.\n", &["chaos/src/plan: a folder has its table of contents"]),
    ("chaos/src/checker/mod.rs", "//! X.\n", &["chaos/src/checker/mod.rs: no mod.rs"]),
    ("bench/benches/b.rs", "// X.\n", &["bench/benches/b.rs:1: every file opens with"]),
    ("reports/src/empty.rs", "", &["reports/src/empty.rs:1: every file opens with"]),
    ("scripts/x.sh", "", &["scripts: the top level"]),
];

fn plant(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("it is below the root")).expect("created");
    fs::write(path, text).expect("written");
}

fn good() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (path, text) in GOOD {
        plant(root.path(), path, text);
    }
    root
}

fn broken(root: &Path) -> Vec<String> {
    let report = check(root).expect("the tree can be read");
    report.violations.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_tree_breaks_no_rule() {
    assert_eq!(broken(good().path()), Vec::<String>::new());
}

#[test]
fn each_bad_change_breaks_exactly_its_rule() {
    for (path, text, expected) in BAD {
        let root = good();
        plant(root.path(), path, text);
        let found = broken(root.path());
        assert_eq!(found.len(), expected.len(), "{path} {text:?}: {found:#?}");
        for want in *expected {
            assert!(found.iter().any(|line| line.contains(want)), "{path}: {want}: {found:#?}");
        }
    }
}

#[test]
fn a_long_file_is_refused_but_its_tests_do_not_count() {
    let root = good();
    let code = "fn f() {}\n".repeat(599);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(100));
    plant(root.path(), "reports/src/lib.rs", &format!("//! X.\n{code}{tests}"));
    assert_eq!(broken(root.path()), Vec::<String>::new());
    plant(root.path(), "reports/src/lib.rs", &format!("//! X.\n\n{code}{tests}"));
    assert_eq!(
        broken(root.path()),
        ["reports/src/lib.rs: 601 lines without tests; 600 is the limit"]
    );
}

#[test]
fn a_missing_entry_of_the_top_level_is_named() {
    let root = good();
    fs::remove_file(root.path().join("deny.toml")).expect("it was there");
    assert_eq!(broken(root.path()), ["deny.toml: is missing from the top level"]);
}

#[test]
fn files_that_are_tests_may_name_anything() {
    let root = good();
    plant(root.path(), "runtime/src/network.rs", "//! X.\n#[cfg(test)]\nmod tests;\n");
    plant(root.path(), "runtime/src/network/tests.rs", "//! X.\nuse raft::Raft;\n");
    assert_eq!(broken(root.path()), Vec::<String>::new());
}

#[test]
fn a_manifest_that_is_no_toml_is_an_error_with_its_name() {
    let root = good();
    plant(root.path(), "chaos/Cargo.toml", "[dependencies\n");
    let Err(error) = check(root.path()) else { panic!("the manifest is malformed") };
    assert!(format!("{error:#}").contains("chaos/Cargo.toml"), "{error:#}");
}

#[test]
fn a_pattern_covers_whole_segments() {
    let name = ["raft".to_owned(), "leader".to_owned()];
    assert!(within(&name, "raft") && within(&name, "raft::leader"));
    assert!(!within(&name, "raft::lead") && !within(&name, "raft::leader::x"));
}

#[test]
fn this_tree_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let found = broken(root);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
