//! `force-new-lineage`: one store goes on alone after its group lost a majority for good.
//!
//! Says first what would be lost, and does nothing unless that was confirmed. Invariant: a store
//! is changed only by a command that carries `--yes`.

use std::path::Path;

use anyhow::Context as _;
use runtime::storage::{Disk, Survey};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Forced {
    /// The store has a lineage of its own now.
    Done(String),
    /// Nothing was done: what it would mean, and how to confirm it.
    Unconfirmed(String),
}

/// Looks the store over and, if that was confirmed, forces a new lineage on it.
///
/// # Errors
/// A store that is in use, damaged, no store, or in no need of it.
pub(crate) fn force(store: &Path, confirmed: bool) -> anyhow::Result<Forced> {
    let survey = Disk::survey(store).context("the store cannot be forced")?;
    if !confirmed {
        return Ok(Forced::Unconfirmed(price(store, &survey)));
    }
    let lineage = Disk::force_new_lineage(store).context("the store cannot be forced")?;
    Ok(Forced::Done(format!(
        "{} is now the only member of lineage {lineage}, at {}.\nStart its member as before; it \
         leads alone. Before other members of lineage {} can join it, remove their stores.\n",
        store.display(),
        survey.last,
        survey.lineage,
    )))
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
         scenarios force-new-lineage {store} --yes\n",
        store = store.display(),
        others = others.concat(),
    )
}
