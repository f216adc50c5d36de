//! The command that repeats a run.
//!
//! The same words with the seed pinned, quoted so that a shell reads them back as they were.

use chaos::seed::Seed;

/// The command with that seed, of the words that followed the program's name.
pub(crate) fn command(words: &[String], seed: Seed) -> String {
    let mut words = without_seed(words);
    words.extend(["--seed".to_owned(), seed.to_string()]);
    of(&words)
}

/// The command of these words.
pub(crate) fn of(words: &[String]) -> String {
    let build = if cfg!(debug_assertions) { "" } else { "--release " };
    let words: String = words.iter().map(|word| format!(" {}", quoted(word))).collect();
    format!("cargo run {build}-p scenarios --{words}")
}

fn without_seed(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--seed" {
            words.next();
        } else if !word.starts_with("--seed=") {
            kept.push(word.clone());
        }
    }
    kept
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let command = command(&words, Seed(0x2a));
        command.split_once(" -- ").unwrap().1.to_owned()
    }

    #[test]
    fn the_seed_is_pinned_once() {
        assert_eq!(tail(&["steady"]), "steady --seed 0x2a");
        assert_eq!(tail(&["steady", "--seed", "7"]), "steady --seed 0x2a");
        assert_eq!(tail(&["steady", "--seed=7", "--rate", "9"]), "steady --rate 9 --seed 0x2a");
    }

    #[test]
    fn a_shell_reads_the_words_back() {
        assert_eq!(tail(&["run", "my plan.toml"]), "run 'my plan.toml' --seed 0x2a");
        assert_eq!(tail(&["run", "it's", ""]), r"run 'it'\''s' '' --seed 0x2a");
    }
}
