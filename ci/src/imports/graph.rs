//! Which module a written path leads to.
//!
//! It follows `crate`, `self` and `super`, and then what modules import or re-export under
//! another name, so that a rule cannot be walked around through a table of contents.

use std::collections::BTreeMap;

use super::{
    Aliases, CRATES, Name,
    layout::{File, Tree},
    mention::Mention,
};

/// All modules of the workspace and the names in their scopes.
pub(crate) struct Graph {
    modules: BTreeMap<Name, Aliases>,
}

impl Graph {
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut graph = Self { modules: BTreeMap::new() };
        for file in &tree.shipped {
            graph.modules.entry(file.module.clone()).or_default();
            for mention in &file.mentions {
                graph.modules.entry(scope(file, mention)).or_default();
            }
        }
        // Only once all modules are known can a first segment be told from a foreign crate.
        for file in &tree.shipped {
            for mention in &file.mentions {
                let Some(alias) = &mention.alias else { continue };
                let target = graph.absolute(file, mention);
                let scope = graph.modules.entry(scope(file, mention)).or_default();
                scope.insert(alias.clone(), target);
            }
        }
        graph
    }

    /// The path from its crate on, as written: no alias followed.
    ///
    /// What starts with neither a module in scope nor a crate of ours stays as it is.
    pub(crate) fn absolute(&self, file: &File, mention: &Mention) -> Name {
        let mut at = scope(file, mention);
        let mut rest = mention.path.as_slice();
        match rest.first().map_or("", String::as_str) {
            "crate" => {
                at.truncate(1);
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while let [first, tail @ ..] = rest
                    && first == "super"
                {
                    at.pop();
                    rest = tail;
                }
            }
            first => {
                at.push(first.to_owned());
                let is_child = self.modules.contains_key(&at);
                at.pop();
                if !is_child {
                    return rest.to_vec();
                }
            }
        }
        at.extend_from_slice(rest);
        at
    }

    /// The path itself, and what it turns into as each alias in it is followed.
    pub(crate) fn stages(&self, path: Name) -> Vec<Name> {
        let mut stages = vec![path];
        // Our own re-exports are never nested this deep; a cycle ends here too.
        for _ in 0..ALIASES_MAX {
            let path = &stages[stages.len() - 1];
            let Some(next) = self.follow(path) else { break };
            if stages.contains(&next) {
                break;
            }
            stages.push(next);
        }
        stages
    }

    /// Whether this names a module of ours.
    pub(crate) fn is_module(&self, path: &[String]) -> bool {
        self.modules.contains_key(path)
    }

    fn follow(&self, path: &Name) -> Option<Name> {
        let depth = (1..path.len()).rev().find(|&depth| self.is_module(&path[..depth]))?;
        let target = self.modules.get(&path[..depth])?.get(&path[depth])?;
        Some(target.iter().chain(&path[depth + 1..]).cloned().collect())
    }
}

/// Whether a path leads into this workspace.
pub(crate) fn is_ours(path: &[String]) -> bool {
    path.first().is_some_and(|first| CRATES.iter().any(|(name, _)| name == first))
}

/// The module in which a path is written.
fn scope(file: &File, mention: &Mention) -> Name {
    file.module.iter().chain(&mention.inside).cloned().collect()
}

const ALIASES_MAX: usize = 8;
