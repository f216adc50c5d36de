//! The rules of the tree, checked by reading it: who may name whom, and what stands where.
//!
//! Cargo enforces the graph of packages; this enforces the graph of modules inside them.
//! It reads tokens, not types: a rule is broken by naming what may not be named. Tests are
//! outside the module rules, since a test may look at both sides of a door; they are not part
//! of what is shipped.

mod graph;
mod layout;
mod manifest;
mod mention;
mod rule;
mod source;

use std::{collections::BTreeMap, fmt, path::Path};

use self::{graph::Graph, layout::Tree};

/// A rule that the tree breaks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Violation {
    /// The file, from the root of the workspace.
    pub(crate) file: String,
    /// The line, from 1; 0 if it is about the file as a whole.
    pub(crate) line: usize,
    /// The rule, and by what it is broken.
    pub(crate) rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.rule),
            line => write!(f, "{}:{line}: {}", self.file, self.rule),
        }
    }
}

/// What a check of the tree found.
pub(crate) struct Report {
    /// Every broken rule, in the order of files and lines.
    pub(crate) violations: Vec<Violation>,
    /// One line on the tree's size.
    pub(crate) summary: String,
}

/// Reads the whole tree and compares it with the rules.
///
/// # Errors
/// A file or directory that cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Report> {
    let mut violations = layout::top_level(root)?;
    violations.extend(manifest::check(root)?);

    let tree = Tree::read(root)?;
    violations.extend(layout::files(&tree));
    let graph = Graph::of(&tree);
    for file in &tree.shipped {
        violations.extend(rule::check(file, &graph));
    }
    violations.sort();
    violations.dedup();
    Ok(Report { violations, summary: tree.summary() })
}

/// The library name of each package and the directory it lives in.
const CRATES: &[(&str, &str)] = &[
    ("raft", "runtime/raft"),
    ("fuzz", "runtime/fuzz"),
    ("runtime", "runtime"),
    ("chaos", "chaos"),
    ("scenarios", "scenarios"),
    ("reports", "reports"),
    ("bench", "bench"),
    ("ci", "ci"),
];

/// A module or an item in it: the crate's name, then the segments.
type Name = Vec<String>;

/// Whether `name` is `pattern` (`raft::leader`) or something inside it.
fn within(name: &[String], pattern: &str) -> bool {
    let mut have = name.iter();
    pattern.split("::").all(|want| have.next().is_some_and(|segment| segment == want))
}

/// Names that a module brought into its own scope, and what they stand for.
type Aliases = BTreeMap<String, Name>;

#[cfg(test)]
mod tests;
