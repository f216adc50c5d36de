//! What TOML complains of, in the words of whoever writes plans: they know fields and tables, and
//! not the types behind them.
//!
//! Invariant: the place and the quoted line stay as they were.

/// What is wrong and where.
pub(super) fn plainly(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let Some((place, message)) = text.trim_end().rsplit_once('\n') else { return text };
    let is_shapeless = SHAPELESS.iter().any(|words| message.contains(words));
    let message = match words_of(place).filter(|_| is_shapeless) {
        Some(words) => format!("expected {words}"),
        None => PLAIN
            .iter()
            .fold(message.to_owned(), |message, (typed, plain)| message.replace(typed, plain)),
    };
    format!("{place}\n{message}")
}

/// The words that the field of the quoted line knows, if it is one that knows words.
fn words_of(place: &str) -> Option<&'static str> {
    let (_, line) = place.lines().nth(2)?.split_once('|')?;
    let (field, _) = line.split_once('=')?;
    WORDS.iter().find(|(name, _)| *name == field.trim()).map(|(_, words)| *words)
}

/// Said of a value that has not even the shape of a word.
const SHAPELESS: [&str; 11] = [
    "wanted string or table",
    "unit variant",
    "newtype variant",
    "expected table, found",
    "expected a sequence",
    "expected struct LinkFaults",
    "expected struct Flap",
    "expected struct RandomFaults",
    "expected struct ClockFault",
    "expected struct DiskFault",
    "expected a tuple of size 2",
];
const WORDS: [(&str, &str); 18] = [
    ("kind", "\"failover\", \"formation\", \"steady\" or \"lagging\""),
    ("from", "\"replay\" or \"snapshot\""),
    ("batch_sizes", "a list of sizes, such as [100, 500, 2000]"),
    ("links", "a table such as { delay_ms = 20, loss = 0.01 }"),
    ("profile", "\"lan\", \"wan\" or \"loopback\""),
    ("storage", "\"disk\" or \"memory\""),
    (
        "fault",
        "\"isolate\", \"partition\", \"link\", \"clock\", \"disk\", \"kill\", \"pause\", \"restart\", \
         \"leave\", \"wipe\" or \"transfer\"",
    ),
    ("among", "faults of which one is drawn, such as [\"kill\", \"pause\", \"isolate\"]"),
    ("target", "\"leader\", \"follower\", \"random\", \"all\" or { node = 2 }"),
    ("side", "the nodes of one side, such as [1, 2] or [\"leader\", \"follower\"]"),
    ("cut", "the pairs between which nothing passes, such as [[1, 3], [2, 3]]"),
    ("random", "a table such as { faults = [\"kill\", \"link\"], steps_max = 6 }"),
    ("disk", "a table such as { kind = \"sync-error\" } or { kind = \"stall\", sync_ms = 200 }"),
    ("clock", "a table such as { rate_ppm = 50000 } or { wall_offset_ms = -5000 }"),
    (
        "point",
        "\"any\", \"sync\", \"before-vote\", \"after-vote\", \"before-append\" or \"after-append\"",
    ),
    ("flap", "a table such as { on_ms = 200, off_ms = 200 }"),
    ("way", "\"both\", \"out\" or \"in\""),
    ("faults", "a table such as { loss = 0.05, delay_ms = 20 }"),
];
const PLAIN: [(&str, &str); 13] = [
    // One is for tests of the checks themselves, the other for plans that were carried out.
    ("`planted`, ", ""),
    ("`variant`, ", ""),
    (" as i128", ""),
    ("expected u64", "expected a whole number that is not negative"),
    ("expected u32", "expected a whole number that is not negative"),
    ("expected f64", "expected a number"),
    ("expected struct LagPlan", "expected a table [lag]"),
    ("expected struct WorkloadPlan", "expected a table [workload]"),
    ("expected struct Mix", "expected a table such as { read = 50, write = 40, cas = 10 }"),
    ("expected struct Expect", "expected a table [expect]"),
    ("expected struct Step", "expected a table [[steps]]"),
    ("expected a sequence", "expected tables [[steps]]"),
    ("`all`, `node`", "`all`, { node = 2 }"),
];

#[cfg(test)]
mod tests {
    use crate::plan::parse;

    #[test]
    fn a_field_that_knows_words_names_them_whatever_it_is_given() {
        for (line, words) in [
            ("kind = 3", "\"formation\", \"steady\" or \"lagging\""),
            ("profile = true", "\"lan\", \"wan\" or \"loopback\""),
            ("random = 3", "steps_max = 6"),
            ("storage = 1.5", "\"disk\" or \"memory\""),
            ("steps = [\n{ fault = 3 } ]", "string or table"),
            ("[[steps]]\nat = 1\nfault = 3", "\"restart\", \"leave\", \"wipe\" or \"transfer\""),
            ("[[steps]]\nat = 1\npoint = 3", "\"before-append\" or \"after-append\""),
            ("[[steps]]\nat = 1\namong = 3", "such as [\"kill\", \"pause\", \"isolate\"]"),
            ("[[steps]]\nat = 1\nside = 3", "such as [1, 2]"),
            ("[[steps]]\nat = 1\ncut = 3", "[[1, 3], [2, 3]]"),
            ("[[steps]]\nat = 1\ncut = [1, 3]", "[[1, 3], [2, 3]]"),
            ("[[steps]]\nat = 1\nclock = 3", "{ rate_ppm = 50000 }"),
            ("[[steps]]\nat = 1\ndisk = 3", "{ kind = \"sync-error\" }"),
            ("[[steps]]\nat = 1\nflap = 3", "{ on_ms = 200, off_ms = 200 }"),
            ("[[steps]]\nat = 1\nway = 3", "\"both\", \"out\" or \"in\""),
            ("[[steps]]\nat = 1\nfaults = 3", "{ loss = 0.05, delay_ms = 20 }"),
            ("[[steps]]\nat = 1\ntarget = 3", "\"all\" or { node = 2 }"),
            ("[[steps]]\nat = 1\ntarget = \"node\"", "{ node = 2 }"),
            ("[[steps]]\nat = 1\ntarget = { leader = 1 }", "{ node = 2 }"),
        ] {
            let error = parse(&format!("scenario = \"x\"\n{line}\n")).expect_err(line).to_string();
            assert!(error.contains("TOML parse error at line"), "{error}");
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn no_field_is_offered_that_is_not_for_whoever_writes_plans() {
        let error = parse("scenario = \"x\"\nkind = \"steady\"\nspeed = 3\n");
        let error = error.expect_err("there is no such field").to_string();
        assert!(error.contains("unknown field `speed`, expected one of `scenario`"), "{error}");
        assert!(error.contains("`background_load`") && error.contains("`variants`"), "{error}");
        assert!(!error.contains("`planted`") && !error.contains("`variant`"), "{error}");
    }

    #[test]
    fn no_type_of_ours_is_named() {
        for line in [
            "nodes = \"three\"",
            "nodes = 99999999999999999999",
            "workload = 3",
            "expect = 3",
            "steps = 3",
            "steps = [3]",
            "[[steps]]\nside = 3",
            "[[steps]]\nside = [\"one\"]",
            "[[steps]]\nto = \"one\"",
            "[[steps]]\nfaults = { loss = \"some\" }",
            "[workload]\nmix = 3",
            "[expect]\noutage_ms_max = \"short\"",
            "[expect]\nterm_changes_max = { lan = -1 }",
        ] {
            let error = parse(&format!("scenario = \"x\"\nkind = \"steady\"\n{line}\n"));
            let error = error.expect_err(line).to_string();
            for typed in ["u64", "f64", "i128", "struct", "sequence"] {
                assert!(!error.contains(typed), "{line}: {error}");
            }
        }
    }
}
