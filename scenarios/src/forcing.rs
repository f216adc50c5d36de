//! `force-new-lineage`: one store goes on alone after its group lost a majority for good.
//!
//! Says first what would be lost, and does nothing unless that was confirmed. Invariant: a store
//! is changed only by a command that carries `--yes`.

use std::path::Path;

use anyhow::Context as _;
use runtime::Lineage;
use runtime::storage::{Disk, Survey};
use serde_json::json;

use crate::rerun;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Forced {
    /// The store has a lineage of its own now; otherwise nothing was done.
    pub(crate) is_done: bool,
    /// What was done, or what it would mean and how to confirm it.
    pub(crate) told: String,
    /// The same for programs, on a line.
    pub(crate) json: String,
}

/// Looks the store over and, if that was confirmed, forces a new lineage on it.
///
/// # Errors
/// A store that is in use, damaged, no store, or in no need of it.
pub(crate) fn force(store: &Path, confirmed: bool) -> anyhow::Result<Forced> {
    let survey = Disk::survey(store).with_context(|| refusal(store))?;
    if !confirmed {
        let (told, json) = (price(store, &survey), json(store, &survey, None));
        return Ok(Forced { is_done: false, told, json });
    }
    let lineage = Disk::force_new_lineage(store).with_context(|| refusal(store))?;
    let told = format!(
        "{} is now the only member of lineage {lineage}, at {}.\nStart its member as before; it \
         leads alone. Before other members of lineage {} can join it, remove their stores.\n",
        store.display(),
        survey.last,
        survey.lineage,
    );
    Ok(Forced { is_done: true, told, json: json(store, &survey, Some(lineage)) })
}

/// What the store held, and its new lineage if it has one.
fn json(store: &Path, survey: &Survey, new: Option<Lineage>) -> String {
    let Survey { group, node, lineage, configuration, last } = survey;
    let voters = configuration.voters.iter().map(|voter| format!("{voter:?}"));
    let told = json!({
        "store": store.display().to_string(), "node": format!("{node:?}"),
        "group": group.to_string(), "lineage": lineage.to_string(),
        "last": { "term": last.term.0, "index": last.index.0 },
        "voters": voters.collect::<Vec<_>>(),
        "forced": new.is_some(), "new_lineage": new.map(|new| new.to_string()),
    });
    format!("{told}\n")
}

/// What comes before the reason; also where a store is looked for, if none is here.
fn refusal(store: &Path) -> String {
    let path = store.display();
    match store.join(MARKER).try_exists() {
        Ok(true) | Err(_) => format!("the store {path} cannot be forced"),
        Ok(false) => format!(
            "{path} is no store and cannot be forced (that of node 3 of a run is stores/1/3, that \
             of its second group stores/1/3-group-2; in a run of kind formation or lagging the \
             first number is the trial)"
        ),
    }
}

fn price(store: &Path, survey: &Survey) -> String {
    let Survey { group, node, lineage, configuration, last } = survey;
    let voters = configuration.voters.iter().filter(|voter| *voter != node);
    let others: Vec<String> = voters.map(|voter| format!("    {voter:?}\n")).collect();
    let part = match (configuration.voters.contains(node), configuration.contains(*node)) {
        (true, _) => "a voter",
        (false, true) => "a learner, whose log may lag far behind,",
        (false, false) => "no member of its own configuration, whose log may lag far behind,",
    };
    format!(
        "{store} holds server {node:?} of group {group}, lineage {lineage}: {part} with a log up \
         to {last}.\nThe other voters are:\n{others}\nA new lineage would make this server the \
         only voter of a group of its own.\n\
         - Lost, acknowledged or not: all that stands in the others' logs after {last}. If \
         another store has more, force that one.\n\
         - In effect from then on: all that stands in this log, also what was never committed, \
         of which clients may have been told that it never would be.\n\
         - The others and this server refuse each other for good. While a majority of them \
         lives, there would be two groups that both say yes.\n\n\
         Only if a majority of these voters is gone for good, do it with:\n    \
         {again}\n",
        store = store.display(),
        others = others.concat(),
        again = rerun::of(&["force-new-lineage".into(), store.display().to_string(), YES.into()]),
    )
}

const YES: &str = "--yes";
/// Says of a store's directory whose it is.
const MARKER: &str = "store";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_no_store_is_named_with_where_one_is() {
        let stores = tempfile::tempdir().unwrap();
        let node = stores.path().join("1");
        fs::create_dir_all(node.join("0")).unwrap();
        for path in [node.clone(), node.join("0"), stores.path().join("nowhere")] {
            for confirmed in [false, true] {
                let error = crate::told(&force(&path, confirmed).unwrap_err());
                let said = format!("{} is no store and cannot be forced (that", path.display());
                assert!(error.starts_with(&said) && error.contains("stores/1/3, that"), "{error}");
            }
        }
    }
}
