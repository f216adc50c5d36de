//! A step of a trial: what is done to whom, when, and for how long.
//!
//! Plain data, as plans write it; whether it can be carried out is for `validate` to say.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::MapAccessDeserializer},
};

use crate::{
    disk::{DiskFault, DiskKind},
    fault::{CrashPoint, Fault, NodeNumber, Target},
    link::LinkFaults,
    plan::{MsByProfile, Way},
    skew::ClockFault,
};

/// A fault within a trial, and the return from it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, within the trial.
    pub at: At,
    /// What.
    pub fault: Fault,
    /// For each trial one of these is drawn in its place. It is one of them itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub among: Vec<Fault>,
    /// To whom. Of a partition the `side` says that.
    #[serde(default)]
    pub target: Target,
    /// For `link` at a given node: the node at the other end; all others if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeNumber>,
    /// For packet faults: which way.
    #[serde(default)]
    pub way: Way,
    /// For `partition`: the nodes of one side; the others are the other. Whoever is not given by
    /// number is chosen when it strikes, none twice.
    #[serde(default, with = "members", skip_serializing_if = "Vec::is_empty")]
    pub side: Vec<Target>,
    /// For `partition`, in place of a side: the pairs between which nothing passes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<(NodeNumber, NodeNumber)>,
    /// How long after the fault the node is restarted or goes on, or the links are healed.
    pub return_after_ms: MsByProfile,
    /// For `link`: what befalls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<LinkFaults>,
    /// For `kill`: at which moment of what the node does, once it is due.
    #[serde(default, skip_serializing_if = "is_any")]
    pub point: CrashPoint,
    /// For `restart`: a node that leads hands over before it ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hand_over: bool,
    /// For `clock`: what befalls the node's clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockFault>,
    /// For `disk`: in which way it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskFault>,
    /// For packet faults: it comes and goes until it is healed; it stays if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap: Option<Flap>,
}

impl Step {
    /// The step as each of the faults that may be drawn for it makes it.
    pub(super) fn each(&self) -> Vec<Self> {
        let given = if self.among.is_empty() { vec![self.fault] } else { self.among.clone() };
        given.into_iter().map(|fault| self.drawn(fault)).collect()
    }

    /// The step once its fault was drawn.
    pub(crate) fn drawn(&self, fault: Fault) -> Self {
        Self { fault, among: Vec::new(), ..self.clone() }
    }

    /// In which way a disk fails, if one does.
    pub(crate) fn disk_kind(&self) -> Option<DiskKind> {
        let disk = self.disk.filter(|_| self.fault == Fault::Disk);
        disk.map(|disk| disk.kind)
    }

    /// Whether the process ends, and another one returns in its place.
    pub(crate) fn ends_process(&self) -> bool {
        self.fault.ends_process() || self.disk_kind().is_some_and(DiskKind::ends_node)
    }

    /// Whether it changes who is a member.
    pub(crate) fn changes_members(&self) -> bool {
        self.fault.changes_members() || self.disk_kind().is_some_and(DiskKind::costs_store)
    }
}

fn is_any(point: &CrashPoint) -> bool {
    *point == CrashPoint::Any
}

/// How a packet fault comes and goes. It begins by being there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    /// How long it is there each time.
    pub on_ms: u64,
    /// How long it is gone in between.
    pub off_ms: u64,
}

/// A moment of a trial: `"random"` or milliseconds from its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Drawn from the tenth to three tenths of the trial.
    Random,
    /// Exactly then.
    Ms(MsByProfile),
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Random => serializer.serialize_str("random"),
            Self::Ms(ms) => ms.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = At;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"random\" or milliseconds from the beginning of the trial, which may be one \
                     number for each of lan, wan, loopback",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
                match text {
                    "random" => Ok(At::Random),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<At, E> {
                Ok(At::Ms(MsByProfile::all(ms)))
            }

            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<At, E> {
                let unexpected = de::Unexpected::Signed(ms);
                let ms = u64::try_from(ms).map_err(|_| E::invalid_value(unexpected, &self))?;
                Ok(At::Ms(MsByProfile::all(ms)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<At, A::Error> {
                MsByProfile::deserialize(MapAccessDeserializer::new(map)).map(At::Ms)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Nodes of a side: numbers, or the words of a target.
mod members {
    use super::{Deserialize, Deserializer, NodeNumber, Serializer, Target, de, fmt};

    #[derive(serde::Serialize)]
    #[serde(untagged)]
    enum Written {
        Number(NodeNumber),
        Word(Target),
    }

    struct Member(Target);

    pub(super) fn serialize<S: Serializer>(side: &[Target], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(side.iter().map(|member| match member {
            Target::Node(node) => Written::Number(*node),
            word => Written::Word(*word),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Target>, D::Error> {
        let members = Vec::<Member>::deserialize(from)?;
        Ok(members.into_iter().map(|Member(target)| target).collect())
    }

    impl<'de> Deserialize<'de> for Member {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Visitor;

            impl de::Visitor<'_> for Visitor {
                type Value = Member;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("the number of a node, \"leader\", \"follower\" or \"random\"")
                }

                fn visit_u64<E: de::Error>(self, node: u64) -> Result<Member, E> {
                    Ok(Member(Target::Node(NodeNumber(node))))
                }

                fn visit_i64<E: de::Error>(self, node: i64) -> Result<Member, E> {
                    let unexpected = de::Unexpected::Signed(node);
                    let node = u64::try_from(node);
                    let member = node.map(|node| Member(Target::Node(NodeNumber(node))));
                    member.map_err(|_| E::invalid_value(unexpected, &self))
                }

                fn visit_str<E: de::Error>(self, word: &str) -> Result<Member, E> {
                    match word {
                        "leader" => Ok(Member(Target::Leader)),
                        "follower" => Ok(Member(Target::Follower)),
                        "random" => Ok(Member(Target::Random)),
                        _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                    }
                }
            }

            from.deserialize_any(Visitor)
        }
    }
}
