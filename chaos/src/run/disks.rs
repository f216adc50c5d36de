//! What came of disks that were made to fail: whether it took place, and whether each node did
//! what it must.
//!
//! Pure. Invariant: a node counts as having stopped for its disk only where its own words name
//! what failed and on which file, and its medium counted the same.

use std::collections::BTreeMap;

use nix::errno::Errno;

use crate::{
    checker::{Check, Verdict},
    disk::{DiskKind, DiskReport},
    fault::NodeNumber,
    run::lab::check,
};

/// What came of one fault of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Befallen {
    pub(crate) node: NodeNumber,
    pub(crate) kind: DiskKind,
    pub(crate) came: Came,
}

/// What was seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    /// The node stopped and said why; what its medium counted, if it could be asked.
    Stopped { reason: String, report: Option<DiskReport> },
    /// So many syncs took their time.
    Stalled(u64),
    /// The damaged store was refused.
    Refused { file: String, reason: String },
    /// It was opened.
    Opened { file: String },
    /// It did not take place, and had not to.
    Nothing(String),
}

/// What to say of all of them; nothing where there were none.
pub(crate) fn judge(befallen: &[Befallen]) -> Option<Check> {
    if befallen.is_empty() {
        return None;
    }
    let told: Vec<Result<String, String>> = befallen.iter().map(told).collect();
    let broken: Vec<&str> =
        told.iter().filter_map(|told| told.as_ref().err().map(String::as_str)).collect();
    if !broken.is_empty() {
        return Some(check(NAME, Verdict::Invalid, broken.join("; ")));
    }
    let kept: Vec<&str> = told.iter().filter_map(|told| told.as_deref().ok()).collect();
    let more = match kept.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let detail = format!("{}{more}", kept[..kept.len().min(TOLD_MAX)].join("; "));
    Some(check(NAME, Verdict::Valid, detail))
}

/// How often what took place.
pub(crate) fn counts(befallen: &[Befallen]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for Befallen { came, .. } in befallen {
        let (name, count) = match came {
            Came::Stopped { report, .. } => {
                ("disk_errors", report.as_ref().map_or(0, |report| report.errors))
            }
            Came::Stalled(syncs) => ("disk_stalls", *syncs),
            Came::Refused { .. } => ("disk_refusals", 1),
            Came::Opened { .. } | Came::Nothing(_) => continue,
        };
        *counts.entry(name.to_owned()).or_default() += count;
    }
    counts
}

/// What is to be said of one, or what was broken.
fn told(befallen: &Befallen) -> Result<String, String> {
    let Befallen { node, kind, came } = befallen;
    match came {
        Came::Stopped { reason, report } => match not_for(*kind, reason, report.as_ref()) {
            None => Ok(format!("{kind}: node {node} stopped: {reason}")),
            Some(why) => Err(format!("{kind}: node {node} stopped: {reason}; but {why}")),
        },
        Came::Stalled(syncs) => Ok(format!("{kind}: {syncs} syncs of node {node} took their time")),
        Came::Refused { file, reason } if first_line(reason).contains(file) => {
            Ok(format!("{kind}: node {node} refused its store: {}", first_line(reason)))
        }
        Came::Refused { file, reason } => {
            Err(format!("{kind}: node {node} did not name {file}: {reason}"))
        }
        Came::Opened { file } => {
            Err(format!("{kind}: node {node} opened its store although {file} was damaged"))
        }
        Came::Nothing(why) => Ok(format!("{kind}: nothing befell node {node}: {why}")),
    }
}

/// Why a node has not stopped for what befell its disk; nothing where it has.
fn not_for(kind: DiskKind, reason: &str, report: Option<&DiskReport>) -> Option<String> {
    let Some(report) = report else { return Some("it could not be asked any more".into()) };
    let errno = match kind {
        DiskKind::NoSpace => Errno::ENOSPC,
        _ => Errno::EIO,
    };
    let error = std::io::Error::from(errno).to_string();
    if report.errors == 0 {
        return Some("its disk had not failed".into());
    }
    if !reason.contains(&error) {
        return Some(format!("its disk had said: {error}"));
    }
    if !report.files.iter().any(|file| reason.contains(file)) {
        return Some(format!("what had failed was {}", report.files.join(", ")));
    }
    (report.later > 0).then(|| format!("it wrote {} times more to its log", report.later))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

const NAME: &str = "disks";
const TOLD_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: &str =
        "its store failed: cannot sync /s/3/0.log: Input/output error (os error 5)";

    fn stopped(reason: &str, report: Option<DiskReport>) -> Befallen {
        let came = Came::Stopped { reason: reason.into(), report };
        Befallen { node: NodeNumber(3), kind: DiskKind::SyncError, came }
    }

    fn report() -> DiskReport {
        DiskReport { errors: 1, files: vec!["/s/3/0.log".into()], ..DiskReport::default() }
    }

    fn verdict(befallen: Befallen) -> (Verdict, String) {
        let check = judge(&[befallen]).expect("there is one");
        (check.verdict, check.detail)
    }

    #[test]
    fn a_node_stops_for_its_disk_and_says_what_failed_where() {
        assert_eq!(judge(&[]), None);
        let (kept, told) = verdict(stopped(STOPPED, Some(report())));
        assert_eq!(kept, Verdict::Valid);
        assert_eq!(told, format!("sync-error: node 3 stopped: {STOPPED}"));
        let another = "its store failed: cannot sync /s/3/1.log: Input/output error (os error 5)";
        let no_space = "its store failed: cannot write /s/3/0.log: No space left (os error 28)";
        for (befallen, why) in [
            (stopped(STOPPED, None), "could not be asked"),
            (stopped(STOPPED, Some(DiskReport::default())), "its disk had not failed"),
            (stopped(another, Some(report())), "what had failed was /s/3/0.log"),
            (stopped(no_space, Some(report())), "had said: Input/output error"),
            (stopped("it was bored", Some(report())), "had said: Input/output error"),
            (stopped(STOPPED, Some(DiskReport { later: 2, ..report() })), "wrote 2 times more"),
        ] {
            let (broken, told) = verdict(befallen);
            assert_eq!(broken, Verdict::Invalid, "{told}");
            assert!(told.contains(why), "{why}: {told}");
        }
    }

    #[test]
    fn a_damaged_store_is_refused_by_the_name_of_its_file() {
        let flip = |came| Befallen { node: NodeNumber(2), kind: DiskKind::Flip, came };
        let (file, reason) = ("0.log".to_owned(), "/s/2/0.log is corrupt at byte 7: x\nlog".into());
        let (kept, told) = verdict(flip(Came::Refused { file: file.clone(), reason }));
        assert_eq!(kept, Verdict::Valid);
        assert_eq!(told, "flip: node 2 refused its store: /s/2/0.log is corrupt at byte 7: x");
        let silent = Came::Refused { file: file.clone(), reason: "something is wrong".into() };
        for came in [silent, Came::Opened { file }] {
            assert_eq!(verdict(flip(came)).0, Verdict::Invalid);
        }
    }

    #[test]
    fn what_took_place_is_counted() {
        let stall = |syncs| Befallen {
            node: NodeNumber(1),
            kind: DiskKind::Stall,
            came: Came::Stalled(syncs),
        };
        let nothing = Befallen { came: Came::Nothing("no leader".into()), ..stall(0) };
        let all = [stopped(STOPPED, Some(report())), stall(4), stall(5), nothing];
        let counts = counts(&all);
        assert_eq!((counts["disk_errors"], counts["disk_stalls"], counts.len()), (1, 9, 2));
        let check = judge(&all).expect("there are some");
        assert_eq!(check.verdict, Verdict::Valid);
        assert!(check.detail.ends_with("nothing befell node 1: no leader"), "{}", check.detail);
    }
}
