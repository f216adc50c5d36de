//! What the command line says of the clients, and whether their load lasts long enough.
//!
//! Looks at the times of the plan's own profile alone. Invariant: a load that `--duration` made too
//! short is refused by that name, and not by that of a step nobody wrote.

use chaos::plan::{At, MsByProfile, Plan, PlanError};

use super::{Overrides, out_of_place};

/// Changes the load of a plan.
///
/// # Errors
/// What is said of a load that the plan does not have.
pub(super) fn apply(given: &Overrides, plan: &mut Plan) -> Result<(), PlanError> {
    let Some(load) = &mut plan.workload else {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let duration = given.duration.map(|ms| format!("{ms} ms"));
        let options = [
            ("--rate", number(given.rate)),
            ("--clients", number(given.clients)),
            ("--duration", duration),
        ];
        return match options.into_iter().find_map(|(name, value)| Some((name, value?))) {
            Some((name, value)) => Err(out_of_place(name, value, "clients", plan)),
            None => Ok(()),
        };
    };
    load.rate_per_s = given.rate.unwrap_or(load.rate_per_s);
    load.clients = given.clients.unwrap_or(load.clients);
    load.duration_ms = given.duration.map_or(load.duration_ms, MsByProfile::all);
    Ok(())
}

/// Refuses a `--duration` within which the steps are not over.
///
/// # Errors
/// With a duration that is long enough.
pub(super) fn lasts(given: &Overrides, plan: &Plan) -> Result<(), PlanError> {
    // Of what no load may last, `validate` says what it may.
    let Some(ms) = given.duration.filter(|ms| (DURATION_MS_MIN..=DURATION_MS_MAX).contains(ms))
    else {
        return Ok(());
    };
    let needs = plan.steps.iter().enumerate().map(|(number, step)| {
        let away_ms = step.return_after_ms.of(plan.profile);
        let rest_ms = away_ms.saturating_add(RETURN_MARGIN_MS);
        match step.at {
            // It may come after three tenths: the rest must fit into the other seven.
            At::Random => (rest_ms.saturating_mul(10).div_ceil(7), ms / 10 * 3, number, away_ms),
            At::Ms(at) => {
                let at_ms = at.of(plan.profile);
                (at_ms.saturating_add(rest_ms), at_ms, number, away_ms)
            }
        }
    });
    let Some((needed_ms, at_ms, number, away_ms)) = needs.max() else { return Ok(()) };
    let is_short = at_ms.saturating_add(away_ms).saturating_add(RETURN_MARGIN_MS) > ms;
    if !is_short || needed_ms > DURATION_MS_MAX {
        return Ok(());
    }
    let allowed = format!(
        "steps[{number}] may come as late as {at_ms} ms, is over {away_ms} ms later, and \
         {RETURN_MARGIN_MS} ms of load must be left then: use at least {needed_ms}ms"
    );
    let (field, value) = ("--duration".to_owned(), format!("{ms} ms"));
    Err(PlanError::Field { field, value, allowed })
}

/// As long as a load may last.
const DURATION_MS_MIN: u64 = 1_000;
const DURATION_MS_MAX: u64 = 86_400_000;
/// As long as `validate` wants it to go on after the last return.
const RETURN_MARGIN_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use chaos::plan::{self, WorldKind};
    use runtime::ConsensusProfile;

    use super::*;
    use crate::catalogue;

    fn refused(name: &str, profile: ConsensusProfile, duration: u64) -> Option<String> {
        let all = catalogue::all().unwrap();
        let mut plan = all.into_iter().find(|one| one.plan.scenario == name).unwrap().plan;
        let (profile, duration) = (Some(profile), Some(duration));
        let given = Overrides { profile, duration, ..Overrides::default() };
        let applied = given.apply(&mut plan, WorldKind::Sim);
        plan::keep_times(&mut plan);
        applied.and_then(|()| plan::validate(&plan)).err().map(|error| error.to_string())
    }

    #[test]
    fn a_duration_that_is_too_short_is_refused_by_name_with_one_that_is_not() {
        for (name, profile, short_ms, least_ms) in [
            ("leader-failover", ConsensusProfile::Lan, 1_000, 2_143),
            ("leader-failover", ConsensusProfile::Wan, 5_000, 8_572),
            ("rolling-restart", ConsensusProfile::Lan, 3_000, 12_000),
            ("membership-churn", ConsensusProfile::Lan, 10_000, 33_000),
        ] {
            let error = refused(name, profile, short_ms).unwrap();
            assert!(error.starts_with(&format!("--duration is {short_ms} ms, but steps[")));
            assert!(error.ends_with(&format!(": use at least {least_ms}ms")), "{name}: {error}");
            assert_eq!(refused(name, profile, least_ms), None, "{name}");
        }
    }
}
