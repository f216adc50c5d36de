//! A plan with variants is several plans that differ in their faults: one is chosen.
//!
//! Invariant: a chosen plan is a plain one, which is carried out as it stands.

use serde::{Deserialize, Serialize};

use crate::plan::{Expect, Plan, PlanError, RandomFaults, Step, field};

/// One of the plans that a plan with variants can be made into.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name among the others.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub about: String,
    /// What happens in each trial.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// In place of steps: what may be drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<RandomFaults>,
    /// What the figures must come to; what the plan itself expects if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

/// Makes the plan into its variant of that name, or into the first if none is given. A plan
/// without variants stays as it is.
///
/// # Errors
/// A name that is none of them.
pub fn choose(plan: &mut Plan, name: Option<&str>) -> Result<(), PlanError> {
    let place = match name {
        None if plan.variants.is_empty() => return Ok(()),
        None => 0,
        Some(name) => {
            let place = plan.variants.iter().position(|variant| variant.name == name);
            place.ok_or_else(|| unknown(plan, name))?
        }
    };
    let Variant { name, about, steps, random, expect } = plan.variants.swap_remove(place);
    plan.variants.clear();
    if !about.is_empty() {
        plan.about = about;
    }
    plan.variant = Some(name);
    (plan.steps, plan.random) = (steps, random);
    plan.expect = expect.unwrap_or_else(|| plan.expect.clone());
    Ok(())
}

fn unknown(plan: &Plan, name: &str) -> PlanError {
    let allowed = match (&plan.variant, plan.variants.is_empty()) {
        (Some(chosen), true) => format!("{} is {chosen} already", plan.scenario),
        (None, true) => format!("{} has no variants", plan.scenario),
        (_, false) => {
            let names: Vec<&str> = plan.variants.iter().map(|known| known.name.as_str()).collect();
            format!("the variants of {} are {}", plan.scenario, names.join(", "))
        }
    };
    field("variant", name, allowed)
}

/// Checks the variants, if there are any: each by itself must be a plan that can be carried out.
pub(super) fn check(
    plan: &Plan,
    validate: impl Fn(&Plan) -> Result<(), PlanError>,
) -> Result<(), PlanError> {
    if plan.variants.len() > VARIANTS_MAX {
        let allowed = format!("there may be at most {VARIANTS_MAX}");
        return Err(field("variants", format!("a list of {}", plan.variants.len()), allowed));
    }
    if !plan.steps.is_empty() {
        return Err(field("steps", "not empty", "the plan has variants: put them there"));
    }
    for (number, variant) in plan.variants.iter().enumerate() {
        let same = |other: &&Variant| other.name == variant.name;
        if variant.name.is_empty() || plan.variants.iter().filter(same).count() > 1 {
            let allowed = "each variant must have a name of its own";
            return Err(field(&format!("variants[{number}].name"), &variant.name, allowed));
        }
        let mut chosen = plan.clone();
        choose(&mut chosen, Some(&variant.name))?;
        validate(&chosen).map_err(|error| within(number, variant.expect.is_some(), error))?;
    }
    Ok(())
}

/// The refusal, with the field named as it stands in the plan with variants.
fn within(number: usize, own_expect: bool, error: PlanError) -> PlanError {
    match error {
        PlanError::Field { field, value, allowed }
            if field.starts_with("steps")
                || field.starts_with("random")
                || (own_expect && field.starts_with("expect")) =>
        {
            PlanError::Field { field: format!("variants[{number}].{field}"), value, allowed }
        }
        other => other,
    }
}

const VARIANTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ByProfile, parse, validate};

    const PLAN: &str = "scenario = \"x\"\nkind = \"failover\"\n[workload]\n\
        [expect]\noutage_ms_max = 900\n\
        [[variants]]\nname = \"one\"\nabout = \"first\"\n\
        [[variants.steps]]\nat = 1000\nfault = \"isolate\"\nreturn_after_ms = 1000\n\
        [[variants]]\nname = \"two\"\nexpect = { outage_ms_max = 5 }\n\
        [[variants.steps]]\nat = 1000\nfault = \"pause\"\nreturn_after_ms = 1000\n";

    fn chosen(name: Option<&str>) -> Plan {
        let mut plan = parse(PLAN).expect("well formed");
        validate(&plan).expect("each can be carried out");
        choose(&mut plan, name).expect("it is one of them");
        plan
    }

    #[test]
    fn a_chosen_plan_is_a_plain_one_that_reads_back() {
        let first = chosen(None);
        assert_eq!((first.variant.as_deref(), first.about.as_str()), (Some("one"), "first"));
        let longest = Some(ByProfile::all(900.0));
        assert_eq!((first.steps.len(), first.expect.outage_ms_max), (1, longest));
        let second = chosen(Some("two"));
        assert_eq!(second.expect.outage_ms_max, Some(ByProfile::all(5.0)));
        for plan in [first, second] {
            assert!(plan.variants.is_empty());
            validate(&plan).expect("it can be carried out");
            let text = toml::to_string(&plan).expect("plain data");
            let mut again = parse(&text).expect("its own text");
            assert_eq!(again, plan);
            choose(&mut again, None).expect("it stays as it is");
            assert_eq!(again, plan);
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_those_there_are() {
        let refused = |plan: &mut Plan| choose(plan, Some("three")).expect_err("none").to_string();
        let mut plan = parse(PLAN).expect("well formed");
        assert_eq!(refused(&mut plan), "variant is three, but the variants of x are one, two");
        assert_eq!(refused(&mut chosen(None)), "variant is three, but x is one already");
        plan.variants.clear();
        assert_eq!(refused(&mut plan), "variant is three, but x has no variants");
    }

    #[test]
    fn each_variant_is_held_against_the_rules_and_named_by_its_place() {
        let refused = |from: &str, to: &str| {
            let plan = parse(&PLAN.replace(from, to)).expect("well formed");
            validate(&plan).expect_err(to).to_string()
        };
        let error = refused("\"pause\"\nreturn_after_ms = 1000", "\"pause\"\nreturn_after_ms = 0");
        assert!(error.starts_with("variants[1].steps[0].return_after_ms is 0"), "{error}");
        let error = refused("outage_ms_max = 5 ", "outage_ms_max = -5 ");
        assert!(error.starts_with("variants[1].expect.outage_ms_max is -5"), "{error}");
        let error = refused("outage_ms_max = 900", "outage_ms_max = -9");
        assert!(error.starts_with("expect.outage_ms_max is -9"), "{error}");
        let error = refused("\"two\"", "\"one\"");
        assert!(error.starts_with("variants[0].name is one, but each variant"), "{error}");
    }
}
