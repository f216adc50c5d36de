//! A stranger's crate that embeds `runtime`: the example on the front page of its documentation.
//!
//! Knows the page as text. Invariant: what is built outside this workspace is what the page
//! shows, its hidden lines included.

use anyhow::{Context as _, ensure};

/// The manifest of a crate that depends on the `runtime` in this directory.
pub(crate) fn manifest(runtime: &str) -> String {
    // Debug formatting of a str is a valid TOML basic string for every path without controls.
    format!(
        "[package]\nname = \"embedder\"\nedition = \"2024\"\n\n\
         [dependencies]\nruntime = {{ path = {runtime:?} }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt\"] }}\n\n[workspace]\n"
    )
}

/// The first example in the documentation of a crate, as a program.
///
/// # Errors
/// A page without one, or one that is no whole program.
pub(crate) fn example(library: &str) -> anyhow::Result<String> {
    let page = library.lines().map_while(|line| line.strip_prefix("//!"));
    let page: Vec<&str> = page.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let mut blocks = page.split(|line| line.starts_with("```"));
    let block = blocks.nth(1).context("the page has no example")?;
    let shown = block.iter().filter(|line| !is_hidden(line)).count();
    ensure!(shown <= SHOWN_MAX, "the example shows {shown} lines; {SHOWN_MAX} are allowed");
    let program: Vec<&str> = block.iter().map(|line| bare(line)).collect();
    ensure!(program.iter().any(|line| line.contains("fn main")), "the example is no program");
    Ok(program.join("\n") + "\n")
}

fn is_hidden(line: &str) -> bool {
    line == "#" || line.starts_with("# ")
}

/// The line as the compiler sees it.
fn bare(line: &str) -> &str {
    match line {
        "#" => "",
        _ => line.strip_prefix("# ").unwrap_or(line),
    }
}

/// What a reader should have to read.
const SHOWN_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_block_with_its_hidden_lines() {
        let page = "//! A page.\n//!\n//! ```\n//! use a;\n//! # #[b]\n//! # fn main() {\n//!\n\
                    //! c();\n//! # }\n//! ```\n//! More.\n\nfn other() {}\n";
        let program = example(page).expect("it has one");
        assert_eq!(program, "use a;\n#[b]\nfn main() {\n\nc();\n}\n");
    }

    #[test]
    fn a_page_that_shows_too_much_or_nothing_is_refused() {
        example("//! A page.\n").expect_err("no example");
        example("//! ```\n//! one();\n//! ```\n").expect_err("no program");
        let long = "//! line();\n".repeat(SHOWN_MAX);
        let page = format!("//! ```\n//! fn main() {{}}\n{long}//! ```\n");
        let error = example(&page).expect_err("sixteen lines").to_string();
        assert!(error.contains("shows 16 lines"), "{error}");
    }
}
