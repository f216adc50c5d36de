//! The commands that README.md shows.
//!
//! What a reader is told to type is what the checks run, so the two cannot drift apart. A
//! command is the fenced block right below a marker such as `<!-- ci: test -->`.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};

/// Marks the README's first command, which runs the lab.
pub(crate) const RUN: &str = "<!-- ci: run -->";
/// Marks the command that runs all tests.
pub(crate) const TEST: &str = "<!-- ci: test -->";

/// The command below `marker` in the workspace's README.
///
/// # Errors
/// No README, no or several such markers, no fenced block right below, an empty one.
pub(crate) fn command(root: &Path, marker: &str) -> anyhow::Result<String> {
    let path = root.join("README.md");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    block_below(&text, marker).context("README.md")
}

fn block_below(text: &str, marker: &str) -> anyhow::Result<String> {
    let marked = text.lines().filter(|line| line.trim() == marker).count();
    ensure!(
        marked == 1,
        "the marker `{marker}` must stand once, on a line of its own; it stands {marked} times"
    );
    let mut below = text
        .lines()
        .skip_while(|line| line.trim() != marker)
        .skip(1)
        .skip_while(|line| line.trim().is_empty());
    let opens = below.next().is_some_and(|line| line.starts_with("```"));
    ensure!(opens, "a fenced block must follow the marker `{marker}`");

    let mut command = String::new();
    for line in below {
        if line.trim_end() == "```" {
            ensure!(!command.trim().is_empty(), "the block below `{marker}` is empty");
            return Ok(command);
        }
        command.push_str(line);
        command.push('\n');
    }
    bail!("the block below `{marker}` is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_below_the_marker_is_the_command() {
        let text = "# T\n```sh\nother\n```\n<!-- ci: test -->\n\n```sh\none\ntwo\n```\nmore\n";
        assert_eq!(block_below(text, TEST).expect("it is there"), "one\ntwo\n");
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, why) in [
            ("```sh\ncargo test\n```\n", "0 times"),
            ("<!-- ci: test -->\n<!-- ci: test -->\n```\nx\n```\n", "2 times"),
            ("<!-- ci: test -->\nprose\n```sh\nx\n```\n", "must follow"),
            ("<!-- ci: test -->\n", "must follow"),
            ("<!-- ci: test -->\n```sh\n\n```\n", "is empty"),
            ("<!-- ci: test -->\n```sh\ncargo test\n", "not closed"),
        ] {
            let error = block_below(text, TEST).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains(TEST), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_missing_readme_is_named() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let error = command(root.path(), TEST).expect_err("there is no README");
        assert!(error.to_string().contains("README.md"), "{error}");
    }
}
