//! The rules of modules, as data, and how one file is held against them.
//!
//! Each rule says why it stands. A rule with nothing to guard yet guards what is built later.

use super::{
    Violation,
    graph::{Graph, is_ours},
    layout::File,
    source::Token,
    within,
};

/// Modules that may not name others.
struct Ban {
    /// Who: modules with all that is inside them.
    from: &'static [&'static str],
    /// Excepted from `from`.
    except: &'static [&'static str],
    /// Whom: modules, items, or other crates.
    to: &'static [&'static str],
    /// Whether a name that another module passes on counts as well.
    through_aliases: bool,
    /// Why.
    why: &'static str,
}

const ROLES_WHY: &str = "roles never import each other: `raft.rs` alone changes role";
const WORLDS_WHY: &str = "the three worlds never import each other";
const FACTS_WHY: &str = "quorum, position, message and log import no role";

const BANS: &[Ban] = &[
    ban(
        &["raft::quorum", "raft::position", "raft::message", "raft::log"],
        &["raft::follower", "raft::candidate", "raft::leader"],
        FACTS_WHY,
    ),
    ban(&["raft::follower"], &["raft::candidate", "raft::leader"], ROLES_WHY),
    ban(&["raft::candidate"], &["raft::follower", "raft::leader"], ROLES_WHY),
    ban(&["raft::leader"], &["raft::follower", "raft::candidate"], ROLES_WHY),
    ban(
        &["raft"],
        &[
            "tokio",
            "iroh",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "std::env",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
        "the core is pure: no runtime, no network, no disk, no thread, no clock",
    ),
    ban(
        &["runtime::network", "runtime::transport", "runtime::storage"],
        &["raft::Raft", "raft::raft::Raft"],
        "network, transport and storage never see the core",
    ),
    Ban {
        from: &["chaos"],
        except: &["chaos::swarm", "chaos::invariant"],
        to: &["raft"],
        // Through `runtime` they are the embedder's vocabulary, which all may speak.
        through_aliases: false,
        why: "chaos uses `raft` directly only in swarm and invariant",
    },
    ban(
        &["chaos::invariant"],
        &[
            "chaos::swarm",
            "chaos::sim",
            "chaos::process",
            "chaos::cluster",
            "chaos::nemesis",
            "chaos::workload",
            "chaos::run",
            "raft::Raft",
            "raft::raft::Raft",
            "tokio",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
        ],
        "invariants see only snapshots of nodes and cannot cause an effect",
    ),
    ban(
        &["chaos::checker"],
        &["tokio", "std::fs", "std::net", "std::process", "std::thread"],
        "checkers see only a history and cannot cause an effect",
    ),
    ban(&["chaos::swarm"], &["chaos::sim", "chaos::process"], WORLDS_WHY),
    ban(&["chaos::sim"], &["chaos::swarm", "chaos::process"], WORLDS_WHY),
    ban(&["chaos::process"], &["chaos::swarm", "chaos::sim"], WORLDS_WHY),
    ban(
        &["runtime"],
        &["chaos", "reports", "scenarios", "bench", "ci"],
        "`runtime` knows nothing of the laboratory",
    ),
    ban(
        &["chaos"],
        &["reports", "scenarios", "bench", "ci"],
        "`chaos` streams history and marks; `scenarios` alone turns them into reports",
    ),
    ban(
        &["raft", "reports"],
        &["runtime", "chaos", "scenarios", "bench", "ci"],
        "`raft` and `reports` are leaves",
    ),
    ban(&["raft"], &["reports"], "`raft` and `reports` are leaves"),
    ban(&["reports"], &["raft"], "`raft` and `reports` are leaves"),
];

const fn ban(from: &'static [&'static str], to: &'static [&'static str], why: &'static str) -> Ban {
    Ban { from, except: &[], to, through_aliases: true, why }
}

/// Of the workspace, checkers may name these and nothing else.
const CHECKERS_MAY: &[&str] = &["chaos::checker", "chaos::history"];

/// The only modules that drive the core: `step` is its method and no other's.
const STEPPERS: &[&str] = &["raft", "runtime::group::driver", "chaos::swarm"];

/// Modules that may hold `unsafe` code.
const UNSAFE: &[&str] = &["chaos::sim::shim"];

/// What reads the host's clock.
const CLOCKS: &[&[&str]] =
    &[&["Instant", "::", "now"], &["SystemTime", "::", "now"], &["clock_gettime"]];

/// Files that may read the host's clock, and what for.
const HOST_CLOCKS: &[(&str, &str)] = &[
    ("runtime/src/clock.rs", "behind the trait `Clock`"),
    ("chaos/src/process/clock.rs", "the clock that real processes share"),
    ("chaos/src/sim/shim.rs", "the simulated clock, in place of the host's"),
    ("ci/src/step.rs", "how long a step took"),
];

/// Every rule that one file breaks.
pub(crate) fn check(file: &File, graph: &Graph) -> Vec<Violation> {
    let mut broken = Vec::new();
    for mention in &file.mentions {
        let written = graph.absolute(file, mention);
        let shown = mention.path.join("::");
        let stages = graph.stages(written.clone());
        for ban in BANS.iter().filter(|ban| ban.covers(&file.module)) {
            let seen = if ban.through_aliases { &stages[..] } else { &stages[..1] };
            if seen.iter().any(|stage| ban.to.iter().any(|pattern| within(stage, pattern))) {
                broken.push(violation(file, mention.line, &shown, ban.why));
            }
        }
        let last = &stages[stages.len() - 1];
        let may = |pattern: &&str| within(last, pattern);
        if within(&file.module, "chaos::checker") && is_ours(last) && !CHECKERS_MAY.iter().any(may)
        {
            broken.push(violation(file, mention.line, &shown, "checkers see only a history"));
        }
        if let [module @ .., star] = &written[..]
            && star == "*"
            && graph.is_module(module)
        {
            let why = "a glob of one of our modules hides what is imported: name it";
            broken.push(violation(file, mention.line, &shown, why));
        }
    }
    broken.extend(words(file));
    broken
}

impl Ban {
    fn covers(&self, module: &[String]) -> bool {
        let inside = |pattern: &&str| within(module, pattern);
        self.from.iter().any(inside) && !self.except.iter().any(inside)
    }
}

/// Rules about words rather than paths.
fn words(file: &File) -> Vec<Violation> {
    let inside = |list: &[&str]| list.iter().any(|pattern| within(&file.module, pattern));
    let reads_clock = HOST_CLOCKS.iter().any(|(path, _)| *path == file.path);
    let mut broken = Vec::new();
    for at in 0..file.tokens.len() {
        let line = file.tokens[at].line;
        let starts = |words: &[&str]| starts(&file.tokens[at..], words);
        if (starts(&[".", "step", "("]) || starts(&["Raft", "::", "step"])) && !inside(STEPPERS) {
            let why = "only the driver, the swarm and the core's tests call `step`";
            broken.push(violation(file, line, "step", why));
        }
        if starts(&["unsafe"]) && !inside(UNSAFE) {
            let why = "unsafe code stands only in the modules that the rules list";
            broken.push(violation(file, line, "unsafe", why));
        }
        for clock in CLOCKS.iter().filter(|clock| starts(clock)) {
            if !reads_clock {
                let why = "only the files that the rules list read the host's clock";
                broken.push(violation(file, line, &clock.concat(), why));
            }
        }
        // The lint knows types where this scanner knows words; nobody may switch it off.
        if starts(&["disallowed_methods"]) && !reads_clock {
            let why = "only the files that read the host's clock may except themselves";
            broken.push(violation(file, line, "disallowed_methods", why));
        }
    }
    broken
}

fn starts(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && words.iter().zip(tokens).all(|(word, t)| t.text == *word)
}

fn violation(file: &File, line: usize, what: &str, why: &str) -> Violation {
    Violation { file: file.path.clone(), line, rule: format!("`{what}`: {why}") }
}
