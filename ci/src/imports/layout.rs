//! The files of the tree: what stands at the top, where modules live, how long they are.
//!
//! Reads files and directories and changes none. Symbolic links are not followed, so that the
//! walk ends and stays inside the workspace.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Context as _;

use super::{
    CRATES, Name, Violation,
    mention::{Mention, mentions},
    source::{Source, Token},
};

/// One Rust file that is shipped.
pub(crate) struct File {
    /// From the root of the workspace.
    pub(crate) path: String,
    /// The module it is, from its crate on.
    pub(crate) module: Name,
    /// Its code without tests.
    pub(crate) tokens: Vec<Token>,
    /// The paths it names.
    pub(crate) mentions: Vec<Mention>,
    lines: usize,
}

/// All Rust files of all packages.
pub(crate) struct Tree {
    /// Those under `src`, without the files that are tests.
    pub(crate) shipped: Vec<File>,
    /// All of them, with their first line.
    openings: Vec<(String, String)>,
    /// Directories under `src` that hold a module's children.
    folders: Vec<String>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { shipped: Vec::new(), openings: Vec::new(), folders: Vec::new() };
        let mut test_modules = BTreeSet::new();
        for (name, folder) in CRATES {
            for part in ["src", "tests", "benches", "examples"] {
                let start = format!("{folder}/{part}");
                for path in tree.walk(root, &start)? {
                    let text = fs::read_to_string(root.join(&path))
                        .with_context(|| format!("cannot read {path}"))?;
                    let opening = text.lines().next().unwrap_or_default().to_owned();
                    tree.openings.push((path.clone(), opening));
                    if part == "src" {
                        tree.ship(
                            &mut test_modules,
                            module(name, &path[start.len() + 1..]),
                            path,
                            &text,
                        );
                    }
                }
            }
        }
        tree.shipped.retain(|file| {
            !(1..=file.module.len()).any(|depth| test_modules.contains(&file.module[..depth]))
        });
        Ok(tree)
    }

    /// One line on the size of what is shipped.
    pub(crate) fn summary(&self) -> String {
        let mut lines: Vec<_> = self.shipped.iter().map(|file| (file.lines, &file.path)).collect();
        lines.sort();
        let Some((longest, path)) = lines.last() else { return "no files".into() };
        let (p90, _) = lines[(lines.len() - 1) * 9 / 10];
        format!("{} files; lines without tests: p90 {p90}, longest {longest} ({path})", lines.len())
    }

    fn ship(&mut self, test_modules: &mut BTreeSet<Name>, module: Name, path: String, text: &str) {
        let source = Source::scan(text);
        for name in source.test_modules {
            test_modules.insert(module.iter().cloned().chain([name]).collect());
        }
        let mentions = mentions(&source.tokens);
        let lines = source.lines_without_tests;
        self.shipped.push(File { path, module, tokens: source.tokens, mentions, lines });
    }

    /// The Rust files below a directory, which need not exist; notes the folders of modules.
    fn walk(&mut self, root: &Path, start: &str) -> anyhow::Result<Vec<String>> {
        let mut files = Vec::new();
        let mut open = vec![start.to_owned()];
        while let Some(folder) = open.pop() {
            let path = root.join(&folder);
            if !path.is_dir() {
                continue;
            }
            for entry in sorted(&path)? {
                let name = format!("{folder}/{}", entry.0);
                if entry.1.is_dir() {
                    if start.ends_with("/src") {
                        self.folders.push(name.clone());
                    }
                    open.push(name);
                } else if entry.1.is_file() && name.ends_with(".rs") {
                    files.push(name);
                }
            }
        }
        Ok(files)
    }
}

/// Rules about single files and where they stand.
pub(crate) fn files(tree: &Tree) -> Vec<Violation> {
    let mut broken = Vec::new();
    let paths: BTreeSet<&str> = tree.openings.iter().map(|(path, _)| path.as_str()).collect();
    for (path, opening) in &tree.openings {
        if !opening.starts_with("//!") {
            broken.push(violation(path, 1, "every file opens with `//!`: what it is".into()));
        }
        if path.ends_with("/mod.rs") {
            broken.push(violation(path, 0, "no mod.rs: `x.rs` stands beside `x/`".into()));
        }
    }
    for folder in &tree.folders {
        let beside = format!("{folder}.rs");
        if !paths.contains(beside.as_str()) {
            broken.push(violation(
                folder,
                0,
                format!("a folder has its table of contents beside it: {beside}"),
            ));
        }
    }
    for file in tree.shipped.iter().filter(|file| file.lines > LINES_MAX) {
        let rule = format!("{} lines without tests; {LINES_MAX} is the limit", file.lines);
        broken.push(violation(&file.path, 0, rule));
    }
    broken
}

/// Exactly what belongs there stands at the top.
///
/// # Errors
/// A root that cannot be read.
pub(crate) fn top_level(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut missing: BTreeSet<&str> = TOP_LEVEL.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, _) in sorted(root)? {
        let known = missing.remove(name.as_str()) || UNTRACKED.contains(&name.as_str());
        if !known {
            broken.push(violation(&name, 0, "the top level holds only what the rules list".into()));
        }
    }
    for name in missing {
        broken.push(violation(name, 0, "is missing from the top level".into()));
    }
    Ok(broken)
}

fn sorted(path: &Path) -> anyhow::Result<Vec<(String, fs::FileType)>> {
    let shown = || format!("cannot read the directory {}", path.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        let kind = entry.file_type().with_context(shown)?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), kind));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// The module that a file under `src` is.
fn module(name: &str, path: &str) -> Name {
    let path = path.trim_end_matches(".rs");
    let root = ["lib", "main"].contains(&path);
    let inner = path.split('/').filter(|_| !root).map(str::to_owned);
    [name.to_owned()].into_iter().chain(inner).collect()
}

fn violation(file: &str, line: usize, rule: String) -> Violation {
    Violation { file: file.to_owned(), line, rule }
}

const LINES_MAX: usize = 600;
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bench",
    "chaos",
    "ci",
    "clippy.toml",
    "deny.toml",
    "reports",
    "runtime",
    "rustfmt.toml",
    "scenarios",
];
/// What git ignores or owns.
const UNTRACKED: &[&str] = &[".git", "runs", "sweeps", "target"];
