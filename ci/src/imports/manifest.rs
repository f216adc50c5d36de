//! The graph of packages: which may depend on which.
//!
//! Cargo forbids cycles; this forbids the edges that would be legal and wrong. A package that
//! the rules do not know is refused, so that none escapes them.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Context as _;
use toml::Table;

use super::{CRATES, Violation};

/// What each package may depend on, its tests included.
const MAY: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("reports", &[]),
    ("ci", &[]),
    ("fuzz", &[]),
    ("runtime", &["raft", "fuzz"]),
    ("chaos", &["raft", "runtime", "fuzz"]),
    ("scenarios", &["runtime", "chaos", "reports", "fuzz"]),
    ("bench", &["runtime", "chaos", "reports"]),
];

/// Every edge that the rules do not allow.
///
/// # Errors
/// A manifest that cannot be read or is no TOML.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut broken = members(root)?;
    for (name, folder) in CRATES {
        let file = format!("{folder}/Cargo.toml");
        // A package that is missing is already reported as a member that is.
        if !root.join(&file).exists() {
            continue;
        }
        let may = MAY.iter().find(|(owner, _)| owner == name).map_or(&[][..], |(_, may)| *may);
        for target in dependencies(&read(root, &file)?) {
            if !may.contains(&target) {
                let rule = format!("`{name}` may not depend on `{target}`; it may on: {may:?}");
                broken.push(Violation { file: file.clone(), line: 0, rule });
            }
        }
    }
    Ok(broken)
}

/// The workspace's members are the packages that the rules know.
fn members(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let manifest = read(root, "Cargo.toml")?;
    let listed = manifest.get("workspace").and_then(|workspace| workspace.get("members"));
    let listed: BTreeSet<&str> = listed
        .and_then(|members| members.as_array())
        .into_iter()
        .flatten()
        .filter_map(|member| member.as_str())
        .collect();
    let known: BTreeSet<&str> = CRATES.iter().map(|(_, folder)| *folder).collect();
    let broken = |member: &&str| {
        let side = if known.contains(member) { "is no member" } else { "has no rules" };
        let rule = format!("the package in `{member}` {side}");
        Violation { file: "Cargo.toml".into(), line: 0, rule }
    };
    Ok(listed.symmetric_difference(&known).map(broken).collect())
}

fn read(root: &Path, file: &str) -> anyhow::Result<Table> {
    let text =
        fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
    text.parse().with_context(|| file.to_owned())
}

/// The packages of this workspace that a manifest depends on, in whatever table.
fn dependencies(manifest: &Table) -> BTreeSet<&'static str> {
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let tables = targets.into_iter().flatten().filter_map(|(_, target)| target.as_table());
    tables
        .chain([manifest])
        .flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flatten()
        .filter_map(|(key, value)| {
            let package = value.get("package").and_then(|package| package.as_str());
            ours(package.unwrap_or(key))
        })
        .collect()
}

/// The library behind a package's name, if it is one of ours.
fn ours(package: &str) -> Option<&'static str> {
    let name = if package == "tessera-raft" { "raft" } else { package };
    CRATES.iter().map(|(library, _)| *library).find(|library| *library == name)
}

const KINDS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];
