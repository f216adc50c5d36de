//! Where a plan comes from, and where in it something stands.
//!
//! Reads plan files, with a bound, and finds the line of a field that was refused: a reader
//! fixes a line, not a path. Knows nothing of what fields mean.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use chaos::plan::{self, Plan, PlanError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A plan file and the plan in it, which is not validated yet.
pub(crate) struct PlanFile {
    /// As it was named.
    name: String,
    text: String,
    /// What it says.
    pub(crate) plan: Plan,
}

impl PlanFile {
    /// Reads a plan file.
    ///
    /// # Errors
    /// With the file, and the line and field where it is not a plan.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let text = read_text(path).with_context(|| format!("cannot read the plan {name}"))?;
        let plan = plan::parse(&text).map_err(|error| anyhow!("{name}: {error}"))?;
        Ok(Self { name, text, plan })
    }

    /// A refusal with the file and, where the field stands in it, the line; that of an option by
    /// itself, since it stands in no file.
    pub(crate) fn refusal(&self, error: &PlanError) -> anyhow::Error {
        let line = match error {
            PlanError::Field { field, .. } if field.starts_with("--") => return anyhow!("{error}"),
            PlanError::Field { field, .. } => line_of(&self.text, field),
            PlanError::Malformed(_) => None,
        };
        match line {
            Some(line) => anyhow!("{}, line {line}: {error}", self.name),
            None => anyhow!("{}: {error}", self.name),
        }
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        bail!("it is a directory; a TOML file is expected");
    }
    // Whatever kind of file it is, it may be endless.
    let mut bytes = Vec::new();
    file.take(PLAN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PLAN_BYTES_MAX {
        bail!("it has more than {PLAN_BYTES_MAX} bytes, and a plan has not");
    }
    let valid = String::from_utf8(bytes);
    valid.map_err(|error| anyhow!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
}

/// The line, from 1, of a field such as `steps[0].target`; of what encloses it if it is not given.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut parts = field.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    let (key, value) = entry(table.get_ref(), parts.next()?)?;
    let (mut at, mut value) = (key.span().start, value.get_ref());
    for part in parts {
        let Some((start, inner)) = inside(value, part) else { break };
        (at, value) = (start, inner);
    }
    Some(text.get(..at)?.matches('\n').count() + 1)
}

fn inside<'a, 'i>(value: &'a DeValue<'i>, part: &str) -> Option<(usize, &'a DeValue<'i>)> {
    match value {
        DeValue::Table(table) => {
            let (key, value) = entry(table, part)?;
            Some((key.span().start, value.get_ref()))
        }
        DeValue::Array(array) => {
            let value = array.get(part.parse::<usize>().ok()?)?;
            Some((value.span().start, value.get_ref()))
        }
        _ => None,
    }
}

type Entry<'a, 'i> = (&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<Entry<'a, 'i>> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

const PLAN_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "nodes = 12\n\n[workload]\nclients = 8\nmix = { read = 1, write = 2 }\n\n\
                        [[steps]]\nfault = \"kill\"\n[[steps]]\nfault = \"kill\"\n";

    #[test]
    fn a_field_is_found_by_its_line() {
        assert_eq!(line_of(TEXT, "nodes"), Some(1));
        assert_eq!(line_of(TEXT, "workload.clients"), Some(4));
        assert_eq!(line_of(TEXT, "workload.mix.read"), Some(5));
        assert_eq!(line_of(TEXT, "steps[1].fault"), Some(10));
    }

    #[test]
    fn a_field_that_is_not_given_is_found_by_what_encloses_it() {
        assert_eq!(line_of(TEXT, "workload.rate_per_s"), Some(3));
        assert_eq!(line_of(TEXT, "steps[1].target"), Some(9));
        assert_eq!(line_of(TEXT, "trials"), None);
    }
}
