//! What the figures of a run must come to, as the plan says it.
//!
//! Plain data; whether it holds is for the run to say. An absent bound is not checked.

use std::fmt;

use runtime::ConsensusProfile;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};

/// Bounds on figures. An absent one is not checked.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Half of the outages are at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_ms_p50_max: Option<f64>,
    /// No outage is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage_ms_max: Option<f64>,
    /// Half of the groups form within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forming_ms_p50_max: Option<f64>,
    /// None takes longer to form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forming_ms_max: Option<f64>,
    /// Terms that may begin under load and without faults, each right after its leader was seen
    /// to stand still for 20 ms or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term_changes_max: Option<ByProfile>,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct ByProfile {
    /// For `lan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lan: Option<u64>,
    /// For `wan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wan: Option<u64>,
    /// For `loopback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loopback: Option<u64>,
}

impl ByProfile {
    /// The same for all.
    pub fn all(count: u64) -> Self {
        Self { lan: Some(count), wan: Some(count), loopback: Some(count) }
    }

    /// What is said of one profile.
    pub fn of(&self, profile: ConsensusProfile) -> Option<u64> {
        match profile {
            ConsensusProfile::Lan => self.lan,
            ConsensusProfile::Wan => self.wan,
            ConsensusProfile::Loopback => self.loopback,
        }
    }
}

impl Serialize for ByProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ByProfile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ByProfile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number that is not negative, or one for each of lan, wan, loopback")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<ByProfile, E> {
                Ok(ByProfile::all(count))
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<ByProfile, E> {
                let unexpected = de::Unexpected::Signed(count);
                let counted = u64::try_from(count).map(ByProfile::all);
                counted.map_err(|_| E::invalid_value(unexpected, &self))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ByProfile, A::Error> {
                ByProfile::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

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
    fn a_count_that_is_none_is_refused_with_what_is_allowed() {
        for (line, allowed) in [
            ("term_changes_max = -1", "not negative, or one for each of lan"),
            ("term_changes_max = \"few\"", "not negative, or one for each of lan"),
            ("term_changes_max = { moon = 1 }", "unknown field `moon`, expected one of `lan`"),
            ("term_changes_max = { lan = -1 }", "-1"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(allowed), "{line}: {error}");
        }
    }
}
