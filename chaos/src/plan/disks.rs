//! Steps that let disks fail: what they may say.
//!
//! Pure functions of a plan. Invariant: a step says of a disk what its kind needs, and no more.

use crate::{
    disk::{DiskFault, DiskKind},
    fault::Fault,
    plan::{PlanError, Step, field},
};

/// Checks what a step says of a disk.
pub(super) fn check(step: &Step, name: impl Fn(&str) -> String) -> Result<(), PlanError> {
    if step.fault != Fault::Disk {
        return Ok(());
    }
    let Some(DiskFault { kind, sync_ms }) = step.disk else {
        let kinds = DiskKind::ALL.map(DiskKind::word).join(", ");
        let allowed = format!(
            "fault = \"disk\" must say how it fails, such as {{ kind = \"sync-error\" }} \
             (--disk sync-error); the kinds are {kinds}"
        );
        return Err(field(&name("disk"), "absent", allowed));
    };
    match (kind, sync_ms) {
        (DiskKind::Stall, None) => {
            let allowed = "kind = \"stall\" must say how long each sync takes";
            Err(field(&name("disk.sync_ms"), "absent", allowed))
        }
        (DiskKind::Stall, Some(sync_ms)) if !(1..=SYNC_MS_MAX).contains(&sync_ms) => {
            let allowed = format!("must lie between 1 and {SYNC_MS_MAX}");
            Err(field(&name("disk.sync_ms"), sync_ms, allowed))
        }
        (DiskKind::Stall, Some(_)) | (_, None) => Ok(()),
        (kind, Some(_)) => {
            let allowed = format!("only kind = \"stall\" has a use for it, and this is {kind}");
            Err(field(&name("disk.sync_ms"), "present", allowed))
        }
    }
}

/// A node whose disk is slower does not open its store within the time that a start has.
const SYNC_MS_MAX: u64 = 2_000;

#[cfg(test)]
mod tests {
    use crate::plan::{Plan, parse, validate};

    fn plan(head: &str, step: &str) -> Plan {
        let text = format!(
            "scenario = \"x\"\nkind = \"failover\"\n{head}\n[workload]\n[[steps]]\nat = 500\n\
             return_after_ms = 900\n{step}\n"
        );
        parse(&text).expect("well formed")
    }

    #[test]
    fn every_kind_can_be_asked_for_and_reads_back() {
        for (kind, more) in [
            ("sync-error", ""),
            ("write-error", ""),
            ("no-space", ""),
            ("torn-write", ""),
            ("stall", ", sync_ms = 50"),
            ("flip", ""),
        ] {
            let step = format!("fault = \"disk\"\ndisk = {{ kind = \"{kind}\"{more} }}");
            let plan = plan("", &step);
            validate(&plan).unwrap_or_else(|error| panic!("{kind}: {error}"));
            let text = toml::to_string(&plan).expect("plain data");
            assert_eq!(parse(&text).expect("its own text"), plan);
        }
    }

    #[test]
    fn what_a_disk_cannot_do_is_refused_by_field() {
        let disk = |disk: &str| format!("fault = \"disk\"\n{disk}");
        let flip = disk("disk = { kind = \"flip\" }");
        for (head, step, expected) in [
            ("", disk(""), "steps[0].disk is absent, but fault = \"disk\" must say how it fails"),
            ("", disk("disk = { kind = \"stall\" }"), "steps[0].disk.sync_ms is absent"),
            ("", disk("disk = { kind = \"stall\", sync_ms = 0 }"), "between 1 and 2000"),
            ("", disk("disk = { kind = \"flip\", sync_ms = 9 }"), "and this is flip"),
            ("", "fault = \"kill\"\ndisk = { kind = \"flip\" }".into(), "only fault = \"disk\""),
            ("storage = \"memory\"", flip.clone(), "use storage = \"disk\""),
            ("groups = 2", flip.clone(), "of several groups none may lose or gain members"),
            ("nodes = 2", flip, "of 2 nodes none can be spared for good"),
            ("nodes = 1", disk("disk = { kind = \"torn-write\" }"), "1 of 1 nodes is no minority"),
        ] {
            let error = validate(&plan(head, &step)).expect_err(&step).to_string();
            assert!(error.contains(expected), "{head} {step}: {error}");
        }
        let stall = disk("disk = { kind = \"stall\", sync_ms = 50 }");
        validate(&plan("nodes = 1", &stall)).expect("it takes nobody away");
    }

    #[test]
    fn what_is_no_kind_is_told_those_there_are() {
        for disk in ["{ kind = \"rust\" }", "\"stall\"", "{ kind = \"stall\", ms = 3 }"] {
            let text = format!("scenario = \"x\"\n[[steps]]\nat = 1\ndisk = {disk}\n");
            let error = parse(&text).expect_err(disk).to_string();
            assert!(error.contains("line 4") && !error.contains("struct"), "{disk}: {error}");
            let known = ["`sync-error`", "{ kind = \"sync-error\" }", "`sync_ms`"];
            assert!(known.iter().any(|known| error.contains(known)), "{disk}: {error}");
        }
    }
}
