//! What the figures of a run must come to, as the plan says it.
//!
//! Plain data; whether it holds is for the run to say. An absent bound is not checked.

use std::{fmt, marker::PhantomData};

use runtime::ConsensusProfile;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IntoDeserializer, value::MapAccessDeserializer},
};

/// Bounds on figures. An absent one is not checked.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Half of the outages are at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_ms_p50_max: Option<ByProfile<f64>>,
    /// No outage is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_ms_max: Option<ByProfile<f64>>,
    /// Half of the groups form within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forming_ms_p50_max: Option<f64>,
    /// None takes longer to form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forming_ms_max: Option<f64>,
    /// Terms that may begin under load and without faults, each right after its leader was seen
    /// to stand still for 20 ms or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term_changes_max: Option<ByProfile<u64>>,
    /// How fast a node's resident memory less its log may grow after the second minute of load.
    /// Not checked where the load is planned to last less than [`GROWTH_LOAD_MS_MIN`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_growth_kb_per_min_max: Option<f64>,
    /// Faults may leave no node that reaches a majority: nothing need be served until it returns.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub majority_may_be_lost: bool,
}

/// A number for every consensus profile: `1`, or `{ lan = 0, wan = 0, loopback = 3 }`. A profile
/// that is not named has no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ByProfile<N> {
    /// For `lan`.
    pub lan: Option<N>,
    /// For `wan`.
    pub wan: Option<N>,
    /// For `loopback`.
    pub loopback: Option<N>,
}

impl<N: Copy> ByProfile<N> {
    /// The same for all.
    pub fn all(number: N) -> Self {
        Self { lan: Some(number), wan: Some(number), loopback: Some(number) }
    }

    /// What is said of one profile.
    pub fn of(&self, profile: ConsensusProfile) -> Option<N> {
        match profile {
            ConsensusProfile::Lan => self.lan,
            ConsensusProfile::Wan => self.wan,
            ConsensusProfile::Loopback => self.loopback,
        }
    }

    /// What is said of any.
    pub(super) fn each(&self) -> impl Iterator<Item = N> + use<N> {
        [self.lan, self.wan, self.loopback].into_iter().flatten()
    }
}

/// The form with a number for each profile that is named.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named<N> {
    #[serde(skip_serializing_if = "Option::is_none")]
    lan: Option<N>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wan: Option<N>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loopback: Option<N>,
}

impl<N: Serialize + PartialEq + Copy> Serialize for ByProfile<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { lan, wan, loopback } = *self;
        match lan {
            Some(number) if lan == wan && wan == loopback => number.serialize(serializer),
            _ => Named { lan, wan, loopback }.serialize(serializer),
        }
    }
}

impl<'de, N: Deserialize<'de> + Copy> Deserialize<'de> for ByProfile<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm(PhantomData))
    }
}

/// Reads one number for all, or one for each that is named.
struct EitherForm<N>(PhantomData<N>);

impl<'de, N: Deserialize<'de> + Copy> de::Visitor<'de> for EitherForm<N> {
    type Value = ByProfile<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EITHER_FORM)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<ByProfile<N>, E> {
        for_all(number, de::Unexpected::Unsigned(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<ByProfile<N>, E> {
        for_all(number, de::Unexpected::Signed(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ByProfile<N>, E> {
        for_all(number, de::Unexpected::Float(number))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ByProfile<N>, A::Error> {
        let Named { lan, wan, loopback } = Named::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ByProfile { lan, wan, loopback })
    }
}

/// One number for all, as far as it is one of that kind.
fn for_all<'de, N, I, E>(number: I, unexpected: de::Unexpected<'_>) -> Result<ByProfile<N>, E>
where
    N: Deserialize<'de> + Copy,
    I: IntoDeserializer<'de, E>,
    E: de::Error,
{
    let read = N::deserialize(number.into_deserializer());
    read.map(ByProfile::all).map_err(|_| E::invalid_value(unexpected, &EITHER_FORM))
}

const EITHER_FORM: &str = "a number that is not negative, or one for each of lan, wan, loopback";

/// A shorter load shows nothing of how memory grows: for two minutes caches and buffers fill up,
/// and a slope wants a minute and some more.
pub const GROWTH_LOAD_MS_MIN: u64 = 210_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Expect, String> {
        toml::from_str(line).map_err(|error| error.to_string())
    }

    #[test]
    fn a_count_is_for_all_profiles_or_for_those_that_are_named() {
        let terms = |line: &str| read(line).expect("well formed").term_changes_max;
        let all = terms("term_changes_max = 1").expect("given");
        assert_eq!(all, ByProfile::all(1));
        let some = terms("term_changes_max = { lan = 0, loopback = 3 }").expect("given");
        assert_eq!(some.of(ConsensusProfile::Lan), Some(0));
        assert_eq!(some.of(ConsensusProfile::Wan), None);
        assert_eq!(some.of(ConsensusProfile::Loopback), Some(3));
        for bounds in [all, some] {
            let expect = Expect { term_changes_max: Some(bounds), ..Expect::default() };
            let text = toml::to_string(&expect).expect("plain data");
            assert_eq!(read(&text), Ok(expect));
        }
    }

    #[test]
    fn a_bound_on_outages_is_for_all_profiles_or_for_those_that_are_named() {
        let longest = |line: &str| read(line).expect("well formed").outage_ms_max.expect("given");
        for all in ["outage_ms_max = 900", "outage_ms_max = 900.0"] {
            assert_eq!(longest(all), ByProfile::all(900.0));
        }
        let some = longest("outage_ms_max = { lan = 900.5, wan = 6000 }");
        assert_eq!(some.of(ConsensusProfile::Lan), Some(900.5));
        assert_eq!(some.of(ConsensusProfile::Wan), Some(6_000.0));
        assert_eq!(some.of(ConsensusProfile::Loopback), None);
        let median = read("outage_ms_p50_max = { wan = 5 }").expect("well formed");
        assert_eq!(median.outage_ms_p50_max.expect("given").of(ConsensusProfile::Wan), Some(5.0));
    }

    #[test]
    fn a_bound_is_written_in_the_form_in_which_it_reads_best() {
        for (line, is_a_number) in [
            ("outage_ms_max = 900.5", true),
            ("outage_ms_max = { lan = 9, wan = 9, loopback = 9 }", true),
            ("outage_ms_max = { lan = 9, wan = 9 }", false),
            ("outage_ms_max = { lan = 9, wan = 9, loopback = 8 }", false),
            ("outage_ms_max = {}", false),
        ] {
            let expect = read(line).expect("well formed");
            let json = serde_json::to_value(&expect).expect("plain data");
            assert_eq!(json["outage_ms_max"].is_number(), is_a_number, "{line}: {json}");
            assert_eq!(serde_json::from_value::<Expect>(json).expect("its own text"), expect);
            let text = toml::to_string(&expect).expect("plain data");
            assert_eq!(read(&text), Ok(expect));
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused_with_what_is_allowed() {
        for (line, allowed) in [
            ("term_changes_max = -1", "not negative, or one for each of lan"),
            ("term_changes_max = \"few\"", "not negative, or one for each of lan"),
            ("term_changes_max = { moon = 1 }", "unknown field `moon`, expected one of `lan`"),
            ("term_changes_max = { lan = -1 }", "-1"),
            ("term_changes_max = 1.5", "not negative, or one for each of lan"),
            ("outage_ms_max = \"short\"", "not negative, or one for each of lan"),
            ("outage_ms_max = { moon = 1 }", "unknown field `moon`, expected one of `lan`"),
            ("outage_ms_max = { lan = \"short\" }", "short"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(allowed), "{line}: {error}");
        }
    }
}
